"""Times of the jobs, and what every artifact was made from."""

import json
from collections import defaultdict

from dysonflow.report.page.contents import Contents, Made
from dysonflow.report.page.markup import Cell, Column, number, table

BESIDE = ("noise_response",)
"""Kinds that a job makes beside another, whose time is counted there."""
SHOWN = 12
"""Digits of a checksum that are shown."""


def _system(contents: Contents, made: Made) -> str:
    return str(made.metadata.get("model", "all"))


def times_table(contents: Contents) -> tuple[str, str]:
    """Where the time went, in words and as a table by stage and system."""
    groups: defaultdict[tuple[str, str], list[Made]] = defaultdict(list)
    for one in contents.made:
        if one.kind not in BESIDE:
            groups[one.kind, _system(contents, one)].append(one)
    times = {place: sum(one.seconds for one in made) for place, made in groups.items()}
    total = sum(times.values())
    training = sum(time for (kind, _), time in times.items() if kind == "weights")
    longest = max(groups, key=lambda place: times[place])
    rows: list[list[Cell | str]] = []
    for place in sorted(groups, key=lambda place: -times[place]):
        slowest = max(groups[place], key=lambda one: one.seconds)
        share = times[place] / total if total else 0.0
        rows.append(
            [
                *(place[0].replace("_", " "), place[1], number(len(groups[place]), "d")),
                *(number(times[place], ".1f"), Cell(f"{share:.1%}", share, share=share)),
                *(number(slowest.seconds, ".1f"), slowest.path),
            ]
        )
    words = (
        f"The jobs computed for {_time(total)}, {_time(training)} of them on weights. Most went "
        f"into {longest[0].replace('_', ' ')} of {longest[1]}: {_time(times[longest])}. These are "
        "sums over jobs, of which several may have run side by side; what a job takes to start, "
        "about a second or two, is not in them."
    )
    body = table(
        "Time by stage and system",
        "In seconds of the jobs that made the files that are there. "
        "weights: training, or reading files.",
        [
            *(Column("stage"), Column("system", is_choice=True), Column("files", True)),
            *(Column("seconds", True), Column("share", True), Column("longest", True)),
            Column("which that was"),
        ],
        rows,
    )
    return words, body


def _time(seconds: float) -> str:
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def provenance_table(contents: Contents) -> str:
    """What every artifact was made from, and with which versions."""
    known: dict[str, int] = {}
    rows: list[list[Cell | str]] = []
    for one in contents.made:
        about = one.metadata
        versions = dict(about["versions"])
        commit = versions.pop("git_commit", "unknown")
        text = json.dumps(versions, sort_keys=True)
        which = known.setdefault(text, len(known) + 1)
        rows.append(
            [
                *(one.path, one.kind.replace("_", " "), _system(contents, one)),
                *(number(one.seconds, ".2f"), str(about["device"]), str(about["source"])),
                str(about.get("data", ""))[:SHOWN],
                str(about.get("made_from", ""))[:SHOWN],
                *(commit, number(which, "d")),
            ]
        )
    lists = [
        [str(which), ", ".join(f"{name} {version}" for name, version in json.loads(text).items())]
        for text, which in known.items()
    ]
    return table(
        "Artifacts",
        "source: digest of the code that decides the file. data, made from: checksums "
        f"of what is in it and of what it was made from, the first {SHOWN} digits. weights: as "
        "their spectra tell, they may be deleted by now. `dysonflow show FILE` prints all that a "
        "file says of itself, `dysonflow verify` checks all files.",
        [
            *(Column("file"), Column("kind", is_choice=True), Column("system", is_choice=True)),
            *(Column("seconds", True), Column("device", is_choice=True), Column("source")),
            *(Column("data"), Column("made from"), Column("commit", is_choice=True)),
            Column("versions", True),
        ],
        rows,
        "the files themselves",
    ) + table(
        "Versions",
        "Versions of packages with which the files were made, by their number above.",
        [Column("versions", True), Column("of what")],
        lists,
    )
