"""Blocks of levels of random matrices that are drawn: what the estimators converge to.

Matrices come in pairs, with a Gaussian part g and with -g, which have no odd errors.
"""

import math
from dataclasses import dataclass

import numpy as np

from dysonflow.statistics.coulomb_gas import log_vandermonde
from dysonflow.statistics.estimators import expected_repulsion
from dysonflow.theory.blocks import dyson_index_of, integrate


@dataclass(frozen=True)
class Prediction:
    """What `statistics.estimators` converge to, and Monte Carlo errors; as in `Block`."""

    centre: float
    sigma: float
    mean_gap: float
    dyson_index: float
    gap_excess: float
    centre_uncertainty: float
    sigma_uncertainty: float
    mean_gap_uncertainty: float
    dyson_index_uncertainty: float
    gap_ratio_uncertainty: float
    beyond: str


def controls_of(
    centres: np.ndarray, gaussian: np.ndarray, squares: np.ndarray, first: int, count: int
) -> np.ndarray:
    """Control variates for a block of levels, functions of the Gaussian part of the matrix.

    Parameters
    ----------
    centres : np.ndarray
        Eigenvalues of the matrix without its noise, shape (N,).
    gaussian : np.ndarray
        Symmetric Gaussian matrices, shape (pairs of matrices, N, N).
    squares : np.ndarray
        E[g_ij^2], shape (N, N); equal for all entries off the diagonal of a block.
    first, count : int
        Position of the block, and its number of levels.

    Returns
    -------
    np.ndarray
        Shape (pairs of matrices, controls).
    """
    own = slice(first, first + count)
    block = gaussian[:, own, own]
    controls = [(block**2).sum(axis=(1, 2)) - squares[own, own].sum()]
    if count == 2:
        # Two equal modes: both parts of the gap have the variance 4 E[g_ij^2].
        scale = 2.0 * math.sqrt(squares[first, first + 1])
        radius = np.hypot(block[:, 0, 0] - block[:, 1, 1], 2.0 * block[:, 0, 1]) / scale
        controls.append(radius - math.sqrt(math.pi / 2.0))
        controls.append(np.log(radius) - (math.log(2.0) - np.euler_gamma) / 2.0)
    others = np.delete(np.arange(len(centres)), own)
    if len(others):
        coupling = (gaussian[:, own, others] ** 2).sum(axis=1) - squares[own, others].sum(axis=0)
        apart = 1.0 / (centres[others] - centres[first])
        controls += [coupling @ apart, coupling @ apart**2]
    return np.column_stack(controls)


def predicted(level: np.ndarray, controls: np.ndarray, beyond: str) -> Prediction:
    """Prediction for a block from its levels in matrices that were drawn.

    Parameters
    ----------
    level : np.ndarray
        Ascending levels, shape (2, pairs of matrices, n): of g and of -g.
    controls : np.ndarray
        Functions of g with mean 0, shape (pairs of matrices, controls).
    beyond : str
        As in `Block`.
    """
    count = level.shape[-1]
    mean = level.mean(axis=-1)
    # About a nearby origin, or the squares would lose their digits.
    origin = float(mean.mean())
    values = [mean - origin, ((level - origin) ** 2).sum(axis=-1)]
    if count > 1:
        gap = (level[..., -1] - level[..., 0]) / (count - 1)
        values += [gap, log_vandermonde(level), gap**2, gap**4]
    means, covariance = integrate(np.stack(values, axis=-1).mean(axis=0), controls)
    freedom = count + count * (count - 1) / 2
    estimate = means.tolist()
    square = estimate[1] - count * estimate[0] ** 2
    sigma = math.sqrt(square / freedom)

    def error(*slopes: float) -> float:
        # The error of the centre enters the squares to second order only.
        slope = np.array(slopes)
        return math.sqrt(slope @ covariance[: len(slopes), : len(slopes)] @ slope)

    centre_error, sigma_error = error(1.0), error(0.0, sigma / (2.0 * square))
    if count == 1:
        no_pair = (math.nan, math.nan, 0.0, centre_error, sigma_error, 0.0, 0.0, 0.0)
        return Prediction(origin + estimate[0], sigma, *no_pair, beyond)
    pairs = count * (count - 1) / 4
    of_a_gas = float(expected_repulsion(count, 1.0)) + pairs * math.log(square)
    shift, shift_error = estimate[3] - of_a_gas, error(0.0, -pairs / square, 0.0, 1.0)
    index, index_error = dyson_index_of(count, shift, shift_error)
    mean_gap = estimate[2]
    ratio = 1.0 / (math.sqrt(math.pi) * sigma)
    return Prediction(
        origin + estimate[0],
        sigma,
        mean_gap,
        index,
        estimate[5] / (2.0 * estimate[4] ** 2) - 1.0 if count == 2 else 0.0,
        centre_error,
        sigma_error,
        error(0.0, 0.0, 1.0),
        index_error,
        error(0.0, -mean_gap * ratio / (2.0 * square), ratio),
        beyond,
    )
