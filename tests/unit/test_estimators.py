"""Estimators: recovery of the gas, efficiency and coverage, outliers."""

import subprocess
import sys

import numpy as np
import pytest
from gases import FALSE_ALARM, blocks, remembering, spoil
from scipy import stats

from dysonflow.statistics.coulomb_gas import cramer_rao_errors
from dysonflow.statistics.estimators import (
    OUTLIER_FALSE_ALARM,
    BlockFit,
    fisher_p_value,
    fit_block,
    student_p_value,
)
from dysonflow.statistics.levels import InsufficientData


@pytest.mark.parametrize("n", [1, 2, 4, 8])
@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 4.0])
def test_fit_recovers_the_gas(n, beta):
    data = blocks(n, beta, 20_000, 20).reshape(2000, 10, n)
    fit = fit_block(data, dyson_index=None)
    assert (fit.levels, fit.replicas, fit.samples) == (n, 2000, 20_000)
    assert abs(fit.centre - 3.0) < 5 * fit.centre_error
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error
    assert fit.sigma_error == pytest.approx(fit.cramer_rao["sigma"], rel=0.1)
    assert fit.centre_error == pytest.approx(fit.cramer_rao["centre"], rel=0.1)
    assert fit.flag == ""
    if n == 1:
        assert np.isnan([fit.dyson_index, fit.dyson_index_error, fit.mean_gap]).all()
    else:
        assert abs(fit.dyson_index - beta) < 5 * fit.dyson_index_error
        assert fit.dyson_index_error == pytest.approx(fit.cramer_rao["dyson_index"], rel=0.1)
        assert fit.mean_gap == pytest.approx(np.mean(np.diff(data, axis=-1)))
    if n == 2:
        # With beta free the mean gap of two levels is nearly a sufficient statistic itself.
        assert fit.mean_gap_error == pytest.approx(fit.cramer_rao["mean_gap"], rel=0.15)


@pytest.mark.parametrize(("n", "beta"), [(1, 1.0), (2, 1.0), (4, 2.0)])
@pytest.mark.parametrize("fitted", [False, True])
def test_efficiency_and_coverage(n, beta, fitted):
    datasets, size = 400, 60
    data = blocks(n, beta, datasets * size, 21).reshape(datasets, size, 1, n)
    fits = [fit_block(x, dyson_index=None if fitted else beta) for x in data]
    bound = cramer_rao_errors(n, beta, 0.2, size, index_known=not fitted)
    for name, truth in (("centre", 3.0), ("sigma", 0.2), ("dyson_index", beta)):
        estimate = np.array([getattr(fit, name) for fit in fits])
        error = np.array([getattr(fit, f"{name}_error") for fit in fits])
        if np.isnan(error).all():
            continue
        # At 60 blocks the estimates of beta still lie some percent above their bound.
        assert estimate.std() / bound[name] < 1.05 + 5 / np.sqrt(2 * datasets)
        assert abs(estimate.mean() - truth) < (0.1 + 5 / np.sqrt(datasets)) * bound[name]
        covered = np.mean(np.abs(estimate - truth) < error)
        assert abs(covered - 0.683) < 0.03 + 5 * np.sqrt(0.683 * 0.317 / datasets)


def test_jackknife_is_that_of_refitting():
    data = blocks(3, 1.0, 40, 24)
    fit = fit_block(data, dyson_index=None)
    values = []
    for left in range(40):
        rest = np.delete(data, left, axis=0)
        once = fit_block(rest, dyson_index=None)
        values.append(once.sigma)
    spread = np.sqrt(39 / 40 * np.sum((values - np.mean(values)) ** 2))
    # Those fits are corrected for bias themselves, which changes the second digit at most.
    assert fit.sigma_error == pytest.approx(spread, rel=0.05)


def test_unbiased_width_of_a_single_level():
    data = blocks(1, 1.0, 50, 25)
    fit = fit_block(data)
    # The sample deviation itself is unbiased only once divided by c4, about 1 - 1/(4 n).
    assert fit.sigma == pytest.approx(np.std(data, ddof=1) * (1 + 1 / 200), rel=3e-3)


def test_given_centre_is_kept():
    fit = fit_block(blocks(2, 1.0, 500, 26), centre=3.0)
    assert fit.centre == 3.0 and np.isnan(fit.centre_error)
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error


def test_fit_follows_shift_and_scale():
    data = blocks(3, 1.0, 100, 27)
    one = fit_block(data, dyson_index=None)
    two = fit_block(1000 * data - 500, dyson_index=None)
    assert two.sigma == pytest.approx(1000 * one.sigma, rel=1e-9)
    assert two.centre == pytest.approx(1000 * one.centre - 500, rel=1e-9)
    assert two.dyson_index == pytest.approx(one.dyson_index, rel=1e-8)


def test_uncorrelated_levels_have_dyson_index_zero():
    levels = np.sort(np.random.default_rng(28).normal(3.0, 0.2, (5000, 1, 2)), axis=-1)
    fit = fit_block(levels, dyson_index=None)
    assert abs(fit.dyson_index) < 5 * fit.dyson_index_error < 0.2


def test_correlated_snapshots_widen_the_errors():
    datasets = 150
    fits = [fit_block(remembering(60, 20, 0.9, 1000 + k)[0]) for k in range(datasets)]
    centre = np.array([fit.centre for fit in fits])
    error = np.array([fit.centre_error for fit in fits])
    assert np.sqrt(np.mean(error**2)) == pytest.approx(centre.std(), rel=0.3)
    # Twenty snapshots of memory 0.9 hold about two independent ones.
    assert np.mean(error) > 2 * fits[0].cramer_rao["centre"]


def test_fit_is_frozen():
    fit = fit_block(blocks(1, 1.0, 40, 29))
    assert isinstance(fit, BlockFit)
    with pytest.raises(AttributeError):
        fit.sigma = 1.0


def test_rigid_levels_are_refused():
    rng = np.random.default_rng(62)
    rigid = 3 + np.array([-1.0, 1.0]) + 1e-6 * rng.standard_normal((50, 1, 2))
    with pytest.raises(InsufficientData, match="hardly fluctuate"):
        fit_block(rigid, dyson_index=None)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_one_replica_far_off_is_flagged(n):
    data = blocks(n, 1.0, 100, 63)
    assert fit_block(data).flag == ""
    data[42] += 3.0
    assert fit_block(data).flag.startswith("replica 42 is far off")


def test_one_wide_replica_is_flagged():
    data = blocks(4, 1.0, 100, 64)
    data[13] = 3.0 + 5 * (data[13] - 3.0)
    assert fit_block(data).flag.startswith("replica 13 is far off")


def test_replica_so_wide_that_rounding_loses_the_others_is_flagged():
    assert fit_block(spoil(blocks(2, 1.0, 50, 66), -1e9)).flag.startswith("replica 7 is far off")


def test_outliers_are_seldom_seen_where_none_are():
    datasets = 1500
    data = blocks(2, 1.0, datasets * 40, 65).reshape(datasets, 40, 1, 2)
    alarms = sum(fit_block(x).flag != "" for x in data)
    assert alarms <= stats.poisson.ppf(1 - FALSE_ALARM, OUTLIER_FALSE_ALARM * datasets)


@pytest.mark.parametrize("freedom", [1, 2, 28, 998, 32766])
def test_outlier_tests_are_those_of_scipy_bit_for_bit(freedom):
    rng = np.random.default_rng(67)
    edges = [0.0, 1e-300, 1.0, 1e8, 1e300, np.inf, np.nan]
    value = np.concatenate([edges, rng.lognormal(0.0, 2.0, 5000), np.linspace(0.0, 60.0, 5001)])
    student = 2 * stats.t.sf(value, freedom)
    assert np.array_equal(student_p_value(value, freedom), student, equal_nan=True)
    for ratio in (1.0, 2.0, 5.5, 2079.0, 4e6):
        low = stats.f.cdf(value, ratio, ratio * freedom)
        high = stats.f.sf(value, ratio, ratio * freedom)
        found = fisher_p_value(value, ratio, ratio * freedom)
        assert np.array_equal(found, 2 * np.minimum(low, high), equal_nan=True)


FIT = """
import sys
import numpy as np
import dysonflow.statistics.estimators, dysonflow.statistics.goodness
from dysonflow.statistics.correlation import autocorrelation_time
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.goodness import angle_p_value, benjamini_hochberg
from dysonflow.statistics.goodness import density_p_value, surmise_p_value

rng = np.random.default_rng(68)
matrix = rng.standard_normal((1000, 1, 2, 2))
levels, vectors = np.linalg.eigh(matrix + np.swapaxes(matrix, -1, -2))
for dyson_index in (1.0, None):
    fit_block(levels, dyson_index=dyson_index)
autocorrelation_time(levels)
p = [density_p_value(levels, rng), surmise_p_value(levels, rng)]
p.append(angle_p_value(np.arctan2(vectors[..., 1, 0], vectors[..., 0, 0])))
benjamini_hochberg(p)
print("scipy.stats" in sys.modules)
"""


def test_fit_does_not_import_scipy_stats():
    found = subprocess.run([sys.executable, "-c", FIT], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
