"""Correlation of snapshots in time: how long it lasts, and thinning until none is left."""

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means
from dysonflow.statistics.levels import checked_levels

NEGLIGIBLE_CORRELATION = 0.02
"""Correlation of neighbouring snapshots below which the tests take them as independent."""


def autocorrelation_time(levels: ArrayLike) -> tuple[float, float]:
    """Integrated autocorrelation time of the slowest motion of a block.

    Of the mean of its levels and, for more than one, of the logarithm of their spread: the
    longer of the two. The mean is taken over all replicas, so that replicas which never leave
    their own place count as correlated.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending.

    Returns
    -------
    time, error : float
        In units of snapshots: 1/2 for independent snapshots, about the exponential decay time if
        that is long. Sums up to five times itself (N. Madras and A. D. Sokal, J. Stat. Phys. 50,
        109 (1988)), or to the end of the series, whose length it then rather tells; the error is
        a jackknife over replicas. NaN for a single snapshot.

    Raises
    ------
    InsufficientData
        If a value is not finite, zero or tied, or nothing fluctuates.
    """
    x = checked_levels(levels, 2)
    times = [integrated_time(series) for series in _slow_motions(x)]
    return max(times, key=lambda pair: pair[0])


def independent_blocks(levels: ArrayLike, rng: np.random.Generator) -> FloatArray:
    """Thin correlated snapshots until they count as independent.

    Snapshots of a replica are taken at the stride after which an exponential decay with the
    measured integrated time falls below 2 %, from a random first one; if the series is shorter
    than that, one random snapshot of each replica is left.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending.
    rng : numpy.random.Generator
        Picks the first snapshot of each replica.

    Returns
    -------
    numpy.ndarray
        Shape (block, n).
    """
    x = np.asarray(levels, dtype=float)
    replicas, snapshots, n = x.shape
    stride = independent_stride(_slow_motions(x))
    if stride == 1:
        return x.reshape(-1, n)
    kept = max(1, snapshots // stride)
    first = rng.integers(0, snapshots - stride * (kept - 1), replicas)
    return x[np.arange(replicas)[:, None], first[:, None] + stride * np.arange(kept)].reshape(-1, n)


def _slow_motions(x: FloatArray) -> list[FloatArray]:
    """Observables whose memory is measured; shape (replica, snapshot) each."""
    mean = x.mean(axis=-1)
    if x.shape[-1] == 1:
        return [mean]
    spread = np.sum((x - mean[..., None]) ** 2, axis=-1)
    return [mean, np.log(spread)]


def integrated_time(series: FloatArray) -> tuple[float, float]:
    """Integrated autocorrelation time of one observable, as `autocorrelation_time` takes it.

    Parameters
    ----------
    series : numpy.ndarray
        Shape (replica, snapshot).

    Returns
    -------
    time, error : float
        In units of snapshots, 1/2 for independent ones; the error is a jackknife over replicas.
    """
    replicas, snapshots = series.shape
    if snapshots == 1:
        return float("nan"), float("nan")
    centred = series - series.mean()
    covariance = np.empty((replicas, snapshots))
    pairs = np.arange(snapshots, 0, -1)
    for first in range(0, replicas, 512):
        rows = slice(first, first + 512)
        # Padded to twice the length the cyclic correlation is the open one.
        power = np.abs(np.fft.rfft(centred[rows], 2 * snapshots, axis=1)) ** 2
        covariance[rows] = np.fft.irfft(power, 2 * snapshots, axis=1)[:, :snapshots] / pairs
    means = leave_one_out_means(covariance)
    if np.any(means[:, 0] <= 0.0):
        return 0.5, float("nan")
    time = 0.5 + np.cumsum(means[:, 1:] / means[:, :1], axis=1)
    closed = np.arange(1, snapshots) >= 5 * time[0]
    window = int(np.argmax(closed)) if closed.any() else snapshots - 2
    return float(time[0, window]), float(jackknife_error(time[1:, window]))


def independent_stride(motions: list[FloatArray]) -> int:
    """Snapshots between two that count as independent.

    Parameters
    ----------
    motions : list of numpy.ndarray
        Observables of the same replicas, shape (replica, snapshot) each.

    Returns
    -------
    int
        Smallest stride after which an exponential decay with the integrated time of the slowest
        observable falls below `NEGLIGIBLE_CORRELATION`, at most the number of snapshots.
    """
    if motions[0].shape[1] == 1:
        return 1
    stride = 1
    for series in motions:
        time, error = integrated_time(series)
        # A time within two errors of 1/2 is no sign of memory.
        if not time - 2 * error > 0.5:
            continue
        neighbour = (2 * time - 1) / (2 * time + 1)
        stride = max(stride, int(np.ceil(np.log(NEGLIGIBLE_CORRELATION) / np.log(neighbour))))
    return min(stride, motions[0].shape[1])
