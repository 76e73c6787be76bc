"""Theory of Dyson Brownian motion: one block of n equal centres, at its own index beta."""

import math
from functools import lru_cache

import numpy as np

from dysonflow.models.dyson import DysonHyperparameters
from dysonflow.statistics.coulomb_gas import (
    degrees_of_freedom,
    hermite_zeros,
    mean_pair_gap,
    sample,
)
from dysonflow.statistics.kick import Kick
from dysonflow.statistics.laws import BlockDensity
from dysonflow.theory.base import Block, Theory
from dysonflow.theory.blocks import integrate, levels_of_blocks

SAMPLES = 100_000
"""Blocks drawn for an integral, at most; fewer of many levels."""


@lru_cache
def standard_blocks(levels: int, dyson_index: float) -> np.ndarray:
    """Exact samples of the gas of unit sigma, with a fixed seed, shape (sample, n)."""
    count = max(min(SAMPLES, 8_000_000 // levels**2), 1000)
    return sample(levels, dyson_index, count, np.random.default_rng(levels))


@lru_cache
def unit_gap(levels: int, dyson_index: float) -> tuple[float, float]:
    """Mean distance of neighbouring levels of a block of unit sigma, and its error.

    Exact for two; for more from `standard_blocks`, with the sum of squares as control.
    """
    if levels == 1:
        return math.nan, 0.0
    if levels == 2:
        return mean_pair_gap(dyson_index), 0.0
    x = standard_blocks(levels, dyson_index)
    square = np.sum(x**2, axis=1) / float(degrees_of_freedom(levels, dyson_index)) - 1.0
    gap = (x[:, -1] - x[:, 0]) / (levels - 1)
    mean, covariance = integrate(gap[:, None], np.column_stack([square, x.mean(axis=1)]))
    return float(mean[0]), math.sqrt(covariance[0, 0])


def blocks(h: DysonHyperparameters) -> list[Block]:
    """The block of all levels; none where centres or widths differ.

    sigma = 1 / sqrt(beta theta). At beta = infinity, and without confinement, the block is flagged:
    there the levels rest, or spread without end.
    """
    if not h.fitted:
        return []
    beta, n = h.dyson_index, h.size
    sigma, gap, error, flag = math.nan, math.nan, 0.0, ""
    if h.confinement == 0:
        flag = "confinement = 0: the levels spread without end"
    elif math.isinf(beta):
        flag = "beta = infinity: the levels do not fluctuate"
        gap = float(np.ptp(hermite_zeros(n))) / math.sqrt(h.confinement) / max(n - 1, 1)
    else:
        sigma = 1.0 / math.sqrt(beta * h.confinement)
        gap, error = (sigma * value for value in unit_gap(n, beta))
    return [
        Block(
            first=0,
            multiplicity=n,
            centre=0.0,
            sigma=sigma,
            mean_gap=gap,
            centre_block=0.0,
            sigma_block=sigma,
            mean_gap_block=gap,
            variable=math.nan,
            finite_step_variable=math.nan,
            stochasticity=math.nan,
            mean_gap_uncertainty=error,
            dyson_index=beta if n > 1 else math.nan,
            gas_index=beta,
            flag=flag,
        )
    ]


class DysonTheory(Theory[DysonHyperparameters]):
    """The Coulomb gas at any index; the levels are the eigenvalues of M."""

    variable = r"$1/\sqrt{\beta\theta}$"
    finite_step_variable = r"$1/\sqrt{\beta\theta}$"
    slope = math.nan
    centre_symbol = "c"
    centre_meaning = "centre of the confinement"
    scope = "one centre and width for all levels: leave centres and widths out"

    def level_name(self, h: DysonHyperparameters, layer: str) -> str:
        """What a level is, in words."""
        return "eigenvalue of M"

    def level_label(self, h: DysonHyperparameters, layer: str) -> str:
        """Label of an axis of levels."""
        return r"level $\lambda$"

    def levels(self, h: DysonHyperparameters, layer: str, eigenvalues: np.ndarray) -> np.ndarray:
        """The eigenvalues themselves."""
        return eigenvalues

    def eigenvalues(self, h: DysonHyperparameters, layer: str, levels: np.ndarray) -> np.ndarray:
        """The levels themselves."""
        return np.asarray(levels)

    def blocks(self, h: DysonHyperparameters, layer: str) -> list[Block]:
        """The block of all levels; none where centres or widths differ."""
        return blocks(h)

    def relaxation_rate(self, h: DysonHyperparameters, layer: str, block: Block) -> float | None:
        """Theta per step of time: every entry of M relaxes on its own."""
        return h.confinement * h.time_step

    def kick(
        self, h: DysonHyperparameters, layer: str, weights: np.ndarray, steps: np.ndarray, lag: int
    ) -> Kick | None:
        """Moments of the change of M over `lag` steps, in its eigenbasis.

        Entries relax by exp(-theta t); those off the diagonal have the variance
        f = (1 - exp(-2 theta t)) / (2 theta), those on it 2 f / beta. Exact for beta = 1; else to
        first order in t over the square of the gap, as the noise is split anew in every step. None
        where the levels have centres of their own, rest, or are drawn anew in every step.
        """
        if not h.fitted or math.isinf(h.dyson_index) or h.dynamics == "stationary":
            return None
        is_matrix = h.eigenvalues_of == "symmetric"
        levels = np.linalg.eigvalsh(weights) if is_matrix else weights[:, 0]
        size, time, theta = levels.shape[1], lag * h.time_step, h.confinement
        spread = -math.expm1(-2.0 * theta * time) / (2.0 * theta) if theta > 0 else time
        index = np.arange(size)
        mean = np.zeros((len(levels), size, size))
        mean[:, index, index] = math.expm1(-theta * time) * levels
        variance = np.full_like(mean, spread)
        variance[:, index, index] *= 2.0 / h.dyson_index
        diagonal = np.zeros_like(mean)
        diagonal[:, index, index] = variance[:, index, index]
        return Kick(mean, variance, diagonal)

    def expected_levels(self, h: DysonHyperparameters, layer: str, edges: np.ndarray) -> np.ndarray:
        """Mean number of levels in each bin: the exact density, or that of exact samples."""
        found = [block for block in blocks(h) if not block.flag]
        if not found or BlockDensity.is_known(h.size, h.dyson_index):
            return levels_of_blocks(found, edges)
        x = found[0].sigma * standard_blocks(h.size, h.dyson_index)
        return np.histogram(x, edges)[0] / len(x)


THEORY = DysonTheory()
