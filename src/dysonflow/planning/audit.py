"""What a results folder holds, against what the configuration and the source would make now."""

import json
import shutil
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dysonflow import models
from dysonflow.analysis.columns import hyperparameter_fields, in_column
from dysonflow.artifacts import files, kinds, provenance, tables
from dysonflow.errors import ArtifactError, NewerFormatError, OlderFormatError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.planning.graph import STATUS, Artifact, Plan
from dysonflow.results import RUN_FILES, Results
from dysonflow.simulation.resume import SUFFIX

REPORTED_PACKAGES = ("python", "numpy", "scipy", "torch", "pyarrow")
"""Packages whose other version may change the last digits of a result."""

RUNS_FIELDS = [
    pa.field("run", pa.string(), False),
    pa.field("model", pa.string(), False),
    pa.field("key", pa.string(), False),
    pa.field("studies", pa.list_(pa.string()), False),
    pa.field("status", pa.string(), False),
    pa.field("device", pa.string()),
    pa.field("seconds", pa.float64()),
    pa.field("hyperparameters", pa.string()),
]


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Attributes
    ----------
    damaged, stale : dict
        Path to what is wrong with it. Another run would make these files anew, or differently.
    newer : dict
        Files of a newer dysonflow.
    notes : list of str
        Versions of packages other than those here.
    checked, missing : int
        Files that were read; files that are yet to be made.
    """

    damaged: dict[Path, str]
    stale: dict[Path, str]
    newer: dict[Path, str]
    notes: list[str]
    checked: int
    missing: int


def _difference(artifact: Artifact, metadata: Mapping[str, Any]) -> str:
    """What the provenance of a file says other than it would say now, in words."""
    for name, now in artifact.expected.items():
        then = metadata.get(name)
        if then == now:
            continue
        if name == "source":
            return f"made by other source ({then}, now {now})"
        if isinstance(then, dict):
            names = [key for key in {**then, **now} if then.get(key) != now.get(key)]
            changes = [f"{key} = {then.get(key)}, now {now.get(key)}" for key in names]
            return f"made with {'; '.join(changes)}"
        return f"made with other {name} ({then}, now {now})"
    recorded = metadata.get("made_from")
    if recorded and all(Path(path).is_file() for path in artifact.inputs):
        try:
            if recorded != artifact.made_from(artifact.inputs):
                name = Path(artifact.inputs[0]).name
                return f"made from another {name} than the one there is now"
        except ArtifactError:
            return ""  # The input is listed itself.
    return ""


def verify(plan: Plan) -> Report:
    """Compare every artifact with what the workflow would produce now.

    Checksums are verified for all runs in the folder, also those that no study names.
    """
    report = Report({}, {}, {}, [], 0, 0)
    wanted = list(plan.artifacts())
    named = {artifact.path for artifact in wanted}
    runs = Path(plan.results.root, "runs")
    others = [str(path) for name in RUN_FILES for path in runs.glob(f"*/*/{name}")]
    wanted += [Artifact(path, {}) for path in sorted(others) if path not in named]
    here = provenance.versions()
    versions: Counter[tuple[str, str]] = Counter()
    checked = missing = 0
    for artifact in wanted:
        path = Path(artifact.path)
        # A broken link into a cache is no file either.
        if not path.is_file():
            missing += artifact.needed
            continue
        checked += 1
        try:
            metadata = kinds.read_whole(path)
        except ArtifactError as error:
            group = report.damaged
            if isinstance(error, NewerFormatError):
                group = report.newer
            elif isinstance(error, OlderFormatError):
                group = report.stale
            group[path] = str(error).removeprefix(f"{path}: ")
            continue
        difference = _difference(artifact, metadata)
        if difference:
            report.stale[path] = difference
        for package in REPORTED_PACKAGES:
            then = metadata.get("versions", {}).get(package)
            if then and then != here.get(package):
                versions[package, then] += 1
    report.notes.extend(
        f"{count} files were made with {package} {then}; here is {here.get(package, 'none')}"
        for (package, then), count in sorted(versions.items())
    )
    return Report(report.damaged, report.stale, report.newer, report.notes, checked, missing)


def remove(path: Path) -> None:
    """Delete a file; of a link into a shared cache, what it points to as well."""
    if path.is_symlink():
        path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Delete the folder of a run; of a link the link alone, not what it points to."""
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be deleted: {error.strerror}") from None


def unrecorded(plan: Plan, snakemake: Path = Path(".snakemake")) -> list[str]:
    """Lines on files of other source, or of another layout, that Snakemake cannot know of.

    Snakemake notices that an output is out of date by its own record of the job. Where results came
    without their `.snakemake` folder it would take them as they are.
    """
    lines = []
    for artifact in plan.artifacts():
        record = urlsafe_b64encode(artifact.path.encode()).decode()
        parts = [record[i : i + 254] for i in range(0, len(record), 254)]
        place = snakemake.joinpath("metadata", *[f"@{part}" for part in parts[:-1]], parts[-1])
        if place.exists() or not Path(artifact.path).is_file():
            continue
        try:
            difference = kinds.peek(artifact.path).get("source") != artifact.expected["source"]
        except ArtifactError as error:
            lines.append(str(error))
            continue
        if difference:
            lines.append(f"{artifact.path}: made by other source than this")
    return lines


def orphans(plan: Plan) -> list[Path]:
    """Folders of runs that no study names."""
    named = {Path(plan.results.run(run.MODEL, run.name)) for run in plan.runs.values()}
    found = [path for path in Path(plan.results.root).glob("runs/*/*") if path.is_dir()]
    return sorted(path for path in found if path not in named)


def size(folder: Path) -> int:
    """Bytes of the files in a folder; links count for nothing."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def runs_table(studies: Mapping[str, Sequence[Hyperparameters]], results: Results) -> pa.Table:
    """One row per run, of the studies first and then those that no study names."""
    named: dict[str, tuple[Hyperparameters, list[str]]] = {}
    for study, runs in studies.items():
        for run in runs:
            named.setdefault(run.name, (run, []))[1].append(study)
    rows = []
    for run, users in named.values():
        rows.append(_row(Path(results.run(run.MODEL, run.name)), run.canonical(), users))
    for folder in sorted(Path(results.root).glob("runs/*/*")):
        if folder.is_dir() and folder.name not in named:
            rows.append(_row(folder, None, []))
    fields = {field.name: field for field in RUNS_FIELDS}
    for model in models.names():
        for field in hyperparameter_fields(models.hyperparameters_of(model)):
            fields.setdefault(field.name, field.with_nullable(True))
    schema = pa.schema(list(fields.values()))
    columns = {}
    for field in schema:
        values = [in_column(row.get(field.name), field.type) for row in rows]
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns, schema=schema)


def _row(
    folder: Path, hyperparameters: dict[str, Any] | None, studies: list[str]
) -> dict[str, Any]:
    status = "planned"
    if any(folder.rglob(f"*{SUFFIX}")):
        status = "interrupted"
    metadata: dict[str, Any] = {}
    for name in RUN_FILES:
        path = folder / name
        if path.is_file():
            status = STATUS[name]
            try:
                metadata = metadata or kinds.peek(path)
            except OlderFormatError:
                status = "of an older layout"
                break
            except ArtifactError:
                status = "damaged"
                break
    values = hyperparameters or metadata.get("hyperparameters")
    return {
        **(values or {}),
        "run": folder.name,
        "model": folder.parent.name,
        "key": folder.name.rpartition("-")[2],
        "studies": studies,
        "status": status,
        "device": metadata.get("device"),
        "seconds": metadata.get("seconds"),
        "hyperparameters": None if values is None else json.dumps(values, sort_keys=True),
    }


def write_runs(
    studies: Mapping[str, Sequence[Hyperparameters]], results: Results, output: str | Path
) -> None:
    """Write the table of all runs."""
    table = runs_table(studies, results)
    columns = {name: table.column(name) for name in table.column_names}
    metadata = {"studies": list(studies), "versions": provenance.versions()}
    tables.write_table(columns, table.schema, output, metadata)


def check_folder(results: Results) -> None:
    """Refuse a results folder that a newer version of the workflow wrote.

    Raises
    ------
    ArtifactError
        From its table of runs, which every run of the workflow writes last.
    """
    path = Path(results.runs_table)
    if path.is_file():
        try:
            files.check_format(tables.peek(path), path)
        except OlderFormatError:
            # What is of an older layout is out of date, and made anew like all of other source.
            return
