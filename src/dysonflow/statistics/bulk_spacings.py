"""Distances of neighbouring levels within one spectrum: gap ratio, spacings, number variance.

Gap ratios need no unfolding; for the others levels are unfolded by the distribution function of the
law that their density follows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.statistics.arrays import FloatArray

GOE, POISSON = 0.5307, 2.0 * math.log(2.0) - 1.0
"""Mean gap ratio of large real symmetric random matrices (simulated, +- 0.0001) and of independent
levels (Atas, Bogomolny, Giraud and Roux, Phys. Rev. Lett. 110, 084101 (2013))."""
LENGTH = 4.0
"""Length, in mean spacings, at which the number variance is taken."""
WINDOW = 16
"""Neighbouring spacings whose mean is to be one after unfolding."""
NULL_DISTANCE = (0.25, 6.43, 0.0666)
"""Start, shape and unit of the gamma law that the scaled Kolmogorov-Smirnov distance of spacings of
random matrices follows: moments of 9000 simulated spectra of 64 and 128 levels."""
FEWEST = 8
"""Levels below which nothing is said of their distances."""


@dataclass(frozen=True)
class Measured:
    """A number with its standard error."""

    value: float
    error: float


MISSING = Measured(math.nan, math.nan)


def gap_ratios(levels: ArrayLike) -> FloatArray:
    """Smaller over larger of each two neighbouring gaps of ascending levels."""
    gaps = np.diff(np.asarray(levels, dtype=float))
    larger = np.maximum(gaps[1:], gaps[:-1])
    # Levels that coincide have no ratio.
    kept = larger > 0
    return np.minimum(gaps[1:], gaps[:-1])[kept] / larger[kept]


def mean_gap_ratio(levels: ArrayLike) -> Measured:
    """Mean gap ratio of one spectrum.

    The error has the correlations with the next two ratios in it, which share gaps or repel.
    """
    r = gap_ratios(levels)
    if len(r) < FEWEST:
        return MISSING
    off = r - r.mean()
    variance = (off**2).mean() + 2.0 * sum((off[k:] * off[:-k]).sum() / len(r) for k in (1, 2))
    # By chance the correlations of a few levels may outweigh the variance.
    variance = max(variance, 0.25 * float((off**2).mean()))
    # Each of the five sums about the measured mean is too small by the variance of that mean.
    variance /= max(1.0 - 5.0 / len(r), 0.5)
    return Measured(float(r.mean()), math.sqrt(variance / len(r)))


def unfold(levels: ArrayLike, cdf: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Ascending levels in units of the mean distance that a density gives: their number times it.

    Parameters
    ----------
    levels : array_like
        Ascending, shape (level,).
    cdf : callable
        Distribution function of one level.
    """
    x = np.asarray(levels, dtype=float)
    return len(x) * cdf(x)


def unfolding_error(unfolded: ArrayLike) -> float:
    """Root mean square of (mean spacing - 1) in windows of `WINDOW` spacings.

    Random matrices themselves give about sqrt(number variance) / WINDOW, 0.06.
    """
    u = np.asarray(unfolded, dtype=float)
    ends = u[::WINDOW]
    if len(ends) < 2:
        return math.nan
    return float(np.sqrt(((np.diff(ends) / WINDOW - 1.0) ** 2).mean()))


def surmise_p_value(unfolded: ArrayLike) -> float:
    """Kolmogorov-Smirnov test of the spacings, over their mean, on the Wigner surmise.

    The null law is that of spacings of random matrices, which are anticorrelated and whose mean is
    taken from themselves (`NULL_DISTANCE`). The surmise differs from the law of large matrices by
    up to 0.006 in its distribution function, which begins to show at 500 spacings.
    """
    from scipy.special import gammaincc

    s = np.sort(np.diff(np.asarray(unfolded, dtype=float)))
    if len(s) < FEWEST or not s.mean() > 0:
        return math.nan
    s = s / s.mean()
    law = -np.expm1(-0.25 * math.pi * s**2)
    steps = np.arange(len(s) + 1) / len(s)
    distance = max(np.abs(law - steps[1:]).max(), np.abs(law - steps[:-1]).max())
    root = math.sqrt(len(s))
    start, shape, unit = NULL_DISTANCE
    beyond = max((root + 0.12 + 0.11 / root) * distance - start, 0.0)
    return float(gammaincc(shape, beyond / unit))


def number_variance(unfolded: ArrayLike, length: float = LENGTH) -> Measured:
    """Variance of the number of levels in an interval, over intervals side by side.

    Parameters
    ----------
    unfolded : array_like
        Ascending levels of mean distance one.
    length : float
        Of the interval.
    """
    u = np.asarray(unfolded, dtype=float)
    if len(u) < FEWEST:
        return MISSING
    count = int((u[-1] - u[0]) / length)
    if count < FEWEST:
        return MISSING
    # Four sets of intervals, each shifted by a quarter of a length.
    found = []
    for shift in 0.25 * length * np.arange(4):
        starts = u[0] + shift + length * np.arange(count)
        starts = starts[starts + length <= u[-1]]
        inside = np.searchsorted(u, starts + length) - np.searchsorted(u, starts)
        found.append(float(((inside - length) ** 2).mean()))
    value = float(np.mean(found))
    return Measured(value, value * math.sqrt(2.0 / count))


def number_variance_goe(length: ArrayLike) -> FloatArray:
    """Number variance of large real symmetric random matrices, for lengths of one or more.

    (2/pi^2) (log(2 pi L) + gamma + 1 - pi^2/8), up to 1/L (Mehta, Random Matrices).
    """
    x = np.asarray(length, dtype=float)
    return 2.0 / math.pi**2 * (np.log(2.0 * math.pi * x) + np.euler_gamma + 1.0 - math.pi**2 / 8.0)
