"""What the ordered levels of a spectrum do: means, widths, correlations of neighbours."""

from dataclasses import dataclass

import numpy as np

from dysonflow.lazy import LazyModule
from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.jackknife import leave_one_out_means

special = LazyModule("scipy.special")

STATISTICS = ("mean", "width", "correlation")


@dataclass(frozen=True)
class LevelStatistics:
    """Statistics of all levels of a spectrum, with their covariance.

    Attributes
    ----------
    statistic : tuple of str
        For each number, one of `STATISTICS`: mean of a level, its standard deviation, its
        correlation with the next one.
    level : np.ndarray
        For each number the level, counted from 0, shape (3 N - 1,).
    value : np.ndarray
        The numbers, without their bias of order 1/replicas, shape (3 N - 1,).
    covariance : np.ndarray
        From leaving out one replica at a time, shape (3 N - 1, 3 N - 1).
    replicas : int
        Independent replicas.
    """

    statistic: tuple[str, ...]
    level: np.ndarray
    value: FloatArray
    covariance: FloatArray
    replicas: int

    @property
    def error(self) -> FloatArray:
        """Standard errors."""
        return np.sqrt(np.diagonal(self.covariance))


def level_statistics(levels: FloatArray) -> LevelStatistics:
    """Means, standard deviations and correlations of neighbours of ordered levels.

    Parameters
    ----------
    levels : numpy.ndarray
        Shape (replica, snapshot, N), ascending, at least two replicas; replicas are independent,
        snapshots of one need not be.

    Returns
    -------
    LevelStatistics
        All means first, then all widths, then all correlations.
    """
    replicas, _, n = levels.shape
    origin = levels.mean(axis=(0, 1))
    x = levels - origin
    products = x[..., :-1] * x[..., 1:]
    moments = np.concatenate([x, x**2, products], axis=-1).mean(axis=1)
    means = leave_one_out_means(moments)
    first, second, product = means[:, :n], means[:, n : 2 * n], means[:, 2 * n :]
    width = np.sqrt(second - first**2)
    correlation = (product - first[:, :-1] * first[:, 1:]) / (width[:, :-1] * width[:, 1:])
    found = np.concatenate([origin + first, width, correlation], axis=1)
    estimate, left_out = found[0], found[1:]
    centred = left_out - left_out.mean(axis=0)
    return LevelStatistics(
        statistic=tuple(np.repeat(STATISTICS, [n, n, n - 1]).tolist()),
        level=np.concatenate([np.arange(n), np.arange(n), np.arange(n - 1)]),
        value=replicas * estimate - (replicas - 1) * left_out.mean(axis=0),
        covariance=(replicas - 1) / replicas * centred.T @ centred,
        replicas=replicas,
    )


@dataclass(frozen=True)
class Distance:
    """How far measured statistics are from those of a law.

    Attributes
    ----------
    pull : np.ndarray
        Difference over its error, for each number.
    chi2 : float
        Of all differences together, with their covariance; NaN where there are too few replicas.
    dof : int
        Numbers that are compared.
    p_value : float
        Of Hotelling's T^2: the covariance is estimated, from finitely many replicas.
    """

    pull: FloatArray
    chi2: float
    dof: int
    p_value: float


def distance(measured: LevelStatistics, law: LevelStatistics) -> Distance:
    """Distance of measured statistics from those of a law that was sampled.

    Parameters
    ----------
    measured : LevelStatistics
        Of the data.
    law : LevelStatistics
        Of many more draws from the law, whose errors count too.

    Returns
    -------
    Distance
        The p-value takes the errors of the law as small against those of the data.
    """
    difference = measured.value - law.value
    covariance = measured.covariance + law.covariance
    pull = difference / np.sqrt(np.diagonal(covariance))
    numbers, freedom = len(difference), measured.replicas - len(difference)
    if freedom < 1:
        return Distance(pull, np.nan, numbers, np.nan)
    chi2 = float(difference @ np.linalg.solve(covariance, difference))
    ratio = chi2 * freedom / (numbers * (measured.replicas - 1))
    return Distance(pull, chi2, numbers, float(special.fdtrc(numbers, freedom, ratio)))
