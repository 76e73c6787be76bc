"""A statement, what was measured, what theory says, and the verdict."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from dysonflow.analysis.laws import Law, verdict
from dysonflow.report.quoting import quote
from dysonflow.statistics.goodness import benjamini_hochberg
from dysonflow.statistics.lines import chi2_p_value, fit_line, weighted_mean

FALSE_DISCOVERY_RATE = 0.01


@dataclass(frozen=True)
class Check:
    """One statement, what was measured, and what theory says.

    Attributes
    ----------
    statement : str
        In words.
    measured, theory : str
        As shown.
    distance : float
        From theory in standard errors, or what a p-value is worth in them.
    shown_distance : str
        As shown.
    expected : float
        Distance from what the full theory lets be found instead; NaN where it says nothing else.
    """

    statement: str
    measured: str
    theory: str
    distance: float
    shown_distance: str
    expected: float = math.nan

    @property
    def verdict(self) -> str:
        """`agrees`, `in tension`, `differs`; empty where nothing was measured.

        What does not agree may still be what the full theory expects of the formula.
        """
        if math.isnan(self.distance):
            return ""
        return verdict(self.distance, self.expected)


def estimate(
    statement: str, value: float, error: float, theory: float, theory_error: float = 0.0
) -> Check:
    """A number with its error against one of theory."""
    distance = (value - theory) / math.hypot(error, theory_error)
    said = quote(theory, theory_error) if theory_error > 0 else f"{theory:.5g}"
    return Check(statement, quote(value, error), said, distance, f"{distance:+.1f} errors")


def goodness(statement: str, chi2: float, dof: int, theory: str) -> Check:
    """A sum of squared distances from theory."""
    return with_p_value(statement, f"chi2/dof = {chi2:.1f}/{dof}", theory, chi2_p_value(chi2, dof))


def many_tests(statement: str, p_values: pd.Series, theory: str) -> Check | None:
    """Many tests of one hypothesis: rejections at a false discovery rate; smallest p-value.

    The verdict is that of the smallest p-value, corrected for the number of tests (Bonferroni).
    """
    values = p_values.dropna().to_numpy()
    if not len(values):
        return None
    rejected = int(benjamini_hochberg(values, FALSE_DISCOVERY_RATE)[0].sum())
    corrected = min(1.0, float(values.min()) * len(values))
    return with_p_value(
        statement,
        f"{rejected} of {len(values)} tests rejected (smallest p = {values.min():.2g})",
        theory,
        corrected,
    )


def with_p_value(statement: str, measured: str, theory: str, p_value: float) -> Check:
    """A single test; its p-value is turned into standard errors (two-sided)."""
    distance = float(-special.ndtri(max(p_value, 1e-300) / 2.0))
    return Check(statement, measured, theory, distance, f"p = {p_value:.2g}")


def law(statement: str, laws: pd.DataFrame, tested: Law) -> Check | None:
    """Slope or exponent of a law of the scaling table; None if the study has no points for it."""
    kind = "exponent" if tested.kind == "exponent" else "slope"
    if tested.name not in laws.index or math.isnan(laws.loc[tested.name, kind]):
        return None
    row = laws.loc[tested.name]
    found = estimate(statement, row[kind], row[f"{kind}_error"], row[f"{kind}_theory"])
    return replace(found, expected=float(row["pull_full_theory"]))


def mean_gap_over_theory(statement: str, rows: pd.DataFrame) -> Check | None:
    """Slope of the mean gaps against the full theory; errors with those of theory."""
    rows = rows[rows["mean_gap"].notna()]
    if rows.empty:
        return None
    value, theory = rows["mean_gap"], rows["mean_gap_theory"]
    error = np.hypot(rows["mean_gap_error"], rows["mean_gap_theory_error"])
    points = (theory, value, error, rows["samples"].astype(float))
    line = fit_line(*(column.to_numpy() for column in points))
    return estimate(statement, line.slope, line.slope_error, 1.0)


def mean_over_theory(statement: str, rows: pd.DataFrame, name: str) -> Check | None:
    """Mean of a dimensionless number over blocks of equal size, beside that of the full theory.

    Parameters
    ----------
    statement : str
        In words.
    rows : pandas.DataFrame
        Fits.
    name : str
        Column of the number; the weights are the samples, the error contains that of theory.
    """
    rows = rows[rows[f"pull_{name}"].notna()]
    if rows.empty:
        return None
    error = np.hypot(rows[f"{name}_error"], rows[f"{name}_theory_error"])
    value = weighted_mean(rows[name], error, rows["samples"])
    theory, _ = weighted_mean(rows[f"{name}_theory"], 0.0 * error, rows["samples"])
    return estimate(statement, *value, theory)


def squares(statement: str, pulls: pd.Series, theory: str) -> Check | None:
    """Pulls of independent points as a chi2."""
    values = pulls.dropna()
    if values.empty:
        return None
    return goodness(statement, float(np.square(values).sum()), len(values), theory)
