"""What becomes of each tensor of a network that is read from files, as a table."""

from collections.abc import Sequence

import pyarrow as pa

from dysonflow.artifacts.arrow import arrow_array, constant
from dysonflow.models.checkpoints import CheckpointHyperparameters
from dysonflow.readers.layers import Line

LAYERS_SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), False),
        pa.field("model", pa.string(), False),
        pa.field("name", pa.string(), False),
        pa.field("layer", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("columns", pa.int64()),
        pa.field("dtype", pa.string(), False),
        pa.field("used", pa.bool_(), False),
        pa.field("reason", pa.string(), False),
    ]
)


def layers_columns(run: CheckpointHyperparameters, lines: Sequence[Line]) -> dict[str, pa.Array]:
    """Columns of the table: a row for each tensor, and for each part of one that is taken apart."""
    own = {
        field.name: arrow_array([getattr(line, field.name) for line in lines], field.type)
        for field in LAYERS_SCHEMA
        if field.name not in ("run", "model")
    }
    return {
        "run": constant(run.name, pa.string(), len(lines)),
        "model": constant(run.MODEL, pa.string(), len(lines)),
        **own,
    }
