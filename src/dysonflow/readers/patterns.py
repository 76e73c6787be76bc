"""Files found by a pattern, put in order by replica and snapshot."""

import glob
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dysonflow.errors import ConfigError
from dysonflow.wording import breaks_lines, did_you_mean

PLACEHOLDERS = ("replica", "snapshot")
TOKEN = re.compile(
    r"\{(?P<name>[^{}]*)\}|(?P<deep>\*{2,}/?)|(?P<any>\*)|(?P<one>\?)|\[(?P<set>.+?)\]"
)


@dataclass(frozen=True)
class FileGrid:
    """Files by replica and snapshot.

    Attributes
    ----------
    files : tuple of tuple of str
        Shape (replica, snapshot), of size 1 along what the pattern does not tell apart.
    axes : tuple of str
        What the pattern tells apart: `replica`, `snapshot`, both or none.
    steps : tuple of int, optional
        What `{snapshot}` stands for, ascending, if these are whole numbers.
    """

    files: tuple[tuple[str, ...], ...]
    axes: tuple[str, ...]
    steps: tuple[int, ...] | None


def find(pattern: str, is_wanted: Callable[[str], bool] = os.path.isfile) -> FileGrid:
    """Files that a pattern matches.

    Parameters
    ----------
    pattern : str
        A path with `*`, `?`, `[...]` and `**` as in a shell; `**` follows no link. `{replica}` and
        `{snapshot}` match any text within one part of the path; without them, several files are
        replicas.
    is_wanted : callable
        Whether a path that matches counts; files do.

    Raises
    ------
    ConfigError
        If there is no such file, a name holds letters that cannot be shown, a combination of
        replica and snapshot is missing or there more than once, or another name stands in braces.
    """
    _check_letters(pattern)
    names = [match["name"] for match in TOKEN.finditer(pattern) if match["name"] is not None]
    for name in names:
        if name not in PLACEHOLDERS:
            raise ConfigError(f"path: {{{name}}} is unknown{did_you_mean(name, PLACEHOLDERS)}")
    wild = re.sub(r"\{[^{}]*\}", "*", pattern)
    expression = _expression(pattern)
    there = sorted(set(_matches(wild)))
    for path in there:
        _check_letters(path)
        if set("{}") & set(path):
            raise ConfigError(
                f"path = {path!r}: a name that holds braces would be taken for a pattern; rename it"
            )
    paths = [path for path in there if is_wanted(path)]
    if there and not paths:
        raise ConfigError(
            f"path = {pattern!r}: {there[0]} is a folder, a pipe or the like; name files"
        )
    if not paths:
        raise ConfigError(f"path = {pattern!r}: no such file in {Path.cwd()}")
    if not names:
        ordered = sorted(paths, key=natural)
        return FileGrid(
            tuple((path,) for path in ordered), ("replica",) if len(ordered) > 1 else (), None
        )
    found: dict[tuple[str, str], str] = {}
    for path in paths:
        match = expression.fullmatch(path)
        if match is None:
            # The same placeholder at two places, with different texts.
            continue
        values = match.groupdict(default="")
        place = (values.get("replica", ""), values.get("snapshot", ""))
        if place in found:
            raise ConfigError(
                f"path = {pattern!r}: matches {found[place]} and {path} alike; put {{replica}} or "
                "{snapshot} where they differ"
            )
        found[place] = path
    replicas, snapshots = (sorted({place[k] for place in found}, key=natural) for k in (0, 1))
    for replica in replicas:
        for snapshot in snapshots:
            if (replica, snapshot) not in found:
                missing = pattern.replace("{replica}", replica).replace("{snapshot}", snapshot)
                raise ConfigError(f"path = {pattern!r}: {missing} is missing")
    # A step that fits into no column is the name of a snapshot, not a time.
    numbers = all(re.fullmatch("[0-9]{1,18}", snapshot) for snapshot in snapshots)
    return FileGrid(
        tuple(tuple(found[replica, snapshot] for snapshot in snapshots) for replica in replicas),
        tuple(name for name in PLACEHOLDERS if name in names),
        tuple(int(snapshot) for snapshot in snapshots) if numbers else None,
    )


def leads_anywhere(pattern: str) -> bool:
    """Whether there is something that a pattern, as of `find`, matches."""
    return any(True for _ in _matches(re.sub(r"\{[^{}]*\}", "*", pattern)))


def _check_letters(path: str) -> None:
    if breaks_lines(path):
        raise ConfigError(
            f"path = {path!r}: holds the end of a line, or another letter that cannot be shown; "
            "rename the file or folder"
        )


def _matches(pattern: str) -> Iterator[str]:
    """Paths that a pattern matches; `**` stands for any folders, reached without links."""
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    before, deep, after = pattern.partition("**/")
    if not deep or (before and not before.endswith("/")):
        # Two stars within a name are one.
        yield from glob.iglob(pattern)
        return
    # Not glob's own: it follows links in circles.
    for start in glob.glob(before) if before else [""]:
        for folder, folders, _ in os.walk(start or "."):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = os.path.relpath(folder, start or ".")
            place = start if below == "." else f"{start}{below}/"
            yield from _matches(f"{glob.escape(place)}{after}")


def _expression(pattern: str) -> re.Pattern[str]:
    """Regular expression of a pattern, with a group for each placeholder."""
    parts, end, seen = [], 0, set()
    for match in TOKEN.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        end = match.end()
        name = match["name"]
        if name is not None:
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)")
            seen.add(name)
        elif match["deep"]:
            parts.append("(?:.*/)?" if match["deep"].endswith("/") else ".*")
        elif match["set"]:
            chosen = match["set"].replace("\\", r"\\").replace("[", r"\[")
            parts.append(f"[^{chosen[1:]}]" if chosen[0] == "!" else f"[{chosen}]")
        else:
            parts.append("[^/]*" if match["any"] else "[^/]")
    try:
        return re.compile("".join([*parts, re.escape(pattern[end:])]))
    except re.error as error:
        raise ConfigError(f"path = {pattern!r}: {error}") from None


def natural(text: str) -> list[tuple[int, str]]:
    """Key under which step9 comes before step10."""
    parts = re.split("([0-9]+)", text)
    # Texts and numbers take turns, so that only likes are compared; 7 and 07 are told apart.
    return [(int(part) if k % 2 else 0, part) for k, part in enumerate(parts)]
