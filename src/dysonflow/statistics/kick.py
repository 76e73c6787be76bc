"""What theory says of the change of a matrix over some steps, given the matrix.

Apart from what is measured of it (`increments`), so that theory depends on nothing more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Kick:
    """Moments of the change of X over some steps, given X, in the eigenbasis of X.

    Attributes
    ----------
    mean : np.ndarray
        M_ij, shape (sample, N, N).
    variance : np.ndarray
        V_ij, same shape; on the diagonal of dX_ii.
    covariance : np.ndarray
        Cov(dX_ii, dX_jj), same shape; its diagonal is that of `variance`.
    """

    mean: FloatArray
    variance: FloatArray
    covariance: FloatArray
