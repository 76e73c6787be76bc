r"""Nonlinear student of two layers of weights of which the inner one is trained.

A teacher maps inputs x ~ N(0, 1) to outputs by two layers of features and a readout,

    y_t = Z f(W_t f(M x)),    M (L x n_in),  W_t (K x L),  Z (n_out x K),

and the student has its M and Z and learns W (K x L) from mini-batches of B inputs by SGD on half
of the squared error (Aarts, Lucini, Park, arXiv:2509.01349):

    W <- W - (a/B) sum_b delta_b phi_b^T,    phi = f(M x),    h = W phi,
    delta = Z^T (Z f(h) - y_t) f'(h)    (the last product entry by entry).

Entries of M, W_t and Z are independent normals of variance w^2 / fan-in, those of W at the start of
variance s^2 / L.

All replicas of a run, and all runs of one seed and size, have one teacher and are examined on the
same inputs: what differs over a study is what is swept, not what is to be learnt. Statistical
errors are therefore those for this teacher; another seed is another teacher.

A replica whose delta exceeds `LIMITS` diverges: it stays as it is from then on, and the SGD step at
which it did is kept with the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Cost, Hyperparameters, planning_only, quantity
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.simulation.base import Block
from dysonflow.simulation.compiled import CompiledSimulation, kernel_arguments
from dysonflow.simulation.kernel.two_layer_student import TwoLayerStudentKernel
from dysonflow.simulation.torch_simulation import TorchSimulation

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

LIMITS = {"float64": 1e100, "float32": 1e15}
"""Largest entry of delta of a replica that is trained on, for each type of the weights: far beyond
what learns anything, and so small that squares, and weights after the step, are still finite."""
TEACHER, TRAINING_SET, TEST_SET = 1, 2, 3
"""Streams, beside those of the replicas, for what all replicas share."""
LEARNING_TIME = 2500.0
"""SGD steps times learning rate after which students of the default size that learn have a loss
below 0.2 % of the untaught one."""
TEST_SAMPLES = 1000
"""Inputs on which loss and gradient are averaged."""


class TwoLayerStudentHyperparameters(Hyperparameters):
    """Hyperparameters of the student with two layers."""

    MODEL = "two_layer_student"
    KEEPS_DIVERGED: ClassVar[bool] = True

    learning_rate: float = quantity(0.125, label="lr", symbol=r"\alpha", gt=0, le=1e6)
    """Step size of stochastic gradient descent on half of the squared error."""
    batch_size: int = quantity(4, label="B", symbol="B", ge=1, le=1_000_000)
    """Samples per SGD step."""
    initial_width: float = quantity(1.0, label="s", symbol="s", ge=0, le=1e6)
    """Standard deviation of the student's weights at the start times the root of `feature_size`."""
    teacher_width: float = quantity(1.0, gt=0, le=1e6)
    """Standard deviation of all weights of the teacher, times the root of their fan-in."""
    activation: Literal["tanh", "relu", "linear"] = quantity("tanh")
    """Activation f of both layers of features."""
    input_size: int = quantity(3, ge=1, le=4096)
    """Inputs n_in."""
    feature_size: int = quantity(32, ge=1, le=4096)
    """Features L of the first layer, columns of W."""
    hidden_size: int = quantity(16, ge=1, le=4096)
    """Units K of the second layer, rows of W."""
    output_size: int = quantity(3, ge=1, le=4096)
    """Outputs n_out."""
    data: Literal["fresh", "shared"] = quantity("fresh")
    """`fresh`: new inputs for every replica and step; `shared`: one training set for all."""
    training_batches: int = quantity(1000, unit="batches", ge=1)
    """Batches in the training set, gone through in order; without effect for `data: fresh`."""
    second_snapshot: int = quantity(0, unit="SGD steps", ge=0)
    """SGD step of the second snapshot, from which on they are evenly spaced up to `steps`; the
    first stays at `burn_in`. 0: all are evenly spaced."""

    @property
    def snapshot_steps(self) -> list[int]:
        """SGD step at which each snapshot is taken, ascending."""
        if not self.second_snapshot:
            return super().snapshot_steps
        first, last = self.second_snapshot, int(self.steps)
        later = max(self.snapshots - 2, 1)
        evenly = [first + round(j * (last - first) / later) for j in range(self.snapshots - 1)]
        return [int(self.burn_in), *evenly]

    def check(self) -> None:
        """Refuse a second snapshot that is not between the others."""
        super().check()
        if self.second_snapshot and not (
            int(self.burn_in) < self.second_snapshot
            and self.second_snapshot + self.snapshots - 2 <= int(self.steps)
            and self.snapshots > 2
        ):
            raise ConfigError(
                f"second_snapshot = {self.second_snapshot}: give a step after burn_in, and so "
                f"early that the rest of {self.snapshots} snapshots, at least 3, fits before "
                f"steps = {self.steps}; or 0"
            )

    def not_in_key(self) -> set[str]:
        """A run whose snapshots are evenly spaced has the name that it always had."""
        return super().not_in_key() | (set() if self.second_snapshot else {"second_snapshot"})

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """The student's W; the other layers are those of the teacher."""
        return [("W", self.hidden_size, self.feature_size)]

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs: features, both networks, the update."""
        rows, columns, batch = self.hidden_size, self.feature_size, self.batch_size
        products = self.input_size * columns + 3 * rows * columns + 3 * rows * self.output_size
        activations = 40 * (columns + 2 * rows) * (self.activation == "tanh")
        return Cost(
            draws=batch * self.input_size,
            operations=batch * (2 * products + activations),
            numbers=3 * rows * columns + 4 * batch * (rows + columns),
        )

    def auto_burn_in(self) -> int:
        """No SGD steps: a study follows what is learnt from the start on."""
        return 0

    def auto_steps(self) -> int:
        """SGD steps in which a student of the default size learns, if it does at this step size.

        While steps are small only their number times the learning rate counts.
        """
        return max(self.bounded_time(LEARNING_TIME / self.learning_rate), self.snapshots)


@dataclass(frozen=True)
class Teacher:
    """Weights of the teacher.

    Attributes
    ----------
    first : np.ndarray
        M, shape (L, n_in).
    weights : np.ndarray
        W_t, shape (K, L).
    readout : np.ndarray
        Z, shape (n_out, K).
    """

    first: np.ndarray
    weights: np.ndarray
    readout: np.ndarray


def _shared_stream(h: TwoLayerStudentHyperparameters, stream: int) -> np.random.Generator:
    # The key of the run is no part of it, so that runs share it; those of replicas have the key.
    return np.random.default_rng(np.random.SeedSequence([h.seed], spawn_key=(0, stream)))


def teacher(h: TwoLayerStudentHyperparameters) -> Teacher:
    """Teacher of a run."""
    rng = _shared_stream(h, TEACHER)

    def layer(rows: int, columns: int) -> np.ndarray:
        return h.teacher_width / math.sqrt(columns) * rng.standard_normal((rows, columns))

    return Teacher(
        layer(h.feature_size, h.input_size),
        layer(h.hidden_size, h.feature_size),
        layer(h.output_size, h.hidden_size),
    )


def activate(h: TwoLayerStudentHyperparameters, x: np.ndarray) -> np.ndarray:
    """Activation f, entry by entry."""
    if h.activation == "tanh":
        return np.tanh(x)
    return np.maximum(x, 0.0) if h.activation == "relu" else x


def slope(h: TwoLayerStudentHyperparameters, y: np.ndarray) -> np.ndarray:
    """Derivative f'(x) from y = f(x); that of relu is 0 at 0."""
    if h.activation == "tanh":
        return 1.0 - y * y
    return (y > 0.0).astype(y.dtype) if h.activation == "relu" else np.ones_like(y)


class Samples:
    """Inputs, as the student sees them.

    Parameters
    ----------
    h : TwoLayerStudentHyperparameters
        Of the run.
    inputs : np.ndarray
        x, shape (..., n_in).

    Attributes
    ----------
    features : np.ndarray
        f(M x), shape (..., L).
    outputs : np.ndarray
        The teacher's y_t, shape (..., n_out).
    teacher : Teacher
        The teacher.
    """

    def __init__(self, h: TwoLayerStudentHyperparameters, inputs: np.ndarray):
        self.h, self.teacher = h, teacher(h)
        self.features = activate(h, inputs @ self.teacher.first.T)
        hidden = activate(h, self.features @ self.teacher.weights.T)
        self.outputs = hidden @ self.teacher.readout.T

    def loss(self, weights: np.ndarray) -> np.ndarray:
        """Mean over the samples, shape (samples, n_in), of |y - y_t|^2 / 2.

        Parameters
        ----------
        weights : np.ndarray
            W, shape (..., K, L).

        Returns
        -------
        np.ndarray
            Shape (...), float64.
        """
        return 0.5 * np.square(self._errors(weights)[1]).sum(axis=-1).mean(axis=-1)

    def gradient(self, weights: np.ndarray) -> np.ndarray:
        """Gradient of the `loss`, of the shape of the weights."""
        return self.deltas(weights).swapaxes(-1, -2) @ self.features / len(self.features)

    def deltas(self, weights: np.ndarray) -> np.ndarray:
        """Delta of each sample, whose gradient is delta phi^T; shape (..., samples, K)."""
        hidden, errors = self._errors(weights)
        return errors @ self.teacher.readout * slope(self.h, hidden)

    def hidden_overlap(self, weights: np.ndarray) -> np.ndarray:
        """Cosine between f(W phi) and the teacher's, all units and samples, shape (...)."""
        hidden = self._errors(weights)[0]
        learnt = activate(self.h, self.features @ self.teacher.weights.T)
        scalar = (hidden * learnt).sum(axis=(-2, -1))
        squares = np.square(hidden).sum(axis=(-2, -1)) * np.square(learnt).sum()
        return scalar / np.sqrt(np.maximum(squares, 1e-300))

    @property
    def untaught_loss(self) -> float:
        """Loss of whoever always answers the mean of the teacher's outputs."""
        return 0.5 * float(self.outputs.var(axis=0).sum())

    def _errors(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hidden units, shape (..., samples, K), and y - y_t, shape (..., samples, n_out)."""
        transposed = weights.astype(np.float64).swapaxes(-1, -2)
        hidden = activate(self.h, self.features @ transposed)
        return hidden, hidden @ self.teacher.readout.T - self.outputs


def training_set(h: TwoLayerStudentHyperparameters) -> Samples:
    """Training set that all replicas share, inputs of shape (training_batches, B, n_in)."""
    shape = (h.training_batches, h.batch_size, h.input_size)
    return Samples(h, _shared_stream(h, TRAINING_SET).standard_normal(shape))


def test_set(h: TwoLayerStudentHyperparameters) -> Samples:
    """Inputs on which all replicas are examined, none of them trained on: (samples, n_in)."""
    shape = (TEST_SAMPLES, h.input_size)
    return Samples(h, _shared_stream(h, TEST_SET).standard_normal(shape))


def overlap(h: TwoLayerStudentHyperparameters, weights: np.ndarray) -> np.ndarray:
    """Cosine of the angle between W and the teacher's W_t, shape (..., K, L) to (...)."""
    target = teacher(h).weights
    scalar = (weights * target).sum(axis=(-2, -1))
    length = np.sqrt(np.square(weights.astype(np.float64)).sum(axis=(-2, -1)))
    return scalar / np.maximum(length * np.sqrt(np.square(target).sum()), 1e-300)


class TwoLayerStudentSimulation(TorchSimulation):
    """A block of students, trained side by side; weights (replica, K, L)."""

    STATE = ("weights", "diverged_at")

    def __init__(
        self, hyperparameters: TwoLayerStudentHyperparameters, replicas: int, noise: NoiseStream
    ):
        super().__init__(hyperparameters, replicas, noise)
        self.h = h = hyperparameters
        width = h.initial_width / math.sqrt(h.feature_size)
        self.weights = width * noise.normal(replicas, h.hidden_size, h.feature_size)
        self.diverged_at = torch.full((replicas,), -1, dtype=torch.int64, device=noise.device)
        self.test_set = test_set(h)
        self.first = self._tensor(self.test_set.teacher.first)
        self.teacher = self._tensor(self.test_set.teacher.weights)
        self.readout = self._tensor(self.test_set.teacher.readout)
        if h.data == "shared":
            shared = training_set(h)
            self.features, self.outputs = map(self._tensor, (shared.features, shared.outputs))

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps; replicas that diverge, or did, stand still."""
        rate, limit = self.h.learning_rate / self.h.batch_size, LIMITS[self.h.dtype]
        for _ in range(steps):
            features, outputs = self._batch()
            hidden = self._activate(features @ self.weights.transpose(1, 2))
            delta = (hidden @ self.readout.T - outputs) @ self.readout * self._slope(hidden)
            fine = (delta.abs() <= limit).all(dim=2).all(dim=1)
            fresh = ~fine & (self.diverged_at < 0)
            # No part is picked out by its truth, for that would wait for a GPU.
            self.diverged_at = torch.where(fresh, self.step, self.diverged_at)
            self.step += 1
            delta = delta.masked_fill((self.diverged_at >= 0)[:, None, None], 0.0)
            self.weights = self.weights - rate * delta.transpose(1, 2) @ features

    def loss(self) -> np.ndarray:
        """Loss of each replica on the test set, shape (replica,)."""
        return self.test_set.loss(self.layers()["W"])

    def diverged(self) -> np.ndarray:
        """SGD step at which each replica diverged, -1 if it did not; shape (replica,)."""
        return self.diverged_at.cpu().numpy()

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (replica, B, L) and the teacher's outputs (replica, B, n_out) of this step."""
        h, replicas = self.h, len(self.weights)
        if h.data == "shared":
            batch = self.step % h.training_batches
            features, outputs = self.features[batch], self.outputs[batch]
            return features.expand(replicas, -1, -1), outputs.expand(replicas, -1, -1)
        inputs = self.noise.normal(replicas, h.batch_size, h.input_size)
        features = self._activate(inputs @ self.first.T)
        return features, self._activate(features @ self.teacher.T) @ self.readout.T

    def _activate(self, x: torch.Tensor) -> torch.Tensor:
        if self.h.activation == "tanh":
            return x.tanh()
        return x.relu() if self.h.activation == "relu" else x

    def _slope(self, y: torch.Tensor) -> torch.Tensor | float:
        if self.h.activation == "tanh":
            return 1.0 - y * y
        return (y > 0.0).to(y.dtype) if self.h.activation == "relu" else 1.0

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=self.noise.device, dtype=self.noise.dtype)


class CompiledTwoLayerStudent(CompiledSimulation):
    """The same block of students, advanced by the compiled kernel."""

    kernel: TwoLayerStudentKernel

    def __init__(
        self, hyperparameters: TwoLayerStudentHyperparameters, kernel: TwoLayerStudentKernel
    ):
        super().__init__(hyperparameters, kernel)
        self.test_set = test_set(hyperparameters)
        if self.h.data == "shared":
            shared = training_set(hyperparameters)
            self.samples = np.concatenate([shared.features, shared.outputs], axis=-1)

    @classmethod
    def start(cls, hyperparameters: TwoLayerStudentHyperparameters, block: Block) -> Self:
        """A block of students at step 0."""
        h, learnt = hyperparameters, teacher(hyperparameters)
        kernel = TwoLayerStudentKernel(
            first=learnt.first,
            teacher=learnt.weights,
            readout=learnt.readout,
            activation=h.activation,
            learning_rate=h.learning_rate,
            batch_size=h.batch_size,
            limit=LIMITS[h.dtype],
            initial_std=h.initial_width / math.sqrt(h.feature_size),
            **kernel_arguments(h, block),
        )
        return cls(h, kernel)

    def kernel_inputs(self, steps: int) -> dict[str, Any]:
        """Batches of the shared training set for the next steps."""
        if self.h.data == "fresh":
            return {}
        return {"samples": self.samples[(self.step + np.arange(steps)) % self.h.training_batches]}

    def loss(self) -> np.ndarray:
        """Loss of each replica on the test set, shape (replica,)."""
        return self.test_set.loss(self.kernel.weights)

    def diverged(self) -> np.ndarray:
        """SGD step at which each replica diverged, -1 if it did not; shape (replica,)."""
        return self.kernel.diverged


SYSTEM = System(TwoLayerStudentHyperparameters, TwoLayerStudentSimulation, CompiledTwoLayerStudent)
