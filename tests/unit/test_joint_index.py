"""Dyson index of a whole spectrum: known gases, errors, and what it refuses."""

from functools import cache

import numpy as np
import pytest
from gases import blocks

from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.gas_of_blocks import GasOfBlocks, sample_gas
from dysonflow.statistics.joint_index import fit_between, fit_joint_index
from dysonflow.statistics.levels import InsufficientData

FIVE_SIGMA = 5.0
PAIRS = [slice(1, 3), slice(3, 5)]


@cache
def spectra(beta, seed=1, chains=200, draws=100):
    """A single level and two pairs near enough to feel each other."""
    gas = GasOfBlocks((1, 2, 2), (0.0, 1.2, 3.0), (0.5, 0.4, 0.3), beta, 0.5)
    return sample_gas(gas, chains, draws, np.random.default_rng(seed), thin=2).levels


@pytest.mark.parametrize("free_blocks", [True, False])
@pytest.mark.parametrize("beta", [1e-9, 1.0, 2.0])
def test_known_gases_have_their_index(beta, free_blocks):
    data = spectra(beta, 2, 200, 20)
    found = fit_joint_index(data, spectra(1.0), PAIRS, free_blocks=free_blocks)
    assert abs(found.dyson_index - round(beta)) < FIVE_SIGMA * found.error
    assert found.error < 0.06
    assert found.error == pytest.approx(np.hypot(found.data_error, found.monte_carlo_error))
    # Weights make draws worth less, and none at the index of the law itself.
    assert found.effective > (15_000 if beta == 1.0 else 200)


def test_a_block_among_neighbours_is_misjudged_on_its_own_only():
    # Drawn with the full repulsion from near blocks, which the gas of a block does not contain.
    gas = GasOfBlocks((1, 2, 1), (0.0, 0.35, 0.7), (0.4, 0.4, 0.4))
    rng = np.random.default_rng(3)
    data, law = (sample_gas(gas, 400, 50, rng, thin=3).levels for _ in range(2))
    alone = fit_block(data[..., 1:3], dyson_index=None)
    joint = fit_joint_index(data, law, [slice(1, 3)])
    assert abs(alone.dyson_index - 1.0) > FIVE_SIGMA * alone.dyson_index_error
    assert abs(joint.dyson_index - 1.0) < FIVE_SIGMA * joint.error


def test_one_block_on_its_own_is_the_fit_of_the_gas():
    law = blocks(2, 1.0, 200_000, seed=4)
    data = blocks(2, 1.0, 2000, seed=5)
    fit = fit_block(data, dyson_index=None)
    joint = fit_joint_index(data, law, [slice(0, 2)])
    # The same likelihood, but for the draws.
    assert abs(joint.dyson_index - fit.dyson_index) < FIVE_SIGMA * joint.monte_carlo_error
    assert joint.data_error == pytest.approx(fit.dyson_index_error, rel=0.03)


@pytest.mark.parametrize("between", [0.0, 0.5, 1.0])
def test_repulsion_between_blocks_is_told_whatever_centres_and_widths_are(between):
    near = GasOfBlocks((1, 2, 1), (0.0, 0.8, 1.4), (0.4, 0.3, 0.3), 1.0, 0.5)
    moved = GasOfBlocks((1, 2, 1), (0.02, 0.75, 1.45), (0.38, 0.31, 0.3), 1.0, between)
    rng = np.random.default_rng(8)
    law = sample_gas(near, 400, 100, rng, thin=2).levels
    data = sample_gas(moved, 200, 40, rng, thin=3).levels
    found = fit_between(data, law, near.positions, 0.5)
    assert abs(found.dyson_index - between) < FIVE_SIGMA * found.error
    assert found.error < 0.08


def test_errors_are_the_spread_of_data_sets():
    law = spectra(1.0)
    data = spectra(1.0, 6, 300, 60).reshape(60, 300, 1, 5)
    found = [fit_joint_index(part, law, PAIRS) for part in data]
    values = np.array([one.dyson_index for one in found])
    # All share the draws, whose error is no spread.
    errors = np.array([one.data_error for one in found])
    assert abs(values.var(ddof=1) / (errors**2).mean() - 1.0) < FIVE_SIGMA * np.sqrt(2 / 59)
    common = np.hypot(found[0].monte_carlo_error, values.std() / np.sqrt(60))
    # The maximum-likelihood estimate of a shape is biased by about one in 300 spectra.
    assert abs(values.mean() - 1.0) < FIVE_SIGMA * common + 3 / 300


def test_the_error_of_the_draws_is_their_spread():
    data = spectra(2.0, 2, 200, 20)
    sets = spectra(1.0, 7, 400, 100).reshape(40, 1000, 1, 5)
    found = [fit_joint_index(data, part, PAIRS) for part in sets]
    values = np.array([one.dyson_index for one in found])
    errors = np.array([one.monte_carlo_error for one in found])
    assert abs(values.var(ddof=1) / (errors**2).mean() - 1.0) < FIVE_SIGMA * np.sqrt(2 / 39)


def test_what_cannot_be_estimated_is_refused():
    data, law = spectra(1.0, 2, 200, 20), spectra(1.0)
    with pytest.raises(InsufficientData, match="no two levels"):
        fit_joint_index(data, law, [])
    with pytest.raises(InsufficientData, match="one block"):
        fit_between(data, law, [slice(0, 5)], 1.0)
    with pytest.raises(InsufficientData, match="draws"):
        fit_joint_index(data + 5.0, law, PAIRS)
    with pytest.raises(InsufficientData, match="tied"):
        tied = data.copy()
        tied[0, 0, 2] = tied[0, 0, 1]
        fit_joint_index(tied, law, PAIRS)
