"""Ensembles of replicas advanced by compiled code, one replica per SIMD lane.

The compiled part is optional: `available` tells whether this installation has it and
`why_unavailable` why not. It runs on the fastest instruction set of the machine; AVX2 and AVX-512
give the same results bit for bit, the x86-64 baseline, which has no fused multiply-add, gives them
with other rounding.

Replicas come in blocks of `REPLICAS_PER_BLOCK`. Block ``b`` of a run draws from the seed sequence
``SeedSequence(seed, spawn_key=(b, 0))`` and its start from ``spawn_key=(b, 1)``, and no number
depends on which other blocks are simulated beside it, on threads, or on how the steps are divided
over calls of ``advance``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dysonflow.errors import DivergedError

_kernel: Any
try:
    from dysonflow.simulation.kernel import _kernel  # type: ignore[attr-defined,no-redef,unused-ignore]

    _import_error = ""
except ImportError as _error:
    _kernel = None
    _import_error = str(_error)

REPLICAS_PER_BLOCK = 16

Sampler: TypeAlias = Literal["gibbs", "ar1", "wishart"]
State: TypeAlias = dict[str, Any]

__all__ = [
    "REPLICAS_PER_BLOCK",
    "GaussianRBMKernel",
    "TeacherStudentKernel",
    "arithmetic_rate",
    "available",
    "instruction_set",
    "instruction_sets",
    "why_unavailable",
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


def instruction_sets() -> list[str]:
    """Names of the instruction sets that this machine and this build share, fastest first."""
    return list(_require().instruction_sets())


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
    module, rate = _require(), 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        operations, _value = module.multiply_adds(2_000_000)
        rate = max(rate, operations / (time.perf_counter() - start))
    return rate


def _require() -> Any:
    if _kernel is None:
        raise RuntimeError(why_unavailable())
    return _kernel


class _Ensemble:
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
    ):
        compiled = _require()
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
        self.instruction_set = instruction_set or instruction_sets()[0]
        if self.instruction_set not in instruction_sets():
            raise ValueError(
                f"instruction set {instruction_set!r} is not one of {', '.join(instruction_sets())}"
            )
        self.steps_done = 0
        self._failure: DivergedError | None = None
        self._advance: Callable[..., tuple[int, int, str] | None] = (
            compiled.advance64 if self.dtype.itemsize == 8 else compiled.advance32
        )
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
        batch, sweeps, learning_rate, mu_squared, sigma_h, noise_scale = self._physics
        arrays = [
            None if array is None else np.ascontiguousarray(array, dtype=self.dtype)
            for array in (noise, inputs)
        ]
        outcome = self._advance(
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
            *arrays,
        )
        if outcome is not None:
            replica, step, kind = outcome
            replica += self.first_block * REPLICAS_PER_BLOCK
            self._failure = DivergedError(replica, step, self._explain(kind))
            raise self._failure
        self.steps_done += steps

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


class GaussianRBMKernel(_Ensemble):
    """Replicas of the Gaussian restricted Boltzmann machine.

    One step is ``W <- W + a sigma_h^2 W (target - C)``, ``C`` the covariance of a batch of model
    samples, `arXiv:2309.15002 <https://arxiv.org/abs/2309.15002>`_. ``gibbs`` makes sweeps of
    block Gibbs sampling on persistent chains; ``ar1`` draws from the same law with the hidden
    layer integrated out; ``wishart`` takes independent samples.

    Parameters
    ----------
    target_covariance : array of shape (N, N)
        Covariance of the data, symmetric.
    hidden : int, optional
        Number of hidden units ``M``, the rows of W. Default: N.
    learning_rate, mu_squared, sigma_h : float
        ``a``, ``mu^2`` and the hidden width; positive.
    batch_size : int
        Model samples per step, B.
    sweeps : int
        Gibbs sweeps per step, k.
    sampler : {"gibbs", "ar1", "wishart"}
        How model samples are drawn.
    replicas, blocks : int
        Size of the ensemble: one of the two. The last block may be incomplete.
    first_block : int
        Number of the first block within the run.
    seed : int or sequence of int
        Seed of the run.
    dtype : float64 or float32
        Of all arithmetic. Normal numbers have 24 bits in both.
    threads : int
        Threads to use; shows in no number.
    weights : array of shape (replicas, M, N), optional
        Start. Default: normal with standard deviation `initial_std`.
    chains : array of shape (replicas, B, N), optional
        Start of the Markov chains. Default: normal with variance 1/mu^2, the law at W = 0.
    initial_std : float
        Standard deviation of the entries of the default start.
    instruction_set : str
        One of `instruction_sets`; default the fastest.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the compiled kernel is unavailable.

    Notes
    -----
    Supplied noise, per replica and step, standard normal unless said otherwise:

    - ``gibbs``: for each sweep (B, M) for the hidden layer, then (B, N) for the visible one;
    - ``ar1``: (B, N);
    - ``wishart``, B >= N: the lower triangle, row by row, of Bartlett's factor, whose diagonal
      element i (from 0) is a chi variable with B - i degrees of freedom; B < N: (N, B).
    """

    def __init__(
        self,
        *,
        target_covariance: ArrayLike,
        learning_rate: float,
        batch_size: int,
        mu_squared: float,
        sigma_h: float = 1.0,
        sweeps: int = 3,
        sampler: Sampler = "gibbs",
        hidden: int | None = None,
        replicas: int | None = None,
        blocks: int | None = None,
        first_block: int = 0,
        seed: int | Sequence[int] = 0,
        dtype: DTypeLike = np.float64,
        threads: int = 1,
        weights: ArrayLike | None = None,
        chains: ArrayLike | None = None,
        initial_std: float = 0.1,
        instruction_set: str = "",
    ):
        target = np.asarray(target_covariance, dtype=np.float64)
        if target.ndim != 2 or target.shape[0] != target.shape[1]:
            raise ValueError(f"target_covariance must be square, not of shape {target.shape}")
        if not np.isfinite(target).all() or not np.allclose(target, target.T, rtol=1e-6):
            raise ValueError("target_covariance must be finite and symmetric")
        if sampler not in ("gibbs", "ar1", "wishart"):
            raise ValueError(f"sampler must be gibbs, ar1 or wishart, not {sampler!r}")
        if batch_size < 1 or sweeps < 1 or (hidden is not None and hidden < 1):
            raise ValueError("batch_size, sweeps and hidden must be at least 1")
        for name, value in (("learning_rate", learning_rate), ("sigma_h", sigma_h)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, not {value}")
        if not (np.isfinite(mu_squared) and mu_squared > 0):
            raise ValueError(f"mu_squared must be positive, not {mu_squared}")
        visible = target.shape[0]
        super().__init__(
            (visible if hidden is None else hidden, visible),
            replicas=replicas,
            blocks=blocks,
            first_block=first_block,
            seed=seed,
            dtype=dtype,
            threads=threads,
            weights=weights,
            initial_std=initial_std,
            instruction_set=instruction_set,
        )
        self._system = sampler
        # Exactly symmetric, so that which triangle is read does not matter.
        self._target = np.ascontiguousarray((target + target.T) / 2, dtype=self.dtype)
        self._physics = (batch_size, sweeps, learning_rate, mu_squared, sigma_h, 0.0)
        if sampler != "wishart":
            shape = (batch_size, visible)
            # In units of 1/mu, in which the compiled code works: no rounding when a run is resumed.
            self._chains = (
                self._normals(2, shape)
                if chains is None
                else self._exact(
                    np.asarray(chains) * np.sqrt(mu_squared), (self.replicas, *shape), "chains"
                )
            )

    def noise_per_step(self) -> int:
        """Count the numbers that ``advance`` takes per replica and step as ``noise``."""
        batch, sweeps = self._physics[:2]
        _, hidden, visible = self._weights.shape
        if self._system == "gibbs":
            return sweeps * batch * (hidden + visible)
        if self._system == "ar1":
            return batch * visible
        return _wishart_numbers(batch, visible)


class TeacherStudentKernel(_Ensemble):
    """Replicas of the linear student that learns a symmetric teacher.

    One step is ``W <- W + a [(teacher - W) C + A]``, ``C`` the covariance of a batch of standard
    normal inputs, ``A`` the batch mean of symmetric label noise, off the diagonal of standard
    deviation ``eps/sqrt(B)``, on it sqrt(2) times that: section III of
    `arXiv:2407.16427 <https://arxiv.org/abs/2407.16427>`_.

    Parameters
    ----------
    teacher : array of shape (n, n)
        Weights of the teacher.
    learning_rate : float
        ``a``, positive.
    batch_size : int
        Inputs per step, B.
    noise_scale : float
        ``eps``, not negative.
    replicas, blocks, first_block, seed, dtype, threads, weights, initial_std, instruction_set
        As in `GaussianRBMKernel`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the compiled kernel is unavailable.

    Notes
    -----
    Supplied noise, per replica and step: the numbers of the inputs' Wishart factor as in
    `GaussianRBMKernel`, unless inputs are supplied; then the lower triangle of the label noise, row
    by row, as standard normals.
    """

    _system = "teacher_student"

    def __init__(
        self,
        *,
        teacher: ArrayLike,
        learning_rate: float,
        batch_size: int,
        noise_scale: float,
        replicas: int | None = None,
        blocks: int | None = None,
        first_block: int = 0,
        seed: int | Sequence[int] = 0,
        dtype: DTypeLike = np.float64,
        threads: int = 1,
        weights: ArrayLike | None = None,
        initial_std: float = 0.1,
        instruction_set: str = "",
    ):
        target = np.asarray(teacher, dtype=np.float64)
        if target.ndim != 2 or target.shape[0] != target.shape[1] or not np.isfinite(target).all():
            raise ValueError("teacher must be a square matrix of finite numbers")
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        if not (np.isfinite(learning_rate) and learning_rate > 0):
            raise ValueError(f"learning_rate must be positive, not {learning_rate}")
        if not (np.isfinite(noise_scale) and noise_scale >= 0):
            raise ValueError(f"noise_scale must not be negative: {noise_scale}")
        super().__init__(
            (target.shape[0], target.shape[0]),
            replicas=replicas,
            blocks=blocks,
            first_block=first_block,
            seed=seed,
            dtype=dtype,
            threads=threads,
            weights=weights,
            initial_std=initial_std,
            instruction_set=instruction_set,
        )
        self._target = np.ascontiguousarray(target, dtype=self.dtype)
        self._physics = (batch_size, 1, learning_rate, 1.0, 1.0, noise_scale)

    def noise_per_step(self) -> int:
        """Count the numbers that ``advance`` takes as ``noise`` when no inputs are supplied."""
        size = self._weights.shape[1]
        return _wishart_numbers(self._physics[0], size) + size * (size + 1) // 2

    def advance(
        self,
        steps: int,
        *,
        noise: ArrayLike | None = None,
        inputs: ArrayLike | None = None,
    ) -> None:
        """Make ``steps`` training steps.

        Parameters
        ----------
        steps : int
            Number of steps.
        noise : array of shape (replicas, steps, numbers), optional
            Numbers to use instead of drawn ones, in the order told in the class.
        inputs : array of shape (steps, B, n) or (replicas, steps, B, n), optional
            Inputs, shared by all replicas or not, instead of drawn ones.

        Raises
        ------
        DivergedError
            If a replica diverges. All replicas stop; the object gives no weights any more.
        """
        self._run(steps, noise, inputs)


def _wishart_numbers(batch: int, size: int) -> int:
    return size * batch if batch < size else size * (size + 1) // 2
