"""A signal in noise: where its singular value detaches from the bulk, and back.

W = t u v^T + w G with unit vectors u, v and a matrix G of independent entries of variance 1 and
sides n, p. Above the threshold t = w (n p)^(1/4) a singular value leaves the bulk (Baik, Ben Arous
and Peche, Ann. Probab. 33, 1643 (2005)); formulas are those of Benaych-Georges and Nadakuditi,
J. Multivar. Anal. 111, 120 (2012).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.statistics.arrays import FloatArray


def threshold(longer: float, shorter: float, scale: float = 1.0) -> float:
    """Strength t above which a signal detaches, w (n p)^(1/4)."""
    return scale * (longer * shorter) ** 0.25


def position(strength: ArrayLike, longer: float, shorter: float, scale: float = 1.0) -> FloatArray:
    """Singular value of W to which a signal of this strength leads.

    w sqrt((t^2 + n)(t^2 + p)) / t in units of w above the threshold, the edge w (sqrt(n) + sqrt(p))
    below it.
    """
    t = np.maximum(np.asarray(strength, dtype=float) / scale, threshold(longer, shorter))
    return scale * np.sqrt((t**2 + longer) * (t**2 + shorter)) / t


def squared_strength(eigenvalues: FloatArray, longer: float, shorter: float) -> FloatArray:
    """Squares t^2 of the signals that lead to eigenvalues of W^T W, for noise of variance 1.

    The inverse of `position`; the square of the threshold for what is not beyond the edge.
    """
    x = eigenvalues - longer - shorter
    root = np.sqrt(np.maximum(x**2 - 4.0 * longer * shorter, 0.0))
    return np.maximum(0.5 * (x + root), math.sqrt(longer * shorter))


@dataclass(frozen=True)
class Signals:
    """Signals behind detached singular values.

    Attributes
    ----------
    strength, error : numpy.ndarray
        Strength t of each, and its standard error for generic directions; the threshold, and no
        error (NaN), where the singular value is not beyond the edge.
    overlap_left, overlap_right : numpy.ndarray
        Expected squared cosine between the singular vector of W and that of the signal, on the
        longer and on the shorter side.
    """

    strength: FloatArray
    error: FloatArray
    overlap_left: FloatArray
    overlap_right: FloatArray


def signals(
    singular_values: ArrayLike, longer: float, shorter: float, scale: float = 1.0
) -> Signals:
    """Strengths of the signals that lead to these singular values of W.

    The inverse of `position`. Errors are those of Gaussian noise and directions that are
    uniform on the sphere: the position is where the product A B of the two resolvents of the
    noise in the directions of the signal is 1/t^2, and A, B and the mixed resolvent fluctuate by
    averages of their squares over the bulk.
    """
    n, p = longer, shorter
    z = np.asarray(singular_values, dtype=float) / scale
    is_out = z > math.sqrt(n) + math.sqrt(p)
    t2 = squared_strength(z**2, n, p)
    t, z = np.sqrt(t2), np.where(is_out, z, math.sqrt(n) + math.sqrt(p))
    # Means of z / (z^2 - x) over the eigenvalues x of G G^T and G^T G, and their slopes in z from
    # 1/A = z - p B and 1/B = z - n A.
    a, b = (t2 + p) / (t2 * z), (t2 + n) / (t2 * z)
    ratio = n * p * (a * b) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        slope_a = -(a**2) * (1.0 + p * b**2) / (1.0 - ratio)
        slope_b = -(b**2) * (1.0 + n * a**2) / (1.0 - ratio)
        square_a, square_b = 0.5 * (a / z - slope_a), 0.5 * (b / z - slope_b)
        variance_a = 2.0 / n * (square_a - a**2)
        variance_b = 2.0 / p * (square_b - b**2)
        mixed = (square_a - a / z) / p
        noise = 4.0 * mixed / t2 + b**2 * variance_a + a**2 * variance_b
        # By 1/t^2 = A B (with the mixed resolvent) what these fluctuate by is an error of t.
        error = np.sqrt(noise) * t**3 / 2.0
        found = np.where(is_out, error, np.nan)
    inside = n * p / t2**2
    return Signals(
        scale * t,
        scale * found,
        (1.0 - inside) / (1.0 + n / t2),
        (1.0 - inside) / (1.0 + p / t2),
    )
