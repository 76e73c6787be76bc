"""Arrays of levels of a block, and which of them can bear estimates and tests.

Levels come as arrays of shape (replica, snapshot, n), ascending in the last axis. Snapshots of a
replica may be correlated, replicas are independent: errors and tests rest on replicas alone.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dysonflow.statistics.arrays import FloatArray

MINIMUM_REPLICAS = 30
"""Fewest replicas of which errors and tests are made by default."""
LARGEST_LEVEL = 1e100
"""Levels beyond are as good as infinite."""
SMALLEST_LEVEL = 1e-100
"""Levels all below are as good as zero."""


class InsufficientData(ValueError):
    """The levels cannot bear the estimate or the test; the message says why."""


def checked_levels(levels: ArrayLike, minimum_replicas: int) -> FloatArray:
    """Levels as floats, after all checks that estimates and tests rest on.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending in the last axis.
    minimum_replicas : int
        Fewest replicas that are accepted; two are needed in any case.

    Returns
    -------
    numpy.ndarray
        The same values.

    Raises
    ------
    InsufficientData
        If there are too few replicas, a value is not finite or exactly zero (a rank-deficient
        matrix), all are too small for their squares, two levels of a block are tied, or nothing
        fluctuates.
    ValueError
        If the shape is another or levels are not ascending.
    """
    x = np.asarray(levels, dtype=float)
    if x.ndim != 3 or 0 in x.shape[1:]:
        raise ValueError(f"levels have shape (replica, snapshot, n), not {x.shape}")
    replicas = x.shape[0]
    if replicas < max(minimum_replicas, 2):
        raise InsufficientData(
            f"{replicas} replicas are too few: at least {max(minimum_replicas, 2)} are needed"
        )
    # Squares of levels must not overflow either.
    _refuse(~(np.abs(x) < LARGEST_LEVEL), "is not finite")
    _refuse(x == 0.0, "is exactly zero, as of a rank-deficient matrix")
    if np.abs(x).max() < SMALLEST_LEVEL:
        # Their squares would be lost.
        raise InsufficientData(
            f"all levels are below {SMALLEST_LEVEL:g}, where squares are lost: give them in a "
            "smaller unit"
        )
    if np.ptp(x) <= 1e-13 * np.abs(x).max():
        raise InsufficientData(f"all levels are equal ({x.flat[0]:.6g}): nothing fluctuates")
    gap = np.diff(x, axis=-1)
    if np.any(gap < 0):
        raise ValueError("levels must be ascending within a block")
    _refuse(gap == 0.0, "is tied with its neighbour, which has probability zero in the gas")
    spread = np.ptp(x.reshape(-1, x.shape[-1]), axis=0)
    if np.any(spread <= 1e-13 * np.abs(x).max()):
        raise InsufficientData("a level is the same in all blocks: it does not fluctuate")
    return x


def _refuse(bad: NDArray[np.bool_], what: str) -> None:
    count = np.count_nonzero(bad)
    if count:
        replica, snapshot, level = np.argwhere(bad)[0]
        raise InsufficientData(
            f"level {level} of replica {replica}, snapshot {snapshot} {what} "
            f"({count} of {bad.size} such values)"
        )
