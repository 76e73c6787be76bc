"""Tests of goodness of fit, with p-values that are uniform under the null, and of many at once.

Of the gaps of a pair against the Wigner surmise, of levels against the density of their block, and
of eigenvectors against the uniform law; scale and centre may be fitted to the same data.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.correlation import independent_blocks, independent_stride
from dysonflow.statistics.laws import BlockDensity, WignerSurmise
from dysonflow.statistics.levels import InsufficientData, checked_levels
from dysonflow.statistics.null_laws import (
    DensityNull,
    SurmiseNull,
    anderson_darling,
    null_distances,
    simulated_size,
    standardised_levels,
    tail_probability,
)


def surmise_p_value(
    levels: ArrayLike,
    rng: np.random.Generator,
    *,
    dyson_index: int = 1,
    mean_gap: float | None = None,
    excess: float = 0.0,
) -> float:
    """Test the gaps of a doubly degenerate block against the Wigner surmise, or a law near it.

    Anderson-Darling distance of the gaps in units of their mean. Its null law does not depend on
    sigma, so that it is simulated once, with a fixed seed and the mean fitted in the same way
    (`null_laws`). Correlated snapshots are thinned to independent ones first
    (`independent_blocks`).

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, 2), ascending.
    rng : numpy.random.Generator
        Picks the first snapshot of the thinned series of each replica.
    dyson_index : int
        Index of the surmise: 1, 2 or 4.
    mean_gap : float, optional
        Mean gap that theory predicts, if that is to be tested as well.
    excess : float
        E[S^4] / (2 E[S^2]^2) - 1 of the law, for Dyson index 1: see `surmise_with_excess`.

    Returns
    -------
    float
        p-value, uniform on (0, 1) if the gaps follow the law.

    Raises
    ------
    InsufficientData
        If a value is not finite, zero or tied, nothing fluctuates or replicas are too few.
    ValueError
        If the block does not have two levels: of larger blocks the surmise is no exact law.
    """
    x = checked_levels(levels, 2)
    if x.shape[-1] != 2:
        raise ValueError(
            f"the Wigner surmise is the law of the gap of two levels, not of {x.shape[-1]}"
        )
    surmise = WignerSurmise(dyson_index)
    blocks = independent_blocks(x, rng)
    gap = blocks[:, 1] - blocks[:, 0]
    scaled = gap / (gap.mean() if mean_gap is None else mean_gap)
    distance = anderson_darling(
        surmise_with_excess(scaled, excess) if excess else surmise.cdf(scaled)
    )
    size = min(len(blocks), simulated_size(2)[0])
    null = null_distances(SurmiseNull(size, int(dyson_index), mean_gap is None))
    return tail_probability(float(distance), null)


def surmise_with_excess(gap: FloatArray, excess: float) -> FloatArray:
    """Probability of a smaller gap, of a law whose fourth moment is not that of the surmise.

    In u = S^2 / E[S^2] the surmise is exp(-u); any other law is that times a series of Laguerre
    polynomials, whose first term beyond 1 is c L_2(u), c = E[S^4] / (2 E[S^2]^2) - 1. To this order
    E[S]^2 = (pi/4) E[S^2] (1 - c/8)^2.

    Parameters
    ----------
    gap : numpy.ndarray
        S / E[S].
    excess : float
        c.

    Returns
    -------
    numpy.ndarray
        In the shape of `gap`.
    """
    u = 0.25 * np.pi * (1.0 - excess / 8.0) ** 2 * gap**2
    # Far out, where the series has no meaning, a distribution function still rises to 1.
    return np.clip(1.0 - np.exp(-u) * (1.0 - excess * (u - 0.5 * u**2)), 0.0, 1.0)


def density_p_value(
    levels: ArrayLike,
    rng: np.random.Generator,
    *,
    dyson_index: float = 1.0,
    centre: float | None = None,
    sigma: float | None = None,
) -> float:
    """Test the levels against the exact one-level density of their block.

    Anderson-Darling distance of all levels, centred and scaled by maximum likelihood. The levels
    of a block depend on each other, hence the null law comes from whole simulated blocks, fitted
    in the same way; it does not depend on centre and sigma, so that it is simulated once, with a
    fixed seed (`null_laws`). Correlated snapshots are thinned to independent ones first
    (`independent_blocks`).

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending.
    rng : numpy.random.Generator
        Picks the first snapshot of the thinned series of each replica.
    dyson_index : float
        Repulsion beta; see `laws.BlockDensity` for which n and beta are supported.
    centre, sigma : float, optional
        Values that theory predicts, if these are to be tested as well.

    Returns
    -------
    float
        p-value, uniform on (0, 1) if the blocks come from the gas.

    Raises
    ------
    InsufficientData
        If a value is not finite, zero or tied, nothing fluctuates or replicas are too few.
    ValueError
        If the density is not supported.
    """
    x = checked_levels(levels, 2)
    n = x.shape[-1]
    density = BlockDensity(n, dyson_index=float(dyson_index))
    blocks = independent_blocks(x, rng)
    standard = standardised_levels(blocks[None], float(dyson_index), centre, sigma)
    distance = anderson_darling(density.cdf(standard))
    size = min(len(blocks), simulated_size(n)[0])
    null = null_distances(DensityNull(size, n, float(dyson_index), centre is None, sigma is None))
    return tail_probability(float(distance[0]), null)


def angle_p_value(angles: ArrayLike) -> float:
    """Test whether the eigenvectors of a 2 x 2 block point everywhere alike.

    Watson's U^2, which does not depend on the axis that angles are counted from.

    Parameters
    ----------
    angles : array_like
        Angle of one eigenvector of each block, in radians, taken modulo pi: shape (replica,) or
        (replica, snapshot). Correlated snapshots are thinned to independent ones, counted back
        from the last.

    Returns
    -------
    float
        p-value, uniform on (0, 1) if the angle is uniform on [0, pi).

    Raises
    ------
    InsufficientData
        If there are fewer than eight independent angles or one is not finite.
    ValueError
        If the array has another number of axes.

    Notes
    -----
    G. S. Watson, Biometrika 48, 109 (1961); M. A. Stephens, J. R. Stat. Soc. B 32, 115 (1970)
    for the correction for few angles, which leaves an error below 1e-3 in p from eight on.
    """
    theta = np.asarray(angles, dtype=float)
    if theta.ndim not in (1, 2):
        raise ValueError(f"angles have shape (replica,) or (replica, snapshot), not {theta.shape}")
    if not np.all(np.isfinite(theta)):
        raise InsufficientData("an angle is not finite")
    theta = theta.reshape(theta.shape[0], -1)
    stride = independent_stride([np.cos(2 * theta), np.sin(2 * theta)])
    turn = np.sort(np.mod(theta[:, ::-1][:, ::stride].ravel() / np.pi, 1.0))
    count = turn.size
    if count < 8:
        raise InsufficientData(f"{count} independent angles are too few for the test: 8 are needed")
    expected = (2 * np.arange(1, count + 1) - 1) / (2 * count)
    deviation = turn - expected
    watson = np.sum((deviation - deviation.mean()) ** 2) + 1 / (12 * count)
    modified = (watson - 0.1 / count + 0.1 / count**2) * (1 + 0.8 / count)
    if modified < 0.005:
        # The alternating series converges slowly here, where p is 1 to ten digits.
        return 1.0
    k = np.arange(1, 21)
    terms = (-1.0) ** (k - 1) * np.exp(-2 * k**2 * np.pi**2 * modified)
    return float(np.clip(2 * terms.sum(), 0.0, 1.0))


def benjamini_hochberg(
    p_values: ArrayLike, false_discovery_rate: float = 0.01
) -> tuple[NDArray[np.bool_], FloatArray]:
    """Decide on many tests at once.

    Parameters
    ----------
    p_values : array_like
        One p-value a test; NaN stands for a test that was not made.
    false_discovery_rate : float
        Expected share of false rejections among all rejections, between 0 and 1.

    Returns
    -------
    rejected : numpy.ndarray of bool
        Which null hypotheses are rejected; False where no test was made.
    adjusted : numpy.ndarray
        Smallest false discovery rate at which each would be; NaN where no test was made.

    Raises
    ------
    ValueError
        If the rate or a p-value is not within [0, 1].

    Notes
    -----
    Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57, 289 (1995).
    """
    if not 0.0 <= false_discovery_rate <= 1.0:
        raise ValueError(f"false_discovery_rate must be within [0, 1], not {false_discovery_rate}")
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    made = ~np.isnan(p)
    if np.any((p[made] < 0.0) | (p[made] > 1.0)):
        raise ValueError("a p-value is not within [0, 1]")
    if made.any():
        adjusted[made] = _adjusted(p[made])
    return np.where(made, adjusted <= false_discovery_rate, False), adjusted


def _adjusted(p: FloatArray) -> FloatArray:
    """Smallest false discovery rate at which each of many hypotheses would be rejected."""
    order = np.argsort(p)
    rate = p[order] * (p.size / np.arange(1, p.size + 1))
    # A hypothesis goes with every one of a larger p-value that is rejected.
    rate = np.minimum.accumulate(rate[::-1])[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(rate, 1.0)
    return adjusted
