"""Direction of the eigenvectors of a degenerate pair, uniform where nothing singles one out."""

import numpy as np


def pair_angles(weights: np.ndarray, basis: np.ndarray, position: int) -> np.ndarray:
    """Angle of an eigenvector of W^T W in the plane of a degenerate pair.

    Parameters
    ----------
    weights : np.ndarray
        Shape (..., M, N).
    basis : np.ndarray
        Two orthonormal vectors that span the plane, shape (N, 2).
    position : int
        Position of the eigenvector, counted from the largest eigenvalue.

    Returns
    -------
    np.ndarray
        Radians in [0, pi), shape (...): an eigenvector has no sign.
    """
    vectors = np.linalg.svd(weights.astype(np.float64), full_matrices=False)[2]
    first, second = np.moveaxis(vectors[..., position, :] @ basis, -1, 0)
    return np.arctan2(second, first) % np.pi
