"""What theory says of the change of a matrix over some steps, given the matrix.

Apart from what is measured of it (`increments`), so that theory depends on nothing more.
"""

from collections.abc import Sequence
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
    excess : float
        Excess kurtosis of an entry off the diagonal: 0 for a Gaussian. The noise of a pair is taken
        to be isotropic in the plane of (dX_ii - dX_jj) / 2 and dX_ij, so that it holds for both.
    """

    mean: FloatArray
    variance: FloatArray
    covariance: FloatArray
    excess: float = 0.0

    def of(self, levels: NDArray[np.bool_]) -> "Kick":
        """The kick of some of the levels, given as a mask of shape (N,)."""
        mean, variance, covariance = (
            part[:, levels][:, :, levels] for part in (self.mean, self.variance, self.covariance)
        )
        return Kick(mean, variance, covariance, self.excess)


def joined(kicks: Sequence[Kick]) -> Kick:
    """One kick of the samples of several, which have their kurtosis in common."""
    return Kick(
        np.concatenate([kick.mean for kick in kicks]),
        np.concatenate([kick.variance for kick in kicks]),
        np.concatenate([kick.covariance for kick in kicks]),
        kicks[0].excess,
    )
