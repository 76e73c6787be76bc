"""Correlation at two times: exact matrices, a null that must fail, the closed form.

Fixed seeds, false-alarm rate of 5 sigma.
"""

import numpy as np
import pytest

from dysonflow.statistics.first_passage import first_passage
from dysonflow.statistics.two_time import autocorrelation, gap_autocorrelation

P_LEAST = 6e-7
KEEP = 0.9


@pytest.fixture(scope="module")
def pairs():
    """Levels of 2 x 2 GOE matrices that relax, shape (replica, snapshot, 2)."""
    rng = np.random.default_rng(11)
    noise = rng.standard_normal((40, 400, 3))
    entries = [noise[0]]
    for kick in noise[1:]:
        entries.append(KEEP * entries[-1] + np.sqrt(1 - KEEP**2) * kick)
    a, b, c = np.moveaxis(np.stack(entries, axis=1), 2, 0)
    radius = np.hypot(a - b, np.sqrt(2.0) * c)
    return np.stack([a + b - radius, a + b + radius], axis=2) / 2.0


LAGS = np.array([1, 2, 4, 8, 16])


def test_pairs_of_relaxing_matrices_have_the_laws_of_theory(pairs):
    memory = KEEP**LAGS
    mean = autocorrelation(pairs.mean(axis=2), LAGS)
    gap = autocorrelation(pairs[..., 1] - pairs[..., 0], LAGS)
    assert mean.p_value(memory) > P_LEAST
    assert gap.p_value(gap_autocorrelation(memory)) > P_LEAST
    # And the law of the one is not that of the other.
    assert gap.p_value(memory) < P_LEAST
    assert mean.p_value(gap_autocorrelation(memory)) < P_LEAST


def test_first_passage_is_read_between_snapshots():
    steps = np.array([0, 10, 20, 30])
    series = np.array([[0.0, 1, 3, 1], [4, 3, 1, 0], [0, 0, 0, 1], [2, 2, 0, 0]], dtype=float)
    found = first_passage(series, steps, 2.0)
    # Up, down, never, and from the threshold on.
    assert found[:2] == pytest.approx([15.0, 15.0])
    assert np.isnan(found[2]) and found[3] == 0.0


def test_the_memory_of_the_gap_goes_from_one_to_none():
    assert gap_autocorrelation(np.array([0.0, 1.0])) == pytest.approx([0.0, 1.0])
    # First term of the series: rho^2 / 4 over 4 / pi - 1.
    assert gap_autocorrelation(0.01) == pytest.approx(2.5e-5 / (4 / np.pi - 1), rel=1e-4)
