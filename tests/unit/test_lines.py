"""Means, and p-values of sums of squares."""

import math

import numpy as np
import pytest
import scipy.stats

from dysonflow.statistics import estimators
from dysonflow.statistics.coulomb_gas import sample
from dysonflow.statistics.lines import chi2_p_value, least_squares, weighted_mean


def test_p_values_are_those_of_the_chi2_distribution():
    rng = np.random.default_rng(1)
    for dof in (1, 2, 17, 400):
        for chi2 in (0.0, math.inf, *rng.chisquare(dof, 50), *(3.0 * rng.chisquare(dof, 50))):
            assert chi2_p_value(chi2, dof) == scipy.stats.chi2.sf(chi2, dof)
    assert math.isnan(chi2_p_value(1.0, 0)) and math.isnan(chi2_p_value(math.nan, 3))


def test_a_mean_weighs_as_told_and_leaves_out_what_is_not_known():
    values, errors, weights = [1.0, 2.0, 5.0], [0.1, 0.2, 0.1], [4.0, 1.0, 1.0]
    mean, error = weighted_mean(values, errors, weights)
    assert mean == pytest.approx((4 * 1.0 + 2.0 + 5.0) / 6)
    assert error == pytest.approx(math.sqrt(16 * 0.01 + 0.04 + 0.01) / 6)
    unknown = weighted_mean([math.nan, *values, 3.0], [0.3, *errors, math.nan], [2, *weights, 2])
    assert unknown == (mean, error)


def test_weights_from_the_errors_are_those_of_least_squares():
    values, errors = np.array([1.0, 2.0, 5.0]), np.array([0.1, 0.2, 0.1])
    assert weighted_mean(values, errors, errors**-2)[1] == pytest.approx(225**-0.5)


def test_a_mean_is_the_least_squares_fit_of_a_constant():
    rng = np.random.default_rng(2)
    value, error, weight = rng.normal(size=40), *rng.uniform(0.1, 2.0, (2, 40))
    parameters, covariance, chi2, dof = least_squares(np.ones((40, 1)), value, error, weight)
    mean = weighted_mean(value, error, weight)
    assert mean == pytest.approx((parameters[0], math.sqrt(covariance[0, 0])))
    assert dof == 39 and chi2 == pytest.approx((((value - mean[0]) / error) ** 2).sum())


def test_a_mean_of_many_dyson_indices_has_no_bias():
    # The error of a Dyson index is small where its estimate is low.
    rng = np.random.default_rng(3)
    fits = [
        estimators.fit_block(sample(2, 1.0, 128, rng).reshape(128, 1, 2), dyson_index=None)
        for _ in range(300)
    ]
    values = np.array([fit.dyson_index for fit in fits])
    errors = np.array([fit.dyson_index_error for fit in fits])
    mean, error = weighted_mean(values, errors, np.ones(300))
    assert abs(mean - 1.0) < 5 * error
    biased, _ = weighted_mean(values, errors, errors**-2)
    assert biased < mean - 3 * error
