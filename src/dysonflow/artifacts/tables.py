"""Parquet tables: explicit schemas, written in parts, every byte checked when they are read."""

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dysonflow.artifacts import seals
from dysonflow.artifacts.arrow import texts, widened, wider
from dysonflow.artifacts.files import METADATA_KEY, atomic, check_seal, header
from dysonflow.errors import DamagedError

if TYPE_CHECKING:
    import pandas as pd


class _Hash(io.RawIOBase):
    """A file that keeps nothing of what is written to it but the checksum."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)


class TableWriter:
    """Writes a table part by part, so that no more than one part of it is held in memory."""

    def __init__(self, path: str, schema: pa.Schema, sink: pq.ParquetWriter, digest: _Hash):
        self._path, self._schema, self._sink = path, schema, sink
        self._stream = pa.ipc.new_stream(pa.PythonFile(digest, "w"), schema)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Append rows.

        Parameters
        ----------
        columns : mapping
            Column name to array; exactly the names of the schema.

        Raises
        ------
        ValueError
            If the columns are not those of the schema, or a column that may not be null is.
        """
        schema, path = self._schema, self._path
        if set(columns) != set(schema.names):
            names = sorted(set(columns) ^ set(schema.names))
            raise ValueError(f"{path}: columns {names} do not match")
        table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
        table.validate(full=True)
        for field in schema:
            if not field.nullable and table.column(field.name).null_count:
                raise ValueError(f"{path}: column {field.name} holds a null")
        self._sink.write_table(table)
        self._stream.write_table(table.combine_chunks())

    def close(self) -> None:
        """End the stream that the checksum is taken of."""
        self._stream.close()


@contextmanager
def table_writer(
    path: str | os.PathLike[str], schema: pa.Schema, metadata: Mapping[str, Any]
) -> Iterator[TableWriter]:
    """Open a Parquet table for writing; it appears under its name when the block succeeds.

    Parameters
    ----------
    path : path-like
        Target.
    schema : pa.Schema
        Types and nullability of all columns.
    metadata : mapping
        Provenance, written as JSON into the key-value metadata of the file at the end of the block,
        together with a checksum of names, types and values (`data`).

    Raises
    ------
    ArtifactError
        If the file cannot be written.
    """
    digest = _Hash()
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as sink:
            writer = TableWriter(str(path), schema, sink, digest)
            yield writer
            writer.close()
            sink.add_key_value_metadata(header({**metadata, "data": digest.sha256.hexdigest()}))
        seals.seal(temporary)


def write_table(
    columns: Mapping[str, Any],
    schema: pa.Schema,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
) -> None:
    """Write a whole Parquet table at once; parameters and errors as of `table_writer`."""
    with table_writer(path, schema, metadata) as writer:
        writer.write(columns)


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a Parquet table of this project; nothing else of the file is checked.

    Raises
    ------
    ArtifactError
        If the file is truncated or foreign.
    """
    try:
        raw = pq.read_metadata(path).metadata or {}
        return dict(json.loads(raw[METADATA_KEY.encode()]))
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DamagedError(path, type(error).__name__) from error


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


def read_arrow(
    paths: Sequence[str | os.PathLike[str]],
    columns: Sequence[str] | None = None,
    layer: str | None = None,
) -> pa.Table:
    """Read several tables as one; a column that a table lacks is null in its rows.

    Parameters
    ----------
    paths : sequence of path-like
        The files.
    columns : sequence of str, optional
        Only these columns: saves memory where there are many rows.
    layer : str, optional
        Only rows with this value in the column `layer`.

    Raises
    ------
    ArtifactError
        If one of the files is truncated, foreign, changed since it was written, or of another
        layout.
    """
    tables = []
    for path in paths:
        read_metadata(path)
        try:
            tables += list(_parts(path, columns, layer))
        except (OSError, pa.ArrowException) as error:
            raise DamagedError(path, str(error)) from error
    # Of two models, each lacks hyperparameters of the other: nothing is required of the union. One
    # may take a number where the other takes a list.
    fields: dict[str, pa.Field] = {}
    for table in tables:
        for field in table.schema:
            known = fields.setdefault(field.name, field)
            fields[field.name] = field.with_type(wider(known.type, field.type))
    schema = pa.schema(list(fields.values()))
    tables = [widened(table, schema) for table in tables]
    return pa.concat_tables(tables, promote_options="default")


def _parts(
    path: str | os.PathLike[str], columns: Sequence[str] | None, layer: str | None
) -> Iterator[pa.Table]:
    """Row groups of a file, its metadata left out, every column nullable; at least one."""
    # Not pyarrow.parquet.read_table, whose imports take longer than most tables.
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if columns is None or name in columns]
        schema = pa.schema([file.schema_arrow.field(name).with_nullable(True) for name in names])
        yield pa.Table.from_batches([], schema)
        wanted = names if layer is None or "layer" in names else [*names, "layer"]
        for number in range(file.num_row_groups):
            if layer is not None and not _may_hold(file.metadata.row_group(number), layer):
                continue
            part = file.read_row_group(number, columns=wanted, use_threads=False)
            if layer is not None:
                there = [
                    number for number, name in enumerate(texts(part["layer"])) if name == layer
                ]
                if not there:
                    continue
                if len(there) < len(part):
                    part = pa.concat_tables([part.slice(row, 1) for row in there])
            yield part.select(names).replace_schema_metadata(None).cast(schema)


def _may_hold(group: Any, layer: str) -> bool:
    """Whether a row group can have rows of a layer, by the least and the largest name in it."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == "layer" and column.is_stats_set:
            found = column.statistics
            return not found.has_min_max or found.min <= layer <= found.max
    return True


def read_table(
    paths: Sequence[str | os.PathLike[str]],
    columns: Sequence[str] | None = None,
    layer: str | None = None,
) -> "pd.DataFrame":
    """Read several tables as one pandas frame; parameters and errors as of `read_arrow`."""
    return read_arrow(paths, columns, layer).to_pandas()
