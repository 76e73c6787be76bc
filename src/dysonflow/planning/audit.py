"""What a results folder holds, against what the configuration and the source would make now."""

import json
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dysonflow import models, stages
from dysonflow.artifacts import provenance, tables
from dysonflow.artifacts.documents import read_document
from dysonflow.artifacts.tables import read_metadata
from dysonflow.artifacts.weights import read_tensors
from dysonflow.errors import ArtifactError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.planning.studies import Study
from dysonflow.readers import arrays as array_files
from dysonflow.report import figures
from dysonflow.simulation.resume import SUFFIX

RUN_FILES = {"train": "weights.safetensors", "spectra": "spectra.parquet", "fit": "fits.parquet"}
"""What each stage writes into the folder of a run, in their order."""
STATUS = {"train": "trained", "spectra": "diagonalised", "fit": "fitted"}
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
class Artifact:
    """A file that the workflow would make now, and what its provenance would then say."""

    path: Path
    expected: Mapping[str, Any]
    inputs: Sequence[Path] = ()
    needed: bool = True
    made_from: Callable[[Sequence[Path]], str] = stages.made_from


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


def run_folder(run: Hyperparameters, results: Path) -> Path:
    """Folder of a run."""
    return results / "runs" / run.MODEL / run.run


def artifacts(
    studies: Mapping[str, Study], results: Path, reproduction: Mapping[str, str] | None = None
) -> Iterator[Artifact]:
    """All files of all studies that say what they were made from, inputs first."""
    seen = set()
    fitted = {run.run for study in studies.values() if study.is_stationary for run in study.runs}
    for study in studies.values():
        for run in study.runs:
            if run.run in seen:
                continue
            seen.add(run.run)
            before: tuple[Path, ...] = tuple(run.sources)
            made_from = array_files.digest if before else stages.made_from
            for stage, name in RUN_FILES.items():
                source = stages.source(stage, run.MODEL)
                expected = {"run": run.run, "hyperparameters": run.canonical(), "source": source}
                path = run_folder(run, results) / name
                needed = stage != "fit" or run.run in fitted
                yield Artifact(path, expected, before, needed, made_from)
                before = (path,) if stage == "train" else (path, *before)
                made_from = stages.made_from
    for study in studies.values():
        runs: dict[str, Any] = {"study": study.name, "runs": [run.run for run in study.runs]}
        files: dict[str, list[Path]] = {
            Path(name).stem: [run_folder(run, results) / name for run in study.runs]
            for name in RUN_FILES.values()
        }
        files["scaling"] = [results / "studies" / study.name / "scaling.parquet"]
        source = stages.source("scaling", study.model)
        laws = {**runs, "small_noise": study.small_noise, "source": source}
        yield Artifact(files["scaling"][0], laws, files["fits"], study.is_stationary)
        for figure in study.figures:
            source = stages.source("figure", study.model, figure)
            inputs = [path for kind in figures.FIGURES[figure].inputs for path in files[kind]]
            path = results / "figures" / study.name / f"{figure}.png"
            yield Artifact(path, {**runs, "figure": figure, "source": source}, inputs)
    if reproduction:
        shown = [studies[name] for name in reproduction.values()]
        source = stages.source_of_reproduction(tuple(study.model for study in shown))
        expected = {"studies": roles(studies, reproduction), "source": source}
        fits = [run_folder(run, results) / RUN_FILES["fit"] for s in shown for run in s.runs]
        tested = [results / "studies" / study.name / "scaling.parquet" for study in shown]
        yield Artifact(results / "reproduction.md", expected, [*fits, *tested])


def roles(studies: Mapping[str, Study], reproduction: Mapping[str, str]) -> dict[str, Any]:
    """Studies of the document that compares results with the paper, by their role."""
    return {
        role: {
            "study": studies[name].name,
            "runs": [run.run for run in studies[name].runs],
            "figures": list(studies[name].figures),
        }
        for role, name in reproduction.items()
    }


def read_whole(path: Path) -> dict[str, Any]:
    """Provenance of an artifact, every byte of it checked.

    Raises
    ------
    ArtifactError
        If it is damaged, foreign, or of a newer layout.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path, ())[1]
    if path.suffix == ".md":
        return read_document(path)
    if path.suffix != ".png":
        return read_metadata(path)
    metadata = figures.embedded(path)
    for suffix, recorded in metadata.get("files", {}).items():
        companion = path.with_suffix(suffix)
        if not companion.is_file() or figures.checksums(path, (suffix,))[suffix] != recorded:
            raise ArtifactError(f"{companion}: missing or changed; delete {path}")
    return metadata


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
    if recorded and all(path.is_file() for path in artifact.inputs):
        try:
            if recorded != artifact.made_from(artifact.inputs):
                return f"made from another {artifact.inputs[0].name} than the one there is now"
        except ArtifactError:
            return ""  # The input is listed itself.
    return ""


def verify(
    studies: Mapping[str, Study], results: Path, reproduction: Mapping[str, str] | None = None
) -> Report:
    """Compare every artifact with what the workflow would produce now.

    Checksums are verified for all runs in the folder, also those that no study names.
    """
    report = Report({}, {}, {}, [], 0, 0)
    wanted = list(artifacts(studies, results, reproduction))
    named = {artifact.path for artifact in wanted}
    others = [path for name in RUN_FILES.values() for path in results.glob(f"runs/*/*/{name}")]
    wanted += [Artifact(path, {}) for path in sorted(others) if path not in named]
    here = provenance.versions()
    versions: Counter[tuple[str, str]] = Counter()
    checked = missing = 0
    for artifact in wanted:
        # A broken link into a cache is no file either.
        if not artifact.path.is_file():
            missing += artifact.needed
            continue
        checked += 1
        try:
            metadata = read_whole(artifact.path)
        except ArtifactError as error:
            text = str(error).removeprefix(f"{artifact.path}: ")
            group = report.newer if "newer dysonflow" in text else report.damaged
            group[artifact.path] = text
            continue
        difference = _difference(artifact, metadata)
        if difference:
            report.stale[artifact.path] = difference
        for package in REPORTED_PACKAGES:
            then = metadata.get("versions", {}).get(package)
            if then and then != here[package]:
                versions[package, then] += 1
    report.notes.extend(
        f"{count} files were made with {package} {then}; here is {here[package]}"
        for (package, then), count in sorted(versions.items())
    )
    return Report(report.damaged, report.stale, report.newer, report.notes, checked, missing)


def remove(path: Path) -> None:
    """Delete a file; of a link into a shared cache, what it points to as well."""
    if path.is_symlink():
        path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def unrecorded(
    studies: Mapping[str, Study], results: Path, snakemake: Path = Path(".snakemake")
) -> list[str]:
    """Lines on files of other source, or of a newer layout, that Snakemake cannot know of.

    Snakemake notices that an output is out of date by its own record of the job. Where results came
    without their `.snakemake` folder it would take them as they are.
    """
    lines = []
    for artifact in artifacts(studies, results):
        record = urlsafe_b64encode(str(artifact.path).encode()).decode()
        parts = [record[i : i + 254] for i in range(0, len(record), 254)]
        place = snakemake.joinpath("metadata", *[f"@{part}" for part in parts[:-1]], parts[-1])
        if place.exists() or not artifact.path.is_file():
            continue
        try:
            metadata = stages.peek(artifact.path)
            tables.check_format(metadata, artifact.path)
            difference = metadata.get("source") != artifact.expected["source"]
        except ArtifactError as error:
            lines.append(str(error))
            continue
        if difference:
            lines.append(f"{artifact.path}: made by other source than this")
    return lines


def orphans(studies: Mapping[str, Study], results: Path) -> list[Path]:
    """Folders of runs that no study names."""
    named = {run_folder(run, results) for study in studies.values() for run in study.runs}
    found = [path for path in results.glob("runs/*/*") if path.is_dir()]
    return sorted(path for path in found if path not in named)


def size(folder: Path) -> int:
    """Bytes of the files in a folder; links count for nothing."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def runs_table(studies: Mapping[str, Sequence[Hyperparameters]], results: Path) -> pa.Table:
    """One row per run, of the studies first and then those that no study names."""
    named: dict[str, tuple[Hyperparameters, list[str]]] = {}
    for study, runs in studies.items():
        for run in runs:
            named.setdefault(run.run, (run, []))[1].append(study)
    rows = []
    for run, users in named.values():
        rows.append(_row(run_folder(run, results), run.canonical(), users))
    for folder in sorted(results.glob("runs/*/*")):
        if folder.is_dir() and folder.name not in named:
            rows.append(_row(folder, None, []))
    fields = {field.name: field for field in RUNS_FIELDS}
    for model in models.names():
        for field in tables.hyperparameter_fields(models.hyperparameters_of(model)):
            fields.setdefault(field.name, field.with_nullable(True))
    schema = pa.schema(list(fields.values()))
    columns = {}
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if pa.types.is_list(field.type):
            values = [
                value if value is None or isinstance(value, list) else [value] for value in values
            ]
        columns[field.name] = pa.array(values, field.type)
    return pa.table(columns, schema=schema)


def _row(
    folder: Path, hyperparameters: dict[str, Any] | None, studies: list[str]
) -> dict[str, Any]:
    status = "planned"
    if any(folder.rglob(f"*{SUFFIX}")):
        status = "interrupted"
    metadata: dict[str, Any] = {}
    for stage, name in RUN_FILES.items():
        path = folder / name
        if path.is_file():
            status = STATUS[stage]
            try:
                metadata = metadata or stages.peek(path)
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
    studies: Mapping[str, Sequence[Hyperparameters]], results: Path, output: str | Path
) -> None:
    """Write the table of all runs."""
    table = runs_table(studies, results)
    columns = {name: table.column(name) for name in table.column_names}
    metadata = {"studies": list(studies), "versions": provenance.versions()}
    tables.write_table(columns, table.schema, output, metadata)


def check_folder(results: Path) -> None:
    """Refuse a results folder that a newer version of the workflow wrote.

    Raises
    ------
    ArtifactError
        From its table of runs, which every run of the workflow writes last.
    """
    path = results / "runs.parquet"
    if path.is_file():
        tables.check_format(tables.peek(path), path)
