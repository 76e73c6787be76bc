"""Inputs and targets to learn from: scikit-learn's digits, and the user's own .npz and .parquet."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.readers import arrays
from dysonflow.wording import did_you_mean

SUFFIXES = (".npz", ".parquet")
BRIGHTEST = 16.0
"""Largest value of a pixel of the digits."""


@dataclass(frozen=True)
class Dataset:
    """Samples to learn from.

    Attributes
    ----------
    inputs : np.ndarray
        Shape (sample, input), float64.
    targets : np.ndarray
        Shape (sample, output), float64, or whole numbers of shape (sample,).
    """

    inputs: np.ndarray
    targets: np.ndarray


def digits_file() -> Path:
    """The file of scikit-learn with the digits.

    Raises
    ------
    ConfigError
        If scikit-learn is not installed.
    """
    # Found without an import: that takes longer than to train a small network.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ConfigError("data = digits: they come with scikit-learn; pip install scikit-learn")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def digits() -> Dataset:
    """Handwritten digits of 8 x 8 pixels, 1797 of them, and what they are.

    E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998), as in scikit-learn. Pixels
    are divided by their largest value.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    return Dataset(found.data / BRIGHTEST, found.target)


def read(path: str, inputs: Sequence[str], targets: Sequence[str]) -> Dataset:
    """Read a file with one sample in each row.

    Parameters
    ----------
    path : str
        `.npz` or `.parquet`.
    inputs, targets : sequence of str
        Names of arrays, or of columns; several are put side by side.

    Raises
    ------
    ConfigError
        If the file cannot be used: names file, array or column, and row.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ConfigError(
            f"data = {path!r}: give teacher, digits, or a file that ends in {' or '.join(SUFFIXES)}"
        )
    with arrays.one_line(path):
        status = Path(path).stat()
    return _read(path, tuple(inputs), tuple(targets), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(
    path: str, inputs: tuple[str, ...], targets: tuple[str, ...], size: int, mtime: int
) -> Dataset:
    found = []
    for names in (inputs, targets):
        columns = [_column(path, name) for name in names]
        rows = len(columns[0])
        for name, column in zip(names, columns, strict=True):
            if len(column) != rows:
                raise ConfigError(
                    f"{path}: {name!r} has {len(column)} rows, {names[0]!r} has {rows}"
                )
            _check_finite(path, name, column)
        only = columns[0]
        found.append(
            only if len(columns) == 1 else np.hstack([one.reshape(rows, -1) for one in columns])
        )
    x, y = found
    if len(x) != len(y):
        raise ConfigError(f"{path}: {len(x)} rows of inputs, {len(y)} of targets")
    if not len(x):
        raise ConfigError(f"{path}: there is no row in it")
    if not np.issubdtype(y.dtype, np.integer):
        y = y.reshape(len(y), -1).astype(np.float64)
    return Dataset(x.reshape(len(x), -1).astype(np.float64), y)


def _column(path: str, name: str) -> np.ndarray:
    """An array or column of numbers, its first axis the row."""
    with arrays.one_line(path):
        if Path(path).suffix == ".npz":
            values = arrays.read_npz(path, name)
        else:
            values = _parquet_column(path, name)
    if not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise ConfigError(f"{path}: {name!r} holds {values.dtype}, where numbers belong")
    if not values.ndim:
        raise ConfigError(f"{path}: {name!r} is a single number; give one row for each sample")
    return values


def _parquet_column(path: str, name: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.parquet

    names = pa.parquet.read_schema(path).names
    if name not in names:
        raise ConfigError(f"{path}: there is no column {name!r} in it{did_you_mean(name, names)}")
    column = pa.parquet.read_table(path, columns=[name])[name]
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        rows = column.to_pylist()
        lengths = {len(row) for row in rows if row is not None}
        if len(lengths) > 1 or None in rows:
            raise ConfigError(f"{path}: the lists in column {name!r} differ in length")
        return np.array(rows)
    values: np.ndarray = column.to_numpy()
    return values


def _check_finite(path: str, name: str, values: np.ndarray) -> None:
    if not np.issubdtype(values.dtype, np.floating):
        return
    broken = np.argwhere(~np.isfinite(values))
    if len(broken):
        row, *place = (int(number) for number in broken[0])
        where = f"{name!r}" + (f", column {place[-1]}" if place else "")
        raise ConfigError(
            f"{path}: row {row} of {where} is {values[tuple(broken[0])]}, no number; rows count "
            "from 0"
        )
