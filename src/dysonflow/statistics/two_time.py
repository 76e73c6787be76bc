r"""Correlation of levels at two times, and what matrices that relax make of it.

If the entries of a block of two degenerate levels relax as independent Ornstein-Uhlenbeck
processes with the memory rho = exp(-gamma t) and GOE variances, the mean of the levels has the
autocorrelation rho. Their gap is the length of a two-dimensional vector that relaxes, whose
autocorrelation is smaller: with the moments of two correlated Rayleigh variables (S. O. Rice, Bell
Syst. Tech. J. 23, 282 (1944))

    corr[S(0), S(t)] = (F(-1/2, -1/2; 1; rho^2) - 1) / (4/pi - 1),

F being Gauss's hypergeometric function: the effect of the levels' repulsion on their motion.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dysonflow.lazy import LazyModule
from dysonflow.statistics.jackknife import leave_one_out_means

FloatArray = NDArray[np.float64]

special = LazyModule("scipy.special")


def gap_autocorrelation(memory: FloatArray) -> FloatArray:
    """Autocorrelation of the gap of a pair whose matrix has the given memory.

    Parameters
    ----------
    memory : np.ndarray
        exp(-gamma t), between 0 and 1.
    """
    found = special.hyp2f1(-0.5, -0.5, 1.0, np.asarray(memory) ** 2)
    return (found - 1.0) / (4.0 / np.pi - 1.0)


@dataclass(frozen=True)
class Autocorrelation:
    """A measured autocorrelation.

    Attributes
    ----------
    lags : np.ndarray
        In snapshots, shape (lag,).
    value : np.ndarray
        Same shape.
    covariance : np.ndarray
        Of the values, from deleting one replica at a time; shape (lag, lag).
    replicas : int
        How many.
    """

    lags: NDArray[np.int64]
    value: FloatArray
    covariance: FloatArray
    replicas: int

    @property
    def error(self) -> FloatArray:
        """Standard errors, shape (lag,)."""
        found: FloatArray = np.sqrt(np.diagonal(self.covariance))
        return found

    def p_value(self, expected: FloatArray) -> float:
        """Probability of a distance from `expected` as large as this, all lags together.

        Hotelling's T^2: the covariance is estimated from as many replicas.
        """
        away = self.value - expected
        square = float(away @ np.linalg.solve(self.covariance, away))
        count, freedom = len(away), self.replicas - len(away)
        ratio = square * freedom / (count * (self.replicas - 1))
        return float(special.fdtrc(count, freedom, ratio))


def autocorrelation(series: FloatArray, lags: NDArray[np.int64]) -> Autocorrelation:
    """Autocorrelation of a stationary quantity at some lags.

    Parameters
    ----------
    series : np.ndarray
        Shape (replica, snapshot), snapshots evenly spaced.
    lags : np.ndarray
        In snapshots, ascending, all above 0 and below their number.

    Notes
    -----
    The mean is that of all replicas and snapshots. The bias of that is of order 1/replicas.
    """
    lags = np.asarray(lags, dtype=np.int64)
    centred = series - series.mean()
    snapshots = series.shape[1]
    products = np.stack(
        [
            (centred[:, : snapshots - lag] * centred[:, lag:]).mean(axis=1)
            for lag in [0, *lags.tolist()]
        ],
        axis=1,
    )
    without = leave_one_out_means(products)
    ratio = without[:, 1:] / without[:, :1]
    left = ratio[1:] - ratio[1:].mean(axis=0)
    count = len(series)
    return Autocorrelation(lags, ratio[0], (count - 1) / count * left.T @ left, count)
