"""Statistics of ordered levels: values, errors over replicas, calibration of the joint test."""

import numpy as np
import pytest
from gases import FALSE_ALARM
from scipy import stats

from dysonflow.statistics.ordered_levels import STATISTICS, distance, level_statistics


def spectra(rng, replicas, snapshots, shift=0.0):
    """Ordered levels whose snapshots are correlated within a replica."""
    own = rng.standard_normal((replicas, 1, 3))
    each = rng.standard_normal((replicas, snapshots, 3))
    return np.sort(np.array([0.0, 1.5, 2.0]) + 0.5 * (own + each) + shift, axis=-1)


def test_values_are_means_widths_and_correlations():
    levels = spectra(np.random.default_rng(1), 3000, 2)
    found = level_statistics(levels)
    flat = levels.reshape(-1, 3)
    correlation = np.corrcoef(flat.T)
    plain = [*flat.mean(axis=0), *flat.std(axis=0), correlation[0, 1], correlation[1, 2]]
    # The jackknife takes away the bias, which is of the order of a replica in 3000.
    np.testing.assert_allclose(found.value, plain, atol=1e-3)
    assert found.statistic == ("mean",) * 3 + ("width",) * 3 + ("correlation",) * 2
    assert found.level.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert set(found.statistic) == set(STATISTICS)


def test_errors_are_the_spread_of_data_sets_with_correlated_snapshots():
    rng = np.random.default_rng(2)
    sets = [level_statistics(spectra(rng, 100, 4)) for _ in range(400)]
    spread = np.std([one.value for one in sets], axis=0)
    error = np.sqrt(np.mean([one.error**2 for one in sets], axis=0))
    # The spread of 400 data sets is known to 3.5 %, and not all statistics are normal.
    np.testing.assert_allclose(error / spread, 1.0, atol=5 * 0.04)


def test_p_values_of_the_whole_are_uniform_and_see_a_shift():
    rng = np.random.default_rng(3)
    law = level_statistics(spectra(rng, 20_000, 2))
    same = [distance(level_statistics(spectra(rng, 120, 2)), law) for _ in range(400)]
    assert stats.kstest([one.p_value for one in same], "uniform").pvalue > FALSE_ALARM
    pulls = np.array([one.pull for one in same])
    assert abs((pulls**2).mean() - 1.0) < 5 * np.sqrt(2 / 400)
    moved = distance(level_statistics(spectra(rng, 120, 2, shift=0.5)), law)
    assert moved.p_value < FALSE_ALARM and moved.dof == 8
    assert np.abs(moved.pull[:3]).min() > 5 and np.abs(moved.pull[3:]).max() < 5


def test_too_few_replicas_have_pulls_and_no_p_value():
    rng = np.random.default_rng(4)
    law = level_statistics(spectra(rng, 1000, 2))
    found = distance(level_statistics(spectra(rng, 8, 2)), law)
    assert np.isfinite(found.pull).all()
    assert np.isnan([found.chi2, found.p_value]).all()


def test_neither_origin_nor_unit_changes_a_correlation():
    levels = spectra(np.random.default_rng(5), 200, 3)
    one, other = level_statistics(levels), level_statistics(1e3 + 1e-3 * levels)
    assert other.value[-2:] == pytest.approx(one.value[-2:], rel=1e-6)
    assert other.value[3:6] == pytest.approx(1e-3 * one.value[3:6], rel=1e-6)
