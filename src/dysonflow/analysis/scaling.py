"""Laws across the runs of a study: slopes and exponents against the theory's variable."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dysonflow.analysis import scaling_tests
from dysonflow.analysis.columns import fitted_pairs
from dysonflow.analysis.fits import within_theory
from dysonflow.analysis.laws import LAWS, Law, verdict
from dysonflow.statistics.lines import Line, fit_line

SCALING_SCHEMA = pa.schema(
    [
        pa.field("study", pa.string(), False),
        pa.field("layer", pa.string(), False),
        pa.field("law", pa.string(), False),
        pa.field("points", pa.int64(), False),
        *[
            pa.field(name + suffix, pa.float64())
            for name in ("slope", "exponent")
            for suffix in ("", "_error", "_theory", "_full_theory")
        ],
        pa.field("chi2", pa.float64()),
        pa.field("dof", pa.int64()),
        pa.field("p_value", pa.float64()),
        pa.field("pull", pa.float64()),
        pa.field("pull_full_theory", pa.float64()),
        pa.field("verdict", pa.string(), False),
    ]
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
        Fits of its runs. Pairs of degenerate levels that could be fitted enter, where the theory
        is taken at its word.
    slope_theory : float
        Slope of the mean gap against the variable, from the model's theory.
    hyperparameters : sequence of str
        Columns of the fits that hold hyperparameters.
    small_noise : float, optional
        Adds the laws over the runs with learning_rate / batch_size up to this.

    Returns
    -------
    list of dict
        One for each layer and law of `dysonflow.analysis.laws`; none of a model without
        learning_rate and batch_size. `pull` is the distance from what the law says in errors,
        `pull_full_theory` that from the same fit through the predictions of the full theory, and
        `verdict` says both in words.
    """
    if not {"learning_rate", "batch_size"} <= set(hyperparameters):
        return []
    rows = []
    for layer in fits["layer"].unique():
        pairs = within_theory(fitted_pairs(fits[fits["layer"] == layer]))
        predicted = _as_predicted(pairs)
        for law in LAWS:
            if law.small_noise and small_noise is None:
                continue
            given = (slope_theory, hyperparameters, small_noise)
            found = _law_row(law, pairs, *given)
            found |= _against_full_theory(found, _law_row(law, predicted, *given))
            rows.append({"study": study, "layer": layer, "law": law.name, **found})
    return rows


def _as_predicted(pairs: pd.DataFrame) -> pd.DataFrame:
    """The same points, each where the full theory has it; without those it has no numbers for."""
    names = ["mean_gap", "sigma", "gap_ratio"]
    known = pairs[pairs[[f"{name}_theory" for name in names]].notna().all(axis=1)]
    return known.assign(**{name: known[f"{name}_theory"] for name in names})


def _against_full_theory(found: Mapping[str, Any], predicted: Mapping[str, Any]) -> dict[str, Any]:
    """What the full theory lets a law find at these points, and the verdict."""
    kind = "exponent" if found.get("slope") is None else "slope"
    value, expected = found.get(kind), predicted.get(kind)
    if value is None:
        return {"verdict": ""}
    row: dict[str, Any] = {}
    if expected is not None and predicted["points"] == found["points"]:
        row[f"{kind}_full_theory"] = expected
        row["pull_full_theory"] = (value - expected) / found[f"{kind}_error"]
        if kind == "slope" and not pd.isna(predicted.get("exponent")):
            row["exponent_full_theory"] = predicted["exponent"]
    return row | {"verdict": verdict(found["pull"], row.get("pull_full_theory"))}


def _ordinate(law: Law, pairs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """What is on the y axis of a law, and its errors."""
    if law.quantity == "sigma":
        return np.sqrt(np.pi) * pairs["sigma"], np.sqrt(np.pi) * pairs["sigma_error"]
    if law.quantity == "gap_over_sigma":
        # Both axes come from the same levels: the error of their ratio is the one that counts.
        return pairs["mean_gap"], pairs["mean_gap"] * pairs["gap_ratio_error"] / pairs["gap_ratio"]
    return pairs["mean_gap"], pairs["mean_gap_error"]


def _abscissa(law: Law, pairs: pd.DataFrame) -> pd.Series:
    """What is on the x axis of a law."""
    if law.variable == "sigma":
        return np.sqrt(np.pi) * pairs["sigma"]
    return 1.0 / pairs["batch_size"] if law.variable == "1/batch_size" else pairs[law.variable]


def _law_row(
    law: Law,
    pairs: pd.DataFrame,
    slope_theory: float,
    hyperparameters: Sequence[str],
    small_noise: float | None,
) -> dict[str, Any]:
    """Row of one law; an empty one where the study has no runs for it."""
    if law.kind == "equal stochasticity":
        found = scaling_tests.same_stochasticity_pairs(pairs, hyperparameters, law.variable)
        return scaling_tests.same_stochasticity_row(found)
    if law.small_noise and small_noise is not None:
        pairs = pairs[pairs["stochasticity"] <= small_noise * (1 + 1e-9)]
    value, error = (series.to_numpy() for series in _ordinate(law, pairs))
    variable = _abscissa(law, pairs).to_numpy()
    # Of pairs the expected relative errors of all that is fitted go as the inverse root of this.
    weight = pairs["samples"].to_numpy(dtype=float)
    if law.kind == "zero noise":
        noise, centre = pairs["stochasticity"], pairs["centre_block_formula"]
        return scaling_tests.zero_noise_row(
            variable, value, error, weight, noise.to_numpy(), centre.to_numpy(), slope_theory
        )
    if law.kind == "exponent":
        group = scaling_tests.groups(pairs, hyperparameters, law.free).to_numpy()
        return scaling_tests.exponent_row(variable, value, error, weight, group)
    slope = slope_theory if law.slope is None else law.slope
    return _line_row([variable, value, error, weight], slope, 0.5)


def _line_row(
    points: Sequence[np.ndarray], slope_theory: float, exponent_theory: float
) -> dict[str, Any]:
    row: dict[str, Any] = {
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
