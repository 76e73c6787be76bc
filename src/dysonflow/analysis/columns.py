"""Columns that the tables of all runs share."""

import math
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa

from dysonflow.artifacts.arrow import constant, in_column
from dysonflow.hyperparameters import Auto, Hyperparameters

if TYPE_CHECKING:
    import pandas as pd

INCIDENTAL = ("burn_in", "steps", "path", "first_snapshot")
"""Hyperparameters that follow from the others or say where a run is kept."""
RUN_FIELDS = [
    pa.field("run", pa.string(), False),
    pa.field("model", pa.string(), False),
    pa.field("layer", pa.string(), False),
]
"""Which run and which of its weight matrices a row is about."""


def hyperparameter_fields(hyperparameters: type[Hyperparameters]) -> list[pa.Field]:
    """Columns that hold the hyperparameters of a model, under their config names."""
    return [
        pa.field(name, _arrow_type(field.annotation), NoneType in get_args(field.annotation))
        for name, field in hyperparameters.model_fields.items()
        if not isinstance(field.json_schema_extra, dict)
        or field.json_schema_extra.get("in_tables", True)
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
    if annotation is bool:
        return pa.bool_()
    return pa.float64() if annotation is float else pa.int64()


def run_columns(hyperparameters: Hyperparameters, layer: str, rows: int) -> dict[str, pa.Array]:
    """Constant columns: run, model, layer, and the hyperparameters of the run."""
    columns = {
        "run": constant(hyperparameters.name, pa.string(), rows),
        "model": constant(hyperparameters.MODEL, pa.string(), rows),
        "layer": constant(layer, pa.string(), rows),
    }
    for field in hyperparameter_fields(type(hyperparameters)):
        value = in_column(getattr(hyperparameters, field.name), field.type)
        columns[field.name] = constant(value, field.type, rows)
    return columns


def null_if_nan(value: Any) -> Any:
    """A value as a column holds it, missing where it is no number."""
    return None if isinstance(value, float) and math.isnan(value) else value


def fitted_pairs(fits: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of a table of fits with the pairs of degenerate levels that could be fitted."""
    return fits[(fits["multiplicity"] == 2) & fits["mean_gap"].notna()]
