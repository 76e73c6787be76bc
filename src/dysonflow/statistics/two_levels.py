r"""Two close levels under a random kick: the exact expectation where perturbation theory fails.

In the eigenbasis of a symmetric matrix X the change of X over some steps is a random matrix dX. To
second order in it level i moves by dX_ii + sum_j dX_ij^2 / (x_i - x_j), which is of no use where
the kick is not small against the gap. Two levels alone are solved exactly: with the gap g > 0,
d = dX_ii - dX_jj and o = dX_ij their distance becomes

    S = sqrt((g + d)^2 + 4 o^2),

and each of them is pushed away from the other by (S - (g + d)) / 2. Noise of Dyson index beta has
o^2 = v chi^2_beta, beta real components of variance v; then

    E[sqrt(u^2 + 4 v chi^2_beta)] = sqrt(8 v) z^(beta + 1) U(beta/2, (beta + 3)/2, z^2),

z^2 = u^2 / (8 v), with the confluent hypergeometric function U (NIST DLMF 13.4.4), and a Gaussian
average over u = g + d is left, which is done by quadrature. For g^2 >> v the push is beta v / g:
the repulsion of Dyson Brownian motion.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dysonflow.lazy import LazyModule

FloatArray = NDArray[np.float64]

special = LazyModule("scipy.special")

CLOSE = 12.0
"""Gaps of at most so many standard deviations of the kick are solved exactly; beyond, what
perturbation theory leaves out is below 1 % of the push."""
NODES, REACH = 61, 6.0
"""Equally spaced nodes of the Gaussian average over the difference of the diagonal entries, and the
standard deviations that they reach: exact to 1e-4 of one. (Gauss's nodes converge slower, as the
distance has a logarithmic singularity where the levels meet.)"""
WIDEST, POINTS = 40.0, 4001
"""End and points of the table of the distance against u / sqrt(8 v)."""


@lru_cache(maxsize=64)
def _distance_table(dyson_index: float) -> FloatArray:
    """E[sqrt(z^2 + chi^2_beta / 2)] at equally spaced z from 0 to `WIDEST`."""
    z = np.linspace(0.0, WIDEST, POINTS)
    if dyson_index == 0:
        return z
    found = z[1:] ** (dyson_index + 1.0) * special.hyperu(
        0.5 * dyson_index, 0.5 * (dyson_index + 3.0), z[1:] ** 2
    )
    ratio = special.gammaln(0.5 * (dyson_index + 1.0)) - special.gammaln(0.5 * dyson_index)
    return np.concatenate([[np.exp(ratio)], found])


def mean_distance(
    difference: FloatArray, variance: FloatArray, dyson_index: float = 1.0
) -> FloatArray:
    """E[sqrt(u^2 + 4 v chi^2_beta)] for u = `difference` and v = `variance`, of one shape.

    Parameters
    ----------
    difference : np.ndarray
        u, in the unit of the levels.
    variance : np.ndarray
        v > 0, of one real component of the off-diagonal entry.
    dyson_index : float
        beta >= 0.

    Returns
    -------
    np.ndarray
        In the unit of the levels; interpolated to 1e-5 of sqrt(v).
    """
    scale = np.sqrt(8.0 * variance)
    z = np.abs(difference) / scale
    place = np.minimum(z, WIDEST) * ((POINTS - 1) / WIDEST)
    low = np.minimum(place.astype(np.int64), POINTS - 2)
    table = _distance_table(round(dyson_index, 6))
    inside = table[low] + (place - low) * (table[low + 1] - table[low])
    # Beyond the table the first order is exact to 1e-6.
    beyond = z + dyson_index / (4.0 * np.maximum(z, WIDEST))
    return scale * np.where(z < WIDEST, inside, beyond)


def push(
    gap: FloatArray,
    drift: FloatArray,
    variance_of_difference: FloatArray,
    variance: FloatArray,
    dyson_index: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Mean push away from each other of two levels, and their mean distance, after a kick.

    Parameters
    ----------
    gap : np.ndarray
        x_i - x_j > 0 before.
    drift : np.ndarray
        E[dX_ii - dX_jj].
    variance_of_difference : np.ndarray
        Var[dX_ii - dX_jj].
    variance : np.ndarray
        v: variance of one real component of dX_ij.
    dyson_index : float
        Number of such components.

    Returns
    -------
    push : np.ndarray
        (E[S] - E[g + d]) / 2, in the unit of the levels, of the shape of the arguments.
    distance : np.ndarray
        E[S].
    """
    nodes = np.linspace(-REACH, REACH, NODES)
    weights = np.exp(-0.5 * nodes**2)
    middle, spread = gap + drift, np.sqrt(variance_of_difference)
    distance = np.zeros_like(middle)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        distance += weight * mean_distance(middle + node * spread, variance, dyson_index)
    return 0.5 * (distance - middle), distance
