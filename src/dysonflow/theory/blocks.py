"""What theories share: equal centres, distances of blocks, densities, Monte Carlo integrals."""

import math
from collections.abc import Sequence

import numpy as np

from dysonflow.statistics.estimators import expected_repulsion, likelihood_dyson_index
from dysonflow.statistics.laws import BlockDensity
from dysonflow.theory.base import Block

DEGENERATE = 1e-9
"""Relative difference below which two centres are one."""
NEAREST = 0.01
"""`crowding` up to which blocks count as apart, as of one neighbour ten sigma away: the widths then
are within half a percent of those of a block on its own."""


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
            BlockDensity(block.multiplicity, block.centre, block.sigma, block.gas_index),
        )
        for block in blocks
        if not block.flag
    ]
    return sum((count * np.diff(law.cdf(edges)) for count, law in laws), np.zeros(len(edges) - 1))


def crowding(
    widths: np.ndarray, centres: np.ndarray, blocks: Sequence[tuple[int, int]]
) -> np.ndarray:
    """How near other blocks are: sum of (sigma / distance)^2 over their levels, for each block.

    Second-order perturbation theory shifts a level by H_ij^2 / (c_i - c_j), which changes its
    variance by about half of this share.

    Parameters
    ----------
    widths : np.ndarray
        Sigma of each block, shape (blocks,).
    centres : np.ndarray
        Of all levels, ascending, shape (levels,).
    blocks : sequence of (int, int)
        Position and number of the levels of each block.

    Returns
    -------
    np.ndarray
        Shape (blocks,).
    """
    found = []
    for width, (first, count) in zip(widths, blocks, strict=True):
        others = np.delete(centres, slice(first, first + count))
        found.append((width**2 / (others - centres[first]) ** 2).sum())
    return np.array(found)


def why_crowded(crowded: float) -> str:
    """What `crowding` beyond `NEAREST` means, in words; empty below."""
    if crowded <= NEAREST:
        return ""
    return (
        "other levels are too near for their repulsion to be a small correction: the sum of "
        f"(sigma / distance)^2 is {crowded:.2g}, more than {NEAREST:g}"
    )


def dyson_index_of(levels: int, shift: float, error: float = 0.0) -> tuple[float, float]:
    """What the likelihood finds as Dyson index, and its error; NaN for a single level.

    Parameters
    ----------
    levels : int
        Number n of levels of the block.
    shift, error : float
        <log V> - n (n - 1)/4 log <SS> less its value in the GOE, V the product of the distances of
        all pairs, SS the sum of squares about the centre; and its error.
    """
    if levels == 1:
        return math.nan, 0.0
    about = expected_repulsion(levels, 1.0) + shift + np.array([0.0, -error, error])
    found = likelihood_dyson_index(levels, about)
    return float(found[0]), float(found[2] - found[1]) / 2


def integrate(values: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of Monte Carlo samples, with control variates.

    Parameters
    ----------
    values : np.ndarray
        Independent samples, shape (samples, quantities).
    controls : np.ndarray
        Functions of the same samples whose mean is known to be 0, shape (samples, controls); much
        fewer than samples.

    Returns
    -------
    mean : np.ndarray
        Intercepts of the regression on the controls, shape (quantities,).
    covariance : np.ndarray
        Of the intercepts, shape (quantities, quantities): from the residuals that each sample has
        about the regression without it, also where their variance depends on the controls
        (J. G. MacKinnon and H. White, J. Econometrics 29, 305 (1985), HC3).
    """
    scale = np.maximum(controls.std(axis=0), np.finfo(float).tiny)
    # Samples along the rows, which products of so few columns run along.
    design = np.vstack([np.ones(len(values)), (controls / scale).T])
    inverse = np.linalg.pinv(design @ design.T, hermitian=True)
    fitted = inverse @ (design @ values)
    reduced = inverse @ design
    leverage = np.einsum("kn,kn->n", reduced, design)
    residual = (values.T - fitted.T @ design) * (reduced[0] / (1.0 - leverage))
    return fitted[0], residual @ residual.T
