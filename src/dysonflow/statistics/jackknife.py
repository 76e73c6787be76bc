"""Jackknife over replicas: estimates without each of them, and the error that these tell.

Snapshots of a replica are left out together, so that errors stay right when they are correlated.
B. Efron and C. Stein, Ann. Statist. 9, 586 (1981).
"""

import numpy as np

from dysonflow.statistics.arrays import FloatArray


def leave_one_out_means(statistics: FloatArray) -> FloatArray:
    """Mean over replicas, then the mean without each.

    Parameters
    ----------
    statistics : numpy.ndarray
        One value or array for each replica, shape (replica, ...); at least two replicas.

    Returns
    -------
    numpy.ndarray
        Shape (1 + replica, ...).
    """
    replicas = statistics.shape[0]
    mean = statistics.mean(axis=0, keepdims=True)
    return np.concatenate([mean, (replicas * mean - statistics) / (replicas - 1)])


def jackknife_error(left_out: FloatArray) -> FloatArray:
    """Standard error of an estimate from the estimates without each replica.

    Parameters
    ----------
    left_out : numpy.ndarray
        Shape (replica, ...).

    Returns
    -------
    numpy.ndarray
        Shape (...).
    """
    replicas = left_out.shape[0]
    deviation = left_out - left_out.mean(axis=0)
    return np.sqrt((replicas - 1) / replicas * np.sum(deviation**2, axis=0))
