"""Power law of the largest values of a sample: exponent, where it begins, and whether it bends."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 10
"""Values that a tail has at least."""
MOST_STARTS = 100
"""Starts that are tried, evenly spread over the ranks of the values."""
RANGES = {"alpha": [0.0, 100.0], "Lambda": [0.0, None]}
"""Of the exponent and the rate of a truncated law; unless told, the package ends at exponent 3."""
STEP = 1e-3
"""Relative step of the differences that give the curvature of a likelihood."""


@dataclass(frozen=True)
class PowerLawTail:
    """Density proportional to x^(-exponent) from `start` on.

    Attributes
    ----------
    exponent, error : float
        Estimate of maximum likelihood and its standard error, (exponent - 1) / sqrt(count); the
        Hill estimate is exponent - 1.
    start : float
        Where the law begins: the value from which on its Kolmogorov-Smirnov distance is smallest.
    count : int
        Values from there on.
    distance : float
        That distance.
    """

    exponent: float
    error: float
    start: float
    count: int
    distance: float


def fit_tail(values: ArrayLike, fewest: int = FEWEST) -> PowerLawTail | None:
    """Fit a power law to the largest values.

    By the rule of Clauset, Shalizi and Newman, SIAM Rev. 51, 661 (2009).

    The estimate of the package powerlaw, but for exponents above 3, which that does not allow by
    default, and at most `MOST_STARTS` starts; in a hundredth of the time. None for fewer than
    `fewest` positive values.

    Parameters
    ----------
    values : array_like
        Sample.
    fewest : int
        Values that the tail keeps at least.
    """
    x = np.sort(np.asarray(values, dtype=float))
    x = x[x > 0]
    if len(x) < fewest or x[-1] <= x[0]:
        return None
    logarithm, number = np.log(x), np.arange(len(x))
    last = len(x) - fewest
    firsts = np.unique(np.linspace(0, last, min(last + 1, MOST_STARTS)).round().astype(int))
    # Equal values begin a tail together.
    firsts = firsts[(firsts == 0) | (x[firsts] > x[firsts - 1])]
    counts = len(x) - firsts
    excess = np.cumsum(logarithm[::-1])[::-1][firsts] - counts * logarithm[firsts]
    kept = excess > 0
    firsts, counts, excess = firsts[kept], counts[kept], excess[kept]
    if not len(firsts):
        return None
    slopes = counts / excess
    # A row for each start, a column for each value.
    below = np.maximum(logarithm - logarithm[firsts, None], 0.0)
    law = -np.expm1(-slopes[:, None] * below)
    rank = (number - firsts[:, None]) / counts[:, None]
    distance = np.maximum(np.abs(law - rank), np.abs(law - rank - 1.0 / counts[:, None]))
    distances = np.where(number >= firsts[:, None], distance, 0.0).max(axis=1)
    best = int(distances.argmin())
    return PowerLawTail(
        float(1.0 + slopes[best]),
        float(slopes[best] / math.sqrt(counts[best])),
        float(x[firsts[best]]),
        int(counts[best]),
        float(distances[best]),
    )


@dataclass(frozen=True)
class TruncatedTail:
    """Density proportional to x^(-exponent) exp(-rate x) from a start on.

    Attributes
    ----------
    exponent, exponent_error, rate, rate_error : float
        Estimates of maximum likelihood; errors from the curvature of the likelihood, NaN at the
        edge of what is allowed.
    p_value : float
        Of the pure power law against this one: twice the logarithm of the ratio of likelihoods is
        chi-squared of one degree of freedom (one half of it, as the rate is not negative).
    """

    exponent: float
    exponent_error: float
    rate: float
    rate_error: float
    p_value: float


def fit_truncated(values: ArrayLike, start: float) -> TruncatedTail:
    """Fit a power law with an exponential cut-off to values from a start on.

    By the package powerlaw (Alstott, Bullmore and Plenz, PLoS ONE 9, e85777 (2014)).
    """
    import powerlaw
    from scipy.special import erfc

    x = np.asarray(values, dtype=float)
    x = x[x >= start]
    # Exponents do not depend on the unit, and a rate of the order of one is found best.
    unit = float(x.mean())
    low, settings = start / unit, {"parameter_ranges": RANGES, "verbose": False}
    with warnings.catch_warnings():
        # It says so where it ends at the edge of its range, which is an answer here.
        warnings.simplefilter("ignore")
        bent = powerlaw.Truncated_Power_Law(data=x / unit, xmin=low, **settings)
        exponent, rate = float(bent.parameter1), float(bent.parameter2)

        def likelihood(a: float, b: float) -> float:
            law = powerlaw.Truncated_Power_Law(xmin=low, parameters=[a, b], **settings)
            return float(np.sum(law.loglikelihoods(x / unit)))

        errors = _errors(likelihood, exponent, rate)
        slope = len(x) / float(np.log(x / start).sum())
        pure = len(x) * math.log(slope / low) - (1.0 + slope) * float(np.log(x / start).sum())
        gain = likelihood(exponent, rate) - pure
    p_value = 0.5 * float(erfc(math.sqrt(max(gain, 0.0))))
    return TruncatedTail(exponent, errors[0], rate / unit, errors[1] / unit, p_value)


def _errors(likelihood: Callable[[float, float], float], a: float, b: float) -> tuple[float, float]:
    """Standard errors of two parameters from the second differences of a likelihood."""
    h, k = STEP * max(abs(a), 1.0), STEP * max(abs(b), STEP)
    if a < 2.0 * h or b < 2.0 * k:
        return math.nan, math.nan
    f = {(i, j): likelihood(a + i * h, b + j * k) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    aa = (f[1, 0] - 2.0 * f[0, 0] + f[-1, 0]) / h**2
    bb = (f[0, 1] - 2.0 * f[0, 0] + f[0, -1]) / k**2
    ab = (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / (4.0 * h * k)
    information = np.array([[-aa, -ab], [-ab, -bb]])
    if not np.isfinite(information).all() or np.linalg.eigvalsh(information).min() <= 0:
        return math.nan, math.nan
    found = np.sqrt(np.diag(np.linalg.inv(information)))
    return float(found[0]), float(found[1])
