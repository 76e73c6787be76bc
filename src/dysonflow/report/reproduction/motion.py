"""The paper's equation of motion for the eigenvalues, term by term, as measured."""

import pandas as pd

from dysonflow.analysis.increments import FREE, MOMENTS, QUANTITIES
from dysonflow.report.reproduction.checks import Check, estimate

TERMS = {
    "drift": "relaxation rate over theory",
    "diffusion": "diffusion over theory",
    "repulsion": "coefficient of 1/(x_i - x_j) over theory",
    "dyson_index": "Dyson index, repulsion over half of the diffusion",
}
"""What is said of each quantity."""


def motion_checks(increments: pd.DataFrame) -> list[Check | None]:
    """Every term of the motion for every run and lag, with the moments that theory gives.

    Parameters
    ----------
    increments : pandas.DataFrame
        Increments of a study. Rows with a flag are left out.

    Returns
    -------
    list of Check
        Of the Dyson index from the levels alone at the smallest lag as well.
    """
    rows = increments[increments["flag"] == ""]
    checks: list[Check | None] = []
    known = rows[(rows["method"] == MOMENTS) & rows["drift_theory"].notna()]
    for _, row in known.iterrows():
        for name in QUANTITIES:
            scale = 1.0 if name == "dyson_index" else row[f"{name}_theory"]
            checks.append(
                estimate(
                    f"{_place(row)}: {TERMS[name]}",
                    row[name] / scale,
                    row[f"{name}_error"] / abs(scale),
                    row[f"{name}_theory"] / scale,
                )
            )
    free = rows[(rows["method"] == FREE) & (rows["lag"] == rows["lag"].min())]
    for _, row in free.iterrows():
        theory = row["dyson_index_theory"] if pd.notna(row["dyson_index_theory"]) else 1.0
        statement = f"{_place(row)}: Dyson index from the levels alone"
        checks.append(estimate(statement, row["dyson_index"], row["dyson_index_error"], theory))
    return checks


def _place(row: pd.Series) -> str:
    words = [f"a = {row['learning_rate']:g}, B = {row['batch_size']:g}"]
    for name in ("sampler", "data"):
        value = row.get(name)
        words += [str(value)] if isinstance(value, str) else []
    return f"{', '.join(words)}, lag {row['lag']}"
