"""Distances from theory are standard normal, also with few replicas."""

import numpy as np
import pytest
from scipy import stats

from dysonflow.statistics.pulls import pull


def test_a_pull_is_the_normal_quantile_of_student_s_t():
    for freedom in (29, 63, 500):
        for distance in (-20.0, -5.0, -1.0, 0.0, 0.3, 3.0, 8.0):
            exact = stats.norm.isf(stats.t.sf(abs(distance), freedom)) * np.sign(distance)
            found = pull(1.0 + 0.1 * distance, 1.0, 0.1, freedom)
            assert found == pytest.approx(exact, rel=0.003)
    # Further out no probability is left that a quantile could be taken of.
    assert pull(101.0, 1.0, 1.0, 7499) == pytest.approx(79.7, abs=0.1)


def test_a_scale_is_compared_by_its_logarithm():
    assert pull(np.e, 1.0, 0.1 * np.e, 1e9, 0.0) == pytest.approx(10.0, rel=1e-6)
    assert pull(1.0, np.e, 0.1, 1e9, 0.0) == pytest.approx(-10.0, rel=1e-6)
    assert pull(1.0, 1.0, 0.1, 29, -1.0) == 0.0
    # Beyond the origin there is no logarithm.
    assert pull(-1.5, 1.0, 0.5, 1e9, -1.0) == pytest.approx(-5.0, rel=1e-6)


def test_widths_of_thirty_single_levels_are_not_five_errors_off_too_often():
    # Where the plain quotient is beyond 5 in 1.6 of 1000 cases, against 5.7e-7 of a normal number.
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60_000, 30))
    square = ((x - x.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
    fourth = ((x - x.mean(axis=1, keepdims=True)) ** 4).mean(axis=1)
    sigma = np.sqrt(square * 30 / 29)
    error = sigma * np.sqrt((fourth / square**2 - 1) / 29) / 2
    plain = np.abs(sigma - 1) / error > 5
    better = np.abs([pull(s, 1.0, e, 29, 0.0) for s, e in zip(sigma, error, strict=True)]) > 5
    assert plain.sum() > 50
    assert better.sum() <= 5
