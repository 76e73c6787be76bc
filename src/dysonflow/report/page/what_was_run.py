"""What was run: studies, runs, blocks of levels, and what is not to be taken at its word."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dysonflow.analysis.columns import INCIDENTAL
from dysonflow.report.page.contents import Contents
from dysonflow.report.page.markup import Cell, Column, measured, number, table
from dysonflow.report.page.verdicts import Verdict, agreement

LISTED = 4
"""Values of a sweep that are listed; of more the first and the last."""


def differing(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the hyperparameters in which some runs differ, what follows from others aside."""
    names = dict.fromkeys(name for one in values for name in one if name not in INCIDENTAL)
    return [name for name in names if any(one.get(name) != values[0].get(name) for one in values)]


def _swept(values: Sequence[Mapping[str, Any]]) -> str:
    """What differs between some runs, and from where to where, in words."""
    parts = []
    for name in differing(values):
        different = {repr(one[name]): one[name] for one in values if name in one}
        several = list(different.values())
        if all(isinstance(value, int | float) for value in several):
            several = sorted(several)
        shown = [_text(value) for value in several]
        if len(shown) > LISTED:
            shown = [f"{shown[0]} to {shown[-1]} ({len(shown)} values)"]
        parts.append(f"{name}: {', '.join(shown)}")
    return "; ".join(parts)


def _text(value: Any) -> str:
    return format(value, "g") if isinstance(value, float) else str(value)


def _range(values: Sequence[int]) -> Cell:
    low, high = min(values), max(values)
    return Cell(str(low) if low == high else f"{low} to {high}", high)


def studies_table(contents: Contents, found: Sequence[Verdict], anchors: Mapping[str, str]) -> str:
    """All studies: system, what is swept, how many runs, how many laws with which verdicts."""
    rows: list[list[Cell | str]] = []
    for name, study in contents.studies.items():
        values = [contents.runs[run]["hyperparameters"] for run in study["runs"]]
        own = Counter(one.verdict for one in found if one.study == name and one.verdict)
        blocks = [row for row in contents.fits if row["run"] in study["runs"]]
        flagged = sum(bool(row["flag"]) for row in blocks)
        rows.append(
            [
                *(Cell(name, link=anchors.get(name, "")), study["model"]),
                *(number(len(values), "d"), _swept(values) or "nothing"),
                _range([one["replicas"] for one in values]),
                _range([one["snapshots"] for one in values]),
                Cell(f"{len(blocks) - flagged} of {len(blocks)}", len(blocks) - flagged)
                if blocks
                else Cell(),
                "; ".join(f"{text}: {count}" for text, count in own.most_common()),
            ]
        )
    return table(
        "Studies",
        "swept: hyperparameters in which the runs differ. fitted: blocks of degenerate "
        "levels without a flag. laws: verdicts over the runs of the study.",
        [
            *(Column("study"), Column("system", is_choice=True), Column("runs", True)),
            *(Column("swept"), Column("replicas", True), Column("snapshots", True)),
            *(Column("fitted", True), Column("laws")),
        ],
        rows,
        "the configuration",
    )


def summary(contents: Contents) -> str:
    """How much was run, in words."""
    replicas = sum(one["hyperparameters"]["replicas"] for one in contents.runs.values())
    return (
        f"{_count(len(contents.studies), 'study', 'studies')} of "
        f"{_count(len(contents.systems), 'system')}: {_count(len(contents.runs), 'run')}, "
        f"{_count(replicas, 'replica')} of a machine in all."
    )


def _count(number: int, word: str, many: str = "") -> str:
    return f"{number} {word if number == 1 else many or f'{word}s'}"


def runs_table(contents: Contents) -> str:
    """All runs: hyperparameters in which they are unlike most of their system, and times."""
    seconds: dict[tuple[str, str], float] = {}
    for one in contents.made:
        if "run" in one.metadata:
            seconds[one.metadata["run"], one.kind] = one.seconds
    usual = {system: _usual(contents, system) for system in contents.systems}
    flagged = Counter(row["run"] for row in contents.fits if row["flag"])
    blocks = Counter(row["run"] for row in contents.fits)
    own = ("learning_rate", "batch_size", "replicas", "snapshots")
    rows: list[list[Cell | str]] = []
    for run, said in contents.runs.items():
        values = said["hyperparameters"]
        others = {
            name: value
            for name, value in values.items()
            if name not in (*own, *INCIDENTAL) and repr(value) != usual[said["model"]][name]
        }
        after = sum(
            time for (name, kind), time in seconds.items() if name == run and kind != "weights"
        )
        rows.append(
            [
                *(run, said["model"], ", ".join(contents.studies_of(run))),
                *(number(values.get(name), "g") for name in own),
                "; ".join(f"{name}: {_text(value)}" for name, value in others.items()),
                *(number(seconds.get((run, "weights")), ".1f"), number(after, ".1f")),
                *(number(blocks[run], "d"), number(flagged[run], "d")),
            ]
        )
    return table(
        "Runs",
        "training, analysis: seconds of the jobs. blocks: of degenerate levels that theory "
        "knows; flagged: those that could not be fitted, or whose fit is not to be taken at its "
        "word.",
        [
            *(Column("run"), Column("system", is_choice=True), Column("studies")),
            *(Column(name.replace("_", " "), True) for name in own),
            *(Column("unlike most runs of the system"), Column("training", True)),
            *(Column("analysis", True), Column("blocks", True), Column("flagged", True)),
        ],
        rows,
        "results/runs.parquet",
    )


def _usual(contents: Contents, system: str) -> dict[str, str]:
    """The value of each hyperparameter that most runs of a system have, as it is written."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in contents.runs.values():
        if one["model"] == system:
            for name, value in one["hyperparameters"].items():
                counts[name][repr(value)] += 1
    return {name: found.most_common(1)[0][0] for name, found in counts.items()}


def blocks_table(contents: Contents) -> str:
    """All fits of blocks of degenerate levels, against theory."""
    rows: list[list[Cell | str]] = [
        [
            *(row["run"], row["model"], row["layer"], number(row["block"], "d")),
            number(row["multiplicity"], "d"),
            *_compared(row, "centre", "centre"),
            *_compared(row, "sigma", "sigma"),
            *_compared(row, "mean_gap", "gap"),
            row["flag"],
        ]
        for row in contents.fits
    ]
    compared = [
        (
            Column(name, True),
            Column(f"{name}, theory", True),
            Column(f"{name}, agreement", is_choice=True),
        )
        for name in ("centre", "sigma", "mean gap")
    ]
    return table(
        "Blocks of degenerate levels",
        "Each block is fitted on its own. In parentheses the standard error "
        "of the last two digits. theory: the full theory, which has no free parameter.",
        [
            *(Column("run"), Column("system", is_choice=True), Column("layer", is_choice=True)),
            *(Column("block", True), Column("levels", True)),
            *(column for columns in compared for column in columns),
            Column("flag"),
        ],
        rows,
        "the files fits.parquet",
    )


def _compared(row: Mapping[str, Any], name: str, pull: str) -> list[Cell]:
    return [
        measured(row[name], row[f"{name}_error"]),
        measured(row[f"{name}_theory"], row[f"{name}_theory_error"]),
        agreement(row[f"pull_{pull}"]),
    ]


def flags(contents: Contents) -> tuple[str, str]:
    """What carries a flag, in words and as a table (empty if nothing does)."""
    counts: Counter[tuple[str, str, str]] = Counter()
    totals: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str, str], str] = {}
    for what, row in _flagged(contents):
        totals[what, row["model"]] += 1
        if row["flag"]:
            counts[what, row["model"], row["flag"]] += 1
            example.setdefault((what, row["model"], row["flag"]), row["run"])
    if not counts:
        return "No fit carries a flag.", ""
    rows: list[list[Cell | str]] = [
        [
            *(flag, what, system, number(count, "d"), number(totals[what, system], "d")),
            example[what, system, flag],
        ]
        for (what, system, flag), count in counts.most_common()
    ]
    fits = sum(count for (what, _, _), count in counts.items() if what == "fit of a block")
    others = counts.total() - fits
    words = (
        f"{fits} of {len(contents.fits)} fits of blocks"
        f"{f' and {others} rows of other tables' if others else ''} carry a flag: they could not "
        "be made, or are not to be taken at their word. Those beyond the range of their theory "
        "enter no law."
    )
    body = table(
        "Flags",
        "of: rows of the system, flagged or not.",
        [
            *(Column("flag"), Column("on what", is_choice=True)),
            *(Column("system", is_choice=True), Column("rows", True), Column("of", True)),
            Column("for example in run"),
        ],
        rows,
        "the column flag of the tables",
    )
    return words, body


def _flagged(contents: Contents) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for what, rows in (
        ("fit of a block", contents.fits),
        ("motion of the levels", contents.increments),
        ("bulk of a matrix", contents.bulk),
    ):
        for row in rows:
            yield what, row
