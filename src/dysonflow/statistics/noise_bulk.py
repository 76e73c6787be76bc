"""Which eigenvalues of W^T W are noise, which lie outside, and how strong the noise is.

The outermost eigenvalues are tested one after the other, from the outside, against the Tracy-Widom
law of what is left, until one is not rejected; the scale of the noise is that of maximum likelihood
for the rest.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.statistics import spiked, tracy_widom
from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.marchenko_pastur import (
    MODES,
    GoodnessOfFit,
    MarchenkoPastur,
    goodness_of_fit,
)

LEVEL = 0.01
"""Chance with which a matrix of noise alone shows an outlier above, and one below."""
ROUNDING = 1e-12
"""Singular values below the largest one times this are zero."""
DOUBLE = 2.0**-52
"""Relative precision of the entries of a matrix, by default."""
FEWEST = 4
"""Levels that are always left in the bulk."""
START, LOW_START = 0.5, 0.15
"""Quantiles of the eigenvalues whose size is a first guess of the scale."""
LARGEST_SHIFT = 0.5
"""Shift of an edge by the kurtosis, relative to the edge, from which on it is not corrected for."""


@dataclass(frozen=True)
class NoiseBulk:
    """The bulk of a spectrum and what lies outside of it.

    Attributes
    ----------
    law : MarchenkoPastur
        With the fitted scale; its sides are those of the noise that is left when what lies outside
        is taken away, one row and one column for each signal.
    scale_error : float
        Standard error of the scale; 0 for a known one.
    edges : tuple of float
        Lower and upper edge of the eigenvalues, with what the kurtosis of the entries does to them.
    bulk : numpy.ndarray
        Eigenvalues in the bulk, ascending.
    above, below : numpy.ndarray
        Those outside of it, the outermost first.
    p_above, p_below : numpy.ndarray
        p-value of each.
    next_above, next_below : float
        p-values of the outermost ones that were not rejected: the largest and the smallest of the
        bulk.
    zeros : int
        Eigenvalues that are zero, beyond those that the shape of the matrix makes.
    fit : GoodnessOfFit
        Of the bulk.
    """

    law: MarchenkoPastur
    scale_error: float
    edges: tuple[float, float]
    bulk: FloatArray
    above: FloatArray
    below: FloatArray
    p_above: FloatArray
    p_below: FloatArray
    next_above: float
    next_below: float
    zeros: int
    fit: GoodnessOfFit

    def signals(self) -> spiked.Signals:
        """Signals behind what lies above."""
        law = self.law
        return spiked.signals(np.sqrt(self.above), law.longer, law.shorter, law.scale)

    def significant(self, level: float) -> tuple[int, int]:
        """Number above and below at another level, such as one over the number of matrices."""
        return _rejected(self.p_above, level), _rejected(self.p_below, level)


def fit_bulk(
    eigenvalues: ArrayLike,
    longer: int,
    shorter: int,
    excess_kurtosis: float = 0.0,
    scale: float | None = None,
    level: float = LEVEL,
    precision: float = DOUBLE,
) -> NoiseBulk:
    """Find the bulk of a spectrum, its scale and what lies outside.

    Parameters
    ----------
    eigenvalues : array_like
        Of W^T W or W W^T, as many as the shorter side; in any order.
    longer, shorter : int
        Sides of W, not counting rows and columns of zeros.
    excess_kurtosis : float
        Of the entries of W; to first order it moves the edges by the factors 1 +- kurtosis /
        sqrt(n p), and it widens the error of the scale.
    scale : float, optional
        Standard deviation of an entry of the noise, where it is known.
    level : float
        Chance of a false outlier on either side.
    precision : float
        Relative precision of the entries of W. Where they are rounded, a matrix of low rank gets
        singular values of up to a third of precision x (root mean square) x (sqrt(n) + sqrt(p)):
        what is below the whole of it is zero.

    Raises
    ------
    ValueError
        If fewer than four eigenvalues are not zero.

    Notes
    -----
    A first guess of the scale comes from the median of the eigenvalues, which nothing outside can
    move far. An eigenvalue lies above if it is too large for the largest one of the matrix of noise
    that consists of it and of the bulk, whose trace gives the scale. Given the bulk the scale is
    w^2 = sum x / (n' p' - sum_j n p w^2 / t_j^2): without the last term the maximum-likelihood
    estimate for a Gaussian matrix of the sides n', p' that are left, whose variance 2 w^4 / (n' p')
    is the Cramer-Rao bound; the last term is what a signal of strength t_j takes from the bulk
    below it. A signal likewise shifts Chebyshev mode k of the bulk by
    -(1/2) (t_j / threshold)^(-2 k).
    """
    x = np.sort(np.asarray(eigenvalues, dtype=float))
    rounded = precision**2 * x.sum() * (longer**-0.5 + shorter**-0.5) ** 2
    zeros = int((x <= max(ROUNDING**2 * x[-1], rounded, 0.0)).sum())
    x = x[zeros:]
    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} eigenvalues that are not zero are no bulk")
    n, p = longer, len(x)
    shift = excess_kurtosis / math.sqrt(n * p)
    shift = max(-LARGEST_SHIFT, min(shift, LARGEST_SHIFT))
    spectrum = _Spectrum(x, n, p, shift, level, scale)
    found = spectrum.split(START)
    best = spectrum.described(*found, zeros, excess_kurtosis)
    if best.fit.p_value < level and scale is None:
        # More than half of the levels may lie above: the bulk is then among the small ones.
        other = spectrum.split(LOW_START)
        second = spectrum.described(*other, zeros, excess_kurtosis)
        best = min(best, second, key=lambda one: one.fit.chi2 / one.fit.dof)
    return best


def _rejected(p_values: FloatArray, level: float) -> int:
    """How many in a row are below the level, from the first on."""
    kept = np.flatnonzero(p_values >= level)
    return int(kept[0]) if len(kept) else len(p_values)


@dataclass(frozen=True)
class _Spectrum:
    """Eigenvalues that are not zero, ascending, and what they are compared with."""

    x: FloatArray
    n: int
    p: int
    shift: float
    level: float
    scale: float | None

    def split(self, quantile: float) -> tuple[int, int]:
        """Number above and below the bulk, from a scale that one quantile says."""
        x, n, p = self.x, self.n, self.p
        law = MarchenkoPastur(n, p)
        variance = float(np.quantile(x, quantile) / law.quantile(quantile))
        if self.scale is not None:
            variance = self.scale**2
        gone = np.arange(p - FEWEST)
        edge = x[::-1][gone] / (variance * (1.0 + self.shift))
        above = _rejected(tracy_widom.upper_p_values(edge, n - gone, p - gone), self.level)
        below = _rejected(self.below(above, variance, True), self.level)
        seen = set()
        while (above, below) not in seen:
            seen.add((above, below))
            # Inwards as long as the largest of what is left is too large for it, then outwards as
            # long as the next one is not too large as a part of it.
            while above + below < p - FEWEST and self.p_above(above, below) < self.level:
                above += 1
            while above > 0 and self.p_above(above - 1, below) >= self.level:
                above -= 1
            below = _rejected(self.below(above, self.variance(above, below)), self.level)
        return above, below

    def variance(self, above: int, below: int) -> float:
        """Maximum-likelihood estimate from the levels between."""
        if self.scale is not None:
            return self.scale**2
        x, n, p = self.x, self.n, self.p
        total = float(x[below : p - above].sum())
        left = (n - above) * (p - above - below)
        variance = total / left
        for _ in range(3 if above else 0):
            # Below its threshold a signal would not have been seen.
            t2 = spiked.squared_strength(x[p - above :] / variance, n, p)
            # Where most levels would lie above there is no bulk, and no such law of it.
            variance = total / max(left - n * p * float((1.0 / t2).sum()), 0.5 * left)
        return variance

    def p_above(self, above: int, below: int) -> float:
        """p-value of the largest level of those between."""
        edge = self.x[self.p - above - 1] / (self.variance(above, below) * (1.0 + self.shift))
        n, p = self.n - above, self.p - above - below
        return float(tracy_widom.upper_p_values(edge, n, p, self.scale is not None))

    def p_outside(self, above: int, below: int) -> FloatArray:
        """p-values of the levels above, each as the largest of the bulk and itself."""
        tested = self.x[self.p - above :][::-1]
        if not above:
            return tested
        n, p = self.n - above + 1, self.p - above - below + 1
        variance = self.variance(above - 1, below)
        if self.scale is None:
            variance = variance + (tested - tested[-1]) / (n * p)
        edge = tested / (variance * (1.0 + self.shift))
        return tracy_widom.upper_p_values(edge, n, p, self.scale is not None)

    def below(self, above: int, variance: float, is_known: bool = False) -> FloatArray:
        """p-values of the smallest level, the second smallest, and so on, up to the first kept.

        A level that is too small takes a column with it, and no row.
        """
        n, p = self.n - above, self.p - above
        found: list[float] = []
        while len(found) <= p - FEWEST:
            gone = len(found)
            edge = self.x[gone] / (variance * (1.0 - self.shift))
            known = is_known or self.scale is not None
            found.append(float(tracy_widom.lower_p_values(edge, n, p - gone, known)))
            if found[-1] >= self.level:
                break
        return np.array(found)

    def described(self, above: int, below: int, zeros: int, excess_kurtosis: float) -> NoiseBulk:
        """All that is known once it is clear what lies outside."""
        x, n, p = self.x, self.n, self.p
        variance = self.variance(above, below)
        law = MarchenkoPastur(n - above, p - above - below, math.sqrt(variance))
        bulk, outside = x[below : p - above], x[p - above :][::-1]
        modes = np.arange(1, MODES + 1)
        # (t / threshold)^2 of each signal.
        ratio = spiked.squared_strength(outside / variance, n, p) / math.sqrt(n * p)
        taken = -0.5 * (ratio[:, None] ** (-1.0 * modes)).sum(axis=0)
        relative = math.sqrt(max(2.0 + excess_kurtosis, 0.0) / (law.longer * law.shorter))
        low, high = law.edges
        p_below = self.below(above, variance)
        return NoiseBulk(
            law=law,
            scale_error=0.5 * law.scale * relative if self.scale is None else 0.0,
            edges=(low * (1.0 - self.shift), high * (1.0 + self.shift)),
            bulk=bulk,
            above=outside,
            below=x[:below],
            p_above=self.p_outside(above, below),
            p_below=p_below[:below],
            next_above=self.p_above(above, below),
            next_below=float(p_below[min(below, len(p_below) - 1)]),
            zeros=zeros,
            fit=goodness_of_fit(
                law, bulk, excess_kurtosis, taken, is_scale_known=self.scale is not None
            ),
        )
