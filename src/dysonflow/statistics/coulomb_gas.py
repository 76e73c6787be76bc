"""Coulomb gas of a block of n levels: sampler, likelihood, information bounds.

The gas of Dyson index beta, centre c and width sigma is

    P(x_1 .. x_n) = 1/Z prod_{i<j} |x_i - x_j|^beta exp(-sum_i (x_i - c)^2 / (2 sigma^2)).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.lazy import LazyModule
from dysonflow.statistics.arrays import FloatArray

special = LazyModule("scipy.special")


def sample(
    levels: int,
    dyson_index: float,
    size: int,
    rng: np.random.Generator,
    centre: float = 0.0,
    sigma: float = 1.0,
) -> FloatArray:
    r"""Draw independent blocks from the Coulomb gas, exactly, at any Dyson index.

    Eigenvalues of the tridiagonal matrix with diagonal :math:`N(c, \sigma^2)` and k-th squared
    off-diagonal entry :math:`\sigma^2 \chi^2_{k \beta} / 2` (I. Dumitriu and A. Edelman, J. Math.
    Phys. 43, 5830 (2002)).

    Parameters
    ----------
    levels : int
        Number n of levels in a block.
    dyson_index : float
        Repulsion beta, positive.
    size : int
        Number of blocks.
    rng : numpy.random.Generator
        All randomness comes from here.
    centre, sigma : float
        Centre and width of the gas.

    Returns
    -------
    numpy.ndarray
        Shape (size, levels), ascending in each row.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    check_parameters(levels, dyson_index, sigma)
    if levels == 1:
        return centre + sigma * rng.standard_normal((size, 1))
    if levels == 2:
        # Mean and gap of two levels are independent: normal and chi with beta + 1 degrees.
        mean = centre + sigma * np.sqrt(0.5) * rng.standard_normal(size)
        gap = sigma * np.sqrt(2.0 * rng.chisquare(dyson_index + 1.0, size))
        return np.stack([mean - 0.5 * gap, mean + 0.5 * gap], axis=-1)
    diagonal = rng.standard_normal((size, levels))
    below = np.sqrt(0.5 * rng.chisquare(dyson_index * np.arange(1, levels), (size, levels - 1)))
    blocks = np.empty((size, levels))
    if levels > 16:
        from scipy.linalg import lapack

        # The tridiagonal solver wins once its cost exceeds that of the loop around it.
        for row in range(size):
            blocks[row], failed = lapack.dsterf(diagonal[row], below[row])
            if failed:
                raise np.linalg.LinAlgError("eigenvalues of a block did not converge")
        return centre + sigma * blocks
    index = np.arange(levels)
    # The dense matrices of a part stay in the cache; what is drawn does not depend on it.
    part = max(1, 2**18 // levels**2)
    for first in range(0, size, part):
        rows = slice(first, first + part)
        matrix = np.zeros((diagonal[rows].shape[0], levels, levels))
        matrix[:, index, index] = diagonal[rows]
        # eigvalsh reads the lower triangle only.
        matrix[:, index[1:], index[:-1]] = below[rows]
        blocks[rows] = np.linalg.eigvalsh(matrix)
    return centre + sigma * blocks


def mean_pair_gap(dyson_index: float) -> float:
    """Mean gap of two levels of unit sigma, 2 Gamma(1 + beta/2) / Gamma((1 + beta)/2).

    The gap over sqrt(2) has the chi law with beta + 1 degrees of freedom; sqrt(pi) at beta = 1.

    Parameters
    ----------
    dyson_index : float
        Repulsion beta.

    Raises
    ------
    ValueError
        If it is out of range.
    """
    check_parameters(2, dyson_index, 1.0)
    half = 0.5 * dyson_index
    return 2.0 * math.exp(math.lgamma(1.0 + half) - math.lgamma(0.5 + half))


def hermite_zeros(levels: int) -> FloatArray:
    """Zeros of the Hermite polynomial H_n: where levels come to rest at infinite Dyson index.

    There the gas with sigma^2 = 1 / (beta theta) is frozen at these zeros over sqrt(theta), the
    minimum of theta sum_i x_i^2 / 2 - sum_{i<j} log |x_i - x_j| (T. J. Stieltjes, 1885).

    Parameters
    ----------
    levels : int
        Number n of levels.

    Returns
    -------
    numpy.ndarray
        Shape (n,), ascending; eigenvalues of the Jacobi matrix of the polynomials, the limit of
        the tridiagonal one of `sample`.

    Raises
    ------
    ValueError
        If there is no level.
    """
    check_parameters(levels, 1.0, 1.0)
    below = np.sqrt(0.5 * np.arange(1, levels))
    zeros = np.linalg.eigvalsh(np.diag(below, -1))
    return 0.5 * (zeros - zeros[::-1])


def log_partition(levels: int, dyson_index: float, sigma: float) -> float:
    """Logarithm of the partition function Z of the gas, by Mehta's integral.

    Parameters
    ----------
    levels : int
        Number n of levels.
    dyson_index : float
        Repulsion beta, above -2/n, where the integral ends to converge.
    sigma : float
        Width of the gas.

    Returns
    -------
    float
        log Z for levels in any order; M. L. Mehta, *Random Matrices*, equation 17.6.7.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    check_parameters(levels, dyson_index, sigma, lowest_index=-2.0 / levels)
    half = 0.5 * dyson_index
    return float(
        0.5 * levels * np.log(2 * np.pi)
        + degrees_of_freedom(levels, dyson_index) * np.log(sigma)
        + special.gammaln(1 + half * np.arange(1, levels + 1)).sum()
        - levels * special.gammaln(1 + half)
    )


def log_likelihood(
    levels: ArrayLike, *, centre: float, sigma: float, dyson_index: float = 1.0
) -> FloatArray:
    """Logarithm of the density of each block.

    Parameters
    ----------
    levels : array_like
        Shape (..., n); the order within a block does not matter, and is not counted: for
        sorted blocks add log n!.
    centre, sigma, dyson_index : float
        Parameters of the gas.

    Returns
    -------
    numpy.ndarray
        Shape (...); minus infinity for a block with a tie.
    """
    x = np.asarray(levels, dtype=float)
    normalisation = log_partition(x.shape[-1], dyson_index, sigma)
    confinement = np.sum((x - centre) ** 2, axis=-1) / (2 * sigma**2)
    repulsion = dyson_index * log_vandermonde(x) if x.shape[-1] > 1 else 0.0
    return repulsion - confinement - normalisation


def cramer_rao_errors(
    levels: int, dyson_index: float, sigma: float, blocks: int, *, index_known: bool
) -> dict[str, float]:
    """Smallest standard errors that an unbiased estimator can reach.

    From the Fisher information, the second derivatives of log Z: sigma and beta are the natural
    parameters of an exponential family, and the centre is orthogonal to both.

    Parameters
    ----------
    levels : int
        Number n of levels.
    dyson_index, sigma : float
        Parameters of the gas.
    blocks : int
        Independent blocks observed.
    index_known : bool
        Whether beta is given; if not, sigma pays for it.

    Returns
    -------
    dict of str to float
        Keys centre, sigma, dyson_index; the last is NaN if it is known or n = 1.
    """
    centre = sigma / np.sqrt(levels * blocks)
    width = 2 * degrees_of_freedom(levels, dyson_index) / sigma**2
    if index_known or levels == 1:
        return {
            "centre": float(centre),
            "sigma": float(1 / np.sqrt(width * blocks)),
            "dyson_index": float("nan"),
        }
    cross = 0.5 * levels * (levels - 1) / sigma
    j = np.arange(1, levels + 1)
    half = 0.5 * dyson_index
    index = float(
        np.sum(0.25 * j**2 * special.polygamma(1, 1 + half * j))
        - 0.25 * levels * special.polygamma(1, 1 + half)
    )
    determinant = width * index - cross**2
    return {
        "centre": float(centre),
        "sigma": float(np.sqrt(index / (determinant * blocks))),
        "dyson_index": float(np.sqrt(width / (determinant * blocks))),
    }


def log_vandermonde(x: FloatArray) -> FloatArray:
    """Logarithm of the Vandermonde determinant of each block, without its sign.

    Parameters
    ----------
    x : numpy.ndarray
        Levels, shape (..., n), in any order.

    Returns
    -------
    numpy.ndarray
        Sum of log |x_i - x_j| over pairs i < j, shape (...); minus infinity for a block with a tie.
    """
    total = np.zeros(x.shape[:-1])
    with np.errstate(divide="ignore"):
        for distance in range(1, x.shape[-1]):
            total += np.log(np.abs(x[..., distance:] - x[..., :-distance])).sum(axis=-1)
    return total


def degrees_of_freedom(levels: int, dyson_index: ArrayLike) -> FloatArray:
    """Degrees of freedom of the chi-squared variable sum_i (x_i - c)^2 / sigma^2 of one block.

    Parameters
    ----------
    levels : int
        Number n of levels.
    dyson_index : array_like
        Repulsion beta.

    Returns
    -------
    numpy.ndarray
        n + beta n (n - 1) / 2, in the shape of `dyson_index`.
    """
    return levels + 0.5 * np.asarray(dyson_index) * levels * (levels - 1)


def check_parameters(
    levels: int, dyson_index: float, sigma: float, lowest_index: float = 0.0
) -> None:
    """Refuse parameters that no gas has.

    Parameters
    ----------
    levels : int
        Number n of levels.
    dyson_index, sigma : float
        Parameters of the gas.
    lowest_index : float
        The Dyson index must lie above.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1, not {levels}")
    if not (np.isfinite(dyson_index) and dyson_index > lowest_index):
        raise ValueError(f"dyson_index must be above {lowest_index:g}, not {dyson_index}")
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be a positive number, not {sigma}")
