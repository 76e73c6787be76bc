"""Laws of eigenvalues and gaps: one frozen class per law, each with pdf, cdf, ppf and rvs."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike

from dysonflow.lazy import LazyModule
from dysonflow.statistics.arrays import FloatArray

special = LazyModule("scipy.special")

LARGEST_BLOCK = 256
"""Levels up to which the exact density neither under- nor overflows."""


class Law(ABC):
    """A probability law on the real line.

    All methods are vectorised over their first argument and keep its shape.
    """

    @abstractmethod
    def pdf(self, x: ArrayLike) -> FloatArray:
        """Probability density at `x`, in the inverse unit of `x`."""

    @abstractmethod
    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a value of at most `x`."""

    @abstractmethod
    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile: the smallest value whose `cdf` reaches `probability`; NaN outside [0, 1]."""

    def rvs(self, size: int | tuple[int, ...], rng: np.random.Generator) -> FloatArray:
        """Draw independent values.

        Parameters
        ----------
        size : int or tuple of int
            Shape of the answer.
        rng : numpy.random.Generator
            All randomness comes from here.

        Returns
        -------
        numpy.ndarray
            Values of shape `size`.
        """
        return self.ppf(rng.random(size))


@dataclass(frozen=True)
class Gaussian(Law):
    """Normal law, that of a non-degenerate mode.

    Parameters
    ----------
    centre : float
        Mean.
    sigma : float
        Standard deviation, in the unit of `centre`.

    Raises
    ------
    ValueError
        If `sigma` is not positive.
    """

    centre: float = 0.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        _require_positive(sigma=self.sigma)

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Probability density at `x`."""
        z = (np.asarray(x, dtype=float) - self.centre) / self.sigma
        return np.asarray(np.exp(-(z * z) / 2.0) / np.sqrt(2 * np.pi) / self.sigma)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a value of at most `x`."""
        return np.asarray(special.ndtr((np.asarray(x, dtype=float) - self.centre) / self.sigma))

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile."""
        p = np.asarray(probability, dtype=float)
        return np.asarray(special.ndtri(p) * self.sigma + self.centre)


@dataclass(frozen=True)
class WignerSurmise(Law):
    r"""Gap between two levels in units of its mean, :math:`P(s) \propto s^\beta e^{-b s^2}`.

    Exact for a block of two levels: the gap over :math:`\sqrt 2 \sigma` has the chi law with
    beta + 1 degrees of freedom (E. P. Wigner 1957; M. L. Mehta, *Random Matrices*, section 1.5).

    Parameters
    ----------
    dyson_index : int
        1 (real symmetric), 2 (Hermitian) or 4 (quaternionic).

    Raises
    ------
    ValueError
        For any other index.
    """

    dyson_index: int = 1

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if self.dyson_index not in (1, 2, 4):
            raise ValueError(
                f"the Wigner surmise has dyson_index 1, 2 or 4, not {self.dyson_index}"
            )

    @property
    def _degrees_of_freedom(self) -> int:
        return int(self.dyson_index) + 1

    @property
    def _scale(self) -> float:
        # One over the mean of the chi law.
        return 1.0 / float(np.sqrt(2) * special.poch(0.5 * self._degrees_of_freedom, 0.5))

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Probability density at the gap `x`, in units of the mean gap."""
        z = np.asarray(x, dtype=float) / self._scale
        return np.asarray(_chi_density(z, self._degrees_of_freedom) / self._scale)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a gap of at most `x`, in units of the mean gap."""
        # The maximum passes NaN on.
        z = np.maximum(np.asarray(x, dtype=float) / self._scale, 0.0)
        return np.asarray(special.gammainc(0.5 * self._degrees_of_freedom, 0.5 * (z * z)))

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile, in units of the mean gap."""
        p = np.asarray(probability, dtype=float)
        square = 2 * special.gammaincinv(0.5 * self._degrees_of_freedom, p)
        return np.asarray(np.sqrt(square) * self._scale)


@dataclass(frozen=True)
class Semicircle(Law):
    """Wigner's semicircle, the density of a block of many levels.

    Parameters
    ----------
    centre : float
        Middle of the support.
    radius : float
        Half of the width of the support, in the unit of `centre`.

    Raises
    ------
    ValueError
        If `radius` is not positive.
    """

    centre: float = 0.0
    radius: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        _require_positive(radius=self.radius)

    @classmethod
    def of_block(
        cls, levels: int, centre: float, sigma: float, dyson_index: float = 1.0
    ) -> "Semicircle":
        r"""Limit of `BlockDensity` for many levels: radius :math:`\sigma \sqrt{2 \beta n}`.

        Parameters
        ----------
        levels : int
            Number n of levels in the block.
        centre, sigma : float
            Centre and width of the Coulomb gas.
        dyson_index : float
            Its index beta.
        """
        return cls(centre, sigma * float(np.sqrt(2.0 * dyson_index * levels)))

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Probability density at `x`."""
        z = (np.asarray(x, dtype=float) - self.centre) / self.radius
        # The bounds pass NaN on; at both the density vanishes.
        z = np.clip(z, -1.0, 1.0)
        return np.asarray(2.0 / np.pi * np.sqrt(1 - z * z) / self.radius)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a value of at most `x`."""
        z = np.clip((np.asarray(x, dtype=float) - self.centre) / self.radius, -1.0, 1.0)
        return np.asarray(0.5 + 1.0 / np.pi * (z * np.sqrt(1 - z * z) + np.arcsin(z)))

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile."""
        from scipy import stats

        return np.asarray(stats.semicircular.ppf(probability, self.centre, self.radius))


@dataclass(frozen=True)
class BlockDensity(Law):
    r"""One-level density of a Coulomb gas of n levels with one common centre.

    The gas is :math:`\prod_{i<j} |x_i - x_j|^\beta \exp(-\sum_i (x_i - c)^2 / 2 \sigma^2)`; a
    value drawn from this law is one level of a block picked at random. Exact, without a
    large-n or small-gap approximation, for

    - one level (Gaussian) and two levels at any beta: two levels give
      :math:`\phi(u)\, 2^{-\beta/2}\, {}_1F_1(-\beta/2; 1/2; -u^2/2)`, :math:`u = (x-c)/\sigma`,
      which at beta = 1 is an error function;
    - three levels at any beta, by Gauss quadrature over the shape of the triangle;
    - up to 256 levels at beta = 1, 2, 4, by Hermite functions (M. L. Mehta, *Random Matrices*,
      sections 6.2, 7.2 and 8.2).

    Parameters
    ----------
    levels : int
        Number n of levels.
    centre : float
        Common centre c.
    sigma : float
        Width of the confining Gaussian, in the unit of `centre`; the standard deviation of a
        level is :math:`\sigma \sqrt{1 + \beta (n - 1) / 2}`.
    dyson_index : float
        Repulsion beta.

    Raises
    ------
    ValueError
        If a parameter is out of range or the density is not supported.
    """

    levels: int
    centre: float = 0.0
    sigma: float = 1.0
    dyson_index: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        _require_positive(sigma=self.sigma, dyson_index=self.dyson_index)
        if not 1 <= self.levels <= LARGEST_BLOCK:
            raise ValueError(f"levels must be from 1 to {LARGEST_BLOCK}, not {self.levels}")
        if not self.is_known(self.levels, self.dyson_index):
            raise ValueError(
                "the density of more than three levels is known here for dyson_index 1, 2 and 4, "
                f"not for {self.dyson_index:g}"
            )

    @staticmethod
    def is_known(levels: int, dyson_index: float) -> bool:
        """Whether the density of `levels` levels is known here at an index."""
        return levels <= 3 or (levels <= LARGEST_BLOCK and dyson_index in (1.0, 2.0, 4.0))

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Probability density at `x`."""
        u = (np.asarray(x, dtype=float) - self.centre) / self.sigma
        return _standard_density(u, self.levels, self.dyson_index) / self.sigma

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a value of at most `x`, to about nine digits."""
        return self.standard_table().cdf((np.asarray(x, dtype=float) - self.centre) / self.sigma)

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile."""
        return self.centre + self.sigma * self.standard_table().ppf(probability)

    def standard_table(self) -> "TabulatedLaw":
        """Spline of the density at centre 0 and sigma 1, for many evaluations."""
        return _block_table(self.levels, self.dyson_index)


@dataclass(frozen=True)
class MarchenkoPastur(Law):
    r"""Eigenvalues of :math:`W^T W / M` for an M x N matrix W of independent entries.

    In the limit of large M and N. The N - M zero eigenvalues of a wide matrix are an atom of
    weight `atom` at zero, which `cdf`, `ppf` and `rvs` hold and `pdf` leaves out.

    Parameters
    ----------
    aspect_ratio : float
        N / M.
    variance : float
        Variance of an entry of W.

    Raises
    ------
    ValueError
        If a parameter is not positive.

    Notes
    -----
    With :math:`x = v (1 + q + 2 \sqrt q \cos\theta)` the integral of the density is elementary,
    smooth in theta at both edges, and needs no case for q = 1.
    V. A. Marchenko and L. A. Pastur, Math. USSR Sb. 1, 457 (1967).
    """

    aspect_ratio: float
    variance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        _require_positive(aspect_ratio=self.aspect_ratio, variance=self.variance)

    @classmethod
    def of_matrix(cls, rows: int, columns: int, standard_deviation: float) -> "MarchenkoPastur":
        """Law of the eigenvalues of W^T W itself, not divided by M.

        Parameters
        ----------
        rows, columns : int
            Shape M x N of W.
        standard_deviation : float
            Of an entry of W.
        """
        return cls(columns / rows, rows * standard_deviation**2)

    @property
    def atom(self) -> float:
        """Probability of an eigenvalue that is exactly zero: max(0, 1 - M/N)."""
        return max(0.0, 1.0 - 1.0 / self.aspect_ratio)

    @property
    def support(self) -> tuple[float, float]:
        """Lower and upper edge of the continuous part."""
        root = np.sqrt(self.aspect_ratio)
        return float(self.variance * (1 - root) ** 2), float(self.variance * (1 + root) ** 2)

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density of the continuous part at `x`; it integrates to 1 - `atom`."""
        x = np.asarray(x, dtype=float)
        lower, upper = self.support
        inside = (x > lower) & (x < upper)
        safe = np.where(inside, x, 0.5 * (lower + upper))
        root = np.sqrt((upper - safe) * (safe - lower))
        density = root / (2 * np.pi * self.aspect_ratio * self.variance * safe)
        if lower == 0.0:
            density = np.where(x == 0.0, np.inf, density)
            inside |= x == 0.0
        return np.where(inside, density, 0.0)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of an eigenvalue of at most `x`, the atom at zero included."""
        x = np.asarray(x, dtype=float)
        lower, upper = self.support
        # From both distances the angle keeps its digits at both edges.
        above, below = np.maximum(upper - x, 0.0), np.maximum(x - lower, 0.0)
        inside = 1.0 - self._weight_above(2.0 * np.arctan2(np.sqrt(above), np.sqrt(below)))
        return np.where(x < 0.0, 0.0, np.where(x < lower, self.atom, np.maximum(inside, 0.0)))

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile; zero up to the weight of the atom."""
        p = np.asarray(probability, dtype=float)
        lower, upper = self.support
        theta = invert_increasing(
            self._weight_above,
            self._weight_slope,
            np.clip(1.0 - p, 0.0, 1.0 - self.atom),
            0.0,
            np.pi,
        )
        x = lower + (upper - lower) * np.cos(0.5 * theta) ** 2
        x = np.where((p <= self.atom) & (self.atom > 0.0), 0.0, x)
        return np.where((p >= 0.0) & (p <= 1.0), x, np.nan)

    def _weight_above(self, theta: FloatArray) -> FloatArray:
        q, root = self.aspect_ratio, np.sqrt(self.aspect_ratio)
        # At theta = pi the tangent is huge but finite, and its arc tangent exact.
        angle = np.arctan(abs(1 - root) / (1 + root) * np.tan(0.5 * theta))
        weight = (1 + q) * theta / 4 - 0.5 * root * np.sin(theta) - abs(1 - q) * angle / 2
        return 2 * weight / (np.pi * q)

    def _weight_slope(self, theta: FloatArray) -> FloatArray:
        root = np.sqrt(self.aspect_ratio)
        half = 0.5 * theta
        # 1 + q + 2 root cos(theta), written without cancellation at q = 1.
        level = (1 - root) ** 2 + 4 * root * np.cos(half) ** 2
        level = np.maximum(level, np.finfo(float).tiny)
        return 2 * np.sin(theta) ** 2 / (np.pi * level)


@dataclass(frozen=True)
class TracyWidom(Law):
    """Tracy-Widom law of index beta = 1: the largest eigenvalue of a real random matrix.

    Parameters
    ----------
    centre, scale : float
        The law is that of `centre` + `scale` times the standard variable, whose mean is
        -1.20653357 and variance 1.60778103.

    Raises
    ------
    ValueError
        If `scale` is not positive.

    Notes
    -----
    F(s) = det(1 - B) with the kernel Ai(x + y + s) on the half line (P. L. Ferrari and H. Spohn,
    J. Phys. A 38, L557 (2005)), by Gauss-Legendre quadrature of the determinant (F. Bornemann,
    Math. Comp. 79, 871 (2010)). The density vanishes in double precision outside (-9, 16).
    """

    centre: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        _require_positive(scale=self.scale)

    @classmethod
    def of_largest_eigenvalue(
        cls, rows: int, columns: int, standard_deviation: float
    ) -> "TracyWidom":
        """Law of the largest eigenvalue of W^T W, W of independent normal entries.

        I. M. Johnstone, Ann. Statist. 29, 295 (2001), theorem 1.1; the shifts of rows and columns
        by one half are those of Z. Ma, Bernoulli 18, 322 (2012), which make the error of second
        order.

        Parameters
        ----------
        rows, columns : int
            Shape M x N of W.
        standard_deviation : float
            Of an entry of W.
        """
        tall, wide = np.sqrt(rows - 0.5), np.sqrt(columns - 0.5)
        centre = (tall + wide) ** 2
        scale = (tall + wide) * (1 / tall + 1 / wide) ** (1 / 3)
        return cls(float(standard_deviation**2 * centre), float(standard_deviation**2 * scale))

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Probability density at `x`."""
        s = (np.asarray(x, dtype=float) - self.centre) / self.scale
        return _tracy_widom_table().pdf(s) / self.scale

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a value of at most `x`."""
        return _tracy_widom_table().cdf((np.asarray(x, dtype=float) - self.centre) / self.scale)

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile."""
        return self.centre + self.scale * _tracy_widom_table().ppf(probability)


class TabulatedLaw:
    """A smooth law held as the cubic spline of its density.

    Parameters
    ----------
    grid : numpy.ndarray
        Ascending points that hold all the weight; shape (point,).
    density : numpy.ndarray
        Density there, same shape.
    """

    def __init__(self, grid: FloatArray, density: FloatArray):
        from scipy.interpolate import CubicSpline, PPoly

        spline = CubicSpline(grid, density)
        weight = float(spline.integrate(grid[0], grid[-1]))
        self.support = (float(grid[0]), float(grid[-1]))
        self._pdf = PPoly(spline.c / weight, spline.x, extrapolate=False)
        self._cdf = self._pdf.antiderivative()
        self._grid = grid
        # Rounding in the tails must not make the cumulative weight step back.
        self._weight = np.maximum.accumulate(np.clip(self._cdf(grid), 0.0, 1.0))

    def pdf(self, x: ArrayLike) -> FloatArray:
        """Density at `x`; zero outside the grid."""
        return np.maximum(np.nan_to_num(self._pdf(x)), 0.0)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Probability of a value of at most `x`."""
        x = np.asarray(x, dtype=float)
        inside = np.clip(self._cdf(np.clip(x, *self.support)), 0.0, 1.0)
        return np.where(x < self.support[1], inside, np.where(np.isnan(x), np.nan, 1.0))

    def ppf(self, probability: ArrayLike) -> FloatArray:
        """Quantile; minus and plus infinity at 0 and 1, NaN outside [0, 1]."""
        p = np.asarray(probability, dtype=float)
        inner = np.clip(np.nan_to_num(p), 0.0, 1.0)
        cell = np.clip(np.searchsorted(self._weight, inner) - 1, 0, self._grid.size - 2)
        x = invert_increasing(
            self.cdf, self.pdf, inner, self._grid[cell], self._grid[cell + 1], absolute=1e-13
        )
        x = np.where(p <= 0.0, -np.inf, np.where(p >= 1.0, np.inf, x))
        return np.where((p >= 0.0) & (p <= 1.0), x, np.nan)


def invert_increasing(
    function: Callable[[FloatArray], FloatArray],
    slope: Callable[[FloatArray], FloatArray],
    value: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    absolute: float = 1e-15,
    start: ArrayLike | None = None,
) -> FloatArray:
    """Solve function(x) = value for an increasing function, for many values at once.

    Newton's step where it stays inside the bracket, bisection elsewhere.

    Parameters
    ----------
    function, slope : callable
        The function and its derivative, vectorised.
    value : array_like
        Right-hand sides.
    lower, upper : array_like
        Brackets of the solutions; broadcast against `value`.
    absolute : float
        Width at which a bracket or a step counts as closed, on top of rounding.
    start : array_like, optional
        First guess; the middle of the bracket by default.

    Returns
    -------
    numpy.ndarray
        The solutions, in the shape of `value`.
    """
    target = np.asarray(value, dtype=float)
    low = np.broadcast_to(np.asarray(lower, dtype=float), target.shape).copy()
    high = np.broadcast_to(np.asarray(upper, dtype=float), target.shape).copy()
    x = 0.5 * (low + high)
    if start is not None:
        x = np.clip(np.broadcast_to(np.asarray(start, dtype=float), target.shape), low, high)
    for _ in range(100):
        excess = function(x) - target
        low = np.where(excess <= 0.0, x, low)
        high = np.where(excess >= 0.0, x, high)
        rise = slope(x)
        newton = x - excess / np.where(rise > 0.0, rise, 1.0)
        usable = (rise > 0.0) & (newton > low) & (newton < high)
        proposal = np.where(usable, newton, 0.5 * (low + high))
        step = np.abs(proposal - x)
        x = proposal
        if np.all(step <= absolute + 4 * np.finfo(float).eps * np.abs(x)):
            break
    return x


def _require_positive(**parameters: float) -> None:
    for name, value in parameters.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, not {value}")


def _chi_density(x: FloatArray, degrees_of_freedom: float) -> FloatArray:
    """Density of the chi law at `x`, in the units of scipy.stats.chi."""
    inside = (x >= 0.0) & (x < np.inf)
    safe = np.where(inside, x, 1.0)
    half = 0.5 * degrees_of_freedom
    constant = np.log(2) - 0.5 * np.log(2) * degrees_of_freedom - special.gammaln(half)
    power = special.xlogy(degrees_of_freedom - 1.0, safe)
    density = np.exp(constant + power - 0.5 * (safe * safe))
    return np.where(inside, density, np.where(np.isnan(x), np.nan, 0.0))


def _standard_density(u: FloatArray, levels: int, dyson_index: float) -> FloatArray:
    """Density at centre 0 and sigma 1."""
    if levels == 1:
        return Gaussian().pdf(u)
    if levels == 2:
        return _two_levels(u, dyson_index)
    if dyson_index == 1.0:
        return _orthogonal(u, levels)
    if dyson_index == 2.0:
        return np.sum(_hermite_functions(u / np.sqrt(2), levels) ** 2, axis=0) / (
            np.sqrt(2) * levels
        )
    if dyson_index == 4.0:
        return _symplectic(u, levels)
    return _three_levels(u, dyson_index)


def _two_levels(u: FloatArray, dyson_index: float) -> FloatArray:
    gauss = np.exp(-0.5 * u**2)
    if dyson_index == 1.0:
        bracket = np.sqrt(2 * np.pi) * u * special.erf(u / np.sqrt(2)) + 2 * gauss
        return gauss * bracket / (4 * np.sqrt(np.pi))
    # Kummer's transformation, all of whose terms are positive; exp(-u^2) alone is zero beyond.
    near = np.minimum(np.abs(u), 26.0)
    value = special.hyp1f1(0.5 * (1 + dyson_index), 0.5, 0.5 * near**2)
    factor = np.exp(-(near**2)) / (np.sqrt(2 * np.pi) * 2 ** (0.5 * dyson_index))
    return np.where(np.abs(u) < 26.0, factor * value, 0.0)


def _three_levels(u: FloatArray, dyson_index: float) -> FloatArray:
    """Integrate over radius and angle in the plane of vanishing centre of mass.

    There the levels are sqrt(2/3) r cos(phi + 2 pi k / 3) about their mean, r has the chi law
    with 2 + 3 beta degrees of freedom and phi the density |sin 3 phi|^beta. The sum over the
    three levels is analytic in cos 3 phi, so that Gauss-Gegenbauer quadrature converges fast.
    """
    cosine, weight = special.roots_gegenbauer(48, 0.5 * dyson_index)
    phi = (np.arccos(cosine)[:, None] + 2 * np.pi * np.arange(3)) / 3
    projection = (np.sqrt(2 / 3) * np.cos(phi)).ravel()
    projection_weight = np.repeat(weight / (3 * weight.sum()), 3)

    freedom = 2 + 3 * dyson_index
    node, node_weight = np.polynomial.legendre.leggauss(96)
    # The cube removes the fractional power at r = 0 that would spoil the quadrature.
    longest = np.sqrt(freedom) + 9.0
    s = 0.5 * (1 + node)
    radius = longest * s**3
    radius_weight = 1.5 * longest * s**2 * node_weight * _chi_density(radius, freedom)

    shift = (radius[:, None] * projection).ravel()
    shift_weight = (radius_weight[:, None] * projection_weight).ravel()
    flat = np.ravel(u)
    density = np.empty_like(flat)
    for first in range(0, flat.size, 256):
        part = slice(first, first + 256)
        distance = flat[part, None] - shift
        density[part] = np.exp(-1.5 * distance**2) @ shift_weight
    return (density * np.sqrt(1.5 / np.pi)).reshape(np.shape(u))


def _orthogonal(u: FloatArray, levels: int) -> FloatArray:
    function = _hermite_functions(u, levels + 1)
    step = _half_line_integral(u, function, levels)
    density = np.sum(function[:levels] ** 2, axis=0)
    density += np.sqrt(0.5 * levels) * function[levels - 1] * step
    if levels % 2:
        density += function[levels - 1] / _full_line_integral(levels - 1)
    return np.maximum(density, 0.0) / levels


def _symplectic(u: FloatArray, levels: int) -> FloatArray:
    # Half of an orthogonal ensemble of 2 n + 1 levels, less the term of its odd level.
    y, order = u / np.sqrt(2), 2 * levels + 1
    function = _hermite_functions(y, order + 1)
    step = _half_line_integral(y, function, order)
    density = np.sum(function[:order] ** 2, axis=0)
    density += np.sqrt(0.5 * order) * function[order - 1] * step
    return np.maximum(density, 0.0) / (2 * np.sqrt(2) * levels)


def _hermite_functions(y: FloatArray, count: int) -> FloatArray:
    """Orthonormal oscillator functions of order 0 to count - 1; shape (count, ...)."""
    y = np.asarray(y, dtype=float)
    function = np.empty((count, *y.shape))
    function[0] = np.pi**-0.25 * np.exp(-0.5 * y**2)
    if count > 1:
        function[1] = np.sqrt(2) * y * function[0]
    for order in range(2, count):
        function[order] = (
            np.sqrt(2 / order) * y * function[order - 1]
            - np.sqrt((order - 1) / order) * function[order - 2]
        )
    return function


def _half_line_integral(y: FloatArray, function: FloatArray, order: int) -> FloatArray:
    """Half of the integral of a Hermite function up to y, less half of that beyond y."""
    if order % 2:
        integral, first = -np.sqrt(2) * function[0], 1
    else:
        integral = np.pi**-0.25 * np.sqrt(0.5 * np.pi) * special.erf(y / np.sqrt(2))
        first = 0
    for k in range(first + 1, order, 2):
        integral = np.sqrt(k / (k + 1)) * integral - np.sqrt(2 / (k + 1)) * function[k]
    return integral


def _full_line_integral(order: int) -> float:
    """Integral of a Hermite function of even order over the line."""
    value = np.pi**-0.25 * np.sqrt(2 * np.pi)
    for k in range(1, order, 2):
        value *= np.sqrt(k / (k + 1))
    return float(value)


@lru_cache(maxsize=64)
def _block_table(levels: int, dyson_index: float) -> TabulatedLaw:
    # Ten sigma beyond the edge of the semicircle the density is below 1e-20.
    reach = np.sqrt(2 * dyson_index * (levels - 1)) + 10.0
    half = np.linspace(0.0, reach, max(2401, 60 * levels))
    density = _standard_density(half, levels, dyson_index)
    grid = np.concatenate([-half[:0:-1], half])
    return TabulatedLaw(grid, np.concatenate([density[:0:-1], density]))


@lru_cache(maxsize=1)
def _tracy_widom_table() -> TabulatedLaw:
    lower, upper = -9.0, 16.0
    node, weight = np.polynomial.legendre.leggauss(80)

    def density(s: float) -> float:
        length = 18.0 - s
        x = 0.5 * length * (1 + node)
        root = np.sqrt(0.5 * length * weight)
        airy, airy_slope, _, _ = special.airy(x[:, None] + x + s)
        matrix = np.eye(x.size) - root[:, None] * airy * root
        slope = root[:, None] * airy_slope * root
        # Jacobi's formula for the derivative of a determinant.
        return -float(np.linalg.det(matrix) * np.trace(np.linalg.solve(matrix, slope)))

    # The law is entire: some 160 determinants give it everywhere to rounding.
    coefficient = chebyshev.chebinterpolate(
        np.vectorize(lambda t: density(0.5 * (lower + upper) + 0.5 * (upper - lower) * t)), 160
    )
    unit = np.linspace(-1.0, 1.0, 5001)
    grid = 0.5 * (lower + upper) + 0.5 * (upper - lower) * unit
    return TabulatedLaw(grid, np.maximum(chebyshev.chebval(unit, coefficient), 0.0))
