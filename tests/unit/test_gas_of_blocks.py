"""Gas of unequal centres: chains against Mehta's integral, quadrature and perturbation theory.

Statistical tests allow five standard errors, from the spread of independent chains.
"""

import numpy as np
import pytest

from dysonflow.statistics.coulomb_gas import log_partition, log_vandermonde, sample
from dysonflow.statistics.gas_of_blocks import GasOfBlocks, sample_gas, split_r_hat

FIVE_SIGMA = 5.0


def over_chains(values):
    """Mean and error of an observable of shape (chain, draw)."""
    means = values.mean(axis=1)
    return means.mean(), means.std(ddof=1) / np.sqrt(len(means))


def assert_mean(values, expected, tolerance=0.0):
    mean, error = over_chains(values)
    assert abs(mean - expected) < FIVE_SIGMA * error + tolerance
    # The chains are long enough for the test to say something.
    assert error < 0.02 * values.std() + tolerance


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_equal_centres_have_the_moments_of_mehta(beta):
    # Every level as a block of its own: all of the repulsion goes through the chain.
    n = 4
    gas = GasOfBlocks((1,) * n, (2.0,) * n, (0.3,) * n, between=beta)
    chains = sample_gas(gas, 256, 120, np.random.default_rng(1), thin=2)
    assert (np.diff(chains.levels, axis=-1) > 0).all()
    assert chains.r_hat < 1.05 and chains.effective > 2000
    square = ((chains.levels - 2.0) ** 2).sum(axis=-1) / 0.3**2
    assert_mean(square, n + beta * n * (n - 1) / 2)
    step = 1e-4
    slope = log_partition(n, beta + step, 0.3) - log_partition(n, beta - step, 0.3)
    assert_mean(log_vandermonde(chains.levels), slope / (2 * step))


def test_one_block_has_its_degrees_of_freedom():
    chains = sample_gas(GasOfBlocks((3,), (1.0,), (0.2,), 2.0), 128, 60, np.random.default_rng(2))
    assert chains.effective > 2000 and chains.acceptance.min() > 0.7
    assert_mean(((chains.levels - 1.0) ** 2).sum(axis=-1) / 0.04, 9.0)


@pytest.mark.parametrize(("between", "ordered"), [(0.5, True), (1.0, False), (3.0, True)])
def test_two_levels_against_quadrature(between, ordered):
    centres, sigmas = (0.0, 0.5), (0.6, 0.3)
    x = np.linspace(-4.0, 4.0, 1601)
    one, other = np.meshgrid(x, x, indexing="ij")
    weight = np.where((other > one) | (not ordered), np.abs(other - one), 0.0) ** between
    low, high = np.minimum(one, other), np.maximum(one, other)
    for level, c, s in zip((one, other), centres, sigmas, strict=True):
        weight *= np.exp(-((level - c) ** 2) / (2 * s**2))
    weight /= weight.sum()
    gas = GasOfBlocks((1, 1), centres, sigmas, between=between, ordered=ordered)
    chains = sample_gas(gas, 256, 60, np.random.default_rng(3), thin=2)
    assert chains.r_hat < 1.05
    first, second = chains.levels[..., 0], chains.levels[..., 1]
    for drawn, exact in (
        (first, low),
        (second, high),
        (first**2, low**2),
        (second**2, high**2),
        (first * second, low * high),
    ):
        assert_mean(drawn, (weight * exact).sum())


def test_distant_blocks_against_perturbation_theory():
    # log |x - y| about its distance d: a force beta / d, and a coupling beta / d^2.
    counts, centres, sigmas = (1, 2, 1), np.array([0.0, 1.0, 2.5]), np.array([0.05, 0.04, 0.06])
    gas = GasOfBlocks(counts, tuple(centres), tuple(sigmas), between=2.0)
    chains = sample_gas(gas, 512, 60, np.random.default_rng(4))
    assert chains.acceptance.min() > 0.8
    gap = centres[:, None] - centres[None, :] + np.diag(np.full(3, np.inf))
    shift = 2.0 * sigmas**2 * (np.array(counts) / gap).sum(axis=1)
    means = [chains.levels[..., own].mean(axis=-1) for own in gas.positions]
    for mean, centre, moved in zip(means, centres, shift, strict=True):
        assert_mean(mean, centre + moved, tolerance=0.02 * np.abs(shift).max())
        assert abs(over_chains(mean)[0] - centre) > FIVE_SIGMA * over_chains(mean)[1]
    outer = (means[0] - means[0].mean()) * (means[1] - means[1].mean())
    covariance = 2.0 * sigmas[0] ** 2 * sigmas[1] ** 2 / gap[0, 1] ** 2
    mean, error = over_chains(outer)
    assert abs(mean - covariance) < FIVE_SIGMA * error


def test_r_hat_tells_chains_that_have_not_met():
    rng = np.random.default_rng(5)
    series = rng.standard_normal((64, 100))
    assert split_r_hat(series) == pytest.approx(1.0, abs=0.01)
    assert split_r_hat(series + (np.arange(64) % 2)[:, None]) > 1.1
    assert split_r_hat(series + np.linspace(0, 2, 100)) > 1.1


def test_a_start_far_away_is_forgotten_and_seen_without_a_warm_up():
    # Strong repulsion: the levels of blocks on their own lie far from those of the gas.
    gas = GasOfBlocks((1,) * 6, tuple(0.1 * np.arange(6)), (1.0,) * 6, between=4.0)
    cold = sample_gas(gas, 64, 16, np.random.default_rng(6), warm_up=0)
    warm = sample_gas(gas, 64, 60, np.random.default_rng(6), warm_up=80, thin=4)
    assert cold.r_hat > 1.5 and warm.r_hat < 1.1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (((1, 1), (1.0, 0.0), (1.0, 1.0)), "ascending"),
        (((1,), (0.0, 1.0), (1.0, 1.0)), "for each block"),
        (((1,), (0.0,), (-1.0,)), "sigma"),
        (((1,), (0.0,), (1.0,), 1.0, -1.0), "between"),
    ],
)
def test_wrong_parameters_are_refused(values, named):
    with pytest.raises(ValueError, match=named):
        GasOfBlocks(*values)


def test_too_few_chains_are_refused():
    with pytest.raises(ValueError, match="at least 2 of 4"):
        sample_gas(GasOfBlocks((1,), (0.0,), (1.0,)), 1, 100, np.random.default_rng(7))


def test_blocks_without_repulsion_between_are_those_on_their_own():
    gas = GasOfBlocks((2, 2), (0.0, 9.0), (1.0, 0.5), 2.0, 0.0)
    chains = sample_gas(gas, 128, 60, np.random.default_rng(8))
    alone = sample(2, 2.0, 20_000, np.random.default_rng(9))
    gap = np.diff(alone, axis=1).mean()
    assert_mean(chains.levels[..., 1] - chains.levels[..., 0], gap, tolerance=0.03)
    assert_mean(chains.levels[..., 3] - chains.levels[..., 2], gap / 2, tolerance=0.015)
