"""How large a matrix is and over how many directions it spreads, from its singular values."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class MatrixNorms:
    """Norms and ranks of a matrix with singular values s_i.

    Attributes
    ----------
    frobenius_norm : float
        sqrt(sum s_i^2).
    spectral_norm : float
        Largest s_i.
    stable_rank : float
        Square of the quotient of the two.
    entropy : float
        -sum q_i log q_i of q_i = s_i^2 / sum s_j^2, in nats.
    effective_rank : float
        exp of the entropy of s_i / sum s_j (Roy and Vetterli, EUSIPCO 2007).
    """

    frobenius_norm: float
    spectral_norm: float
    stable_rank: float
    entropy: float
    effective_rank: float


def matrix_norms(singular_values: ArrayLike) -> MatrixNorms:
    """Norms and ranks of a matrix; ranks and entropy are zero for a matrix of zeros."""
    s = np.asarray(singular_values, dtype=float)
    largest = float(s.max(initial=0.0))
    if not largest > 0:
        return MatrixNorms(0.0, 0.0, 0.0, 0.0, 0.0)
    # Squares of the values themselves could overflow or vanish.
    unit = s / largest
    total = float((unit**2).sum())
    return MatrixNorms(
        largest * math.sqrt(total),
        largest,
        total,
        _entropy(unit**2 / total),
        math.exp(_entropy(unit / unit.sum())),
    )


def _entropy(q: np.ndarray) -> float:
    q = q[q > 0]
    return float(-(q * np.log(q)).sum())
