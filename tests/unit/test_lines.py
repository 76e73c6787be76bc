"""Means, and p-values of sums of squares."""

import math

import numpy as np
import pytest
import scipy.stats

from dysonflow.statistics.lines import chi2_p_value, least_squares, weighted_mean


def test_p_values_are_those_of_the_chi2_distribution():
    rng = np.random.default_rng(1)
    for dof in (1, 2, 17, 400):
        for chi2 in (0.0, math.inf, *rng.chisquare(dof, 50), *(3.0 * rng.chisquare(dof, 50))):
            assert chi2_p_value(chi2, dof) == scipy.stats.chi2.sf(chi2, dof)
    assert math.isnan(chi2_p_value(1.0, 0)) and math.isnan(chi2_p_value(math.nan, 3))


def test_a_mean_weighs_by_the_errors_and_leaves_out_what_is_not_known():
    values, errors = [1.0, 2.0, 5.0], [0.1, 0.2, 0.1]
    mean, error = weighted_mean(values, errors)
    assert mean == pytest.approx((100 * 1.0 + 25 * 2.0 + 100 * 5.0) / 225)
    assert error == pytest.approx(225**-0.5)
    unknown = weighted_mean([math.nan, *values, 3.0], [0.3, *errors, math.nan])
    assert unknown == (mean, error)


def test_a_mean_is_the_least_squares_fit_of_a_constant():
    rng = np.random.default_rng(2)
    value, error = rng.normal(size=40), rng.uniform(0.1, 2.0, 40)
    parameters, covariance, chi2, dof = least_squares(np.ones((40, 1)), value, error)
    mean = weighted_mean(value, error)
    assert mean == pytest.approx((parameters[0], math.sqrt(covariance[0, 0])))
    assert dof == 39 and chi2 == pytest.approx((((value - mean[0]) / error) ** 2).sum())
