"""The pattern of a folder of checkpoints: which numbers in the names are steps, which replicas."""

import os
import re
from collections.abc import Iterator, Sequence

from dysonflow.errors import ConfigError
from dysonflow.readers.checkpoints import files_of, is_whole, within
from dysonflow.wording import plain

DEPTH = 3
"""Folders within each other that are looked through."""
REPLICA = re.compile(r"(?:seed|replica|rep|run|trial|member|fold)[^A-Za-z0-9]*$", re.I)
"""What stands before the number of a replica."""
STEP = re.compile(r"(?:step|iter|iteration|snapshot|checkpoint|ckpt)s?[^A-Za-z0-9]*$", re.I)
"""What stands before an SGD step, rather than before an epoch."""


def find_pattern(path: str) -> tuple[str, list[str]]:
    """Pattern of the checkpoints at a path.

    Parameters
    ----------
    path : str
        A checkpoint, a pattern already, or a folder of checkpoints whose names differ in the
        numbers of steps, of replicas, or both.

    Returns
    -------
    pattern : str
        As `path` in the configuration.
    others : list of str
        Checkpoints in the folder that it does not match.

    Raises
    ------
    ConfigError
        If there is no checkpoint, or their names cannot be told apart.
    """
    if set("{*") & set(path) or not os.path.isdir(path):
        return path, []
    if is_whole(path):
        return path, []
    found = [os.path.relpath(one, path) for one in _candidates(path, DEPTH)]
    if not found:
        files_of(path)
    families: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        families.setdefault(tuple(re.split("[0-9]+", one)), []).append(one)
    texts, names = max(families.items(), key=lambda item: len(item[1]))
    if len(names) == 1 and len(found) > 1:
        raise ConfigError(
            f"{path}: {len(found)} checkpoints whose names differ in more than numbers, such as "
            f"{plain(names[0])}; name one of them"
        )
    others = sorted(set(found) - set(names))
    return os.path.join(_escaped(path), _template(texts, names, path)), others


def _candidates(folder: str, depth: int) -> Iterator[str]:
    """Checkpoints in a folder and in those within it: files, and folders that hold a whole one."""
    if is_whole(folder):
        yield folder
        return
    yield from within(folder)
    if depth:
        for name in sorted(os.listdir(folder)):
            inner = os.path.join(folder, name)
            if os.path.isdir(inner) and not os.path.islink(inner) and not name.startswith("."):
                yield from _candidates(inner, depth - 1)


def _template(texts: Sequence[str], names: Sequence[str], folder: str) -> str:
    """Pattern of names that differ in numbers alone."""
    numbers = [re.findall("[0-9]+", name) for name in names]
    columns = list(zip(*numbers, strict=True))
    varying = [k for k, column in enumerate(columns) if len(set(column)) > 1]
    # An epoch and a step that go together are one time.
    free: list[int] = []
    same: list[int] = []
    for k in varying:
        twin = next((j for j in free if _go_together(columns[j], columns[k])), None)
        if twin is None:
            free.append(k)
        elif STEP.search(texts[k]) and not STEP.search(texts[twin]):
            free[free.index(twin)] = k
            same.append(twin)
        else:
            same.append(k)
    if len(free) > 2:
        raise ConfigError(
            f"{folder}: the names of its checkpoints differ in {len(free)} numbers; write path "
            "by hand, with {replica} and {snapshot}"
        )
    seeds = [k for k in free if REPLICA.search(texts[k])]
    replicas = (seeds or free if len(free) == 2 else seeds)[:1]
    words = dict.fromkeys(same, "*") | dict.fromkeys(free, "{snapshot}")
    words |= dict.fromkeys(replicas, "{replica}")
    parts = [_escaped(texts[0])]
    for k, text in enumerate(texts[1:]):
        parts += [words.get(k, columns[k][0]), _escaped(text)]
    return "".join(parts)


def _go_together(one: Sequence[str], other: Sequence[str]) -> bool:
    return len(set(zip(one, other, strict=True))) == len(set(one)) == len(set(other))


def _escaped(text: str) -> str:
    """A part of a path in which no letter stands for others."""
    return re.sub(r"([*?[])", r"[\1]", text)
