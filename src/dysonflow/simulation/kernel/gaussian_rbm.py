"""The Gaussian restricted Boltzmann machine, advanced by compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from dysonflow.simulation.kernel.library import KernelEnsemble, wishart_numbers

Sampler: TypeAlias = Literal["gibbs", "ar1", "wishart"]


class GaussianRBMKernel(KernelEnsemble):
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
        One of `dysonflow.simulation.kernel.library.instruction_sets`; default the fastest.
    device : str
        ``cpu``, or ``cuda`` for a GPU, which has neither threads nor instruction sets.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the compiled kernel is unavailable.
    ConfigError
        If the GPU cannot be used, or its memory does not suffice.

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
        device: str = "cpu",
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
            device=device,
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
        return wishart_numbers(batch, visible)
