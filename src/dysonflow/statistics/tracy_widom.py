"""The Tracy-Widom law of the outermost eigenvalues of W^T W, with corrections for finite size.

Laws of the real symmetric ensembles (Dyson index 1) come from Fredholm determinants by quadrature
(Bornemann, Markov Process. Relat. Fields 16, 803 (2010)).
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.lazy import LazyModule
from dysonflow.statistics.arrays import FloatArray

special = LazyModule("scipy.special")

LOW, HIGH = -10.0, 8.0
"""Range in which the law is tabulated; below, the cdf is less than 1e-19."""
NODES = 40
"""Of the quadrature: all digits that double precision allows."""
LARGEST_HARD = 30.0
"""Square root of s beyond which no smallest eigenvalue at the hard edge is found."""
MEAN, VARIANCE = -1.2065335745820, 1.607781034581
"""Of the law (Bornemann 2010, table 10)."""
HARD_EDGE = 8
"""Up to this difference of the sides the smallest eigenvalue is taken to feel the hard edge at
zero, where its law is that of a Bessel kernel."""


def cdf(s: ArrayLike) -> FloatArray:
    """Distribution function F_1 of the Tracy-Widom law.

    det(1 - K) with K(x, y) = Ai(x + y + s) on x, y > 0 (Ferrari and Spohn, J. Phys. A 38, L557
    (2005)).
    """
    return 1.0 - sf(s)


def sf(s: ArrayLike) -> FloatArray:
    """Chance of a larger value, 1 - F_1, with small relative error far out in the upper tail."""
    values = np.asarray(s, dtype=float)
    nodes, table = _table()
    found = np.array(np.exp(np.interp(np.clip(values, LOW, HIGH), nodes, table)))
    found[values < LOW] = 1.0
    far = values > HIGH
    if far.any():
        found[far] = _far(values[far])
    return found


@lru_cache
def _table() -> tuple[FloatArray, FloatArray]:
    """Points and the logarithm of 1 - F_1 at them, dense enough for linear interpolation."""
    middle, half = 0.5 * (HIGH + LOW), 0.5 * (HIGH - LOW)

    series = _series(lambda u: math.log1p(-_determinant(middle + half * u)), 80)
    fine = np.linspace(-1.0, 1.0, 8001)
    return middle + half * fine, np.asarray(
        np.polynomial.chebyshev.chebval(fine, series), dtype=np.float64
    )


def _determinant(s: float) -> float:
    x, weight = np.polynomial.legendre.leggauss(NODES)
    # The kernel has died out where the argument of Ai is 16.
    length = 0.5 * (16.0 - s)
    x, weight = length * (x + 1.0), length * weight
    root = np.sqrt(weight)
    kernel = special.airy(x[:, None] + x[None, :] + s)[0]
    return float(np.linalg.det(np.eye(NODES) - root[:, None] * kernel * root))


def _far(s: FloatArray) -> FloatArray:
    """Trace of the kernel, half of the integral of Ai from s on: 1 - F_1 to leading order."""
    x, weight = _laguerre()
    # exp(-u) is the decay of Ai(s + v) with u = v sqrt(s), all but a slowly changing factor.
    v = x / np.sqrt(s)[..., None]
    argument = s[..., None] + v
    scaled = special.airye(argument)[0]
    exponent = x - 2.0 / 3.0 * argument**1.5
    integrand = scaled * np.exp(np.clip(exponent, -700.0, 0.0)) * (exponent > -700.0)
    return 0.5 * (weight * integrand).sum(axis=-1) / np.sqrt(s)


@lru_cache
def _laguerre() -> tuple[FloatArray, FloatArray]:
    return np.polynomial.laguerre.laggauss(NODES)


def upper_p_values(
    x: ArrayLike, longer: ArrayLike, shorter: ArrayLike, is_scale_known: bool = True
) -> FloatArray:
    """Chance that the largest eigenvalue of W^T W is larger than x, for entries of unit variance.

    (x - centre) / width is of Tracy-Widom law up to relative order p^(-2/3), with the centre
    (sqrt(n - 1/2) + sqrt(p - 1/2))^2 (Ma, Bernoulli 18, 322 (2012)).

    Parameters
    ----------
    x : array_like
        Values.
    longer, shorter : array_like
        Sides n and p of the matrix.
    is_scale_known : bool
        If not, x is in units of the variance that the trace of the same matrix gives. The trace is
        independent of such a quotient, which therefore fluctuates less than the eigenvalue, by
        the variance 2/(n p) of the trace (Nadler, J. Multivar. Anal. 102, 363 (2011)).
    """
    n, p = np.sqrt(np.asarray(longer) - 0.5), np.sqrt(np.asarray(shorter) - 0.5)
    centre = (n + p) ** 2
    width = (n + p) * (1.0 / n + 1.0 / p) ** (1.0 / 3.0)
    standard = (np.asarray(x) - centre) / width
    if not is_scale_known:
        standard = _widened(standard, 2.0 * (centre / width) ** 2 / (n * p) ** 2)
    return sf(standard)


def relative_width(longer: float, shorter: float) -> float:
    """Width of the law of the largest eigenvalue over its centre."""
    n, p = math.sqrt(longer - 0.5), math.sqrt(shorter - 0.5)
    return (1.0 / n + 1.0 / p) ** (1.0 / 3.0) / (n + p)


def _widened(standard: FloatArray, variance: FloatArray) -> FloatArray:
    """Values of a law of the same mean as Tracy-Widom and less variance, as its own values."""
    # Two thirds are never reached where the law is of use.
    left = VARIANCE - np.minimum(variance, VARIANCE * 2.0 / 3.0)
    return MEAN + (standard - MEAN) * np.sqrt(VARIANCE / left)


def lower_p_values(
    x: ArrayLike, longer: ArrayLike, shorter: ArrayLike, is_scale_known: bool = True
) -> FloatArray:
    """Chance that the smallest eigenvalue of W^T W is smaller than x; unit variance.

    Far from a square shape its logarithm is of the reflected Tracy-Widom law (Ma 2012). Near it, up
    to `HARD_EDGE`, 1 - det(1 - B) with the kernel B(u, v) = sqrt(s u v) J_a(sqrt(s) u v) on (0, 1),
    a = n - p and s = (sqrt(n) + sqrt(p))^2 x, so that the edge of the Bessel kernel is that of the
    bulk; for a = 0 it is the law of Edelman, SIAM J. Matrix Anal. Appl. 9, 543 (1988).

    Parameters are those of `upper_p_values`.
    """
    values, n, p = np.broadcast_arrays(
        np.asarray(x, dtype=float), np.asarray(longer, float), np.asarray(shorter, float)
    )
    found = np.empty(values.shape)
    soft = n - p > HARD_EDGE
    if soft.any():
        a, b = np.sqrt(n[soft] - 0.5), np.sqrt(p[soft] - 0.5)
        tau = (1.0 / b - 1.0 / a) ** (1.0 / 3.0) / (a - b)
        logarithm = np.log(np.maximum(values[soft], 1e-300))
        standard = -(logarithm - 2.0 * np.log(a - b) - tau**2 / 8.0) / tau
        if not is_scale_known:
            standard = _widened(standard, 2.0 / (a * b * tau) ** 2)
        found[soft] = sf(standard)
    for place in np.argwhere(~soft):
        here = tuple(place)
        found[here] = _hard_edge(float(values[here]), float(n[here]), float(p[here]))
    return found


def _hard_edge(x: float, longer: float, shorter: float) -> float:
    s = (math.sqrt(longer) + math.sqrt(shorter)) ** 2 * max(x, 0.0)
    if s >= LARGEST_HARD**2:
        return 1.0
    u = 2.0 * math.sqrt(s) / LARGEST_HARD - 1.0
    series = _hard_edge_series(round(longer - shorter))
    return min(max(float(np.polynomial.chebyshev.chebval(u, series)), 0.0), 1.0)


@lru_cache
def _hard_edge_series(difference: int) -> FloatArray:
    """Chebyshev series of the law in sqrt(s), which is smooth there."""
    u, weight = np.polynomial.legendre.leggauss(NODES)
    u, weight = 0.5 * (u + 1.0), np.sqrt(0.5 * weight)

    def law(place: float) -> float:
        root = 0.5 * LARGEST_HARD * (place + 1.0)
        inner = root * np.outer(u, u)
        kernel = np.sqrt(root * inner) * special.jv(difference, inner)
        return 1.0 - float(np.linalg.det(np.eye(NODES) - weight[:, None] * kernel * weight))

    return _series(law, 60)


def _series(function: Callable[[float], float], degree: int) -> FloatArray:
    """Chebyshev series of a function on (-1, 1), which costs too much to be called often."""
    points = np.polynomial.chebyshev.chebpts1(degree + 1)
    values = np.array([function(float(point)) for point in points])
    return np.asarray(np.polynomial.chebyshev.chebfit(points, values, degree))
