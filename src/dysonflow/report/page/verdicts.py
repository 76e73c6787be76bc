"""Laws, linear scaling rule and equation of motion: measured, theory, and agreement in words."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from dysonflow.analysis.laws import AGREES, DIFFERS, LAWS
from dysonflow.analysis.laws import agreement as in_words
from dysonflow.report.page.contents import Contents
from dysonflow.report.page.markup import (
    Cell,
    Column,
    definitions,
    measured,
    number,
    table,
)

COLUMNS = [
    Column("law"),
    Column("study", is_choice=True),
    Column("measured", is_number=True),
    Column("law says", is_number=True),
    Column("agreement with the law", is_choice=True),
    Column("full theory", is_number=True),
    Column("agreement with the full theory", is_choice=True),
    Column("p", is_number=True),
    Column("verdict", is_choice=True),
    Column("p of the scatter", is_number=True),
    Column("points", is_number=True),
    Column("over"),
    Column("system", is_choice=True),
    Column("layer", is_choice=True),
]


@dataclass(frozen=True)
class Verdict:
    """What was measured of a law, and what theory says.

    Attributes
    ----------
    law, study, system, layer : str
        Which law, and where it was tested.
    value, error : float
        Measured, and its standard error.
    law_says, pull : float, optional
        What the law says, and the distance from it in errors.
    full_theory, pull_full_theory : float, optional
        Likewise of the full theory.
    points : int
        Numbers that entered.
    over : str
        Which runs of the study they are of.
    scatter : float, optional
        p-value of the points about the fitted law.
    verdict : str
        That of the table of laws.
    """

    law: str
    study: str
    system: str
    layer: str
    value: float
    error: float
    points: int
    over: str = "all runs"
    law_says: float | None = None
    pull: float | None = None
    full_theory: float | None = None
    pull_full_theory: float | None = None
    scatter: float | None = None
    verdict: str = ""

    @property
    def sharpest(self) -> float | None:
        """Distance from the full theory, or from the law where there is no such theory."""
        return self.pull if self.pull_full_theory is None else self.pull_full_theory

    @property
    def departs_as_expected(self) -> bool:
        """Whether the full theory agrees, so that no law to leading order need hold."""
        return self.pull_full_theory is not None and abs(self.pull_full_theory) < AGREES

    @property
    def place(self) -> str:
        """Where it was tested, in words."""
        return f"{self.law}, {self.over} of study {self.study}, layer {self.layer}"


def p_value(pull: float) -> float:
    """Probability that a standard normal number lies at least as far from zero."""
    return math.erfc(abs(pull) / math.sqrt(2.0))


def agreement(pull: float | None, is_expected: bool = False) -> Cell:
    """Agreement in words; empty where nothing is compared.

    Parameters
    ----------
    pull : float, optional
        Distance in errors.
    is_expected : bool
        Whether a difference is no surprise, and not shown as one.
    """
    if pull is None or not math.isfinite(pull):
        return Cell(choice="not compared")
    found = in_words(pull)
    if found == "agrees":
        return Cell(found, abs(pull), found, found)
    words = f"{found} ({abs(pull):.1f} errors)"
    return Cell(words, abs(pull), "expected" if is_expected else "differs", found)


def verdicts(contents: Contents) -> list[Verdict]:
    """All verdicts, the laws of studies first; without what a study has no points for."""
    found = [*_laws(contents), *_linear_scaling(contents), *_motion(contents)]
    return [one for one in found if math.isfinite(one.value)]


def _laws(contents: Contents) -> Iterator[Verdict]:
    for row in contents.laws:
        kind = "exponent" if row["slope"] is None else "slope"
        if row[kind] is None:
            continue
        yield Verdict(
            *(row["law"], row["study"], contents.studies[row["study"]]["model"], row["layer"]),
            *(row[kind], row[f"{kind}_error"], row["points"]),
            law_says=row[f"{kind}_theory"],
            pull=row["pull"],
            full_theory=row[f"{kind}_full_theory"],
            pull_full_theory=row["pull_full_theory"],
            scatter=row["p_value"],
            verdict=row["verdict"],
        )


def _linear_scaling(contents: Contents) -> Iterator[Verdict]:
    if not contents.linear_scaling:
        return
    # Only here, for it takes pandas.
    from dysonflow.analysis.noise_response import ALL

    for row in contents.linear_scaling:
        if row["level"] != ALL or row["value"] is None:
            continue
        yield Verdict(
            law=f"{row['law']} of {row['quantity']}",
            study=row["study"],
            system=contents.studies[row["study"]]["model"],
            layer=row["layer"],
            value=row["value"],
            error=row["error"],
            points=row["points"],
            over=f"runs with {row['family']}",
            law_says=row["expected"],
            pull=row["pull"],
            scatter=row["p_value"],
        )


def _motion(contents: Contents) -> Iterator[Verdict]:
    for row in contents.increments:
        for name in coefficients(row):
            if row[name] is None:
                continue
            yield Verdict(
                law=f"{name.replace('_', ' ')} of the motion, lag {row['lag']}, {row['method']}",
                study=", ".join(contents.studies_of(row["run"])),
                system=row["model"],
                layer=row["layer"],
                value=row[name],
                error=row[f"{name}_error"],
                points=row["samples"],
                over=f"run {row['run']}",
                full_theory=row[f"{name}_theory"],
                pull_full_theory=row[f"pull_{name}"],
            )


def coefficients(row: dict[str, object]) -> list[str]:
    """Names of what is compared with theory in a row of a table."""
    return [name.removeprefix("pull_") for name in row if name.startswith("pull_")]


def summary(found: list[Verdict], contents: Contents) -> str:
    """How many laws were tested, and with which verdicts, in words."""
    counts = Counter(one.verdict for one in found if one.verdict)
    untested = sum(not row["verdict"] for row in contents.laws)
    if not counts:
        return "No law was tested: no study has fitted pairs of degenerate levels."
    words = "; ".join(f"{text}: {count}" for text, count in counts.most_common())
    missing = f" For {untested} more the studies have no points." if untested else ""
    expected = ""
    if any("expected" in text for text in counts):
        expected = " As expected: of a law to leading order, where the full theory agrees."
    tested = f"{counts.total()} laws were tested over the runs of studies. "
    return f"{tested}{words}.{expected}{missing}"


def verdict_table(found: list[Verdict]) -> str:
    """All verdicts as a table, with what its columns and the laws say."""
    rows: list[list[Cell | str]] = [
        [
            *(one.law, one.study, measured(one.value, one.error), number(one.law_says)),
            agreement(one.pull, is_expected=one.departs_as_expected),
            *(number(one.full_theory), agreement(one.pull_full_theory)),
            number(None if one.sharpest is None else p_value(one.sharpest), ".2g"),
            *(one.verdict, number(one.scatter, ".2g"), number(one.points, "d")),
            *(one.over, one.system, one.layer),
        ]
        for one in found
    ]
    used = {one.law for one in found}
    known = definitions([(law.name, law.text) for law in LAWS if law.name in used])
    return (
        table(
            "Laws against theory",
            "In parentheses the standard error of the last two digits. law says: to leading order "
            "in the noise. full theory: what the same fit finds through the predictions of the "
            f"full theory, which has no free parameter. agrees: within {AGREES:g} errors; in "
            f"tension: within {DIFFERS:g}; differs: beyond. Yellow, and as expected: where the "
            "full theory agrees although the law does not. p: of the distance from the full "
            "theory, or from the law where there is none. p of the scatter: of the points about "
            "the fitted law.",
            COLUMNS,
            rows,
            "results/studies/ and the increments of the runs",
        )
        + f"<details><summary>What each law of a study says</summary>{known}</details>\n"
    )
