"""The solver: accurate for small values, awake to what LAPACK may get wrong."""

import numpy as np
import pytest

from dysonflow.statistics.singular_values import singular_values, symmetric_eigenvalues


@pytest.mark.parametrize(("rows", "columns"), [(40, 40), (40, 15), (15, 40), (1, 9), (9, 1)])
def test_values_of_a_matrix_that_was_put_together(rows, columns):
    rng = np.random.default_rng(1)
    count = min(rows, columns)
    left = np.linalg.qr(rng.standard_normal((rows, count)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, count)))[0]
    values = np.geomspace(1.0, 1e-9, count)
    found = singular_values((left * values) @ right.T)
    # The roots of eigenvalues of W^T W would be off by 1e-8 of the largest one.
    np.testing.assert_allclose(found, values, rtol=0, atol=20 * np.finfo(float).eps)


def test_a_float32_matrix_is_accumulated_in_float64():
    matrix = np.random.default_rng(2).standard_normal((300, 200)).astype(np.float32)
    exact = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    np.testing.assert_array_equal(singular_values(matrix), exact)
    assert singular_values(matrix).dtype == np.float64


@pytest.mark.parametrize("scale", [0.0, 1e-320, 1e-200, 1e200])
def test_numbers_whose_squares_are_none(scale):
    found = singular_values(scale * np.eye(3))
    np.testing.assert_allclose(found, [scale] * 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("solve", [singular_values, symmetric_eigenvalues])
def test_what_is_not_finite_is_refused(value, solve):
    matrix = np.eye(4)
    matrix[1, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        solve(np.stack([np.eye(4), matrix]))


def test_values_that_do_not_add_up_are_refused():
    # Only the lower half is read, so of a matrix that is not symmetric those of another come back.
    matrix = np.array([[1.0, 5.0], [0.0, 2.0]])
    with pytest.raises(np.linalg.LinAlgError, match="Frobenius norm"):
        symmetric_eigenvalues(matrix)
    np.testing.assert_allclose(symmetric_eigenvalues(np.diag([3.0, -1.0])), [-1.0, 3.0])
