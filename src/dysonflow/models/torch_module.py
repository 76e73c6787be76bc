"""The user's own network: a torch.nn.Module, its data and its loss, trained as replicas here.

The study names functions in the user's files. `build` makes the module from the `arguments` of the
study; `data` makes batches from a torch.Generator that it is handed; `loss` compares an output with
targets. Everything else, from optimisers to figures, is that of every other model.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dysonflow.artifacts.cache import Known
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import (
    Auto,
    Cost,
    FileHyperparameters,
    Time,
    normalise,
    planning_only,
    quantity,
)
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.readers import user_code
from dysonflow.readers.names import layer_of, matches_parameter
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.descent import DescentHyperparameters
from dysonflow.simulation.finite import FiniteWatch
from dysonflow.simulation.modules import Batch, Modules
from dysonflow.simulation.torch_simulation import TorchSimulation
from dysonflow.wording import did_you_mean

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

log = logging.getLogger(__name__)

START, DATA, EVALUATION = 1, 2, 3
"""Streams of each replica: its initial weights, its batches, and those its loss is taken of."""
EVALUATED = 4
"""Batches that the loss of a snapshot is the mean of."""
BUILT_IN = ("squared_error", "cross_entropy")


class TorchModuleHyperparameters(DescentHyperparameters, FileHyperparameters):
    """Hyperparameters of the user's own network."""

    MODEL = "torch_module"

    replicas: int = quantity(4, ge=1, le=10_000_000)
    """Independent copies: each has its own initial weights, batches and dropout."""
    burn_in: Time | Auto = quantity(0, unit="SGD steps")
    """SGD steps before the first snapshot."""
    dtype: Literal["float64", "float32"] = quantity("float32")
    """Floating-point type of the weights and inputs during training."""
    module: str = quantity(min_length=1)
    """`path.py:build`: a function that is called with `arguments` and returns a torch.nn.Module.
    Paths are absolute, or relative to the working directory or to the folder of the
    configuration."""
    data: str = quantity(min_length=1)
    """`path.py:data`: a function that is called as `data(generator, batch_size)`, where it has such
    parameters also with `arguments`. It returns one batch, inputs and targets, or yields
    them one after the other, from the start again where it ends."""
    loss: str = quantity(min_length=1)
    """`squared_error`: half of the squared distance, summed over outputs, mean over samples;
    `cross_entropy`: of the last axis of the outputs with classes, mean over all others; or
    `path.py:loss`, a function of outputs and targets that returns one number."""
    arguments: dict[str, Any] = quantity({}, in_tables=False)
    """What `build` is called with, by name. In a sweep each value is a mapping of its own."""
    layer_patterns: list[str] | str = quantity([], alias="layers", in_tables=False)
    """Which weights are kept: names of parameters, with or without `.weight`, or patterns such as
    `blocks.*`, one or a list. Without it, all of two axes and kernels of convolutions, as
    rows of one output each."""
    matrices: list[str] | Auto = quantity("auto", in_tables=False)
    """Layer, rows and columns of every weight matrix, as in `net.0 16 64`; `auto`: of the module
    that `build` returns."""

    @classmethod
    def _normal(cls, name: str, value: Any) -> Any:
        if name in ("layers", "matrices") and value != "auto":
            # A name stays as it is written, also one that spells a number.
            return [value] if isinstance(value, str) else value
        if name == "arguments" and isinstance(value, Mapping):
            return {key: normalise(one) for key, one in value.items()}
        return super()._normal(name, value)

    def reference(self, name: Literal["module", "data", "loss"]) -> user_code.Reference:
        """Which of the user's functions is meant."""
        return user_code.reference(getattr(self, name), name)

    @property
    def has_own_loss(self) -> bool:
        """Whether the loss is the user's function."""
        return user_code.is_reference(self.loss)

    def files(self) -> list[Path]:
        """The files that are named, and what they import from their own folders."""
        named = [self.reference("module").path, self.reference("data").path]
        if self.has_own_loss:
            named.append(self.reference("loss").path)
        return user_code.files(named)

    def auto_matrices(self) -> list[str]:
        """Those of the module."""
        kept = _kept(self, _shapes(self))
        return [f"{layer} {rows} {columns}" for layer, (_, rows, columns) in kept.items()]

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """What `matrices` says."""
        shapes = []
        for text in self.matrices:
            match = re.fullmatch(r"(\S+) (\d+) (\d+)", text)
            if match is None:
                raise ConfigError(f"matrices = {text!r}: give layer, rows and columns, or auto")
            shapes.append((match[1], int(match[2]), int(match[3])))
        return shapes

    def check(self) -> None:
        """Refuse a loss that does not exist."""
        super().check()
        if not self.has_own_loss and self.loss not in BUILT_IN:
            raise ConfigError(
                f"loss = {self.loss!r}: neither built in nor path.py:function"
                f"{did_you_mean(self.loss, BUILT_IN)}"
            )

    def check_sources(self) -> None:
        """Refuse files that changed since the run was planned, and functions that are not there."""
        super().check_sources()
        user_code.check(self.reference("module"))
        user_code.check(self.reference("data"))
        if self.has_own_loss:
            user_code.check(self.reference("loss"))

    @planning_only
    def why_no_gradient_noise(self) -> str:
        """Why the noise of the gradient cannot be measured; empty if it may be possible."""
        return _yielded(self) if user_code.yields(self.reference("data")) else ""

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs, if every weight is used once for each sample."""
        parameters = float(sum(rows * columns for rows, columns in self.layers().values()))
        return Cost(
            draws=self.batch_size,
            operations=6 * self.batch_size * parameters + 10 * parameters,
            numbers=8 * parameters + 8 * self.batch_size * parameters**0.5,
        )


def _known_shapes(h: TorchModuleHyperparameters) -> Known:
    """Shapes of the parameters of a module, kept so that a plan need not build it again."""
    wanted = h.reference("module")
    names = (wanted.path.name, wanted.name)
    return Known("shapes", [*names, h.file_digest, h.arguments, version("torch")])


def _shapes(h: TorchModuleHyperparameters) -> dict[str, tuple[int, ...]]:
    """Parameter to shape, from the cache or of the module that is built for it."""
    known = _known_shapes(h)
    found = known.get()
    try:
        return {str(name): tuple(int(side) for side in shape) for name, shape in found}
    except (TypeError, ValueError):
        shapes = {name: tuple(value.shape) for name, value in build(h, 0).named_parameters()}
        known.put([[name, list(shape)] for name, shape in shapes.items()])
        return shapes


def _yielded(h: TorchModuleHyperparameters) -> str:
    return (
        f"data = {h.data!r}: yields its batches, which need not be independent, and then their "
        "noise is not that of the samples; let it return one batch"
    )


def _kept(
    h: TorchModuleHyperparameters, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, int, int]]:
    """Layer to parameter, rows and columns, of the weights that are kept."""
    matrices = {name: shape for name, shape in shapes.items() if len(shape) >= 2}
    if not matrices:
        raise ConfigError(f"{h.module}: the module has no parameter of two axes, no weight matrix")
    names = dict.fromkeys(matrices) if not h.layer_patterns else {}
    for pattern in h.layer_patterns:
        matching = [name for name in matrices if matches_parameter(name, pattern)]
        if not matching:
            raise ConfigError(
                f"layers = {pattern!r}: matches no weight matrix of {h.module}"
                f"{did_you_mean(pattern, map(layer_of, matrices))}"
            )
        names |= dict.fromkeys(matching)
    return {
        # A kernel of a convolution: all numbers of one output are a row.
        layer_of(name): (name, shapes[name][0], int(np.prod(shapes[name][1:])))
        for name in shapes
        if name in names
    }


def _seed(h: TorchModuleHyperparameters, replica: int, stream: int) -> int:
    """Seed of a stream of a replica; on a spawn key of length two, never that of a block."""
    sequence = np.random.SeedSequence([h.seed, int(h.key, 16)], spawn_key=(replica, stream))
    return int(sequence.generate_state(1, np.uint64)[0])


def _drawn_seed(noise: NoiseStream) -> int:
    """Seed of another generator, drawn from a stream."""
    return int(noise.integers(2**62, 1)[0])


def build(h: TorchModuleHyperparameters, seed: int) -> torch.nn.Module:
    """The user's module, on the CPU, in the type of the run.

    Parameters
    ----------
    h : TorchModuleHyperparameters
        Of the run.
    seed : int
        Of torch's own random numbers while it is built, from which modules take their start.

    Raises
    ------
    ConfigError
        If the user's function fails, or returns something else.
    """
    wanted = h.reference("module")
    function = user_code.load(wanted)
    with torch.random.fork_rng(devices=[]), user_code.one_line(wanted):
        torch.manual_seed(seed)
        found = function(**h.arguments)
    if not isinstance(found, torch.nn.Module):
        raise ConfigError(
            f"{wanted}: returns a {type(found).__name__}, where a torch.nn.Module belongs"
        )
    for name, value in found.named_parameters():
        if isinstance(value, torch.nn.parameter.UninitializedParameter):
            raise ConfigError(f"{wanted}: {name} has no shape yet; build no lazy layers")
        if not bool(torch.isfinite(value).all()):
            raise ConfigError(f"{wanted}: {name} starts with a number that is not finite")
    return found.to(device="cpu", dtype=getattr(torch, h.dtype))


def loss_function(h: TorchModuleHyperparameters) -> Callable[[Any, Any], torch.Tensor]:
    """Loss of outputs and targets of one replica."""
    if h.has_own_loss:
        return user_code.load(h.reference("loss"))
    return _squared_error if h.loss == "squared_error" else _cross_entropy


def _squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    # Never broadcast: (n, 1) against (n,) is a mistake that nobody sees.
    if outputs.shape != targets.shape:
        raise ConfigError(
            f"loss: outputs of shape {tuple(outputs.shape)} and targets of shape "
            f"{tuple(targets.shape)}; let them be the same"
        )
    return 0.5 * (outputs - targets).square().sum() / len(outputs)


def _cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if outputs.shape[:-1] != targets.shape:
        raise ConfigError(
            f"loss: outputs of shape {tuple(outputs.shape)} for classes of shape "
            f"{tuple(targets.shape)}; let outputs have one axis more, the last"
        )
    flat = outputs.reshape(-1, outputs.shape[-1])
    return torch.nn.functional.cross_entropy(flat, targets.reshape(-1).long())


class Batches:
    """Batches of one replica, from the user's function.

    Parameters
    ----------
    h : TorchModuleHyperparameters
        Of the run.
    function : callable
        The user's.
    seed : int
        Of the generator that it is handed, which is one of the CPU, as the batches are.
    """

    def __init__(self, h: TorchModuleHyperparameters, function: Callable[..., Any], seed: int):
        self.h, self.function = h, function
        self.generator = torch.Generator().manual_seed(seed)
        self.start = self.generator.get_state()
        self.source: Iterator[Any] | None = None
        parameters = inspect.signature(function).parameters
        takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        # Of the arguments those that it has a name for.
        self.arguments = {
            name: value for name, value in h.arguments.items() if takes_all or name in parameters
        }

    def next(self) -> Batch:
        """The next batch."""
        wanted = self.h.reference("data")
        with user_code.one_line(wanted):
            found = next(self.source, None) if self.source is not None else None
            if found is None:
                found = self.function(self.generator, self.h.batch_size, **self.arguments)
                if isinstance(found, Iterator) or not isinstance(found, tuple | list):
                    self.source = iter(found)
                    found = next(self.source, None)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ConfigError(f"{wanted}: let every batch be two things, inputs and targets")
        inputs, targets = found
        several = inputs if isinstance(inputs, tuple | list) else (inputs,)
        return tuple(map(self._tensor, several)), self._tensor(targets)

    def _tensor(self, value: Any) -> torch.Tensor:
        tensor = torch.as_tensor(value, device="cpu")
        return tensor.to(getattr(torch, self.h.dtype)) if tensor.is_floating_point() else tensor

    def reseed(self, seed: int) -> None:
        """Go on as if from another seed; of batches that are returned."""
        self.generator.manual_seed(seed)

    def state(self) -> np.ndarray:
        """State of the generator, as bytes."""
        return self.generator.get_state().numpy().copy()

    def load(self, state: np.ndarray, done: int) -> None:
        """Go on after `done` batches: those that are yielded are gone through again."""
        self.source = None
        self.generator.set_state(self.start)
        if done:
            self.next()
        if self.source is None:
            self.generator.set_state(torch.from_numpy(state.copy()))
            return
        for _ in range(done - 1):
            self.next()


class TorchModuleSimulation(TorchSimulation):
    """A block of replicas of the user's module."""

    def __init__(
        self, hyperparameters: TorchModuleHyperparameters, replicas: int, noise: NoiseStream
    ):
        super().__init__(hyperparameters, replicas, noise)
        self.h = h = hyperparameters
        first = noise.block * BLOCK_SIZE
        members = range(first, first + replicas)
        built = [build(h, _seed(h, member, START)) for member in members]
        self.data = data = user_code.load(h.reference("data"))
        self.batches = [Batches(h, data, _seed(h, k, DATA)) for k in members]
        others = [Batches(h, data, _seed(h, k, EVALUATION)) for k in members]
        with self._calling():
            self.evaluated = [[other.next() for other in others] for _ in range(EVALUATED)]
        shapes = {name: tuple(value.shape) for name, value in built[0].named_parameters()}
        self.kept = _kept(h, shapes)
        now = [f"{layer} {rows} {columns}" for layer, (_, rows, columns) in self.kept.items()]
        if now != h.matrices:
            # If it depends on something else that has changed, the next plan will know.
            _known_shapes(h).forget()
            raise ConfigError(
                f"{h.module}: its matrices are not those of the plan ({now} instead of "
                f"{h.matrices}); let them depend on the arguments alone, and run snakemake again"
            )
        with self._calling():
            trial = self.evaluated[0][0]
            self.modules = Modules(built, loss_function(h), trial, noise.device)
        # What the trial drew belongs to nobody.
        noise.generator.manual_seed(noise.generator.initial_seed())
        if self.modules.why_one_by_one and replicas > 1:
            log.info("replicas are trained one by one: %s", self.modules.why_one_by_one)
        self.why_samples_one_by_one = ""
        self.optimiser = h.start_optimiser(self.modules.parameters)
        self.rates = h.learning_rates()
        self.watch = FiniteWatch(noise.device)

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps.

        Raises
        ------
        DivergedError
            With replica, layer and step, if a parameter is no longer finite.
        """
        parameters = self.modules.parameters
        with self._calling():
            for step in range(steps):
                batches = [batches.next() for batches in self.batches]
                gradients, _ = self.modules.gradients(batches)
                self.step += 1
                rate = self.rates.rate(self.step)
                self.optimiser.update(parameters, gradients, rate, self.step)
                self._check_finite(step == steps - 1)

    def _check_finite(self, is_last: bool) -> None:
        """Look at sums, which cost little, and at every number where one of them is not finite."""
        parameters = self.modules.parameters
        sums = torch.stack([value.reshape(len(value), -1).sum(1) for value in parameters.values()])
        when = self.watch.broken_at(sums, self.step, is_last)
        if when is None:
            return
        for name, value in parameters.items():
            broken = ~torch.isfinite(value).reshape(len(value), -1).all(dim=1)
            if bool(broken.any()):
                reason = f"a weight of layer {layer_of(name)} is not finite; lower learning_rate"
                raise DivergedError(int(broken.int().argmax()), when, reason)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """While the user's module is called: torch's own random numbers are those of this block."""
        on_gpu = self.noise.device.type == "cuda"
        devices = [self.noise.device] if on_gpu else []
        wanted = self.h.reference("module")
        with user_code.one_line(wanted), torch.random.fork_rng(devices=devices):
            generator = self.noise.generator
            (torch.cuda.set_rng_state if on_gpu else torch.set_rng_state)(generator.get_state())
            yield
            generator.set_state(torch.cuda.get_rng_state() if on_gpu else torch.get_rng_state())

    def sample_gradients(
        self, replica: int, samples: int, noise: NoiseStream
    ) -> dict[str, torch.Tensor]:
        """Gradient of the loss of single samples, as of `dysonflow.simulation.gradients`.

        Raises
        ------
        ConfigError
            If the module, its loss or its data have no gradients of single, independent samples.
        """
        source = Batches(self.h, self.data, _drawn_seed(noise))
        drawn: list[Batch] = []
        state = self.noise.state()
        with self._calling():
            while sum(len(targets) for _, targets in drawn) < samples:
                drawn.append(source.next())
                if source.source is not None:
                    raise ConfigError(_yielded(self.h))
                self._check_samples(drawn[-1])
            columns = zip(*(inputs for inputs, _ in drawn), strict=True)
            batch = (
                tuple(torch.cat(parts)[:samples] for parts in columns),
                torch.cat([targets for _, targets in drawn])[:samples],
            )
            found, why = self.modules.sample_gradients(replica, batch)
        # Training goes on as if nothing had been drawn.
        self.noise.load(state)
        if why and why != self.why_samples_one_by_one:
            log.info("samples are differentiated one by one: %s", why)
        self.why_samples_one_by_one = why
        return self._by_layer(found)

    def _check_samples(self, batch: Batch) -> None:
        inputs, targets = batch
        for part in (*inputs, targets):
            if not part.ndim or len(part) != self.h.batch_size:
                raise ConfigError(
                    f"{self.h.data}: a batch holds shape {tuple(part.shape)}, where the noise of "
                    f"single samples needs {self.h.batch_size} of them along the first axis"
                )

    def draw_from(self, noise: NoiseStream) -> None:
        """Let the next step draw its batch, too, as of `dysonflow.simulation.gradients`."""
        super().draw_from(noise)
        for batches in self.batches:
            batches.reseed(_drawn_seed(self.noise))

    def remembered(self, kind: str) -> dict[str, torch.Tensor]:
        """What the optimiser remembers, as of `dysonflow.simulation.gradients`."""
        memory = self.optimiser.memory
        return self._by_layer({name: memory[f"{kind}.{name}"] for name in self.modules.parameters})

    def _by_layer(self, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of tensors like the parameters those of the layers that are trained, as matrices."""
        return {
            layer: parameters[name].reshape(-1, rows, columns)
            for layer, (name, rows, columns) in self.kept.items()
            if name in parameters
        }

    def layers(self) -> dict[str, np.ndarray]:
        """Weights now, layer to a copy of shape (replica, M, N)."""
        parameters = self.modules.parameters | self.modules.buffers
        return {
            layer: parameters[name].reshape(-1, rows, columns).cpu().numpy().copy()
            for layer, (name, rows, columns) in self.kept.items()
        }

    def loss(self) -> np.ndarray:
        """Loss of each replica without dropout, shape (replica,), on its own unseen batches.

        The mean over `EVALUATED` batches from a stream of their own, the same throughout.
        """
        with self._calling():
            found = torch.stack([self.modules.losses(batches) for batches in self.evaluated])
        return found.mean(dim=0).cpu().numpy().astype(np.float64)

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        modules = self.modules
        tensors = {f"parameter.{name}": value for name, value in modules.parameters.items()}
        tensors |= {f"buffer.{name}": value for name, value in modules.buffers.items()}
        tensors |= {f"optimiser.{name}": value for name, value in self.optimiser.state().items()}
        return {
            **{name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()},
            "batches": np.stack([batches.state() for batches in self.batches]),
            "step": np.array([self.step]),
            "noise": self.noise.state(),
        }

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        modules = self.modules
        for kind, stacks in (("parameter", modules.parameters), ("buffer", modules.buffers)):
            for name, stack in stacks.items():
                stack.copy_(torch.as_tensor(state[f"{kind}.{name}"]))
        names = self.optimiser.state()
        self.optimiser.load({name: state[f"optimiser.{name}"] for name in names})
        self.step = int(state["step"][0])
        with self._calling():
            for batches, own in zip(self.batches, state["batches"], strict=True):
                batches.load(own, self.step)
        self.noise.load(state["noise"])


SYSTEM = System(TorchModuleHyperparameters, TorchModuleSimulation)
