"""Laws of a study as a page of the report."""

import math
from collections.abc import Sequence
from typing import Any

from dysonflow.analysis.laws import LAWS
from dysonflow.report import html
from dysonflow.report.quoting import quote


def scaling_page(study: str, rows: Sequence[dict[str, Any]]) -> str:
    """Laws of a study as a small HTML page for the report.

    Parameters
    ----------
    study : str
        Name of the study.
    rows : sequence of mapping
        Rows of `scaling.parquet`; their layer is shown where there are several.
    """
    several = len({row["layer"] for row in rows}) > 1
    heads = ["law", "points", "slope", "law says", "full theory", "exponent", "law says"]
    heads += ["full theory", "pull", "verdict", "chi2/dof", "p"]
    return html.page(
        "Scaling laws",
        f"<h3>Scaling laws of study {study}</h3>\n"
        + html.table(
            [*(["layer"] if several else []), *heads],
            [[*([row["layer"]] if several else []), *_cells(row)] for row in rows],
        )
        + "<p>In parentheses the error in the last two digits. slope: weighted fit through the "
        "origin, of the pairs at which the full theory is taken at its word; full theory: what the "
        "same fit finds through its predictions; pull: distance of the slope, or else of the "
        "exponent, from what the law says, in errors; "
        "chi2/dof and p: of the points about the fitted line; exponent: of the stochasticity "
        "(learning rate / batch size).</p>\n"
        + "\n".join(
            f"<p>{law.name}: {html.code(law.text)}</p>"
            for law in LAWS
            if any(row["law"] == law.name for row in rows)
        )
        + "\n",
    )


def _cells(row: dict[str, Any]) -> list[str]:
    def show(name: str, pattern: str = ".4f") -> str:
        return "" if row.get(name) is None else format(row[name], pattern)

    def pair(name: str) -> str:
        if row.get(name) is None:
            return ""
        error = row.get(f"{name}_error")
        return quote(row[name], math.nan if error is None else error)

    return [
        *(row["law"], str(row["points"])),
        *(pair("slope"), show("slope_theory"), show("slope_full_theory")),
        *(pair("exponent"), show("exponent_theory", ".1f"), show("exponent_full_theory")),
        *(show("pull", "+.1f"), row.get("verdict") or ""),
        *(f"{show('chi2', '.1f')}/{show('dof', 'd')}".strip("/"), show("p_value", ".2g")),
    ]
