"""The fit to a histogram, with which benchmarks compare the estimators."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gases import blocks, spoil

from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.levels import InsufficientData

FILE = Path(__file__).parents[2] / "benchmarks" / "histogram_fit.py"


@pytest.fixture(scope="module")
def fit_histogram():
    spec = importlib.util.spec_from_file_location("histogram_fit", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.fit_histogram


def test_histogram_fit_agrees_and_scatters_more(fit_histogram):
    datasets, size = 100, 200
    data = blocks(2, 1.0, datasets * size, 22).reshape(datasets, size, 1, 2)
    histogram = [fit_histogram(x) for x in data]
    likelihood = [fit_block(x) for x in data]
    for name, truth in (("centre", 3.0), ("sigma", 0.2)):
        estimate = np.array([getattr(fit, name) for fit in histogram])
        best = np.array([getattr(fit, name) for fit in likelihood])
        error = np.array([getattr(fit, f"{name}_error") for fit in histogram])
        assert abs(estimate.mean() - truth) < 5 * estimate.std() / np.sqrt(datasets)
        assert estimate.std() > best.std()
        assert np.sqrt(np.mean(error**2)) == pytest.approx(estimate.std(), rel=0.4)


def test_histogram_fit_for_eight_levels(fit_histogram):
    fit = fit_histogram(blocks(8, 2.0, 3000, 23), dyson_index=2.0)
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error
    assert abs(fit.centre - 3.0) < 5 * fit.centre_error


def test_histogram_refuses_what_it_cannot_show(fit_histogram):
    with pytest.raises(InsufficientData, match="bins"):
        fit_histogram(spoil(blocks(2, 1.0, 50, 66), -1e9))


def test_histogram_fit_keeps_a_given_centre(fit_histogram):
    fit = fit_histogram(blocks(2, 1.0, 500, 26), centre=3.0)
    assert fit.centre == 3.0 and np.isnan(fit.centre_error)
    assert abs(fit.sigma - 0.2) < 5 * fit.sigma_error


@pytest.mark.parametrize("n", [1, 2, 4])
def test_one_replica_far_off_is_flagged_beside_a_histogram(n, fit_histogram):
    data = blocks(n, 1.0, 100, 63)
    data[42] += 3.0
    assert fit_histogram(data).flag.startswith("replica 42 is far off")
