"""Tests of goodness of fit: uniform under the null, powerful elsewhere."""

import numpy as np
import pytest
from gases import FALSE_ALARM, blocks, remembering
from scipy import stats

from dysonflow.statistics.goodness import (
    angle_p_value,
    benjamini_hochberg,
    density_p_value,
    surmise_p_value,
)
from dysonflow.statistics.levels import InsufficientData


@pytest.mark.parametrize("beta", [1, 2, 4])
@pytest.mark.parametrize("given", [False, True])
def test_surmise_p_values_are_uniform(beta, given):
    rng = np.random.default_rng(30)
    data = blocks(2, beta, 300 * 50, 31).reshape(300, 50, 1, 2)
    mean_gap = np.sqrt(2) * 0.2 * stats.chi.mean(beta + 1) if given else None
    p = [surmise_p_value(x, rng, dyson_index=beta, mean_gap=mean_gap) for x in data]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM
    assert np.all((np.array(p) > 0) & (np.array(p) < 1))


@pytest.mark.parametrize(("n", "beta"), [(1, 1.0), (2, 1.0), (3, 2.5), (8, 2.0)])
def test_density_p_values_are_uniform(n, beta):
    rng = np.random.default_rng(32)
    data = blocks(n, beta, 300 * 30, 33).reshape(300, 30, 1, n)
    p = [density_p_value(x, rng, dyson_index=beta) for x in data]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM


def test_p_values_are_uniform_with_given_parameters_and_many_blocks():
    rng = np.random.default_rng(34)
    data = blocks(2, 1.0, 300 * 1000, 35).reshape(300, 1000, 1, 2)
    p = [density_p_value(x, rng, centre=3.0, sigma=0.2) for x in data]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM


def test_p_values_are_uniform_with_correlated_snapshots():
    rng = np.random.default_rng(36)
    surmise, density, angle = [], [], []
    for k in range(200):
        levels, angles = remembering(60, 8, 0.8, 2000 + k)
        surmise.append(surmise_p_value(levels, rng))
        density.append(density_p_value(levels, rng))
        angle.append(angle_p_value(angles))
    for p in (surmise, density, angle):
        assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM


def test_angle_p_values_are_uniform():
    rng = np.random.default_rng(37)
    p = [angle_p_value(rng.uniform(0, np.pi, 20)) for _ in range(1000)]
    assert stats.kstest(p, "uniform").pvalue > FALSE_ALARM
    # The axis that angles are counted from does not matter, nor do whole turns.
    angles = rng.uniform(0, np.pi, 50)
    assert angle_p_value(angles + 1.0) == pytest.approx(angle_p_value(angles), abs=1e-12)


def test_tests_have_power():
    rng = np.random.default_rng(38)
    poisson = np.sort(rng.normal(3.0, 0.2, (300, 1, 2)), axis=-1)
    unitary = blocks(2, 2.0, 300, 39)
    assert surmise_p_value(poisson, rng) < 1e-6
    assert surmise_p_value(unitary, rng) < 1e-3
    assert density_p_value(blocks(2, 4.0, 1000, 40), rng) < 1e-4
    assert density_p_value(blocks(2, 1.0, 1000, 41), rng, centre=3.0, sigma=0.23) < 1e-4
    assert angle_p_value(rng.normal(0.0, 0.5, 300)) < 1e-6


def test_same_data_same_p_value():
    data = blocks(2, 1.0, 100, 42)
    one = surmise_p_value(data, np.random.default_rng(1))
    assert one == surmise_p_value(data, np.random.default_rng(2))


def test_surmise_is_for_two_levels():
    with pytest.raises(ValueError, match="two levels"):
        surmise_p_value(blocks(3, 1.0, 50, 43), np.random.default_rng(1))


def test_benjamini_hochberg():
    # The worked example of the 1995 paper: four of fifteen rejected at 5 %.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    rejected, adjusted = benjamini_hochberg([*p, np.nan], 0.05)
    assert rejected.tolist() == [True] * 4 + [False] * 12
    assert np.isnan(adjusted[-1]) and adjusted[3] == pytest.approx(0.0095 * 15 / 4)
    assert benjamini_hochberg([np.nan, np.nan])[0].tolist() == [False, False]
    with pytest.raises(ValueError, match="false_discovery_rate"):
        benjamini_hochberg(p, 1.5)


def test_constant_angles_are_refuted():
    assert angle_p_value(np.full((30, 4), 0.3)) < 1e-6


def test_few_angles_are_refused():
    with pytest.raises(InsufficientData, match="angles"):
        angle_p_value(np.arange(5.0))


@pytest.mark.parametrize("count", [1, 2, 3, 40, 1000])
def test_benjamini_hochberg_is_that_of_scipy_bit_for_bit(count):
    rng = np.random.default_rng(44)
    for p in (rng.random(count), rng.random(count) ** 8, rng.integers(0, 5, count) / 4):
        expected = stats.false_discovery_control(p, method="bh")
        assert np.array_equal(benjamini_hochberg(p)[1], expected)
    with pytest.raises(ValueError, match="p-value"):
        benjamini_hochberg([0.5, 1.1])
