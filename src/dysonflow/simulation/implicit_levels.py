"""The implicit step of levels that repel each other: one convex problem for each replica."""

from __future__ import annotations

import numpy as np

LARGEST_APPROACH = 0.5
"""Share of a gap by which one Newton step may close it."""
CONVERGED = 1e-7
"""Newton decrement from which one more step, which squares it, is the last."""
ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Newton step, over the largest level, that is nothing but rounding."""
MOST_ITERATIONS = 10_000
"""Far more than any finite numbers need."""


def ordered_levels(stiffness: np.ndarray, force: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Solve stiffness_i y_i - sum_{j != i} 1 / (y_i - y_j) = force_i for ascending y.

    y is the minimum of the strictly convex function

        F(y) = sum_i (stiffness_i y_i^2 / 2 - force_i y_i) - sum_{i<j} log(y_j - y_i)

    on y_1 < .. < y_n, at whose border it is infinite: there is one solution, and it is ordered
    whatever `force` is. Newton's method finds it from every ordered start, if no step closes a gap
    by more than one half: -log(1 - u) <= u + 0.78 u^2 up to there, so that every step s lessens F
    by at least 0.22 times s times the square of the Newton decrement.

    Parameters
    ----------
    stiffness : np.ndarray
        Positive, shape (n,).
    force : np.ndarray
        Shape (replica, n).
    start : np.ndarray
        Strictly ascending in every row, shape (replica, n).

    Returns
    -------
    np.ndarray
        Shape (replica, n), to about the rounding of float64. A replica's solution does not depend
        on those beside it.

    Raises
    ------
    FloatingPointError
        If a number is not finite.
    """
    y = start.copy()
    index = np.arange(y.shape[1])
    active = np.arange(len(y))
    for _ in range(MOST_ITERATIONS):
        x = y[active]
        distance = x[:, :, None] - x[:, None, :]
        distance[:, index, index] = np.inf
        inverse = 1.0 / distance
        descent = force[active] - stiffness * x + inverse.sum(axis=2)
        np.multiply(inverse, -inverse, out=inverse)
        inverse[:, index, index] = stiffness - inverse.sum(axis=2)
        step = np.linalg.solve(inverse, descent[:, :, None])[:, :, 0]
        squared_decrement = (descent * step).sum(axis=1)
        if not np.isfinite(squared_decrement).all():
            break
        closing = -(step[:, 1:] - step[:, :-1]) / (x[:, 1:] - x[:, :-1])
        fastest = closing.max(axis=1, initial=LARGEST_APPROACH)
        y[active] = x + step * (LARGEST_APPROACH / fastest)[:, None]
        moved = np.abs(step).max(axis=1) > ROUNDING * np.abs(x).max(axis=1)
        unfinished = (squared_decrement > CONVERGED**2) & moved
        if not unfinished.all():
            active = active[unfinished]
            if not len(active):
                return y
    raise FloatingPointError("the implicit step did not converge: a number is not finite")
