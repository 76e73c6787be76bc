"""A first look at networks of the user's own, and the study that measures them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dysonflow.analysis.bulk_scope import SMALLEST_SIDE
from dysonflow.errors import ConfigError
from dysonflow.models.checkpoints import CheckpointHyperparameters, Held
from dysonflow.planning.studies import LONGEST_NAME, load_studies
from dysonflow.readers.discovery import find_pattern
from dysonflow.readers.layers import Line
from dysonflow.report import figures
from dysonflow.wording import plain


@dataclass(frozen=True)
class Look:
    """What lies at a path.

    Attributes
    ----------
    pattern : str
        As `path` in the configuration.
    values : mapping
        Other hyperparameters that were given.
    held : Held
        What the files hold.
    others : list of str
        Checkpoints that the pattern leaves out.
    """

    pattern: str
    values: Mapping[str, Any]
    held: Held
    others: Sequence[str]

    @property
    def summary(self) -> str:
        """What was found, in one line."""
        held, parts = self.held, []
        tensors = len({line.name for line in held.lines})
        parts.append(f"{_count(len(held.layers), 'layer')} of {_count(tensors, 'tensor')}")
        parts.append(_count(held.replicas, "replica"))
        if held.steps:
            parts.append(
                f"{_count(held.snapshots, 'snapshot')}, steps {held.steps[0]} to {held.steps[-1]}"
            )
        else:
            parts.append(_count(held.snapshots, "snapshot"))
        text = f"{self.pattern}: {', '.join(parts)}"
        if self.others:
            text += f"; left out: {', '.join(map(plain, self.others[:3]))}"
            text += f" and {len(self.others) - 3} more" if len(self.others) > 3 else ""
        return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def look(path: str, settings: Sequence[str] = ()) -> Look:
    """Look at a checkpoint, or at a folder of them.

    Parameters
    ----------
    path : str
        As of `dysonflow.readers.discovery.find_pattern`.
    settings : sequence of str
        Hyperparameters as `name=value`, the value in YAML.

    Raises
    ------
    ConfigError
        If it cannot be read, or a setting cannot be used.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign:
            raise ConfigError(f"--set {setting}: give name=value, such as heads=12")
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            # A pattern such as *mlp* is none.
            values[name] = text
    for name in ("path", "array"):
        if name in values:
            raise ConfigError(f"--set {name}: leave it out; PATH says what is looked at")
    pattern, others = find_pattern(path)
    run = CheckpointHyperparameters.from_config({**values, "path": pattern})
    return Look(pattern, values, run.held(), others)


HEADINGS = ("layer", "rows", "columns", "dtype", "used", "tensor and reason")


def table(lines: Sequence[Line]) -> list[str]:
    """Lines of a table of all tensors, for people."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for line in lines:
        reason = f"{plain(line.name, longest=200)}{': ' * bool(line.reason)}{line.reason}"
        sizes = ["" if size is None else str(size) for size in (line.rows, line.columns)]
        used = "yes" if line.used else "no"
        rows.append((line.layer or "-", *sizes, plain(line.dtype), used, reason))
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADINGS) - 1)]
    numbers = (1, 2)
    return [
        "  ".join(
            [
                row[k].rjust(width) if k in numbers else row[k].ljust(width)
                for k, width in enumerate(widths)
            ]
            + [row[-1]]
        )
        for row in rows
    ]


def study_name(path: str) -> str:
    """Name of a study after the last part of a path."""
    last = re.sub(r"\.index\.json$|\.\w+$", "", Path(path).resolve().name)
    name = re.sub(r"[^A-Za-z0-9]+", "_", last).strip("_")
    return (name if re.match("[A-Za-z]", name) else f"network_{name}".rstrip("_"))[:LONGEST_NAME]


def study(found: Look, name: str, file: str) -> str:
    """Configuration of a study of what was found, checked as the workflow would.

    Parameters
    ----------
    found : Look
        What it measures.
    name : str
        Of the study.
    file : str
        Where the configuration will lie.
    """
    values = {"path": found.pattern, **found.values}
    content = {"model": "checkpoints", "keep_weights": False, "hyperparameters": values}
    config = {"studies": {name: content}}
    drawn = _figures(found.held)
    load_studies({"studies": {name: content | ({"figures": drawn} if drawn else {})}})
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000)
    text = text.replace("keep_weights: false\n", f"keep_weights: false  # {KEPT}\n", 1)
    if drawn:
        listed = f"    figures: [{', '.join(drawn)}]\n    # {DRAWN}\n"
        text = text.replace("    hyperparameters:\n", f"{listed}    hyperparameters:\n", 1)
    layers = "" if "layers" in values else LAYERS.format(example=found.held.layers[0].name)
    rates = "" if "learning_rate" in values else RATES
    return f"# {found.summary}.\n#   snakemake --cores 2 --configfile {file}\n{text}{layers}{rates}"


def _figures(held: Held) -> list[str]:
    """Figures that show a whole network at once; none where all of its matrices are small."""
    large = [min(layer.rows, layer.columns) >= SMALLEST_SIDE for layer in held.layers]
    if not any(large):
        return []
    if held.snapshots == 1:
        return list(figures.BULK_ONCE)
    return [*figures.BULK, *(() if all(large) else ("singular_values",))]


DRAWN = "one each for the network; `spectrum` and `outlier_times` would be one for each layer"
KEPT = "the files are there anyway: the copy of their weights is deleted after use"
LAYERS = """\
      # All matrices are read, `dysonflow layers` lists them; or names and patterns of some:
      # layers: ["{example}"]
"""
RATES = """\
      # How they were trained; nothing is computed from it unless centres are given:
      # learning_rate: 0.1
      # batch_size: 32
"""
