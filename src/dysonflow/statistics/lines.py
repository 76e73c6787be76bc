"""Straight lines, powers and means through points with errors.

An error that is estimated from a point goes with its value: that of a Dyson index, for one, is
small where the value happens to be low. Weights from such errors would pull every mean down, so
weights are given, from the information that is expected of a point, and the errors only tell how
well the result is known.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dysonflow.lazy import LazyModule

special = LazyModule("scipy.special")


def chi2_p_value(chi2: float, dof: int) -> float:
    """Probability of a larger chi2 by chance; NaN without a degree of freedom."""
    return float(special.chdtrc(dof, chi2)) if dof else np.nan


@dataclass(frozen=True)
class Line:
    """Fit of y = slope v, and of y proportional to (v^2)^exponent.

    Attributes
    ----------
    points : int
        Number of points.
    slope, slope_error : float
        Of the line through the origin.
    exponent, exponent_error : float
        NaN where all v are equal.
    chi2, dof, p_value : float
        Of the points about the fitted line.
    """

    points: int
    slope: float
    slope_error: float
    exponent: float
    exponent_error: float
    chi2: float
    dof: int
    p_value: float


def fit_line(
    variable: np.ndarray, value: np.ndarray, error: np.ndarray, weight: np.ndarray
) -> Line:
    """Fit a line through the origin, and a power law.

    Parameters
    ----------
    variable, value, error : np.ndarray
        The points and the standard errors of `value`, shape (points,), all > 0.
    weight : np.ndarray
        Expected inverse squares of the relative errors, up to a factor, shape (points,), all > 0.

    Returns
    -------
    Line
        Weighted means; their errors are from the errors of the points, right also where these are
        not as expected.

    Raises
    ------
    ValueError
        If there is no point, or one is not positive.
    """
    points = np.stack([variable, value, error, weight])
    if points.size == 0 or not (points > 0).all():
        raise ValueError("a scaling law needs at least one point, and positive numbers throughout")
    relative = error / value
    ratio = value / variable
    slope, slope_error = weighted_mean(ratio, relative * ratio, weight)
    pulls = (ratio / slope - 1.0) / relative
    chi2, dof = float((pulls**2).sum()), len(value) - 1
    x, y = np.log(variable**2), np.log(value)
    centred = weight * (x - np.average(x, weights=weight))
    spread = float((centred * x).sum())
    steep = spread > 1e-12 * weight.sum()
    return Line(
        points=len(value),
        slope=slope,
        slope_error=slope_error,
        exponent=float((centred * y).sum() / spread) if steep else np.nan,
        exponent_error=float(np.sqrt((centred**2 * relative**2).sum()) / spread)
        if steep
        else np.nan,
        chi2=chi2,
        dof=dof,
        p_value=chi2_p_value(chi2, dof),
    )


def least_squares(
    design: np.ndarray, value: np.ndarray, error: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Weighted linear least squares.

    Parameters
    ----------
    design : np.ndarray
        Shape (points, parameters), of full rank.
    value, error : np.ndarray
        Shape (points,).
    weight : np.ndarray
        Expected inverse squares of the errors, up to a factor, shape (points,).

    Returns
    -------
    parameters, covariance, chi2, dof
        The covariance is that of the given errors.
    """
    scaled = design * weight[:, None]
    linear = np.linalg.solve(scaled.T @ design, scaled.T)
    parameters = linear @ value
    covariance = (linear * error**2) @ linear.T
    chi2 = float((((value - design @ parameters) / error) ** 2).sum())
    return parameters, covariance, chi2, len(value) - design.shape[1]


def weighted_mean(
    values: npt.ArrayLike, errors: npt.ArrayLike, weights: npt.ArrayLike
) -> tuple[float, float]:
    """Mean with given weights, and its error; without what is NaN.

    Parameters
    ----------
    values, errors : array-like
        The values and their standard errors, shape (points,).
    weights : array-like
        Expected inverse squares of the errors, up to a factor, shape (points,).
    """
    value, error = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    weight = np.asarray(weights, dtype=float)
    known = ~(np.isnan(value) | np.isnan(error))
    share = weight[known] / weight[known].sum()
    return float(share @ value[known]), float(np.sqrt((share**2) @ error[known] ** 2))
