"""What a results folder holds, against what the configuration and the source would make now."""

import errno
import json
import os
import re
import shutil
import stat
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dysonflow import models
from dysonflow.analysis.columns import hyperparameter_fields
from dysonflow.artifacts import files, kinds, provenance, tables
from dysonflow.artifacts.arrow import in_column, wider
from dysonflow.artifacts.weights import UNFINISHED
from dysonflow.errors import (
    ArtifactError,
    DamagedError,
    NewerFormatError,
    OlderFormatError,
    UnreadableError,
)
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.logs import ERROR
from dysonflow.planning.graph import STATUS, Artifact, Plan
from dysonflow.results import RUN_FILES, RUN_NAME, Results
from dysonflow.simulation.resume import SUFFIX
from dysonflow.wording import plain

REPORTED_PACKAGES = ("python", "numpy", "scipy", "torch", "pyarrow")
"""Packages whose other version may change the last digits of a result."""
CHANGES = 3
"""Changes that a line on one file lists at most."""

OWN_FILE = re.compile(
    rf"(?:{'|'.join(map(re.escape, RUN_FILES))}|shards/\d+-\d+\.safetensors)"
    rf"(?:{re.escape(UNFINISHED)}|{re.escape(SUFFIX)})?"
    # What a killed writer left.
    r"|(?:shards/)?\.[^/]+\.partial"
)
"""Path of a file that the workflow writes into the folder of a run."""

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
    unreadable : dict
        Files that may not be read, of which nothing is known.
    ahead : dict
        Files that other files are made from and whose time stamps lie ahead of the clock: Snakemake
        fails at whatever it makes from them, for that is older.
    notes : list of str
        Versions of packages other than those here.
    checked, missing : int
        Files that were read; files that are yet to be made.
    """

    damaged: dict[Path, str]
    stale: dict[Path, str]
    newer: dict[Path, str]
    unreadable: dict[Path, str]
    ahead: dict[Path, str]
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
            changes = [
                f"{key} = {plain(then.get(key))}, now {plain(now.get(key))}"
                for key in names[:CHANGES]
            ]
            more = f"; and {len(names) - CHANGES} more" if len(names) > CHANGES else ""
            return f"made with {'; '.join(changes)}{more}"
        return f"made with other {name} ({then}, now {now})"
    recorded = metadata.get("made_from")
    if recorded and artifact.inputs and all(Path(path).is_file() for path in artifact.inputs):
        try:
            if recorded != artifact.made_from(artifact.inputs):
                name = Path(artifact.inputs[0]).name
                return f"made from another {name} than the one there is now"
        except (ArtifactError, FileNotFoundError):
            return ""  # The input is listed itself, or has just vanished.
    return ""


def _reported(plan: Plan) -> Plan:
    """The part of a plan whose studies the report in the folder shows; all of it if others."""
    try:
        shown = kinds.peek(plan.results.report).get("studies", {})
    except (ArtifactError, FileNotFoundError):
        return plan
    if not set(shown) <= set(plan.studies):
        return plan
    return replace(
        plan,
        studies={name: plan.studies[name] for name in shown},
        reproduction={role: name for role, name in plan.reproduction.items() if name in shown},
    )


def verify(plan: Plan, of_several: bool = False) -> Report:
    """Compare every artifact with what the workflow would produce now.

    Checksums are verified for all runs in the folder, also those that no study names.

    Parameters
    ----------
    plan : Plan
        What is asked for.
    of_several : bool
        Whether by several configurations, which were run one after the other: the report in the
        folder is that of the last of them.
    """
    report = Report({}, {}, {}, {}, {}, [], 0, 0)
    *wanted, page = plan.artifacts()
    if of_several:
        *_, page = _reported(plan).artifacts()
    wanted.append(page)
    named = {artifact.path for artifact in wanted}
    folders = _run_folders(plan.results)
    others = [str(folder / name) for folder in folders for name in RUN_FILES]
    others = [path for path in others if os.path.lexists(path)]
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
        except FileNotFoundError:
            # It vanished while others were read.
            checked -= 1
            missing += artifact.needed
            continue
        except ArtifactError as error:
            group = report.damaged
            if isinstance(error, NewerFormatError):
                group = report.newer
            elif isinstance(error, UnreadableError):
                group = report.unreadable
            elif isinstance(error, OlderFormatError):
                group = report.stale
            reason = error.reason if isinstance(error, DamagedError) else str(error)
            group[path] = reason.removeprefix(f"{path}: ")
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
    inputs = {Path(path) for artifact in wanted for path in artifact.inputs}
    report.ahead.update(_ahead(sorted(inputs)))
    return replace(report, checked=checked, missing=missing)


def _ahead(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Files with a time stamp ahead of the clock, as of a clock that was set back."""
    now = time.time()
    for path in paths:
        with suppress(OSError):
            stamp = path.stat().st_mtime
            if stamp > now:
                when = datetime.fromtimestamp(stamp).isoformat(" ", "seconds")
                yield path, f"its time stamp, {when}, lies ahead of the clock; touch it"


def _run_folders(results: Results) -> list[Path]:
    """Folders that are named like runs."""
    found = sorted(Path(results.root).glob("runs/*/*"))
    return [path for path in found if re.fullmatch(RUN_NAME, path.name)]


def remove(path: Path) -> None:
    """Delete a file; of a link into a shared cache, what it points to as well."""
    with _cannot_be_deleted(path):
        if path.is_symlink():
            path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def foreign(folder: Path) -> list[Path]:
    """Files in the folder of a run that the workflow did not write; links are not followed."""
    if folder.is_symlink():
        return []
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    return [path for path in files if not OWN_FILE.fullmatch(path.relative_to(folder).as_posix())]


def remove_run(folder: Path) -> None:
    """Delete the folder of a run with all that the workflow wrote; of a link the link alone.

    A folder in which something else lies stays, with that.

    Raises
    ------
    ArtifactError
        If a file cannot be deleted.
    """
    with _cannot_be_deleted(folder):
        if folder.is_symlink():
            folder.unlink()
            return
        others = foreign(folder)
        if not others:
            shutil.rmtree(folder)
            return
        for path in [path for path in folder.rglob("*") if not path.is_dir()]:
            if path not in others:
                path.unlink()


@contextmanager
def _cannot_be_deleted(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be deleted: {error.strerror}") from None


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


def flagged(plan: Plan) -> list[str]:
    """Lines on studies all of whose fits carry a flag, from the provenance of their laws."""
    lines = []
    for study in plan.studies.values():
        path = Path(plan.results.scaling(study.name))
        if not study.is_stationary or not path.is_file():
            continue
        try:
            metadata = kinds.peek(path)
        except ArtifactError as error:
            lines.append(str(error))
            continue
        flags = metadata.get("flags", {})
        if flags and sum(flags.values()) == metadata["blocks"]:
            text, count = max(flags.items(), key=lambda item: item[1])
            lines.append(
                f"study {study.name!r}: all {metadata['blocks']} fits carry a flag, {count} of "
                f"them: {text} (column `flag` of the fits)"
            )
    return lines


def untrained(plan: Plan) -> list[str]:
    """Lines on runs whose training ended with an error, from their logs, and what waits for it."""
    lines = []
    for run in plan.runs.values():
        files = plan.results.files_of(run)
        # Weights that are not kept are gone once there are spectra.
        if any(Path(files[kind]).is_file() for kind in ("weights", "spectra")):
            continue
        whole = Path(plan.results.log("train", run.MODEL, run.name))
        errors = [_error(path) for path in [whole, *sorted(whole.with_suffix("").glob("*.log"))]]
        reason = next(filter(None, errors), "")
        if reason:
            names = [name for name, study in plan.studies.items() if run in study.runs]
            lines.append(
                f"run {run.name} of {', '.join(names)}: {reason}; figures and laws of its studies, "
                f"and {plan.results.report}, wait for it: mend it, or take it out of the studies"
            )
    return lines


def _error(log: Path) -> str:
    """What a job said at its end if it ended with an error, without the hyperparameters."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    said = [line for line in text.splitlines() if line.startswith(ERROR)]
    return said[-1].removeprefix(ERROR).split(" (hyperparameters: ")[0] if said else ""


def orphans(plan: Plan) -> list[Path]:
    """Folders of runs that no study names; a folder that is not named like a run is none."""
    named = {Path(plan.results.run(run.MODEL, run.name)) for run in plan.runs.values()}
    found = [path for path in _run_folders(plan.results) if path.is_dir()]
    return sorted(path for path in found if path not in named)


def size(folder: Path) -> int:
    """Bytes of the files in a folder; links count for nothing."""
    found = 0
    for path in folder.rglob("*"):
        # Some may vanish while others are counted.
        with suppress(FileNotFoundError):
            found += path.lstat().st_size if path.is_file() else 0
    return found


def runs_table(studies: Mapping[str, Sequence[Hyperparameters]], results: Results) -> pa.Table:
    """One row per run, of the studies first and then those that no study names."""
    named: dict[str, tuple[Hyperparameters, list[str]]] = {}
    for study, runs in studies.items():
        for run in runs:
            named.setdefault(run.name, (run, []))[1].append(study)
    rows = []
    for run, users in named.values():
        rows.append(_row(Path(results.run(run.MODEL, run.name)), run.canonical(), users))
    for folder in _run_folders(results):
        if folder.is_dir() and folder.name not in named:
            rows.append(_row(folder, None, []))
    fields = {field.name: field for field in RUNS_FIELDS}
    for model in models.names():
        for field in hyperparameter_fields(models.hyperparameters_of(model)):
            known = fields.setdefault(field.name, field.with_nullable(True))
            fields[field.name] = known.with_type(wider(known.type, field.type))
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
    for name in STATUS:
        path = folder / name
        if path.is_file():
            status = STATUS[name]
            try:
                metadata = metadata or kinds.peek(path)
            except OlderFormatError:
                status = "of an older layout"
                break
            except UnreadableError:
                status = "not readable"
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


def check_places(plan: Plan) -> None:
    """Refuse a results folder in which files are where folders should be, or the other way round.

    Raises
    ------
    ArtifactError
        With one line for the first of them.
    """
    wanted = [*plan.targets(), plan.results.log("any")]
    for run in plan.runs.values():
        wanted += plan.results.files_of(run).values()
    folders: set[str] = set()
    for path in wanted:
        folder = os.path.dirname(path)
        while folder not in folders and folder not in ("", os.sep):
            folders.add(folder)
            folder = os.path.dirname(folder)
    for folder in sorted(folders):
        if os.path.lexists(folder) and not stat.S_ISDIR(_mode(folder)):
            what = "a link to nothing" if os.path.islink(folder) else "a file"
            raise ArtifactError(f"{folder}: {what}, where a folder should be; move it away")
    for path in wanted:
        if stat.S_ISDIR(_mode(path)):
            raise ArtifactError(f"{path}: a folder, where a file should be; move it away")


def _mode(path: str) -> int:
    """What is at a path, as `stat` tells it; 0 for nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:
            return 0
        raise


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
