"""When a level first passes a threshold."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def first_passage(series: FloatArray, steps: NDArray[np.int64], threshold: float) -> FloatArray:
    """Time at which each series first reaches the other side of a threshold.

    Parameters
    ----------
    series : np.ndarray
        Shape (replica, snapshot).
    steps : np.ndarray
        Time of each snapshot, ascending, shape (snapshot,).
    threshold : float
        In the unit of the series.

    Returns
    -------
    np.ndarray
        Shape (replica,), by a straight line between snapshots; NaN where it is never reached. The
        first time where the series begins at the threshold.
    """
    above = series - threshold
    passed = np.sign(above) != np.sign(above[:, :1])
    after = np.argmax(passed, axis=1)
    found = np.full(len(series), np.nan)
    there = passed.any(axis=1)
    rows = np.flatnonzero(there)
    last = after[rows] - 1
    start, stop = above[rows, last], above[rows, last + 1]
    share = start / (start - stop)
    found[rows] = steps[last] + share * (steps[last + 1] - steps[last])
    return np.where(above[:, 0] == 0.0, steps[0], found)
