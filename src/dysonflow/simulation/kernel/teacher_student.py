"""The linear student of a symmetric teacher, advanced by compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dysonflow.simulation.kernel.library import KernelEnsemble, wishart_numbers


class TeacherStudentKernel(KernelEnsemble):
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
        As in `dysonflow.simulation.kernel.gaussian_rbm.GaussianRBMKernel`.
    device : str
        Likewise.

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
        device: str = "cpu",
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
            device=device,
        )
        self._target = np.ascontiguousarray(target, dtype=self.dtype)
        self._physics = (batch_size, 1, learning_rate, 1.0, 1.0, noise_scale)

    def noise_per_step(self) -> int:
        """Count the numbers that ``advance`` takes as ``noise`` when no inputs are supplied."""
        size = self._weights.shape[1]
        return wishart_numbers(self._physics[0], size) + size * (size + 1) // 2

    def _shapes(self, steps: int, inputs: NDArray[Any] | None) -> dict[str, list[tuple[int, ...]]]:
        size, batch = self._weights.shape[1], self._physics[0]
        drawn = self.noise_per_step() if inputs is None else size * (size + 1) // 2
        shared = (steps, batch, size)
        return {
            "noise": [(self.replicas, steps, drawn)],
            "inputs": [shared, (self.replicas, *shared)],
        }

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
