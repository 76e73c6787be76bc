"""What theories share: equal centres, the gap of a block, densities, Monte Carlo integrals."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dysonflow.statistics.coulomb_gas import sample
from dysonflow.statistics.laws import BlockDensity
from dysonflow.theory.base import Block

DEGENERATE = 1e-9
"""Relative difference below which two centres are one."""
GAP_SIMULATIONS = 200_000


def multiplets(centres: np.ndarray) -> list[tuple[int, int]]:
    """Position and number of equal values in an ascending array."""
    starts = [0] + [
        i for i in range(1, len(centres)) if centres[i] - centres[i - 1] > DEGENERATE * centres[i]
    ]
    return [(a, b - a) for a, b in zip(starts, [*starts[1:], len(centres)], strict=True)]


def levels_of_blocks(blocks: Sequence[Block], edges: np.ndarray) -> np.ndarray:
    """Mean number of levels in each bin, shape (bins,), if no block knew of the others."""
    laws = [
        (
            block.multiplicity,
            BlockDensity(block.multiplicity, block.centre, block.sigma, block.dyson_index),
        )
        for block in blocks
        if not block.flag
    ]
    return sum((count * np.diff(law.cdf(edges)) for count, law in laws), np.zeros(len(edges) - 1))


@lru_cache
def unit_mean_gap(multiplicity: int) -> float:
    """Mean distance of neighbouring levels of a GOE block of unit sigma.

    sqrt(pi) for a pair; for larger blocks from 200 000 simulated ones (fixed seed), to 0.1 %.
    """
    if multiplicity == 1:
        return math.nan
    if multiplicity == 2:
        return math.sqrt(math.pi)
    rng = np.random.default_rng(multiplicity)
    levels = sample(multiplicity, 1.0, GAP_SIMULATIONS, rng)
    return float((levels[:, -1] - levels[:, 0]).mean() / (multiplicity - 1))


def integrate(values: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of Monte Carlo samples, with control variates.

    Parameters
    ----------
    values : np.ndarray
        Independent samples, shape (samples, quantities).
    controls : np.ndarray
        Functions of the same samples whose mean is known to be 0, shape (samples, controls).

    Returns
    -------
    mean, error : np.ndarray
        Shape (quantities,): intercepts of the regression on the controls, and their errors.
    """
    design = np.column_stack([np.ones(len(values)), controls])
    fitted, *_ = np.linalg.lstsq(design, values, rcond=None)
    residual = values - design @ fitted
    return fitted[0], residual.std(axis=0) / math.sqrt(len(values))
