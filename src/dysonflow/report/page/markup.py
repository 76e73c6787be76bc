"""Elements of the page: tables that sort and filter, and the document around all of it.

What is shown comes as plain text and is escaped here, and nowhere else.
"""

import hashlib
import math
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

from dysonflow.report import html
from dysonflow.report.quoting import quote

STYLE, SCRIPT = (Path(__file__).with_name(name) for name in ("page.css", "page.js"))
LONGEST = 2000
"""Rows that a table shows at most: a browser lays them all out."""


class Column(NamedTuple):
    """A column of a table."""

    head: str
    is_number: bool = False
    """Whether it sorts by the values of its cells; else by their text."""
    is_choice: bool = False
    """Whether few different texts stand in it, so that one can be chosen from a list."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str = ""
    value: float | None = None
    """What it sorts by in a column of numbers; cells without come last."""
    mark: str = ""
    """Class of the style sheet."""
    choice: str = ""
    """What it is chosen by in a column of choices; its text if empty."""
    share: float | None = None
    """Part of a whole, drawn as a bar beside the text."""
    link: str = ""
    """Name of the part of the page that it leads to."""


def number(value: float | None, pattern: str = ".4g") -> Cell:
    """A number; empty where there is none."""
    if value is None or not math.isfinite(value):
        return Cell()
    return Cell(format(value, pattern), float(value))


def measured(value: float | None, error: float | None) -> Cell:
    """A number with its error in parentheses; empty where there is none."""
    if value is None or not math.isfinite(value):
        return Cell()
    return Cell(quote(value, math.nan if error is None else error), float(value))


def table(
    name: str,
    about: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell | str]],
    rest: str = "",
) -> str:
    """A table that sorts and filters.

    Parameters
    ----------
    name : str
        For those who hear the page.
    about : str
        What the columns show; stands above it.
    columns : sequence of Column
        From left to right.
    rows : sequence of sequence of Cell or str
        One cell for each column.
    rest : str
        Where the rows are that are too many to be shown.
    """
    heads = "".join(
        f'<th scope="col"{" data-number" * one.is_number}{" data-choice" * one.is_choice}>'
        f"{escape(one.head)}</th>"
        for one in columns
    )
    shown = "\n".join(_row(columns, row) for row in rows[:LONGEST])
    more = ""
    if len(rows) > LONGEST:
        more = f" The first {LONGEST} of {len(rows)} rows are shown; all are in {rest}."
    return (
        f'<div class="table"><p class="about">{html.code(about + more)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">'
        f'<table class="sortable"><caption>{escape(name)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{shown}\n</tbody></table></div></div>\n"
    )


def _row(columns: Sequence[Column], row: Sequence[Cell | str]) -> str:
    cells = [Cell(one) if isinstance(one, str) else one for one in row]
    return (
        "<tr>"
        + "".join(
            _cell(column, cell, "th" if place == 0 else "td")
            for place, (column, cell) in enumerate(zip(columns, cells, strict=True))
        )
        + "</tr>"
    )


def _cell(column: Column, cell: Cell, tag: str) -> str:
    names = ("number" * column.is_number, "choice" * column.is_choice, cell.mark)
    classes = " ".join(name for name in names if name)
    attributes = ' scope="row"' if tag == "th" else ""
    attributes += f' class="{escape(classes)}"' if classes else ""
    if cell.value is not None and math.isfinite(cell.value):
        attributes += f' data-value="{cell.value!r}"'
    if cell.choice:
        attributes += f' data-choice="{escape(cell.choice)}"'
    bar = ""
    if cell.share is not None:
        said = escape(f"{column.head}: {cell.share:.0%}")
        bar = f' <meter value="{cell.share:.4f}" aria-label="{said}"></meter>'
    # Names and paths may break where their parts meet, and nowhere else.
    text = re.sub("([_/])", r"\1<wbr>", escape(cell.text))
    if cell.link:
        text = f'<a href="#{escape(cell.link)}">{text}</a>'
    return f"<{tag}{attributes}>{text}{bar}</{tag}>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>\n"


def definitions(entries: Sequence[tuple[str, str]]) -> str:
    """Terms, and what is said of each; what is between backticks is code."""
    lines = "".join(
        f"<dt>{html.code(term)}</dt><dd>{html.code(text)}</dd>\n" for term, text in entries
    )
    return f"<dl>\n{lines}</dl>\n"


def section(name: str, title: str, body: str) -> str:
    """A part of the page; `name` is what the table of contents points to."""
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>\n{body}</section>\n'


def contents(entries: Sequence[tuple[str, str, int]]) -> str:
    """The table of contents: name, title and depth of each part."""
    lines = "\n".join(
        f'<li class="depth{depth}"><a href="#{escape(name)}">{escape(title)}</a></li>'
        for name, title, depth in entries
    )
    return f'<nav aria-label="Contents"><ul>\n{lines}\n</ul></nav>\n'


def document(title: str, navigation: str, body: str) -> str:
    """The whole page. It loads nothing, and runs no script but the one in this folder."""
    style = "\n" + STYLE.read_text(encoding="utf-8")
    script = "\n" + SCRIPT.read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#content">Skip the contents</a>\n{navigation}'
        f'<main id="content">\n{body}</main>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
