"""Levels that cannot bear an estimate or a test are refused, with the reason."""

import numpy as np
import pytest
from gases import blocks, spoil

from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.levels import InsufficientData


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (blocks(2, 1.0, 29, 60), "29 replicas are too few"),
        (spoil(blocks(2, 1.0, 50, 60), np.nan), "replica 7, snapshot 0 is not finite"),
        (spoil(blocks(2, 1.0, 50, 60), np.inf), "not finite"),
        (spoil(blocks(2, 1.0, 50, 60), -1e200), "not finite"),
        (spoil(blocks(2, 1.0, 50, 60), 0.0), "exactly zero"),
        (1e-200 * blocks(2, 1.0, 50, 60), "all levels are below 1e-100"),
        (np.full((50, 2, 1), 4.0), "all levels are equal"),
        (np.full((50, 2, 2), 4.0), "all levels are equal"),
        (np.repeat(blocks(1, 1.0, 50, 60), 2, axis=-1), "tied"),
        (np.tile([1.0, 2.0], (50, 3, 1)), "does not fluctuate"),
    ],
)
def test_unusable_data_is_refused(data, message):
    with pytest.raises(InsufficientData, match=message):
        fit_block(data)
    with pytest.raises(InsufficientData, match=message):
        fit_block(data, dyson_index=None)


def test_wrong_arguments_are_refused():
    data = blocks(2, 1.0, 50, 61)
    with pytest.raises(ValueError, match="shape"):
        fit_block(data[:, 0])
    with pytest.raises(ValueError, match="ascending"):
        fit_block(data[..., ::-1])
    with pytest.raises(ValueError, match="dyson_index"):
        fit_block(data, dyson_index=-1.0)
    assert fit_block(data[:20], minimum_replicas=20).replicas == 20
