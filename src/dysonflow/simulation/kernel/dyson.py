"""The levels of Dyson Brownian motion, advanced by compiled code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.simulation.kernel.library import KernelEnsemble


class DysonKernel(KernelEnsemble):
    """Replicas of the levels of Dyson Brownian motion, one row of weights each.

    One step takes ascending levels x to the ascending y that solve

        stiffness_i y_i - sum_{j != i} 1 / (y_i - y_j) = memory_i x_i + pull_i + kick_i normal_i,

    as `dysonflow.simulation.implicit_levels` does, in float64.

    Parameters
    ----------
    coefficients : array of shape (4, n)
        Rows stiffness (positive), memory, pull and kick.
    levels : array of shape (n,)
        Ascending levels at the start, the same for all replicas.
    replicas, first_block, seed, threads, instruction_set
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
    Supplied noise, per replica and step: n standard normals, lowest level first.
    """

    _system = "dyson"

    def __init__(
        self,
        *,
        coefficients: ArrayLike,
        levels: ArrayLike,
        replicas: int,
        first_block: int = 0,
        seed: int | Sequence[int] = 0,
        threads: int = 1,
        instruction_set: str = "",
        device: str = "cpu",
    ):
        start = np.asarray(levels, dtype=np.float64)
        self._target = np.ascontiguousarray(coefficients, dtype=np.float64)
        if start.ndim != 1 or self._target.shape != (4, len(start)):
            raise ValueError(
                f"coefficients must have shape (4, {start.size}), not {self._target.shape}"
            )
        if not (np.isfinite(self._target).all() and (self._target[0] > 0).all()):
            raise ValueError("coefficients must be finite, the first row positive")
        super().__init__(
            (1, len(start)),
            replicas=replicas,
            blocks=None,
            first_block=first_block,
            seed=seed,
            dtype=np.float64,
            threads=threads,
            weights=np.tile(start, (replicas, 1, 1)),
            initial_std=0.0,
            instruction_set=instruction_set,
            device=device,
        )
        self._physics = (1, 1, 1.0, 1.0, 1.0, 0.0)

    def noise_per_step(self) -> int:
        """Count the normal numbers that ``advance`` takes per replica and step as ``noise``."""
        return self._weights.shape[2]

    def _explain(self, kind: str) -> str:
        return "a level is not finite; lower time_step or bring initial_levels together"
