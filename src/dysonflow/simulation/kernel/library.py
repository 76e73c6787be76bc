"""The compiled library: whether it is there, on which instruction set it runs, its base class."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dysonflow.errors import DivergedError

if TYPE_CHECKING:
    from dysonflow.simulation.kernel.gpu import ReplicasOnGpu

_kernel: Any
try:
    from dysonflow.simulation.kernel import _kernel  # type: ignore[attr-defined,no-redef,unused-ignore]

    _import_error = ""
except ImportError as _error:
    _kernel = None
    _import_error = str(_error)

REPLICAS_PER_BLOCK = 16

State: TypeAlias = dict[str, Any]

ACTIVATIONS = {"tanh": 0, "relu": 1, "linear": 2}
"""Numbers of the activations in `job.hpp`."""

__all__ = [
    "ACTIVATIONS",
    "REPLICAS_PER_BLOCK",
    "KernelEnsemble",
    "arithmetic_rate",
    "available",
    "compiled",
    "instruction_set",
    "instruction_sets",
    "knows",
    "why_unavailable",
    "wishart_numbers",
]


def available() -> bool:
    """Tell whether the compiled kernel can be used in this installation."""
    return _kernel is not None


def why_unavailable() -> str:
    """Say in one line why the compiled kernel cannot be used; empty if it can."""
    if available():
        return ""
    failure = Path(__file__).with_name("_build_failure.txt")
    if failure.exists():
        return " ".join(failure.read_text(encoding="utf-8").split())
    return f"the compiled kernel is not installed: {_import_error}"


def knows(system: str) -> bool:
    """Tell whether the kernel that is there was compiled with a system."""
    return system in getattr(_kernel, "SYSTEMS", ())


def instruction_sets() -> list[str]:
    """Names of the instruction sets that this machine and this build share, fastest first."""
    return list(compiled().instruction_sets())


def instruction_set() -> str:
    """Name of the instruction set in use: ``avx512``, ``avx2`` or ``baseline``."""
    return instruction_sets()[0]


def arithmetic_rate(repeats: int = 5) -> float:
    """Measure what the arithmetic units of one core can do, which no program here exceeds.

    Parameters
    ----------
    repeats : int
        Timings of a few ms each; the best one counts.

    Returns
    -------
    float
        Floating-point operations per second of independent float64 multiply-adds in registers, each
        counted as two, with `instruction_set`.

    Raises
    ------
    RuntimeError
        If the compiled kernel is not available.
    """
    module, rate = compiled(), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        operations, _value = module.multiply_adds(2_000_000)
        rate = max(rate, operations / (time.perf_counter() - start))
    return rate


def compiled() -> Any:
    """The compiled module.

    Raises
    ------
    RuntimeError
        If it is not available.
    """
    if _kernel is None:
        raise RuntimeError(why_unavailable())
    return _kernel


class KernelEnsemble:
    """Whole blocks of replicas of one system and their common bookkeeping.

    Subclasses set ``_system``, the arguments of the compiled function in ``_physics``, and
    ``_chains`` where the system has Markov chains.
    """

    _system: str
    _target: NDArray[Any]
    _physics: tuple[int, int, float, float, float, float]  # batch, sweeps, a, mu^2, sigma_h, eps
    _chains: NDArray[Any] | None = None

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        replicas: int | None,
        blocks: int | None,
        first_block: int,
        seed: int | Sequence[int],
        dtype: DTypeLike,
        threads: int,
        weights: ArrayLike | None,
        initial_std: float,
        instruction_set: str,
        device: str,
    ):
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float64), np.dtype(np.float32)):
            raise ValueError(f"dtype must be float64 or float32, not {self.dtype}")
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        if (replicas is None) == (blocks is None):
            raise ValueError("give either replicas or blocks")
        if replicas is None:
            assert blocks is not None
            replicas = blocks * REPLICAS_PER_BLOCK
        if replicas < 1 or first_block < 0:
            raise ValueError("there must be at least one replica, in blocks counted from 0")
        self.replicas = replicas
        self.first_block = first_block
        self.seed = seed
        self.threads = threads
        self.device = device
        self._on_gpu: ReplicasOnGpu | None = None
        self.instruction_set = instruction_set
        if device == "cpu":
            self.instruction_set = instruction_set or instruction_sets()[0]
            if self.instruction_set not in instruction_sets():
                known = ", ".join(instruction_sets())
                raise ValueError(f"instruction set {instruction_set!r} is not one of {known}")
        self.steps_done = 0
        self._failure: DivergedError | None = None
        words = self.dtype.itemsize
        self._streams = self._by_block(
            0,
            lambda block: block.generate_state(REPLICAS_PER_BLOCK * words, np.uint32).reshape(
                -1, words
            ),
        )
        rows, columns = shape
        if weights is None:
            start = self._normals(1, (rows, columns)) * initial_std
            self._weights = start.astype(self.dtype)
        else:
            self._weights = self._exact(weights, (replicas, rows, columns), "weights")

    def _by_block(
        self, purpose: int, draw: Callable[[np.random.SeedSequence], NDArray[Any]]
    ) -> NDArray[Any]:
        """One array per block, drawn from its own seed sequence, cut to the number of replicas."""
        last = self.first_block + -(-self.replicas // REPLICAS_PER_BLOCK)
        drawn = [
            draw(np.random.SeedSequence(self.seed, spawn_key=(block, purpose)))
            for block in range(self.first_block, last)
        ]
        return np.ascontiguousarray(np.concatenate(drawn)[: self.replicas])

    def _normals(self, purpose: int, shape: tuple[int, ...]) -> NDArray[Any]:
        return self._by_block(
            purpose,
            lambda block: (
                np.random.default_rng(block)
                .standard_normal((REPLICAS_PER_BLOCK, *shape))
                .astype(self.dtype)
            ),
        )

    def _exact(self, array: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
        """Copy in the kernel's own type and memory order; refuse other shapes and bad values."""
        copy = np.array(array, dtype=self.dtype, order="C", copy=True)
        if copy.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {copy.shape}")
        if not np.isfinite(copy).all():
            raise ValueError(f"{name} must be finite")
        return copy

    @property
    def weights(self) -> NDArray[Any]:
        """Weight matrices now, a copy of shape (replicas, rows, columns)."""
        self._refuse_after_failure()
        self._fetch()
        return self._weights.copy()

    def _refuse_after_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def noise_per_step(self) -> int:
        """Count the normal numbers that ``advance`` takes per replica and step as ``noise``."""
        raise NotImplementedError

    def advance(self, steps: int, *, noise: ArrayLike | None = None) -> None:
        """Make ``steps`` training steps.

        Parameters
        ----------
        steps : int
            Number of steps.
        noise : array of shape (replicas, steps, noise_per_step()), optional
            Numbers to use instead of drawn ones, in the order told in the class.

        Raises
        ------
        DivergedError
            If a replica diverges. All replicas stop; the object gives no weights any more.
        """
        self._run(steps, noise, None)

    def _run(self, steps: int, noise: ArrayLike | None, inputs: ArrayLike | None) -> None:
        self._refuse_after_failure()
        if steps < 0:
            raise ValueError(f"steps must not be negative: {steps}")
        arrays = [
            None if array is None else np.ascontiguousarray(array, dtype=self.dtype)
            for array in (noise, inputs)
        ]
        if self.device == "cpu":
            outcome = self._advance_on_cpu(steps, *arrays)
        else:
            outcome = self._advance_on_gpu(steps, *arrays)
        if outcome is not None:
            replica, step, kind = outcome
            replica += self.first_block * REPLICAS_PER_BLOCK
            self._failure = DivergedError(replica, step, self._explain(kind))
            raise self._failure
        self.steps_done += steps

    def _advance_on_cpu(
        self, steps: int, noise: NDArray[Any] | None, inputs: NDArray[Any] | None
    ) -> tuple[int, int, str] | None:
        """Replica, step and kind of the first failure."""
        batch, sweeps, learning_rate, mu_squared, sigma_h, noise_scale = self._physics
        module = compiled()
        advance: Callable[..., tuple[int, int, str] | None] = (
            module.advance64 if self.dtype.itemsize == 8 else module.advance32
        )
        return advance(
            self._system,
            self._weights,
            self._chains,
            self._streams,
            self._target,
            batch,
            sweeps,
            learning_rate,
            mu_squared,
            sigma_h,
            noise_scale,
            steps,
            self.steps_done,
            self.threads,
            self.instruction_set,
            noise,
            inputs,
        )

    def _advance_on_gpu(
        self, steps: int, noise: NDArray[Any] | None, inputs: NDArray[Any] | None
    ) -> tuple[int, int, str] | None:
        """Replica, step and kind of the first failure."""
        from dysonflow.simulation.kernel import gpu

        shapes = self._shapes(steps, inputs)
        for name, array in (("noise", noise), ("inputs", inputs)):
            if array is not None and array.shape not in shapes[name]:
                raise ValueError(f"{name}: wrong shape, type or memory order")
        if self._on_gpu is None:
            self._on_gpu = gpu.ReplicasOnGpu(
                gpu.card(), self._system, self._changing(), self._target, self._numbers()
            )
        return self._on_gpu.advance(steps, self.steps_done, noise, inputs)

    def _shapes(self, steps: int, inputs: NDArray[Any] | None) -> dict[str, list[tuple[int, ...]]]:
        """Shapes that supplied numbers may have."""
        return {"noise": [(self.replicas, steps, self.noise_per_step())], "inputs": []}

    def _changing(self) -> dict[str, NDArray[Any]]:
        """The arrays that a step changes."""
        arrays = {"weights": self._weights, "streams": self._streams}
        return arrays if self._chains is None else {**arrays, "chains": self._chains}

    def _numbers(self) -> dict[str, Any]:
        """Parameters of a step, as `gpu.Job` names them."""
        names = ("batch", "sweeps", "learning_rate", "mu_squared", "sigma_h", "noise_scale")
        return dict(zip(names, self._physics, strict=True))

    def _fetch(self) -> None:
        """Bring here what was changed on a GPU."""
        if self._on_gpu is not None:
            self._on_gpu.fetch()

    def _explain(self, kind: str) -> str:
        if kind == "not finite":
            return "the weights are not finite any more; the learning rate may be too large"
        return (
            "K = mu^2 - sigma_h^2 W^T W is not positive definite; "
            "a smaller learning rate, a larger batch or a larger mu^2 keeps it so"
        )

    def state(self) -> State:
        """All that a later `load` needs to go on exactly, as copies of plain arrays and numbers.

        Returns
        -------
        dict
            ``weights``, ``streams`` (state of the random generators), ``steps_done``, and, for the
            samplers that have them, ``chains``: visible units in units of 1/mu.
        """
        self._refuse_after_failure()
        self._fetch()
        state: State = {
            "weights": self._weights.copy(),
            "streams": self._streams.copy(),
            "steps_done": self.steps_done,
        }
        if self._chains is not None:
            state["chains"] = self._chains.copy()
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned, in an object made with the same arguments.

        Raises
        ------
        ValueError
            If an array has another shape, or is not finite.
        """
        weights = self._exact(state["weights"], self._weights.shape, "weights")
        streams = np.array(state["streams"], dtype=np.uint32, order="C")
        if streams.shape != self._streams.shape:
            raise ValueError(f"streams must have shape {self._streams.shape}, not {streams.shape}")
        if self._chains is not None:
            self._chains = self._exact(state["chains"], self._chains.shape, "chains")
        self._weights = weights
        self._streams = streams
        self.steps_done = int(state["steps_done"])
        self._failure = None
        # A GPU gets it with the next step.
        self._on_gpu = None


def wishart_numbers(batch: int, size: int) -> int:
    """Count the numbers that make a sample covariance of `batch` vectors of `size` components."""
    return size * batch if batch < size else size * (size + 1) // 2
