"""Result tables: Arrow schemas, atomic writes, readers."""

import errno
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from dysonflow.artifacts import seals
from dysonflow.errors import ArtifactError
from dysonflow.hyperparameters import Auto, Hyperparameters

METADATA_KEY = "dysonflow"
FORMAT = 2
"""Version of the layout of all artifacts; readers refuse a newer one. Format 1 had no seal."""

RUN_FIELDS = [pa.field("run", pa.string(), False), pa.field("model", pa.string(), False)]

SPECTRA_FIELDS = [
    *RUN_FIELDS,
    pa.field("replica", pa.int64(), False),
    pa.field("snapshot", pa.int64(), False),
    pa.field("step", pa.int64(), False),
    pa.field("index", pa.int64(), False),
    pa.field("eigenvalue", pa.float64(), False),
]

FITS_FIELDS = [
    *RUN_FIELDS,
    pa.field("block", pa.int64(), False),
    pa.field("multiplicity", pa.int64(), False),
    pa.field("samples", pa.int64(), False),
    *[
        pa.field(name + suffix, pa.float64())
        for name in ("centre", "sigma", "mean_gap")
        for suffix in ("", "_error", "_theory", "_block_formula")
    ],
    *[pa.field(f"pull_{name}", pa.float64()) for name in ("centre", "sigma", "gap")],
    *[
        pa.field(name, pa.float64())
        for name in (
            *("dyson_index", "dyson_index_error"),
            *("surmise_p_value", "density_p_value", "angle_p_value"),
            *("autocorrelation_time", "autocorrelation_time_error"),
        )
    ],
    pa.field("gap_ratio", pa.float64()),
    pa.field("gap_ratio_error", pa.float64()),
    pa.field("variable", pa.float64()),
    pa.field("finite_step_variable", pa.float64()),
    pa.field("stochasticity", pa.float64()),
    pa.field("quantity", pa.string(), False),
    pa.field("flag", pa.string(), False),
]

SCALING_SCHEMA = pa.schema(
    [
        pa.field("study", pa.string(), False),
        pa.field("law", pa.string(), False),
        pa.field("points", pa.int64(), False),
        *[
            pa.field(name + suffix, pa.float64())
            for name in ("slope", "exponent")
            for suffix in ("", "_error", "_theory")
        ],
        pa.field("chi2", pa.float64()),
        pa.field("dof", pa.int64()),
        pa.field("p_value", pa.float64()),
        pa.field("pull", pa.float64()),
    ]
)


def hyperparameter_fields(hyperparameters: type[Hyperparameters]) -> list[pa.Field]:
    """Columns that hold the hyperparameters of a model, under their config names."""
    return [
        pa.field(name, _arrow_type(field.annotation), NoneType in get_args(field.annotation))
        for name, field in hyperparameters.model_fields.items()
    ]


def _arrow_type(annotation: Any) -> pa.DataType:
    """Type of a column; that of the list where a number or a list may be given."""
    if get_origin(annotation) is Annotated:
        return _arrow_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        # `auto` is resolved, and None is a null.
        options = [item for item in get_args(annotation) if item not in (Auto, NoneType)]
        return _arrow_type(next((item for item in options if get_origin(item) is list), options[0]))
    if get_origin(annotation) is list:
        return pa.list_(_arrow_type(get_args(annotation)[0]))
    if annotation is str or get_origin(annotation) is Literal:
        return pa.string()
    return pa.float64() if annotation is float else pa.int64()


def hyperparameter_columns(hyperparameters: Hyperparameters, rows: int) -> dict[str, pa.Array]:
    """Constant columns with the hyperparameters of one run."""
    columns = {}
    for field in hyperparameter_fields(type(hyperparameters)):
        value = getattr(hyperparameters, field.name)
        if pa.types.is_list(field.type) and not isinstance(value, list):
            value = [value]
        columns[field.name] = pa.repeat(pa.scalar(value, field.type), rows)
    return columns


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block succeeds.

    A reader thus sees the whole file or none, also after a crash or on a full disk.

    Raises
    ------
    ArtifactError
        If the file cannot be written; the message says what to do.
    """
    target = Path(path)
    host = platform.node() or "localhost"
    temporary = target.with_name(f".{target.name}.{host}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target, host)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"{target}: cannot be written: {reason}{_remedy(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remove_leftovers(target: Path, host: str) -> None:
    """Remove what a killed writer of this machine left of the same file."""
    for leftover in target.parent.glob(f".{target.name}.{host}.*.partial"):
        pid = leftover.name.split(".")[-2]
        if pid.isdigit() and int(pid) != os.getpid() and not _is_running(int(pid)):
            leftover.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # What has ended but was not yet waited for by its parent still has a number.
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state != "Z"


def _remedy(error: OSError) -> str:
    # Arrow does not always set errno.
    text = str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return "; free some space and run snakemake again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "; make the folder writable and run snakemake again"
    return ""


class _Hash(io.RawIOBase):
    """A file that keeps nothing of what is written to it but the checksum."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)


def table_digest(table: pa.Table) -> str:
    """SHA-256 of the names, types and values of a table, its metadata aside."""
    bare = table.replace_schema_metadata(None).combine_chunks()
    sink = _Hash()
    with pa.PythonFile(sink, "w") as stream, pa.ipc.new_stream(stream, bare.schema) as writer:
        writer.write_table(bare)
    return sink.sha256.hexdigest()


def write_table(
    columns: Mapping[str, Any],
    schema: pa.Schema,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
) -> None:
    """Write a Parquet table with an explicit schema, atomically.

    Parameters
    ----------
    columns : mapping
        Column name to array; exactly the names of the schema.
    schema : pa.Schema
        Types and nullability of all columns.
    path : path-like
        Target.
    metadata : mapping
        Provenance, written as JSON into the key-value metadata of the file.

    Raises
    ------
    ArtifactError
        If the file cannot be written.
    ValueError
        If the columns are not those of the schema, or a column that may not be null is.
    """
    if set(columns) != set(schema.names):
        raise ValueError(f"{path}: columns {sorted(set(columns) ^ set(schema.names))} do not match")
    table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
    table.validate(full=True)
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"{path}: column {field.name} holds a null")
    table = table.replace_schema_metadata(header({**metadata, "data": table_digest(table)}))
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
        seals.seal(temporary)


def header(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Key-value metadata of an artifact: provenance as JSON, and the place of its seal."""
    provenance = json.dumps({"format": FORMAT, **metadata}, sort_keys=True)
    return {METADATA_KEY: provenance, seals.SEAL_KEY: seals.BLANK}


def check_format(metadata: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise `ArtifactError` for a file of a newer layout."""
    if metadata.get("format", 0) > FORMAT:
        raise ArtifactError(
            f"{path}: written by a newer dysonflow (format {metadata['format']}, this one reads "
            f"{FORMAT}); update dysonflow"
        )


def check_seal(metadata: Mapping[str, Any], sealed: bool, path: str | os.PathLike[str]) -> None:
    """Raise `ArtifactError` for a file of a newer layout, and for one that lost its seal."""
    check_format(metadata, path)
    if metadata.get("format", 0) >= 2 and not sealed:
        raise seals.damaged(path, "no checksum")


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a Parquet table of this project; nothing else of the file is checked.

    Raises
    ------
    ArtifactError
        If the file is truncated or foreign.
    """
    try:
        raw = pq.read_schema(path).metadata or {}
        return dict(json.loads(raw[METADATA_KEY.encode()]))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise seals.damaged(path, type(error).__name__) from error


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a Parquet table of this project, all of whose bytes are checked.

    Raises
    ------
    ArtifactError
        If the file is truncated, foreign, changed since it was written, or of a newer layout.
    """
    sealed = seals.check(path)
    metadata = peek(path)
    check_seal(metadata, sealed, path)
    return metadata


def read_table(
    paths: Sequence[str | os.PathLike[str]],
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read several tables as one; a column that a table lacks is missing in its rows.

    Raises
    ------
    ArtifactError
        If one of the files is truncated, foreign, changed since it was written, or of a newer
        layout.
    """
    for path in paths:
        read_metadata(path)
    files = [str(path) for path in paths]
    schemas = [pq.read_schema(file).remove_metadata() for file in files]
    # Of two models, each lacks hyperparameters of the other: nothing is required of the union.
    schema = pa.unify_schemas([pa.schema([f.with_nullable(True) for f in s]) for s in schemas])
    try:
        table = pa.dataset.dataset(files, schema=schema, format="parquet").to_table(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{', '.join(files[:3])}: damaged: {error}") from error
    return table.to_pandas()


def _find(results: str | os.PathLike[str], pattern: str) -> list[Path]:
    found = sorted(Path(results).glob(pattern))
    if not found:
        raise FileNotFoundError(
            f"{results}: no {pattern.split('/')[-1]} in it; run snakemake, or give another folder"
        )
    return found


def read_spectra(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read the eigenvalues of all runs.

    Parameters
    ----------
    results : path-like
        Results folder of the workflow.
    model : str
        Only runs of this model; all by default.
    columns : sequence of str, optional
        Only these columns: saves memory where there are many rows.

    Returns
    -------
    pandas.DataFrame
        One row per eigenvalue of X = W^T W: `run, model, replica, snapshot, step, index,
        eigenvalue` and every hyperparameter. A hyperparameter that a model does not have is
        missing in its rows.

    Raises
    ------
    FileNotFoundError
        If there are none.
    ArtifactError
        If a file is damaged.
    """
    return read_table(_find(results, f"runs/{model}/*/spectra.parquet"), columns)


def read_fits(results: str | os.PathLike[str] = "results", model: str = "*") -> pd.DataFrame:
    """Read the fits of all runs: one row per run and block of degenerate levels.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return read_table(_find(results, f"runs/{model}/*/fits.parquet"))


def read_scaling(results: str | os.PathLike[str] = "results", study: str = "*") -> pd.DataFrame:
    """Read the laws tested over the runs of each study: one row per study and law.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return read_table(_find(results, f"studies/{study}/scaling.parquet"))


def read_runs(results: str | os.PathLike[str] = "results") -> pd.DataFrame:
    """Read the table of all runs: hyperparameters, the studies that name each, and its status."""
    return read_table(_find(results, "runs.parquet"))
