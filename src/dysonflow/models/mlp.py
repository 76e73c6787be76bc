"""A multilayer perceptron, trained on a random teacher, on digits, or on the user's own data.

    h_0 = x,    h_l = f(W_l h_(l-1) + b_l),    output W_L h_(L-1) + b_L

Replicas share the teacher, or the data set; initial weights and the order of the data, or the fresh
samples of a teacher, are those of each. Layers are W1, W2, ...; of a linear network there is one
more, `product`, the map W_L ... W_1 as a whole.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import Cost, FileHyperparameters, planning_only, quantity
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.readers import datasets, places
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.descent import DescentHyperparameters
from dysonflow.simulation.perceptrons import (
    PART,
    Activation,
    Initialisation,
    Loss,
    Perceptrons,
    standard_deviation,
)
from dysonflow.simulation.torch_simulation import TorchSimulation

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

PRODUCT = "product"
"""Layer of a linear network that holds the product of all the others."""
DIGITS = (64, 10)
"""Inputs and classes of the digits."""
DIGITS_SAMPLES = 1797
TEACHER, TRAINING, EVALUATION = 1, 2, 3
"""Streams that the teacher, its training set and the inputs of its loss are drawn from."""
EVALUATED = 1024
"""Inputs on which the loss of a student with fresh samples is evaluated."""
Names = Annotated[list[str], Field(min_length=1)]


class MLPHyperparameters(DescentHyperparameters, FileHyperparameters):
    """Hyperparameters of a multilayer perceptron."""

    MODEL = "mlp"

    widths: Annotated[list[int], Field(min_length=2, max_length=64)] = quantity([64, 16, 10])
    """Inputs, units of each hidden layer, outputs. In a sweep each value is a list of its own."""
    activation: Activation = quantity("tanh")
    """Of the hidden layers; the last layer has none. `linear` makes a deep linear network, with the
    product of all layers as one more layer."""
    bias: bool = quantity(True)
    """Whether each layer adds a trained vector, which starts at zero and is no layer of its own."""
    initialisation: Initialisation = quantity("xavier_normal")
    """Weights at the start, by names of `torch.nn.init`; or `normal`, with `initial_width`."""
    initial_width: float | list[float] = quantity(1.0)
    """For `initialisation: normal`: weights of a layer have the variance s^2 / columns. One s for
    all layers, or a list; in a sweep each list is a value of its own."""
    loss: Loss = quantity("cross_entropy")
    """`squared_error`: half of the squared distance, summed over outputs; `cross_entropy`: of the
    softmax of the outputs with a class. Both are means over samples."""
    data: str = quantity("digits", min_length=1)
    """`teacher`: a network of the same widths with random weights, normal inputs; `digits`: those
    of scikit-learn, 1797 of 8 x 8 pixels; or a file, `.npz` or `.parquet`, one sample in a row,
    relative to the working directory or to the folder of the configuration."""
    inputs: Names = quantity(["inputs"])
    """Arrays, or columns, of the file with the inputs."""
    targets: Names = quantity(["targets"])
    """Those with the targets; for the cross-entropy one of whole numbers, the classes from 0."""
    teacher_width: float = quantity(1.0, ge=0)
    """Weights of a layer of the teacher have the variance teacher_width^2 / columns."""
    teacher_singular_values: list[float] = quantity([], max_length=4096)
    """Singular values of a linear teacher's product, all > 0 and equal ones degenerate, between
    random directions; further ones are 0. Empty: random weights. In a sweep each value is a list of
    its own."""
    teacher_seed: int = quantity(0, ge=0, lt=2**32)
    """Seed of the teacher and of its training set: the same for all points of a study."""
    label_noise: float = quantity(0.0, symbol=r"\epsilon", ge=0)
    """Standard deviation of normal noise on each target of the teacher."""
    training_samples: int = quantity(0, unit="samples", ge=0, le=100_000_000)
    """Samples of the teacher in the training set; 0: fresh samples for each replica and step."""
    sampling: Literal["shuffled", "independent"] = quantity("shuffled")
    """How batches are drawn from a training set: in a new order for each epoch, what is left at its
    end dropped; or `independent`, each sample from all of them."""

    @classmethod
    def _normal(cls, name: str, value: Any) -> Any:
        # Names of columns stay as they are written, also those that spell a number.
        if name in ("inputs", "targets"):
            return [value] if isinstance(value, str) else value
        return super()._normal(name, value)

    def idle(self) -> list[str]:
        """What belongs to other data and other initialisations."""
        names = super().idle()
        if self.data != "teacher":
            names += ["teacher_width", "teacher_seed", "label_noise", "training_samples"]
            names += ["teacher_singular_values"]
        elif self.teacher_singular_values:
            names += ["teacher_width"]
        if not self.is_file:
            names += ["inputs", "targets"]
        if self.initialisation != "normal":
            names += ["initial_width"]
        if self.has_fresh_samples:
            names += ["sampling"]
        return names

    @property
    def is_file(self) -> bool:
        """Whether the data are the user's own."""
        return self.data not in ("teacher", "digits")

    @property
    def has_fresh_samples(self) -> bool:
        """Whether each step sees samples that were never seen before."""
        return self.data == "teacher" and not self.training_samples

    @property
    def initial_widths(self) -> list[float]:
        """Width s of the weights of each layer at the start, for `initialisation: normal`."""
        given = self.initial_width
        return given if isinstance(given, list) else [given] * (len(self.widths) - 1)

    @property
    def fitted(self) -> bool:
        """Whether it is a linear student of a linear teacher whose noise theory knows."""
        return (
            self.activation == "linear"
            and self.loss == "squared_error"
            and self.has_fresh_samples
            and self.label_noise > 0
            and not self.bias
            and self.optimiser in ("sgd", "momentum")
            and self.schedule == "constant"
            and not self.warmup_steps
            and self.weight_decay == 0
        )

    def initial_deviations(self) -> list[float]:
        """Standard deviation of the weights of each layer at the start."""
        return [
            standard_deviation(self.initialisation, rows, columns, width)
            for (rows, columns), width in zip(self.matrices(), self.initial_widths, strict=True)
        ]

    def matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of the trained weight matrices."""
        return [(rows, columns) for columns, rows in pairwise(self.widths)]

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """W1, W2, ..., and the product of a linear network."""
        shapes = [(f"W{layer}", *shape) for layer, shape in enumerate(self.matrices(), 1)]
        if self.activation == "linear":
            shapes.append((PRODUCT, self.widths[-1], self.widths[0]))
        return shapes

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs: three products of matrices for each layer."""
        parameters = sum(rows * columns for rows, columns in self.matrices())
        fresh = self.widths[0] + self.widths[-1] if self.has_fresh_samples else 1
        # Samples are shared by a block; losses are taken of a part of them at a time.
        shared = 4 * sum(path.stat().st_size for path in self.sources if path.is_file()) / 8
        shared += (self.training_samples or EVALUATED) * (self.widths[0] + self.widths[-1])
        return Cost(
            draws=self.batch_size * fresh,
            operations=6 * self.batch_size * (parameters + 4 * sum(self.widths)) + 10 * parameters,
            numbers=8 * parameters
            + 8 * max(self.batch_size, PART) * sum(self.widths)
            + 4 * shared / BLOCK_SIZE,
        )

    def files(self) -> list[Path]:
        """The data, unless they come from a teacher."""
        if self.data == "teacher":
            return []
        return [Path(places.find(self.data)) if self.is_file else datasets.digits_file()]

    @property
    def sources(self) -> list[Path]:
        """The user's own file."""
        return self.files() if self.is_file else []

    def check(self) -> None:
        """Refuse widths and losses that do not go together."""
        super().check()
        if min(self.widths) < 1:
            raise ConfigError(f"widths = {self.widths}: every width must be a whole number >= 1")
        layers = len(self.widths) - 1
        if len(self.initial_widths) != layers or min(self.initial_widths) < 0:
            raise ConfigError(
                f"initial_width = {self.initial_width}: give one number >= 0, or a list of {layers}"
            )
        if self.data == "digits" and (self.widths[0], self.widths[-1]) != DIGITS:
            raise ConfigError(
                f"widths = {self.widths}: the digits have {DIGITS[0]} pixels and {DIGITS[1]} "
                f"classes; begin with {DIGITS[0]} and end with {DIGITS[1]}"
            )
        self._check_teacher()
        samples = self.training_samples if self.data == "teacher" else DIGITS_SAMPLES
        if not self.is_file and 0 < samples < self.batch_size:
            raise ConfigError(
                f"batch_size = {self.batch_size}: more than the {samples} samples to learn from"
            )
        if self.loss == "cross_entropy" and self.label_noise:
            raise ConfigError(
                f"label_noise = {self.label_noise:g}: a class has no normal noise; leave it out, "
                "or take loss: squared_error"
            )

    def _check_teacher(self) -> None:
        values = self.teacher_singular_values
        if self.data != "teacher" or not values:
            return
        given = f"teacher_singular_values = {values}"
        if self.activation != "linear":
            raise ConfigError(
                f"{given}: the teacher is as linear as the student, and activation is "
                f"{self.activation}; take activation: linear, or leave them out"
            )
        if len(values) > min(self.widths):
            raise ConfigError(
                f"{given}: {len(values)} of them do not pass through the {min(self.widths)} units "
                "of the narrowest of widths; give fewer, or wider layers"
            )
        if not min(values) > 0:
            raise ConfigError(f"{given}: each must be > 0; leave out those that are 0")

    @planning_only
    def why_no_gradient_noise(self) -> str:
        """Why the noise of the gradient cannot be measured; empty if it can."""
        if self.has_fresh_samples or self.sampling == "independent":
            return ""
        return (
            "sampling = shuffled: the batches of an epoch are not independent, and their noise is "
            "not that of the samples; give sampling: independent, or fresh samples"
        )

    def check_sources(self) -> None:
        """Refuse data that changed since the run was planned, or that do not fit."""
        super().check_sources()
        # What the digits are is known, and their import takes longer than all else that is planned.
        if self.is_file:
            training_set(self)


def _stream(h: MLPHyperparameters, stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(h.teacher_seed, spawn_key=(stream,)))


def teacher_weights(h: MLPHyperparameters) -> list[np.ndarray]:
    """Weights of the teacher, layer by layer, shape (M, N); it has no biases."""
    rng = _stream(h, TEACHER)
    if h.teacher_singular_values:
        # Equal shares for all layers, between orthonormal vectors.
        share = np.array(h.teacher_singular_values) ** (0.5 / (len(h.widths) - 1))
        modes = [
            share * np.linalg.qr(rng.standard_normal((width, len(share))))[0] for width in h.widths
        ]
        return [after @ before.T for before, after in pairwise(modes)]
    return [
        h.teacher_width / np.sqrt(columns) * rng.standard_normal((rows, columns))
        for rows, columns in h.matrices()
    ]


def teacher_map(h: MLPHyperparameters) -> np.ndarray:
    """Product of the weights of a linear teacher, shape (outputs, inputs)."""
    return np.asarray(functools.reduce(lambda found, layer: layer @ found, teacher_weights(h)))


def _targets_of_teacher(h: MLPHyperparameters, inputs: np.ndarray) -> np.ndarray:
    """What the teacher says, without noise, shape (sample, output); its class as one of all."""
    teacher = Perceptrons(
        *(h.widths, 1, h.activation, False, h.loss), torch.float64, torch.device("cpu")
    )
    for view, weights in zip(teacher.weights, teacher_weights(h), strict=True):
        view[0] = torch.from_numpy(weights)
    outputs = teacher.outputs(torch.from_numpy(inputs)[None])[0].numpy()
    return _classes(h, outputs.argmax(axis=1)) if h.loss == "cross_entropy" else outputs


def _classes(h: MLPHyperparameters, labels: np.ndarray) -> np.ndarray:
    """Probability of each class, 0 or 1, shape (sample, class)."""
    return np.eye(h.widths[-1])[labels]


def training_set(h: MLPHyperparameters) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (sample, input) and targets (sample, output) that all replicas learn from.

    Raises
    ------
    ConfigError
        If the data cannot be used, or do not fit the widths and the loss.
    """
    if h.data == "teacher":
        rng = _stream(h, TRAINING)
        inputs = rng.standard_normal((h.training_samples, h.widths[0]))
        targets = _targets_of_teacher(h, inputs)
        return inputs, targets + h.label_noise * rng.standard_normal(targets.shape)
    if not h.is_file:
        found = _digits()
    else:
        found = datasets.read(places.find(h.data), h.inputs, h.targets)
    return found.inputs, _fitting(h, found)


@lru_cache(maxsize=1)
def _digits() -> datasets.Dataset:
    return datasets.digits()


def _fitting(h: MLPHyperparameters, found: datasets.Dataset) -> np.ndarray:
    """Targets in the shape of the outputs, once they and the inputs are seen to fit."""
    where, targets = h.data, found.targets
    samples, inputs = found.inputs.shape
    if inputs != h.widths[0]:
        raise ConfigError(
            f"widths = {h.widths}: {where} has {inputs} inputs in a row; begin with {inputs}"
        )
    if samples < h.batch_size:
        raise ConfigError(
            f"batch_size = {h.batch_size}: more than the {samples} samples of {where}"
        )
    if h.loss == "squared_error" and h.data != "digits":
        targets = targets.reshape(samples, -1).astype(np.float64)
        if targets.shape[1] != h.widths[-1]:
            raise ConfigError(
                f"widths = {h.widths}: {where} has {targets.shape[1]} targets in a row; end with "
                f"{targets.shape[1]}"
            )
        return targets
    if targets.size != samples:
        raise ConfigError(
            f"{where}: {targets.size // samples} targets in a row, where the cross-entropy takes "
            "one class; name one in targets, or take loss: squared_error"
        )
    targets = targets.reshape(samples)
    if not np.issubdtype(targets.dtype, np.integer):
        raise ConfigError(
            f"{where}: the targets are real numbers, where the cross-entropy takes whole ones, the "
            "classes; give those, or take loss: squared_error"
        )
    outside = np.flatnonzero((targets < 0) | (targets >= h.widths[-1]))
    if len(outside):
        raise ConfigError(
            f"{where}: row {outside[0]} is of class {targets[outside[0]]}, outside of 0 to "
            f"{h.widths[-1] - 1} of the {h.widths[-1]} outputs; count from 0, or give more outputs "
            "in widths"
        )
    return _classes(h, targets)


class MLPSimulation(TorchSimulation):
    """A block of perceptrons, trained side by side."""

    CARRIES_NOISE = True

    def __init__(self, hyperparameters: MLPHyperparameters, replicas: int, noise: NoiseStream):
        super().__init__(hyperparameters, replicas, noise)
        self.h = hyperparameters
        h = self.h
        self.networks = Perceptrons(
            *(h.widths, replicas, h.activation, h.bias, h.loss), noise.dtype, noise.device
        )
        for weights, scale in zip(self.networks.weights, h.initial_deviations(), strict=True):
            if h.initialisation.endswith("uniform"):
                # Of variance 1: between -sqrt(3) and sqrt(3).
                start = (2.0 * noise.uniform(*weights.shape) - 1.0) * 3.0**0.5
            else:
                start = noise.normal(*weights.shape)
            weights.copy_(scale * start)
        self.optimiser = h.start_optimiser({"parameters": self.networks.parameters})
        self.rates = h.learning_rates()
        self._load_data()

    def _load_data(self) -> None:
        """Samples to learn from, if they are not fresh, and those that the loss is taken of."""
        h = self.h
        if h.has_fresh_samples:
            self.teacher = [self._tensor(weights) for weights in teacher_weights(h)]
            x = _stream(h, EVALUATION).standard_normal((EVALUATED, h.widths[0]))
            self.evaluated = self._tensor(x), self._tensor(_targets_of_teacher(h, x))
            return
        inputs, targets = training_set(h)
        self.evaluated = self._tensor(inputs), self._tensor(targets)
        # Inputs and targets of a sample side by side: picked out together.
        self.samples = torch.cat(self.evaluated, dim=1)
        self.order = torch.zeros(0, dtype=torch.int64, device=self.noise.device)

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps.

        Raises
        ------
        DivergedError
            If a weight is no longer finite.
        """
        networks = self.networks
        parameters = {"parameters": networks.parameters}
        gradients = {"parameters": networks.gradient}
        for _ in range(steps):
            networks.differentiate(*self.batch())
            self.step += 1
            rate = self.rates.rate(self.step)
            self.optimiser.update(parameters, gradients, rate, self.step)
        if not bool(torch.isfinite(networks.parameters).all()):
            tensors = [*networks.weights, *networks.biases]
            finite = [torch.isfinite(tensor).all(dim=2).all(dim=1) for tensor in tensors]
            broken = ~torch.stack(finite).all(dim=0)
            reason = "a weight is not finite; lower learning_rate or initial_width"
            raise DivergedError(int(broken.int().argmax()), self.step, reason)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples of the next step, shapes (replica, B, input) and (replica, B, output)."""
        h, replicas = self.h, self.networks.replicas
        if h.has_fresh_samples:
            return self._fresh()
        count = len(self.samples)
        if h.sampling == "independent":
            chosen = self.noise.integers(count, replicas, h.batch_size)
        else:
            place = self.step % (count // h.batch_size) * h.batch_size
            if not place:
                self.order = self.noise.permutations(replicas, count)
            chosen = self.order[:, place : place + h.batch_size]
        found = self.samples.index_select(0, chosen.reshape(-1))
        found = found.view(replicas, h.batch_size, -1)
        return found[..., : h.widths[0]], found[..., h.widths[0] :]

    def _fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        """New inputs, and what the teacher says of them."""
        h, shape = self.h, (self.networks.replicas, self.h.batch_size)
        # A GPU draws these itself: to carry them there would take longer than to learn from them.
        noise = self.noise.local
        inputs = noise.normal(*shape, h.widths[0])
        found = inputs.reshape(-1, h.widths[0])
        for layer, weights in enumerate(self.teacher):
            found = found @ weights.T
            if layer < len(self.teacher) - 1:
                found = self.networks.activate(found)
        if h.loss == "cross_entropy":
            found = torch.nn.functional.one_hot(found.argmax(dim=1), h.widths[-1])
            return inputs, found.to(inputs.dtype).view(*shape, -1)
        targets = found.view(*shape, -1)
        if h.label_noise:
            targets = targets + h.label_noise * noise.normal(*targets.shape)
        return inputs, targets

    def sample_gradients(
        self, replica: int, samples: int, noise: NoiseStream
    ) -> dict[str, torch.Tensor]:
        """Gradient of the loss of single samples, as of `dysonflow.simulation.gradients`."""
        h = self.h
        # Each sample has a replica of its own, all with the weights of the one that is asked for.
        alone = copy.copy(self)
        alone.h, alone.noise = h.model_copy(update={"batch_size": 1}), noise
        alone.networks = Perceptrons(
            *(h.widths, samples, h.activation, h.bias, h.loss), noise.dtype, noise.device
        )
        mine, all_of_it = self.networks, alone.networks
        for kind in ("weights", "biases"):
            for view, own in zip(getattr(all_of_it, kind), getattr(mine, kind), strict=True):
                view.copy_(own[replica].expand_as(view))
        alone.networks.differentiate(*alone.batch())
        return self._per_layer(all_of_it.weight_views(all_of_it.gradient))

    def remembered(self, kind: str) -> dict[str, torch.Tensor]:
        """What the optimiser remembers, as of `dysonflow.simulation.gradients`."""
        return self.per_layer(self.optimiser.memory[f"{kind}.parameters"])

    def per_layer(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of a tensor like the flat parameters, layer to shape (replica, M, N)."""
        return self._per_layer(self.networks.weight_views(flat))

    def _per_layer(self, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {f"W{number}": view for number, view in enumerate(views, 1)}

    def layers(self) -> dict[str, np.ndarray]:
        """Weights now, layer to a copy of shape (replica, M, N)."""
        weights = self.networks.weights
        found = {f"W{number}": tensor.clone() for number, tensor in enumerate(weights, 1)}
        if self.h.activation == "linear":
            found[PRODUCT] = self.networks.product()
        return {layer: tensor.cpu().numpy() for layer, tensor in found.items()}

    def loss(self) -> np.ndarray:
        """Loss of each replica, shape (replica,): over the training set.

        Of fresh samples that of `EVALUATED` inputs, the same throughout, on the teacher's targets
        without noise.
        """
        return self.networks.losses(*self.evaluated).cpu().numpy().astype(np.float64)

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        tensors = {"parameters": self.networks.parameters, **self.optimiser.state()}
        if hasattr(self, "order"):
            tensors["order"] = self.order
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return {**arrays, "step": np.array([self.step]), "noise": self.noise.state()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        self.networks.parameters.copy_(torch.as_tensor(state["parameters"]))
        self.optimiser.load(state)
        if "order" in state:
            self.order = torch.as_tensor(state["order"], device=self.noise.device).clone()
        self.step = int(state["step"][0])
        self.noise.load(state["noise"])

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=self.noise.device, dtype=self.noise.dtype)


SYSTEM = System(MLPHyperparameters, MLPSimulation)
