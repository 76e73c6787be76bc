"""Singular values on a GPU: those of LAPACK, to rounding."""

import numpy as np
import pytest

from dysonflow.analysis.decompositions import chosen
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.statistics.gpu_singular_values import DRIVERS, SMALLEST, singular_values_on_gpu
from dysonflow.statistics.singular_values import singular_values

pytestmark = pytest.mark.gpu
SHAPES = [(SMALLEST, SMALLEST), (2 * SMALLEST, SMALLEST), (SMALLEST, SMALLEST + 40)]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_those_of_lapack(driver, shape, device, is_rehearsal):
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((2, 1, *shape))
    # Values from 1 down to 1e-9: whoever goes through W^T W loses the last of them.
    matrices = matrices * np.logspace(0, -9, shape[1])
    decompose = singular_values if is_rehearsal else chosen(driver)[0]
    found, expected = decompose(matrices), singular_values(matrices)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-13 * expected.max()
    levels = eigenvalues(matrices, decompose=decompose)
    assert np.allclose(levels, eigenvalues(matrices), atol=1e-12 * levels.max())


def test_a_number_that_is_not_finite_is_refused(device, is_rehearsal):
    if is_rehearsal:
        pytest.skip("only a GPU computes these")
    with pytest.raises(ValueError, match="not finite"):
        singular_values_on_gpu(np.full((3, 3), np.nan), "gesvdj")
