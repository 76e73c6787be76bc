"""How many tests were made, how many do not agree, and how many would not by chance alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dysonflow.analysis.laws import AGREES
from dysonflow.report.page.contents import Contents
from dysonflow.report.page.markup import Cell, Column, number, table
from dysonflow.report.page.verdicts import Verdict, coefficients, p_value

LEVEL = p_value(AGREES)
"""p-value below which a test counts as one that does not agree: that of `AGREES` errors."""
FULL, APPROXIMATE = "full theory", "approximation"
WITH_KNOWLEDGE = "moments"
"""Method of the increments that knows the moments of theory; the other is an approximation."""
OF_BLOCKS = {
    "gap_law_p_value": ("gaps of a pair on the law of theory, scale fitted", FULL),
    "angle_p_value": ("eigenvectors of a pair uniform in their plane", FULL),
    "surmise_p_value": ("gaps of a pair on the Wigner surmise, scale fitted", APPROXIMATE),
    "density_p_value": ("levels of a block on the density of a block on its own", APPROXIMATE),
}
OF_BULK = {
    "bulk_p_value": ("bulk on the Marchenko-Pastur law", APPROXIMATE),
    "spacing_p_value": ("spacings of the bulk on the Wigner surmise", APPROXIMATE),
}
"""Columns of p-values, what they test, and whether that should hold at any strength of noise."""


class Test(NamedTuple):
    """One test: its p-value, and where it was made."""

    p_value: float
    place: str


@dataclass(frozen=True)
class Family:
    """Tests of one hypothesis.

    Attributes
    ----------
    name : str
        What is tested.
    theory : str
        `FULL`: it should hold wherever it is tested. `APPROXIMATE`: to leading order in the noise,
        or as a rule of thumb, and it is known to end.
    tests : sequence of Test
        All of them.
    """

    name: str
    theory: str
    tests: Sequence[Test]

    @property
    def differing(self) -> int:
        """Tests that do not agree at `LEVEL`."""
        return sum(test.p_value <= LEVEL for test in self.tests)

    @property
    def by_chance(self) -> float:
        """How many would on average if the hypothesis holds, however they depend on each other."""
        return LEVEL * len(self.tests)

    @property
    def furthest(self) -> Test:
        """The one with the smallest p-value."""
        return min(self.tests)

    @property
    def corrected(self) -> float:
        """Its p-value times the number of tests (Bonferroni), which bounds the chance of one."""
        return min(1.0, self.furthest.p_value * len(self.tests))


def families(contents: Contents, found: Sequence[Verdict]) -> list[Family]:
    """All families with at least one test, those of the full theory first."""
    made: dict[tuple[str, str], list[Test]] = {}
    for name, theory, test in [*_of_laws(found), *_of_blocks(contents), *_of_bulk(contents)]:
        if math.isfinite(test.p_value):
            made.setdefault((name, theory), []).append(test)
    several = [Family(name, theory, tests) for (name, theory), tests in made.items()]
    return sorted(several, key=lambda one: one.theory != FULL)


def _of_laws(found: Sequence[Verdict]) -> Iterator[tuple[str, str, Test]]:
    for one in found:
        is_law = bool(one.verdict)
        if one.pull_full_theory is not None:
            kind = "laws of studies" if is_law else f"{one.law.partition(',')[0]}"
            sure = is_law or one.law.endswith(f", {WITH_KNOWLEDGE}")
            if not is_law and not sure:
                kind += ", without knowledge of the machine"
            theory = FULL if sure else APPROXIMATE
            yield kind, theory, Test(p_value(one.pull_full_theory), one.place)
        if one.pull is not None:
            kind = "laws of studies, to leading order" if is_law else "linear scaling rule"
            yield kind, APPROXIMATE, Test(p_value(one.pull), one.place)
        if is_law and one.scatter is not None:
            kind = "points about the fitted law"
            yield kind, APPROXIMATE, Test(one.scatter, one.place)


def _of_blocks(contents: Contents) -> Iterator[tuple[str, str, Test]]:
    for row in contents.fits:
        place = f"run {row['run']}, layer {row['layer']}, block {row['block']}"
        for name in coefficients(row):
            if row[f"pull_{name}"] is not None:
                text = f"{name.replace('_', ' ')} of a block"
                yield text, FULL, Test(p_value(row[f"pull_{name}"]), place)
        for column, (text, theory) in OF_BLOCKS.items():
            if row[column] is not None and not (theory == FULL and row["beyond_theory"]):
                yield text, theory, Test(row[column], place)


def _of_bulk(contents: Contents) -> Iterator[tuple[str, str, Test]]:
    for row in contents.bulk:
        for column, (text, theory) in OF_BULK.items():
            if row[column] is not None:
                yield text, theory, Test(row[column], f"run {row['run']}, layer {row['layer']}")


def summary(found: Sequence[Family]) -> str:
    """The tests against the full theory, in words."""
    full = [one for one in found if one.theory == FULL]
    if not full:
        return "Nothing was tested against a full theory: no study here has one."
    together = Family("", FULL, [test for one in full for test in one.tests])
    return (
        f"{together.differing} of {len(together.tests)} tests against the full theory do not agree "
        f"at p = {LEVEL:.2g} ({AGREES:g} errors); by chance alone it would be "
        f"{together.by_chance:.1f} on average. The furthest (p = {together.furthest.p_value:.2g}: "
        f"{together.furthest.place}) has p = {together.corrected:.2g} once it is corrected for "
        "having looked at all of them."
    )


def chance_table(found: Sequence[Family]) -> str:
    """All families as a table."""
    rows: list[list[Cell | str]] = [
        [
            *(one.name, one.theory, number(len(one.tests), "d")),
            Cell(str(one.differing), one.differing, _mark(one)),
            *(number(one.by_chance, ".2g"), number(one.furthest.p_value, ".2g")),
            *(number(one.corrected, ".2g"), one.furthest.place),
        ]
        for one in found
    ]
    return table(
        "Tests by what they test",
        f"do not agree: with p below {LEVEL:.2g}. by chance: how many would "
        "not on average, if the hypothesis holds. corrected: smallest p times the number of tests "
        "(Bonferroni), for it was looked for among all of them. Many tests share levels, so they "
        "are not independent: the average number by chance and the bound hold all the same, the "
        "scatter about the average is larger. An approximation ends where the noise is strong, "
        "and does not agree there, as expected. Coloured: more than by chance, and the furthest "
        f"is no chance either (corrected p below {LEVEL:.2g}); red where the full theory is "
        "concerned.",
        [
            *(Column("hypothesis"), Column("compared with", is_choice=True), Column("tests", True)),
            *(Column("do not agree", True), Column("by chance", True), Column("smallest p", True)),
            *(Column("corrected", True), Column("where the smallest is")),
        ],
        rows,
    )


def _mark(family: Family) -> str:
    if family.differing <= family.by_chance or family.corrected >= LEVEL:
        return ""
    return "differs" if family.theory == FULL else "expected"
