"""Singular values and eigenvalues by LAPACK, with a look at what went in and what came out.

Some builds of LAPACK, and of what stands in its place, turn a NaN into finite numbers (pytorch
issue 187759), so the matrices are looked at first; and the values have to add up afterwards.
"""

import numpy as np

TOLERANCE = 1e-9
"""Relative to the Frobenius norm: far above rounding, far below any loss of a value that counts."""


def singular_values(matrices: np.ndarray) -> np.ndarray:
    """Singular values of W itself, descending, in float64.

    Not the roots of the eigenvalues of W^T W: those would have lost half of the digits of the small
    ones.

    Parameters
    ----------
    matrices : np.ndarray
        Shape (..., M, N), of any floating-point type.

    Returns
    -------
    np.ndarray
        Shape (..., min(M, N)).

    Raises
    ------
    ValueError
        If a number is not finite.
    numpy.linalg.LinAlgError
        If the squares do not add up to that of the Frobenius norm.
    """
    matrices = finite(matrices)
    values: np.ndarray = np.linalg.svd(matrices, compute_uv=False)
    check_norm(matrices, values)
    return values


def symmetric_eigenvalues(matrices: np.ndarray) -> np.ndarray:
    """Eigenvalues of symmetric matrices, ascending, shape (..., N), in float64.

    Errors are those of `singular_values`; also if they do not add up to the trace.
    """
    matrices = finite(matrices)
    values: np.ndarray = np.linalg.eigvalsh(matrices)
    check_norm(matrices, values)
    trace = np.trace(matrices, axis1=-2, axis2=-1)
    size = np.sqrt(np.einsum("...i,...i->...", values, values)) * np.sqrt(values.shape[-1])
    _check(np.abs(values.sum(axis=-1) - trace) <= TOLERANCE * size, "trace")
    return values


def finite(matrices: np.ndarray) -> np.ndarray:
    """The matrices in float64; ValueError if a number is not finite."""
    if not np.isfinite(matrices).all():
        raise ValueError("a weight is not finite")
    return matrices.astype(np.float64, copy=False)


def check_norm(matrices: np.ndarray, values: np.ndarray) -> None:
    """LinAlgError if the squares of the values do not add up to the Frobenius norms."""
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.einsum("...ij,...ij->...", matrices, matrices)
        total = np.einsum("...i,...i->...", values, values)
        agrees = np.abs(total - norm) <= TOLERANCE * norm
    # Squares of the largest and of the smallest numbers are no numbers.
    usual = (norm > np.finfo(float).tiny / TOLERANCE) & np.isfinite(norm)
    _check(agrees | ~usual, "Frobenius norm")


def _check(holds: np.ndarray, what: str) -> None:
    if not np.all(holds):
        raise np.linalg.LinAlgError(
            f"the values that LAPACK gave do not add up to the {what} of the matrix; another build "
            "of NumPy may"
        )
