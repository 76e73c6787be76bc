"""Laws across the runs of a study: slopes and exponents against the theory's variable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from dysonflow.analysis import scaling_tests
from dysonflow.analysis.fits import fitted_pairs
from dysonflow.report import html


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


def fit_line(variable: np.ndarray, value: np.ndarray, error: np.ndarray) -> Line:
    """Fit a line through the origin, and a power law.

    Parameters
    ----------
    variable, value, error : np.ndarray
        The points and the standard errors of `value`, shape (points,), all > 0.

    Returns
    -------
    Line
        Weighted least squares. The weights are the relative errors: an absolute error that is
        estimated from a point is small where the point happens to lie low, and would pull the
        line down.

    Raises
    ------
    ValueError
        If there is no point, or one is not positive.
    """
    points = np.stack([variable, value, error])
    if points.size == 0 or not (points > 0).all():
        raise ValueError("a scaling law needs at least one point, and positive numbers throughout")
    relative = error / value
    weight = relative**-2.0
    ratio = value / variable
    slope = float(np.average(ratio, weights=weight))
    pulls = (ratio / slope - 1.0) / relative
    chi2, dof = float((pulls**2).sum()), len(value) - 1
    x, y = np.log(variable**2), np.log(value)
    centred = x - np.average(x, weights=weight)
    spread = float((weight * centred**2).sum())
    steep = spread > 1e-12 * weight.sum()
    return Line(
        points=len(value),
        slope=slope,
        slope_error=float(slope / np.sqrt(weight.sum())),
        exponent=float((weight * centred * y).sum() / spread) if steep else np.nan,
        exponent_error=float(spread**-0.5) if steep else np.nan,
        chi2=chi2,
        dof=dof,
        p_value=float(scipy.stats.chi2.sf(chi2, dof)) if dof else np.nan,
    )


def scaling_laws(
    study: str,
    fits: pd.DataFrame,
    slope_theory: float,
    hyperparameters: Sequence[str],
    small_noise: float | None = None,
) -> list[dict[str, Any]]:
    """All laws of a study, as rows of `scaling.parquet`.

    Parameters
    ----------
    study : str
        Name of the study.
    fits : pandas.DataFrame
        Fits of its runs. Pairs of degenerate levels that could be fitted enter.
    slope_theory : float
        Slope of the mean gap against the variable, from the model's theory.
    hyperparameters : sequence of str
        Columns of the fits that hold hyperparameters.
    small_noise : float, optional
        Adds the laws over the runs with learning_rate / batch_size up to this.

    Returns
    -------
    list of dict
        `mean_gap` and `sigma` (that is sqrt(pi) sigma) against the paper's variable; the same
        against the variable with the finite-step factors; `gap_over_sigma`, the mean gap against
        sqrt(pi) sigma, whose slope is 1 for the Wigner surmise; the slopes extrapolated to zero
        noise; the exponent of sigma in a alone, in 1/B alone, and in a/B; and whether runs of
        equal a/B agree. `pull` is the distance from theory in errors.
    """
    pairs = fitted_pairs(fits)
    ordinates = {
        "mean_gap": (pairs["mean_gap"], pairs["mean_gap_error"]),
        "sigma": (np.sqrt(np.pi) * pairs["sigma"], np.sqrt(np.pi) * pairs["sigma_error"]),
    }
    everything = np.ones(len(pairs), dtype=bool)
    subsets = {"": ("variable", everything), "_finite_step": ("finite_step_variable", everything)}
    if small_noise is not None:
        quiet = (pairs["stochasticity"] <= small_noise * (1 + 1e-9)).to_numpy()
        subsets["_small_noise"] = ("variable", quiet)
    rows = []
    for name, (value, error) in ordinates.items():
        for suffix, (variable, chosen) in subsets.items():
            law = name + suffix
            points = [series[chosen].to_numpy() for series in (pairs[variable], value, error)]
            rows.append(_row(study, law, points, slope_theory, 0.5))
    sigma = np.sqrt(np.pi) * pairs["sigma"]
    joint_error = pairs["mean_gap"] * pairs["gap_ratio_error"] / pairs["gap_ratio"]
    points = [series.to_numpy() for series in (sigma, pairs["mean_gap"], joint_error)]
    rows.append(_row(study, "gap_over_sigma", points, 1.0, 0.5))
    return rows + [
        {"study": study} | row for row in _tests(pairs, ordinates, slope_theory, hyperparameters)
    ]


def _tests(
    pairs: pd.DataFrame,
    ordinates: Mapping[str, tuple[pd.Series, pd.Series]],
    slope_theory: float,
    hyperparameters: Sequence[str],
) -> list[dict[str, Any]]:
    """Rows of the sharper tests; empty ones where the study has no runs for them."""
    rows = [
        scaling_tests.zero_noise_row(
            f"{name}_zero_noise",
            pairs["finite_step_variable"].to_numpy(),
            *(value.to_numpy(), error.to_numpy()),
            *(pairs["stochasticity"].to_numpy(), pairs["centre_block_formula"].to_numpy()),
            slope_theory,
        )
        for name, (value, error) in ordinates.items()
    ]
    a_and_b = ("learning_rate", "batch_size")
    swept = {
        "sigma_in_learning_rate": (("learning_rate",), pairs["learning_rate"]),
        "sigma_in_batch_size": (("batch_size",), 1.0 / pairs["batch_size"]),
        "sigma_in_stochasticity": (a_and_b, pairs["stochasticity"]),
    }
    for law, (free, x) in swept.items():
        group = scaling_tests.groups(pairs, hyperparameters, free).to_numpy()
        value, error = (series.to_numpy() for series in ordinates["sigma"])
        rows.append(scaling_tests.exponent_row(law, x.to_numpy(), value, error, group))
    for law, variable in (
        ("equal_stochasticity", "variable"),
        ("equal_stochasticity_finite_step", "finite_step_variable"),
    ):
        found = scaling_tests.same_stochasticity_pairs(pairs, hyperparameters, variable)
        rows.append(scaling_tests.same_stochasticity_row(law, found))
    return rows


def _row(
    study: str, law: str, points: Sequence[np.ndarray], slope_theory: float, exponent_theory: float
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "study": study,
        "law": law,
        "points": len(points[0]),
        "slope_theory": slope_theory,
        "exponent_theory": exponent_theory,
    }
    if not len(points[0]):
        return row
    line = fit_line(*points)
    values = {name: getattr(line, name) for name in Line.__dataclass_fields__}
    values["pull"] = (line.slope - slope_theory) / line.slope_error
    return row | {name: None if np.isnan(value) else value for name, value in values.items()}


def html_table(rows: Sequence[dict[str, Any]]) -> str:
    """Laws of a study as a small HTML page for the report."""
    heads = ["law", "points", "slope", "theory", "pull", "exponent", "theory", "chi2/dof", "p"]
    return html.page(
        "Scaling laws",
        f"<h3>Scaling laws of study {rows[0]['study']}</h3>\n"
        + html.table(heads, [_cells(row) for row in rows])
        + "<p>slope: weighted fit through the origin; pull: its distance from theory in errors; "
        "chi2/dof and p: of the points about the fitted line; exponent: of the stochasticity "
        "(learning rate / batch size).</p>",
    )


def _cells(row: dict[str, Any]) -> list[str]:
    def show(name: str, pattern: str = ".4f") -> str:
        return "" if row.get(name) is None else format(row[name], pattern)

    def pair(name: str) -> str:
        return f"{show(name)} ± {show(name + '_error')}" if show(name) else ""

    return [
        *(row["law"], str(row["points"])),
        pair("slope"),
        *(show("slope_theory"), show("pull", "+.1f")),
        pair("exponent"),
        *(show("exponent_theory", ".1f"), f"{show('chi2', '.1f')}/{show('dof', 'd')}".strip("/")),
        show("p_value", ".2g"),
    ]
