r"""What heavier tails than those of a GOE matrix do to a block of levels, to first order.

The block is a symmetric n x n matrix in units of its sigma, M its traceless part with
D = n (n + 1)/2 - 1 independent entries. Where the law of M only differs from a Gaussian one by
fourth cumulants, and does not change under rotations, a mean is (Edgeworth's series)

    E[F] = E_0[F] + sum_ab E_0[F P_a] (G^-1)_ab e_b,    e_b = E[Q_b] - E_0[Q_b],
    Q_1 = (tr M^2)^2,    Q_2 = tr M^4,

P_a being Q_a less its projection on 1 and tr M^2, G_ab = E_0[P_a P_b], and E_0 the mean over the
GOE. For n = 2 and 3 Q_2 is Q_1 / 2 and drops out.

A covariance with log V = sum_{i<j} log |x_i - x_j| is a derivative by the Dyson index,
Cov(log V, Q) = d E_beta[Q] / d beta at beta = 1, which gives E_0[log V P_a] = -n (n - 1) (1, 1/2).
Moments of the beta-ensemble are polynomials, by partial integration with p_k = sum_i x_i^k:

    E[p_k f] = sum_i E[d_i (x_i^(k-1) f)]
               + beta sum_{i<j} E[f (x_i^(k-1) - x_j^(k-1)) / (x_i - x_j)].
"""

import math
from functools import cache

import numpy as np

from dysonflow.statistics.coulomb_gas import degrees_of_freedom, sample

GAP_SIMULATIONS = 200_000
"""Blocks simulated for the mean gap of three levels; fewer of larger ones, whose gap is sharper."""


def traceless_quartic(levels: int) -> float:
    """E_0[tr M^4] of a block of n levels of unit sigma; 4 for a pair."""
    n, square = float(levels), float(degrees_of_freedom(levels, 1.0))
    return _quartic(n, square) - 6 * (square - 1) / n - 3 / n


def _quartic(n: float, square: float) -> float:
    """E[p_4] at beta = 1, with `square` = E[p_2] = n (n + 1) / 2."""
    return 3 * square + (n - 1.5) * square + n / 2


def _gram(levels: int) -> np.ndarray:
    """G_ab = E_0[P_a P_b] at beta = 1, shape (2, 2)."""
    n, square = float(levels), float(degrees_of_freedom(levels, 1.0))
    freedom, quartic = square - 1, traceless_quartic(levels)
    own = 8 * freedom * (freedom + 2)
    mixed = 8 * quartic
    # E[p_4^2] and what it is made of; then the mean t of the levels, of variance 1/n, is taken out
    # of p_4 = q_4 + 4 t q_3 + 6 t^2 q_2 + n t^4.
    four = _quartic(n, square)
    six = 5 * four + (n - 1) * four + (3 * square - four) + (square * (square + 2) - four) / 2
    with_square = (square + 4) * four
    with_mean = n * four + 12 * square
    eight = 3 * with_square + 4 * six + (n - 1.5) * with_square + with_mean / 2
    cube = 6 * square + 3 * four + 3 * (n - 1) * square
    squared = freedom * (freedom + 2)
    cube -= 9 * squared / n + 15 / n + 18 * freedom / n
    eight -= 16 * cube / n + 108 * squared / n**2 + 105 / n**2
    eight -= 12 * (freedom + 4) * quartic / n + 6 * quartic / n + 180 * freedom / n**2
    return np.array([[own, mixed], [mixed, eight - quartic**2 - 8 * quartic**2 / freedom]])


@cache
def _weights(levels: int) -> np.ndarray:
    """(G^-1)_ab, without Q_2 where it is no other than Q_1, shape (2, 2)."""
    gram = _gram(levels)
    if levels < 4:
        return np.diag([1.0 / gram[0, 0], 0.0])
    return np.linalg.inv(gram)


def repulsion_shift(levels: int, excess: tuple[float, float]) -> float:
    """E[log V] - E_0[log V] of a block with heavy tails.

    Parameters
    ----------
    levels : int
        Number n of levels, at least 2.
    excess : tuple of float
        e_1 and e_2.

    Returns
    -------
    float
        - (K - 1) / 4 for a pair, K = E[S^4] / (2 E[S^2]^2) = 1 + e_1 / 8.
    """
    # E_0[log V P_a]: derivatives by beta of E[(tr M^2)^2] and of E[tr M^4], less their projections.
    by = levels * (levels - 1) * np.array([-1.0, -0.5])
    return float(by @ _weights(levels) @ np.array(excess))


def gap_factor(levels: int, excess: tuple[float, float]) -> float:
    """Mean distance of neighbouring levels over that of a GOE block of the same sigma.

    Parameters
    ----------
    levels : int
        Number n of levels, at least 2.
    excess : tuple of float
        e_1 and e_2.

    Returns
    -------
    float
        1 - (K - 1) / 8 for a pair.
    """
    # A length that grows with the scale of the matrix: its mean with P_1 is - E_0[gap].
    by = np.array([-1.0, _gap_laws(levels)[1] if levels > 3 else 0.0])
    return 1.0 + float(by @ _weights(levels) @ np.array(excess))


def unit_mean_gap(levels: int) -> float:
    """Mean distance of neighbouring levels of a GOE block of unit sigma.

    sqrt(pi) for a pair; for larger blocks from simulated ones (fixed seed), to 0.1 %.
    """
    if levels == 1:
        return math.nan
    return math.sqrt(math.pi) if levels == 2 else _gap_laws(levels)[0]


@cache
def _gap_laws(levels: int) -> tuple[float, float]:
    """E_0[gap], and E_0[gap P_2] / E_0[gap], of simulated blocks."""
    rng = np.random.default_rng(levels)
    x = sample(levels, 1.0, GAP_SIMULATIONS * 3 // levels, rng)
    gap = (x[:, -1] - x[:, 0]) / (levels - 1)
    y = x - x.mean(axis=1, keepdims=True)
    square, quartic = (y**2).sum(axis=1), (y**4).sum(axis=1)
    freedom, mean = float(degrees_of_freedom(levels, 1.0)) - 1, traceless_quartic(levels)
    projected = quartic - mean - 2 * mean / freedom * (square - freedom)
    return float(gap.mean()), float((gap * projected).mean() / gap.mean())
