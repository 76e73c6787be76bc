"""The Marchenko-Pastur law: eigenvalues of W^T W for independent entries, and a test of it.

Levels of one matrix repel each other: a sum over them fluctuates by the order of one, not by the
square root of their number, and no test for independent samples serves. Here the fluctuations are
taken from the central limit theorem of linear statistics, in whose Chebyshev modes they are
independent.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.statistics.arrays import FloatArray

MODES = 6
"""Highest Chebyshev mode in the test of a large matrix; the first one measures the scale."""
MODES_OF_SMALL = {64: 3, 256: 4}
"""The same for matrices whose shorter side is below a number: high modes are polynomials that grow
fast beyond the edges, and there the levels of a small matrix often lie."""
FINITE_SIZE = 0.13
"""Simulated: the variance of mode k is about k/2 (1 + 0.13 k^3 / p) for p from 32 to 256 and normal
entries; for uniform ones, of excess kurtosis -1.2, and bounded ones in general it is k/2."""
BOUNDED = -1.2


@dataclass(frozen=True)
class MarchenkoPastur:
    """Law of the eigenvalues x of W^T W, or W W^T, that are not zero by shape.

    Marchenko and Pastur, Math. USSR Sb. 1, 457 (1967).

    Attributes
    ----------
    longer, shorter : float
        Sides n >= p of the matrix, each at least 1.
    scale : float
        Standard deviation w of an entry.
    """

    longer: float
    shorter: float
    scale: float = 1.0

    @property
    def aspect(self) -> float:
        """Ratio p/n of the sides."""
        return self.shorter / self.longer

    @property
    def edges(self) -> tuple[float, float]:
        """Ends of the support, w^2 (sqrt(n) -+ sqrt(p))^2."""
        n, p = math.sqrt(self.longer), math.sqrt(self.shorter)
        return self.scale**2 * (n - p) ** 2, self.scale**2 * (n + p) ** 2

    def density(self, x: ArrayLike) -> FloatArray:
        """Density, which integrates to one; zero outside the support."""
        low, high = self.edges
        values = np.asarray(x, dtype=float)
        inside = (values > low) & (values < high)
        safe = np.where(inside, values, 1.0)
        root = np.sqrt(np.where(inside, (high - values) * (values - low), 0.0))
        return root / (2.0 * math.pi * self.scale**2 * self.shorter * safe)

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Distribution function, in closed form."""
        y = self.aspect
        low, high = (1.0 - math.sqrt(y)) ** 2, (1.0 + math.sqrt(y)) ** 2
        unit = np.asarray(x, dtype=float) / (self.scale**2 * self.longer)
        z = np.clip(unit, low, high)
        # Angles instead of quotients, which have no value at the ends of the support.
        near, far = np.sqrt(np.maximum(z - low, 0.0)), np.sqrt(np.maximum(high - z, 0.0))
        first = np.arctan2(far**2 - near**2, 2.0 * near * far)
        second = np.arctan2(low * far**2 - high * near**2, 2.0 * (1.0 - y) * near * far)
        area = near * far - (1.0 + y) * first + (1.0 - y) * second
        found = np.clip(0.5 + area / (2.0 * math.pi * y), 0.0, 1.0)
        return np.where(unit <= low, 0.0, np.where(unit >= high, 1.0, found))

    def quantile(self, q: ArrayLike) -> FloatArray:
        """Inverse of the distribution function, by interpolation on 4096 angles."""
        low, high = self.edges
        angle = np.linspace(math.pi, 0.0, 4096)
        x = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle)
        return np.interp(np.asarray(q, dtype=float), self.cdf(x), x)

    def modes(self, x: ArrayLike, count: int = MODES) -> FloatArray:
        """Sums of Chebyshev polynomials over levels.

        Parameters
        ----------
        x : array_like
            Eigenvalues, shape (level,).
        count : int
            Highest polynomial K.

        Returns
        -------
        numpy.ndarray
            Sum over the levels of T_k((x - centre) / half width) for k = 1 to K, shape (K,).
        """
        low, high = self.edges
        u = (np.asarray(x, dtype=float) - 0.5 * (low + high)) / (0.5 * (high - low))
        found, before, now = np.empty(count), np.ones_like(u), u
        for k in range(count):
            found[k] = now.sum()
            before, now = now, 2.0 * u * now - before
        return found

    def expected_modes(self, excess_kurtosis: float = 0.0, count: int = MODES) -> FloatArray:
        """Mean of `modes` over all levels of a random matrix, shape (count,).

        p times the average over the law, which has a closed form; 1/2 for even k, as of the real
        symmetric ensembles; and half of the excess kurtosis of the entries for k = 2. (Bai and
        Silverstein, Ann. Probab. 32, 553 (2004); the kurtosis from the fourth moment of an entry.)
        """
        k = np.arange(1, count + 1)
        root = -math.sqrt(self.aspect)
        mean = -0.5 * (1.0 - self.aspect) * root ** np.maximum(k - 2.0, 0.0)
        mean[0] = 0.5 * root
        shift = np.where(k % 2 == 0, 0.5, 0.0)
        if count > 1:
            shift[1] += 0.5 * excess_kurtosis
        return self.shorter * mean + shift


@dataclass(frozen=True)
class GoodnessOfFit:
    """How well levels follow the law.

    Attributes
    ----------
    chi2 : float
        Sum of squares of the modes, each minus its mean and over its standard deviation.
    dof : int
        Number of the modes.
    p_value : float
        Chance of a larger one.
    """

    chi2: float
    dof: int
    p_value: float


def goodness_of_fit(
    law: MarchenkoPastur,
    x: ArrayLike,
    excess_kurtosis: float = 0.0,
    shift: ArrayLike = 0.0,
    count: int | None = None,
    is_scale_known: bool = False,
) -> GoodnessOfFit:
    """Test of the law by the Chebyshev modes up to K of all levels of a bulk.

    Mode 1 is the trace, and takes part only where the scale is known.

    In the limit of large matrices they are independent normal numbers of variance k/2, for any
    law of the entries with a fourth moment, and to first order independent of a scale that was
    estimated from the trace, which is mode 1 (Johansson, Duke Math. J. 91, 151 (1998); Cabanal-
    Duvillard, Ann. Inst. H. Poincare 37, 373 (2001)). The variances have a simulated correction for
    finite size (`FINITE_SIZE`).

    Parameters
    ----------
    law : MarchenkoPastur
        Its sides are those of the bulk.
    x : array_like
        Levels of the bulk, shape (level,).
    excess_kurtosis : float
        Of the entries.
    shift : array_like
        What else is known of the mean of each mode, shape (MODES,).
    count : int, optional
        Highest mode; by default as many as the size allows.
    is_scale_known : bool
        Whether the scale of the law is not from the same levels.
    """
    from scipy.special import gammaincc

    if count is None:
        few = [modes for size, modes in MODES_OF_SMALL.items() if law.shorter < size]
        count = min([MODES, *few])
    k = np.arange(1, count + 1)
    size = FINITE_SIZE * min(max(1.0 - excess_kurtosis / BOUNDED, 0.0), 2.0)
    variance = 0.5 * k * (1.0 + size * k**3 / law.shorter)
    # The variance of the trace, of which the fourth moment of an entry is a part, is exact.
    variance[0] = 0.25 * max(2.0 + excess_kurtosis, 1e-3)
    first = 0 if is_scale_known else 1
    off = law.modes(x, count) - law.expected_modes(excess_kurtosis, count)
    off -= np.broadcast_to(shift, MODES)[:count]
    chi2 = float((off[first:] ** 2 / variance[first:]).sum())
    dof = count - first
    return GoodnessOfFit(chi2, dof, float(gammaincc(0.5 * dof, 0.5 * chi2)))
