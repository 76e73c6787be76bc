"""Correlation in time: its length where it is known, and thinning."""

import numpy as np
import pytest
from gases import blocks, remembering

from dysonflow.statistics.correlation import autocorrelation_time, independent_blocks


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_autocorrelation_time(memory):
    levels, _ = remembering(300, 200, memory, 50)
    time, error = autocorrelation_time(levels)
    expected = 0.5 * (1 + memory) / (1 - memory)
    assert 0 < error < 0.1 * expected
    # Ending the sum at five times itself leaves out one percent.
    assert abs(time - expected) < 5 * error + 0.02 * expected


def test_frozen_replicas_count_as_correlated():
    rng = np.random.default_rng(51)
    levels = rng.normal(5, 1, (50, 1, 1)) + 0.1 * rng.normal(size=(50, 20, 1))
    time, _ = autocorrelation_time(levels)
    assert time > 5
    assert independent_blocks(levels, rng).shape == (50, 1)


def test_single_snapshot_has_no_autocorrelation():
    data = blocks(2, 1.0, 50, 52)
    assert np.isnan(autocorrelation_time(data)).all()
    assert np.array_equal(independent_blocks(data, np.random.default_rng(1)), data[:, 0])


def test_thinning_keeps_replicas_apart():
    levels, _ = remembering(200, 40, 0.5, 53)
    thin = independent_blocks(levels, np.random.default_rng(1))
    index = {tuple(row): (r, t) for r in range(200) for t, row in enumerate(levels[r])}
    replica, snapshot = np.array([index[tuple(row)] for row in thin]).T
    kept = np.bincount(replica)
    assert np.all(kept == kept[0])
    strides = np.diff(snapshot.reshape(200, -1), axis=1)
    assert np.all(strides == strides[0, 0])
    # 0.5^6 is the first power below 2 %; the measured time scatters by some percent.
    assert strides[0, 0] in (5, 6, 7)
    assert kept[0] == 40 // strides[0, 0]
    assert len(set(snapshot[:: kept[0]])) > 1
