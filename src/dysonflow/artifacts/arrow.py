"""Arrow arrays from buffers of NumPy arrays, and back.

Every ordinary way between Arrow and NumPy or Python imports pandas where it is installed, which
takes longer than the work of most jobs; buffers do not.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

NUMPY = {pa.float64(): np.float64, pa.int64(): np.int64}
"""Arrow types of numbers that tables have, and their twins in NumPy."""


def _buffer(array: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.ascontiguousarray(array))


def arrow_array(values: np.ndarray | Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Arrow array of numbers, truth values, texts or lists of these; None becomes null.

    Parameters
    ----------
    values : sequence
        One for each row.
    kind : pa.DataType
        `float64`, `int64`, `bool`, `string` or a list of one of them.

    Raises
    ------
    TypeError
        If no table has columns of this type.
    """
    if isinstance(values, np.ndarray) and kind in NUMPY:
        return pa.Array.from_buffers(
            kind, len(values), [None, _buffer(values.astype(NUMPY[kind], copy=False))]
        )
    valid = np.array([value is not None for value in values], dtype=bool)
    bits = None if valid.all() else _buffer(np.packbits(valid, bitorder="little"))
    nulls = int((~valid).sum())
    if kind in NUMPY:
        filled = np.array([0 if value is None else value for value in values], dtype=NUMPY[kind])
        return pa.Array.from_buffers(kind, len(values), [bits, _buffer(filled)], nulls)
    if pa.types.is_boolean(kind):
        true = np.packbits([bool(value) for value in values], bitorder="little")
        return pa.Array.from_buffers(kind, len(values), [bits, _buffer(true)], nulls)
    if pa.types.is_string(kind):
        texts = [b"" if value is None else str(value).encode() for value in values]
        offsets = np.cumsum([0, *map(len, texts)]).astype(np.int32)
        parts = [bits, _buffer(offsets), pa.py_buffer(b"".join(texts))]
        return pa.Array.from_buffers(kind, len(values), parts, nulls)
    if pa.types.is_list(kind):
        lists = [[] if value is None else list(value) for value in values]
        offsets = np.cumsum([0, *map(len, lists)]).astype(np.int32)
        inner = arrow_array([item for one in lists for item in one], kind.value_type)
        parts = [bits, _buffer(offsets)]
        return pa.Array.from_buffers(kind, len(values), parts, nulls, children=[inner])
    raise TypeError(f"no column is of type {kind}")


def constant(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    """Arrow array that holds one value in every row."""
    if kind in NUMPY and value is not None:
        return arrow_array(np.full(rows, value, dtype=NUMPY[kind]), kind)
    if pa.types.is_string(kind) and value is not None:
        return _repeated([str(value)], rows)
    if pa.types.is_list(kind) and value is not None:
        offsets = np.arange(rows + 1, dtype=np.int32) * len(value)
        if kind.value_type in NUMPY:
            each = np.asarray(value, dtype=NUMPY[kind.value_type])
            inner = arrow_array(np.tile(each, rows), kind.value_type)
        else:
            inner = _repeated([str(item) for item in value], rows)
        return pa.Array.from_buffers(kind, rows, [None, _buffer(offsets)], children=[inner])
    return arrow_array([value] * rows, kind)


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Type of a column that holds what two columns hold: a list if one does, real if one is.

    Of what has nothing in common, such as texts and numbers, a column holds the text.
    """
    if one == other:
        return one
    inner = [kind.value_type if pa.types.is_list(kind) else kind for kind in (one, other)]
    if inner[0] == inner[1]:
        kind = inner[0]
    else:
        kind = pa.float64() if set(inner) == {pa.float64(), pa.int64()} else pa.string()
    return pa.list_(kind) if inner != [one, other] else kind


def in_column(value: Any, column: pa.DataType) -> Any:
    """A value as a column holds it: a list of one where lists are, words as numbers, all as text.

    Words are numbers such as infinity; a text of what is none is that of JSON.
    """
    if value is None:
        return None
    if pa.types.is_list(column):
        items = value if isinstance(value, list) else [value]
        return [in_column(item, column.value_type) for item in items]
    if pa.types.is_floating(column) and isinstance(value, str):
        return float(value)
    if pa.types.is_string(column) and not isinstance(value, str):
        return json.dumps(value)
    return value


def widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same table with the types of a schema, each that of the column or `wider`."""
    for number, field in enumerate(table.schema):
        kind = schema.field(field.name).type
        if kind == field.type:
            continue
        values = table[field.name].to_pylist()
        values = [in_column(value, kind) for value in values]
        column = pa.chunked_array([arrow_array(values, kind)])
        table = table.set_column(number, field.with_type(kind), column)
    return table


def _repeated(values: Sequence[str], times: int) -> pa.Array:
    """Arrow array of some texts, again and again; no object of Python for each of them."""
    each = [value.encode() for value in values]
    lengths = np.tile(np.array([len(text) for text in each], dtype=np.int64), times)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    parts = [None, _buffer(offsets), pa.py_buffer(b"".join(each) * times)]
    return pa.Array.from_buffers(pa.string(), len(lengths), parts)


def numpy_array(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers of a column without nulls, as a NumPy array."""
    parts = []
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[1], dtype=NUMPY[chunk.type])
        parts.append(data[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(parts) if parts else np.zeros(0, dtype=NUMPY[column.type])


def texts(column: pa.ChunkedArray) -> list[str]:
    """Texts of a column without nulls."""
    found = []
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, dtype=np.int32)[chunk.offset :][: len(chunk) + 1]
        raw = data.to_pybytes() if data is not None else b""
        pairs = zip(ends[:-1], ends[1:], strict=True)
        found += [raw[first:stop].decode() for first, stop in pairs]
    return found
