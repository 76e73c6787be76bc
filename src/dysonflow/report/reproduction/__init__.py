"""The statements of the papers against what was measured, as one document.

Every number in it is computed from tables of the workflow; the text around them is fixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dysonflow.analysis.laws import AGREES, DIFFERS
from dysonflow.report import html
from dysonflow.report.reproduction.checks import FALSE_DISCOVERY_RATE, Check
from dysonflow.report.reproduction.departures import departures
from dysonflow.report.reproduction.motion import motion_checks
from dysonflow.report.reproduction.overviews import cost_table, point_table, pull_table
from dysonflow.report.reproduction.phases import phase_checks
from dysonflow.report.reproduction.sections import SECTIONS
from dysonflow.report.reproduction.study import MotionTables, PhaseTables, StudyTables
from dysonflow.report.roles import ROLES

FIGURES = [
    ("gaussian_rbm", "density of lambda at three learning rates", ["spectrum_lambda"]),
    ("gaussian_rbm", "density of x at three learning rates", ["spectrum_x"]),
    (
        "gaussian_rbm",
        "gaps of each pair over B, raw and rescaled",
        [f"gap_distribution_batch_size_pair{pair}" for pair in (1, 2, 3, 4)],
    ),
    (
        "gaussian_rbm",
        "gaps of each pair over a, raw and rescaled",
        [f"gap_distribution_learning_rate_pair{pair}" for pair in (1, 2, 3, 4)],
    ),
    ("gaussian_rbm", "`<S>` against sqrt(a/B kappa^2 Omega)", ["mean_gap"]),
    ("gaussian_rbm", "`sqrt(pi) sigma` against the same", ["sigma"]),
    ("gaussian_rbm", "`<S>` against `sqrt(pi) sigma`", ["gap_against_sigma"]),
    ("gaussian_rbm", "density of a pair with the closed form", ["block_density"]),
    ("gaussian_rbm", "lambda_fit / kappa of all modes against a/B", ["centre"]),
    ("teacher_student", "density of levels at three strengths of noise", ["spectrum"]),
    (
        "teacher_student",
        "gaps over epsilon, a and B, raw and rescaled",
        [
            "gap_distribution_noise_scale_pair1",
            "gap_distribution_learning_rate_pair1",
            "gap_distribution_batch_size_pair1",
        ],
    ),
    ("teacher_student", "`<S>` against sqrt(a A/B)", ["mean_gap"]),
    ("teacher_student", "`sqrt(pi) sigma` against the same", ["sigma"]),
    ("teacher_student", "`<S>` against `sqrt(pi) sigma`", ["gap_against_sigma"]),
    ("teacher_student", "density of a pair with the closed form", ["block_density"]),
    ("shared_data", "scatter of runs on one training set", ["shared_data"]),
    ("semicircle", "density of 4, 16, 64 equal levels", ["semicircle"]),
    ("linear_network", "density of the levels of the product", ["product/spectrum"]),
    ("linear_network", "`<S>` of the product against its variable", ["product/mean_gap"]),
    ("linear_network", "pulls of all quantities about theory", ["product/pulls"]),
    ("phase_diagram", "loss, gradient, overlaps, singular values", ["phase_diagram"]),
    ("phase_diagram", "regimes", ["regimes"]),
    ("phase_diagram", "levels in time in each regime", ["regime_levels"]),
    ("phase_diagram", "drift against diffusion of the singular values", ["drift_and_diffusion"]),
    *(
        (role, what, [name])
        for role in ("gaussian_rbm_motion", "teacher_student_motion")
        for what, name in (
            ("repulsion, diffusion and drift of the levels", "motion"),
            ("Dyson index of the motion", "motion_index"),
        )
    ),
]
"""Figures of the paper and beyond it: whose, what it shows, names."""


@dataclass(frozen=True)
class Table:
    """A table of the document."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def document(
    studies: Mapping[str, StudyTables],
    moving: Mapping[str, MotionTables] | None = None,
    phases: Mapping[str, PhaseTables] | None = None,
) -> list[str | Table]:
    """The whole document: paragraphs, headings marked as in Markdown, and tables.

    Parameters
    ----------
    studies : mapping
        Role, one of `ROLES`, to study; sections of roles that are not there are left out.
    moving : mapping, optional
        Likewise of the roles whose increments are compared.
    phases : mapping, optional
        Likewise of those whose phases are.
    """
    moving, phases = moving or {}, phases or {}
    everything: dict[str, StudyTables | MotionTables | PhaseTables]
    everything = {**studies, **moving, **phases}
    papers = dict.fromkeys(ROLES[role].paper for role in everything)
    parts: list[str | Table] = [
        "# The paper against the results",
        "Made by the rule `reproduction` from the tables of the studies; do not edit. "
        f"`make {'phase-diagram' if phases else 'paper'}` makes it anew.",
        f"The statements are those of {'; '.join(papers)}. An error in "
        "parentheses is one standard error in the last digits, from whole replicas. No theory has "
        f"a free parameter. A number agrees with theory within {AGREES:g} errors and differs from "
        f"it beyond {DIFFERS:g}; a p-value is taken for the number of errors it is worth, the "
        "smallest of many corrected for their number. Rejected: at a false discovery rate of "
        f"{FALSE_DISCOVERY_RATE:.0%}.",
        Table(
            ["study", "stands for"],
            [[f"`{study.name}`", ROLES[role].text] for role, study in everything.items()],
        ),
        "Formulas for a small step or weak noise are compared at all points of the paper at which "
        "the full theory is taken at its word, also where they are expected to differ: `as "
        f"expected` if that theory, fitted in the same way, is within {AGREES:g} errors of what "
        "was measured.",
    ]
    for role, study in studies.items():
        for title, checks in SECTIONS[role](study):
            parts += [f"## {title}", _checks(checks)]
    for role, motion in moving.items():
        parts += [
            f"## The equation of motion: {ROLES[role].text}",
            "dx_i = K_i dt + sum_j g^2/(x_i - x_j) dt + sqrt(2) g dB_i, measured from increments "
            "of the eigenvalues of W^T W. Mean and covariance of each step are those that theory "
            "gives for the weights at hand (docs/motion.md).",
            _checks(motion_checks(motion.increments)),
        ]
    for role, diagram in phases.items():
        parts += [
            f"## The phase diagram: {ROLES[role].text}",
            "Points are runs at a/B and the width s of the start; their regimes are told apart by "
            "thresholds that are ours (docs/phase_diagram.md), so that what has no error has no "
            "verdict.",
            _checks(phase_checks(diagram.points)),
        ]
    left = departures(studies)
    if left:
        parts += [
            "## Where the protocol leaves the small-step theory",
            "Theory: the exact finite-step formula (teacher-student), the law of the whole matrix "
            "(RBM).",
            _checks(left),
        ]
    if studies:
        parts += [
            "## Pulls over all runs and blocks",
            "(estimate - theory) / error should be a standard normal number; p is that of a "
            "Kolmogorov-Smirnov test. Blocks beyond the range of their theory have none (`flag` in "
            "`fits.parquet`). The theory of released weights is that for fresh inputs, which they "
            "did not have.",
            Table(
                ["study", "quantity", "number", "mean", "variance", "largest", "p"],
                pull_table(studies),
            ),
        ]
    heads = ["a", "B", "epsilon", "kappa", "measured", "theory", "pull", "p of surmise"]
    for role in ("gaussian_rbm", "teacher_student"):
        if role in studies:
            parts += [
                f"## Point by point: {studies[role].name}",
                "Mean gap over the small-step formula for a pair on its own.",
                Table(heads, point_table(studies[role])),
            ]
    shown = []
    for role, what, names in FIGURES:
        if role not in everything:
            continue
        drawn = [name for name in names if name in everything[role].figures]
        paths = [f"`results/figures/{everything[role].name}/{name}.png`" for name in drawn]
        shown += [[what, ", ".join(paths)]] if paths else []
    return [
        *parts,
        "## Figures",
        Table(["what it shows", "files"], shown),
        "## Cost",
        "Core-seconds on the machine that made these results; a replica-step is one SGD step of "
        "one replica.",
        Table(
            ["study", "runs", "replica-steps", "training", "spectra and fits"],
            cost_table({**studies, **phases}),
        ),
    ]


def _checks(checks: Sequence[Check | None]) -> Table:
    return Table(
        ["statement", "measured", "theory", "distance", "verdict"],
        [
            [check.statement, check.measured, check.theory, check.shown_distance, check.verdict]
            for check in checks
            if check is not None
        ],
    )


def markdown(parts: Sequence[str | Table]) -> str:
    """The document as Markdown."""
    return "\n\n".join(_markdown_table(p) if isinstance(p, Table) else p for p in parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads), *table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def html_page(parts: Sequence[str | Table]) -> str:
    """The document as an HTML page for the report."""
    body = "\n".join(_html_table(p) if isinstance(p, Table) else _html_text(p) for p in parts)
    return html.page("The paper against the results", body)


def _html_table(table: Table) -> str:
    return html.table(
        [html.code(head) for head in table.heads],
        [[html.code(cell) for cell in row] for row in table.rows],
    )


def _html_text(text: str) -> str:
    for marks, tag in (("## ", "h3"), ("# ", "h2")):
        if text.startswith(marks):
            return f"<{tag}>{html.code(text.removeprefix(marks))}</{tag}>"
    return f"<p>{html.code(text)}</p>"
