"""The report: one page that tells what was run, what came out, and what it was made from.

It is made from tables and pictures only, holds all that it shows, and needs no network.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dysonflow.analysis.laws import MEAN_GAP
from dysonflow.report.page import chance, markup, what_was_run, where_time_went
from dysonflow.report.page.contents import Contents
from dysonflow.report.page.pictures import Picture, main_picture, pictures_by_study
from dysonflow.report.page.verdicts import summary, verdict_table, verdicts

TITLE = "What was run, and what came out"
ABOUT = (
    "dysonflow measures how the weight matrices of learning machines fluctuate under stochastic "
    "gradient descent: the eigenvalues of W^T W move like charged particles, and their stationary "
    "law is a Coulomb gas whose width is set by learning rate over batch size. A line called "
    "theory in a figure has no free parameter; fitted lines say so in the legend."
)


def report_page(
    studies: Mapping[str, Mapping[str, Any]], files: Mapping[str, Sequence[str]]
) -> str:
    """The whole page.

    Parameters
    ----------
    studies : mapping
        Name to `model` and `runs`, their names, in the order of the configuration.
    files : mapping
        Paths of the artifacts by what they hold, as of `Contents`.

    Raises
    ------
    ArtifactError
        If one of them is damaged.
    """
    contents = Contents(studies, files)
    drawn = pictures_by_study(contents)
    found = verdicts(contents)
    tested = chance.families(contents, found)
    unfitted, flag_table = what_was_run.flags(contents)
    time, time_table = where_time_went.times_table(contents)
    anchors = {name: f"study-{name}" for name, several in drawn.items() if several}
    short = [
        ("Run", what_was_run.summary(contents)),
        ("Laws", summary(found, contents)),
        ("Tests and chance", chance.summary(tested)),
        ("Not fitted", unfitted),
        ("Time", time),
    ]
    parts = [
        ("summary", "In short", markup.paragraph(ABOUT) + markup.definitions(short)),
        ("studies", "Studies", what_was_run.studies_table(contents, found, anchors)),
    ]
    main = _main_pictures(contents, drawn)
    if main:
        parts.append(("main", "The main result of each system", main))
    if found:
        parts.append(("laws", "Verdict per law", verdict_table(found)))
    if tested:
        parts.append(("chance", "Tests and chance", chance.chance_table(tested)))
    if flag_table:
        parts.append(("flags", "What was not fitted", flag_table))
    if any(drawn.values()):
        parts.append(("figures", "Figures", _figures(contents, drawn, anchors)))
    parts += [
        ("paper", "The paper against the results", _embedded(path))
        for path in files.get("reproduction", ())
    ]
    parts.append(("runs", "Runs", what_was_run.runs_table(contents)))
    if contents.fits:
        parts.append(("blocks", "Blocks of levels", what_was_run.blocks_table(contents)))
    parts += [
        ("times", "Where the time went", time_table),
        ("provenance", "Provenance", where_time_went.provenance_table(contents)),
    ]
    navigation = []
    for name, title, _ in parts:
        navigation.append((name, title, 1))
        if name == "figures":
            navigation += [(f"system-{system}", system, 2) for system in contents.systems]
    body = "".join(markup.section(*part) for part in parts)
    return markup.document(
        f"dysonflow: {TITLE}",
        markup.contents(navigation),
        f"<h1>{escape(TITLE)}</h1>\n{body}{_size(drawn)}",
    )


def _main_pictures(contents: Contents, drawn: Mapping[str, Sequence[Picture]]) -> str:
    points = {
        (row["study"], row["layer"]): row["points"]
        for row in contents.laws
        if row["law"] == MEAN_GAP.name
    }
    found = []
    for system, names in contents.systems.items():
        picture = main_picture([one for name in names for one in drawn[name]], points)
        if picture is not None:
            found.append(picture.markup(heading=f"{system}, study {picture.study}: "))
    return "".join(found)


def _figures(
    contents: Contents, drawn: Mapping[str, Sequence[Picture]], anchors: Mapping[str, str]
) -> str:
    systems = []
    for system, names in contents.systems.items():
        several = "".join(
            f'<section class="group" id="{escape(anchors[name])}"><h4>Study '
            f"{escape(name)}</h4>\n{''.join(picture.markup() for picture in drawn[name])}"
            "</section>\n"
            for name in names
            if drawn[name]
        )
        systems.append(
            f'<section class="group" id="system-{escape(system)}"><h3>{escape(system)}</h3>\n'
            f"{several}</section>\n"
        )
    return f'<div class="figures">{"".join(systems)}</div>\n'


def _embedded(path: str) -> str:
    """The body of another page of this package, without its title, headings one level lower."""
    text = Path(path).read_text(encoding="utf-8")
    body = text.partition("<body>")[2].rpartition("</body>")[0]
    body = re.sub("<h2>.*?</h2>", "", body, count=1)
    for high, low in (("h3", "h4"), ("h2", "h3")):
        body = body.replace(f"<{high}>", f"<{low}>").replace(f"</{high}>", f"</{low}>")
    scroll = '<div class="scroll" role="region" tabindex="0" aria-label="Table of the document">'
    return body.replace("<table>", f"{scroll}<table>").replace("</table>", "</table></div>")


def _size(drawn: Mapping[str, Sequence[Picture]]) -> str:
    several = [one for pictures in drawn.values() for one in pictures]
    size = sum(one.path.stat().st_size for one in several)
    return (
        f"<footer>{len(several)} figures of {size / 1e6:.1f} MB are part of this page, which loads "
        "nothing else. Made by the rule <code>report_page</code> from the files that it lists."
        "</footer>\n"
    )
