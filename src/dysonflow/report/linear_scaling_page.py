"""Tests of the linear scaling rule as a page of the report."""

from collections.abc import Sequence
from typing import Any

from dysonflow.analysis.linear_scaling import TEXTS
from dysonflow.analysis.noise_response import ALL
from dysonflow.report import html
from dysonflow.report.quoting import quote

HEADS = ["runs with", "layer", "quantity", "law", "points", "value", "linear rule", "pull"]
HEADS += ["chi2/dof", "p", "holds up to a =", "fails from a ="]


def linear_scaling_page(study: str, rows: Sequence[dict[str, Any]]) -> str:
    """Laws of all levels together, as a small HTML page for the report.

    Parameters
    ----------
    study : str
        Name of the study.
    rows : sequence of mapping
        Rows of `linear_scaling.parquet`.
    """
    shown = sorted(
        (row for row in rows if row["level"] == ALL),
        key=lambda row: (row["family"], row["layer"], row["quantity"]),
    )
    return html.page(
        "Linear scaling rule",
        f"<h3>Does only a/B count in study {study}?</h3>\n"
        + html.table(HEADS, [_cells(row) for row in shown])
        + "<p>In parentheses the error in the last two digits. Rows of single levels are in the "
        "table of the study. pull: distance from what the linear scaling rule says at small noise, "
        "in errors; holds up to, fails from: largest effective learning rate below which every "
        "ratio is 1 within three errors, smallest at which one is not.</p>\n"
        + "\n".join(f"<p>{law}: {html.code(text)}</p>" for law, text in TEXTS.items())
        + "\n",
    )


def _cells(row: dict[str, Any]) -> list[str]:
    def show(name: str, pattern: str) -> str:
        return "" if row.get(name) is None else format(row[name], pattern)

    return [
        *(row["family"], row["layer"], row["quantity"], row["law"], str(row["points"])),
        *(quote(row["value"], row["error"]), show("expected", "g"), show("pull", "+.1f")),
        *(f"{show('chi2', '.1f')}/{show('dof', 'd')}".strip("/"), show("p_value", ".2g")),
        *(show("holds_up_to", "g"), show("fails_from", "g")),
    ]
