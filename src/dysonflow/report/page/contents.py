"""What the page is made from: artifacts with their provenance, and rows of their tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from dysonflow.artifacts import kinds, tables

Row = dict[str, Any]


class Made(NamedTuple):
    """An artifact and what it says of itself."""

    kind: str
    path: str
    metadata: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """Time that it took to make."""
        return float(self.metadata["seconds"])


@dataclass(frozen=True)
class Contents:
    """All that the page can show.

    Attributes
    ----------
    studies : mapping
        Name to `model` and `runs`, their names, in the order of the configuration.
    files : mapping
        Paths by what they hold: `figures`, `reproduction`, or the stem of a table's name.
    """

    studies: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, Sequence[str]]

    @cached_property
    def made(self) -> list[Made]:
        """All artifacts; weights, which may be deleted by now, as their spectra tell of them."""
        found = []
        for kind, paths in self.files.items():
            for path in paths:
                metadata = kinds.peek(path)
                if "weights" in metadata:
                    of_weights = {**metadata, **metadata["weights"]}
                    place = Path(path).with_name(of_weights["file"])
                    found.append(Made("weights", str(place), of_weights))
                found.append(Made(kind, path, metadata))
        return found

    def of_kind(self, kind: str) -> list[Made]:
        """Artifacts of a kind."""
        return [one for one in self.made if one.kind == kind]

    @cached_property
    def runs(self) -> dict[str, Mapping[str, Any]]:
        """Name of each run to what its spectra say of it: model, hyperparameters, layers."""
        return {one.metadata["run"]: one.metadata for one in self.of_kind("spectra")}

    @cached_property
    def systems(self) -> dict[str, list[str]]:
        """Name of each system to those of its studies."""
        found: dict[str, list[str]] = {}
        for name, study in self.studies.items():
            found.setdefault(study["model"], []).append(name)
        return found

    def studies_of(self, run: str) -> list[str]:
        """Studies that name a run."""
        return [name for name, study in self.studies.items() if run in study["runs"]]

    def rows(self, kind: str, columns: Sequence[str] | None = None) -> list[Row]:
        """Rows of all tables of a kind, some columns or all of them; none where there are none."""
        paths = self.files.get(kind, ())
        found: list[Row] = tables.read_arrow(paths, columns).to_pylist() if paths else []
        return found

    @cached_property
    def fits(self) -> list[Row]:
        """Rows of all fits."""
        return self.rows("fits")

    @cached_property
    def increments(self) -> list[Row]:
        """Rows of all coefficients of the motion."""
        return self.rows("increments")

    @cached_property
    def bulk(self) -> list[Row]:
        """Rows of the bulk of single matrices: which, how they were tested, what was noticed."""
        names = ["run", "model", "layer", "pooled", "matrix", "flag"]
        rows = self.rows("bulk", [*names, "bulk_p_value", "spacing_p_value"])
        return [row for row in rows if row["pooled"] == "one matrix" and row["matrix"] == "weights"]

    @cached_property
    def laws(self) -> list[Row]:
        """Rows of the laws of all studies."""
        return self.rows("scaling")

    @cached_property
    def linear_scaling(self) -> list[Row]:
        """Rows of the tests of the linear scaling rule."""
        return self.rows("linear_scaling")
