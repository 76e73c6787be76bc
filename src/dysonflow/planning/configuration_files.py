"""Files of the configuration: what reading them as YAML would pass over in silence."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from dysonflow.errors import ConfigError
from dysonflow.wording import plain

MERGE = "tag:yaml.org,2002:merge"
TEMPLATE = "__use_yte__"
"""Key of a file that Snakemake takes for a template, whose keys are not yet those it stands for."""


def check_keys(paths: Iterable[str | os.PathLike[str]]) -> None:
    """See that no key stands twice in one place, where the last of them would count alone.

    Parameters
    ----------
    paths : iterable of path
        Files of the configuration; one that cannot be read as YAML is left to whoever reads it.

    Raises
    ------
    ConfigError
        With one line for each key that is given twice: file, key, and the lines of both.
    """
    problems = []
    for path in paths:
        try:
            document = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
            continue
        if document is not None and not _is_template(document):
            problems += [f"{path}: {text}" for text in dict.fromkeys(_repeated(document))]
    if problems:
        raise ConfigError("\n".join(problems))


def _is_template(document: yaml.Node) -> bool:
    keys = document.value if isinstance(document, yaml.MappingNode) else []
    return any(key.value == TEMPLATE for key, _ in keys)


def _repeated(document: yaml.Node) -> Iterator[str]:
    """What is wrong with the keys of a document, in their order."""
    # An alias stands for a node that is there already, and may stand in itself.
    seen: set[int] = set()
    pending = [document]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += reversed(node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in lines:
                first = lines[key.tag, key.value]
                where = f"line {line}" if first == line else f"lines {first} and {line}"
                yield (
                    f"{plain(key.value)} is given twice, in {where}, and only the second would "
                    "count; rename one, or take it out"
                )
            lines[key.tag, key.value] = line
        pending += [value for _, value in reversed(node.value)]
