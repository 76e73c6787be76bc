"""Files found by a pattern, put in order by replica and snapshot."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from dysonflow.errors import ConfigError
from dysonflow.wording import did_you_mean

PLACEHOLDERS = ("replica", "snapshot")
TOKEN = re.compile(
    r"\{(?P<name>[^{}]*)\}|(?P<deep>\*\*/?)|(?P<any>\*)|(?P<one>\?)|\[(?P<set>.+?)\]"
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


def find(pattern: str) -> FileGrid:
    """Files that a pattern matches.

    Parameters
    ----------
    pattern : str
        A path with `*`, `?`, `[...]` and `**` as in a shell. `{replica}` and `{snapshot}` match any
        text within one part of the path; without them, several files are replicas.

    Raises
    ------
    ConfigError
        If there is no such file, a combination of replica and snapshot is missing or there more
        than once, or another name stands in braces.
    """
    names = [match["name"] for match in TOKEN.finditer(pattern) if match["name"] is not None]
    for name in names:
        if name not in PLACEHOLDERS:
            raise ConfigError(f"path: {{{name}}} is unknown{did_you_mean(name, PLACEHOLDERS)}")
    wild = re.sub(r"\{[^{}]*\}", "*", pattern)
    paths = sorted(path for path in glob.glob(wild, recursive=True) if Path(path).is_file())
    if not paths:
        raise ConfigError(f"path = {pattern!r}: no such file in {Path.cwd()}")
    if not names:
        ordered = sorted(paths, key=_natural)
        return FileGrid(
            tuple((path,) for path in ordered), ("replica",) if len(ordered) > 1 else (), None
        )
    expression = _expression(pattern)
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
    replicas, snapshots = (sorted({place[k] for place in found}, key=_natural) for k in (0, 1))
    for replica in replicas:
        for snapshot in snapshots:
            if (replica, snapshot) not in found:
                missing = pattern.replace("{replica}", replica).replace("{snapshot}", snapshot)
                raise ConfigError(f"path = {pattern!r}: {missing} is missing")
    numbers = all(re.fullmatch("[0-9]+", snapshot) for snapshot in snapshots)
    return FileGrid(
        tuple(tuple(found[replica, snapshot] for snapshot in snapshots) for replica in replicas),
        tuple(name for name in PLACEHOLDERS if name in names),
        tuple(int(snapshot) for snapshot in snapshots) if numbers else None,
    )


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
            parts.append(f"[{'^' if match['set'][0] == '!' else ''}{match['set'].lstrip('!')}]")
        else:
            parts.append("[^/]*" if match["any"] else "[^/]")
    return re.compile("".join([*parts, re.escape(pattern[end:])]))


def _natural(text: str) -> list[tuple[int, str]]:
    """Key under which step9 comes before step10."""
    parts = re.split("([0-9]+)", text)
    # Texts and numbers take turns, so that only likes are compared; 7 and 07 are told apart.
    return [(int(part) if k % 2 else 0, part) for k, part in enumerate(parts)]
