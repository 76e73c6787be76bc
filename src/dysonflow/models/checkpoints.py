"""Weights that others trained, read from their files instead of from a simulation.

Either one array, of one matrix or of many, or all matrices of whole networks. What produced them
is told by hand: learning rate, batch size, and, if theory is to be compared, the scale of the noise
and where each level would be without it.
"""

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Auto, Count, Hyperparameters, Time, quantity
from dysonflow.models.base import System
from dysonflow.models.teacher_student import TeacherStudentHyperparameters
from dysonflow.readers import arrays, patterns, places
from dysonflow.readers import layers as network
from dysonflow.readers.checkpoints import files_of, is_checkpoint, open_checkpoint
from dysonflow.wording import plain

MATRIX = re.compile(r"(?P<name>\S+) (?P<rows>[0-9]{1,9}) (?P<columns>[0-9]{1,9})")
"""A layer of a whole network, in words."""
Axis = Literal["replica", "snapshot", "row", "column"]
AXES: list[Axis] = ["replica", "snapshot", "row", "column"]


@dataclass(frozen=True)
class Held:
    """What the files of a run hold, from their names and headers.

    Attributes
    ----------
    files : tuple of tuple of str
        By replica and snapshot, of size 1 along what is an axis of the array. Of whole networks
        their checkpoints, which may be folders.
    replicas, snapshots, rows, columns : int
        Shape of the weights, snapshots that are left out not counted; of several layers, that of
        the largest.
    first : int
        Number of the first snapshot that is kept.
    dtype : str
        As what the weights are read.
    steps : tuple of int, optional
        SGD steps of the snapshots that are kept, if the file names say them.
    layers : tuple of network.Layer
        Of whole networks.
    lines : tuple of network.Line
        What becomes of each of their tensors.
    """

    files: tuple[tuple[str, ...], ...]
    replicas: int
    snapshots: int
    rows: int
    columns: int
    first: int
    dtype: str
    steps: tuple[int, ...] | None
    layers: tuple[network.Layer, ...] = ()
    lines: tuple[network.Line, ...] = ()


class CheckpointHyperparameters(Hyperparameters):
    """Where weights are, and what they are compared with."""

    MODEL = "checkpoints"

    # An instance never holds `auto`, and the base class says so of these.
    replicas: Annotated[int, Field(ge=1, le=10_000_000)] | Auto = quantity("auto")  # type: ignore[assignment]
    """Independently trained matrices; `auto`: as many as the files hold."""
    snapshots: Annotated[int, Field(ge=1, le=1_000_000)] | Auto = quantity("auto")  # type: ignore[assignment]
    """Matrices per replica, from `first_snapshot` on; `auto`: as many as the files hold."""
    burn_in: Time | Auto = quantity("auto", unit="SGD steps")
    """SGD step of the first snapshot that is kept; `auto`: the number that `{snapshot}` stands for,
    else which snapshot it is, counted from 1."""
    steps: Time | Auto = quantity("auto", unit="SGD steps")
    """SGD step of the last snapshot; `auto` as for `burn_in`."""
    seed: int = quantity(0, ge=0, lt=2**32)
    """Without effect: nothing is drawn."""
    dtype: Literal["float64", "float32"] | Auto = quantity("auto")  # type: ignore[assignment]
    """Floating-point type of the weights; `auto`: as in the files, at least float32."""
    path: str = quantity(min_length=1)
    """File with weights (`.npz`, `.safetensors`, or torch `.pt`, `.pth`, `.bin`, `.ckpt`), relative
    to the working directory or to the folder of the configuration; of whole networks also the index
    of their shards (`.index.json`), or a folder that holds one checkpoint. `{replica}`,
    `{snapshot}`, `*` and `?` match any text in a file or folder name; several files without
    `{replica}` and `{snapshot}` are replicas."""
    array: str = quantity("")
    """Name of the array in the file; in nested torch dictionaries as in `model/fc1.weight`. Without
    it, whole networks are read."""
    layer_patterns: list[str] | str = quantity([], alias="layers", in_tables=False)
    """Which matrices of whole networks are read: names of layers or tensors, or patterns such as
    `*mlp*`, one or a list. Without it, every tensor of two axes and every kernel of a
    convolution, as rows of one output each; `dysonflow layers PATH` lists them."""
    fused: network.Fused = quantity("by_name")
    """Where queries, keys and values stand in a tensor of all three: in blocks of `rows` or
    `columns`, or `interleaved` head by head; `by_name`: as the name of the tensor says; `whole`:
    they are not taken apart."""
    heads: Annotated[int, Field(ge=1)] | None = quantity(None)
    """Heads of attention, where it takes them to find queries, keys and values."""
    key_value_heads: Annotated[int, Field(ge=1)] | None = quantity(None)
    """Heads of keys and values, where these are fewer."""
    split: network.Split = quantity("matrices")
    """`heads`: queries, keys and values are cut into their heads, a layer each."""
    lora: network.Lora = quantity("factors")
    """Whether the factors A and B of an adapter are layers, their `product` B A, or `both`."""
    axes: Annotated[list[Axis], Field(min_length=2)] = quantity(AXES)
    """What each axis of the array is. `row` and `column` must be there; `replica` and `snapshot`
    may be missing, or be told apart by the file names instead."""
    first_snapshot: int = quantity(0)
    """Snapshots before this one are left out; negative: counted from the end, -1 is the last."""
    learning_rate: Annotated[float, Field(gt=0)] | None = quantity(
        None, label="lr", symbol=r"\alpha"
    )
    """Step size of stochastic gradient descent. Needed if `centres` are given."""
    batch_size: Annotated[int, Field(ge=1)] | None = quantity(None, label="B", symbol="B")
    """Samples per SGD step. Needed if `centres` are given."""
    level: Literal["singular_value", "eigenvalue"] = quantity("singular_value")
    """What a level is: a singular value of W, or an eigenvalue of W^T W."""
    centres: list[float] = quantity([])
    """Where each level would be without noise, ascending, one for each column of W; equal values
    form a block. Without it nothing is fitted, and only spectra are made."""
    noise_scale: Annotated[float, Field(gt=0)] | None = quantity(None, symbol=r"\epsilon")
    """Scale s of the noise: a block of equal levels has width sigma = s sqrt(learning_rate /
    batch_size). Needed if `centres` are given."""
    theory: Literal["small_step", "teacher_student"] = quantity("small_step")
    """`small_step`: this sigma, to leading order; `teacher_student`: square W = teacher + noise
    trained on fresh inputs, exact at any learning rate."""
    rows: Count | Auto = quantity("auto")
    """Rows M of W; `auto`: as in the files. Of whole networks, of the largest layer."""
    columns: Count | Auto = quantity("auto")
    """Columns N of W; `auto`: as in the files. Of whole networks, of the largest layer."""
    matrices: list[str] | Auto = quantity("auto", in_tables=False)
    """Name, rows and columns of every layer of whole networks, as in `fc1 64 784`; `auto`: as in
    the files."""

    @classmethod
    def _normal(cls, name: str, value: Any) -> Any:
        if name in ("layers", "matrices") and value != "auto":
            # A name stays as it is written, also one that spells a number.
            return [value] if isinstance(value, str) else value
        return super()._normal(name, value)

    @property
    def is_network(self) -> bool:
        """Whether whole networks are read, not one array."""
        return not self.array

    @property
    def chooses_layers(self) -> bool:
        """Those of whole networks are."""
        return self.is_network

    @property
    def rules(self) -> network.Rules:
        """How the layers of whole networks are chosen."""
        return network.Rules(
            tuple(self.layer_patterns),
            self.fused,
            self.heads,
            self.key_value_heads,
            self.split,
            self.lora,
        )

    def not_in_key(self) -> set[str]:
        """What concerns whole networks is no part of the key of one array."""
        of_networks = {"layers", "fused", "heads", "key_value_heads", "split", "lora", "matrices"}
        return super().not_in_key() | (set() if self.is_network else of_networks)

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """The matrices that are read; one alone is called W."""
        if not self.is_network:
            return [("W", int(self.rows), int(self.columns))]
        found = []
        for text in self.matrices:
            match = MATRIX.fullmatch(text)
            if match is None:
                raise ConfigError(f"matrices: {text!r}: give name, rows and columns")
            found.append((match["name"], int(match["rows"]), int(match["columns"])))
        return found

    @property
    def fitted(self) -> bool:
        """Whether the centres are known."""
        return bool(self.centres)

    @property
    def sources(self) -> list[Path]:
        """Files that hold the snapshots that are kept, in the order of replicas."""
        paths = [path for row in _kept(self)[0] for path in row]
        if self.is_network:
            paths = list(dict.fromkeys(file for path in paths for file in files_of(path)))
        return [Path(path) for path in paths]

    def check_sources(self) -> None:
        """Look into the files, also where every number was given by hand."""
        self.held()

    def held(self) -> Held:
        """What the files hold, compared with what is known already.

        Values that are known need no file: a stage that is given the resolved hyperparameters of a
        run opens none unless it asks for this.

        Raises
        ------
        ConfigError
            If a file cannot be used, or a number is not that of the files.
        """
        held = _held_networks(self) if self.is_network else _held(self)
        for name in ("replicas", "snapshots", "rows", "columns"):
            given, there = getattr(self, name), getattr(held, name)
            if given not in ("auto", there):
                raise ConfigError(f"{name} = {given}: the files of {self.path} hold {there}")
        if self.matrices != "auto":
            there = _matrices(held.layers)
            other = sorted(set(self.matrices) ^ set(there))
            if other:
                raise ConfigError(
                    f"matrices: {plain(other[0])!r} is not what the files of {self.path} hold; "
                    "leave matrices out"
                )
        return held

    def auto_replicas(self) -> int:
        """As many as the files hold."""
        return self.held().replicas

    def auto_snapshots(self) -> int:
        """As many as the files hold."""
        return self.held().snapshots

    def auto_rows(self) -> int:
        """As the array has."""
        return self.held().rows

    def auto_columns(self) -> int:
        """As the array has."""
        return self.held().columns

    def auto_matrices(self) -> list[str]:
        """As the files hold; none of one array."""
        return _matrices(self.held().layers) if self.is_network else []

    def auto_dtype(self) -> str:
        """That of the files."""
        return self.held().dtype

    def auto_burn_in(self) -> int:
        """Step in the name of the first file, or number of the snapshot."""
        held = self.held()
        return held.steps[0] if held.steps else held.first + 1

    def auto_steps(self) -> int:
        """Step in the name of the last file, or number of the snapshot."""
        held = self.held()
        return held.steps[-1] if held.steps else int(self.burn_in) + held.snapshots - 1

    def check(self) -> None:
        """Refuse axes and centres that do not fit, and theories that do not apply."""
        if self.lags:
            raise ConfigError(
                f"lags = {self.lags}: checkpoints are read as they are; leave lags out"
            )
        _check_axes(self)
        if self.is_network:
            self._check_network()
        elif self.layer_patterns:
            raise ConfigError(
                f"array = {self.array!r}: with layers, leave it out; each layer is an array"
            )
        if not self.centres:
            return
        what = f"centres = {self.centres}"
        for name, bound in (("learning_rate", "a number > 0"), ("batch_size", "a whole number")):
            if getattr(self, name) is None:
                raise ConfigError(f"{name}: missing; with centres, give {bound}")
        if self.noise_scale is None:
            raise ConfigError("noise_scale: missing; with centres, give a number > 0")
        if len(self.centres) != self.columns:
            raise ConfigError(
                f"{what}: {len(self.centres)} for the {self.columns} levels of a matrix with "
                f"{self.columns} columns; give one for each"
            )
        if self.centres != sorted(self.centres) or self.centres[0] < 0:
            raise ConfigError(f"{what}: give numbers >= 0 in ascending order")
        if self.theory == "teacher_student":
            fits = self.rows == self.columns and self.level == "singular_value"
            if not fits or self.centres[0] <= 0:
                raise ConfigError(
                    "theory = teacher_student: only for singular values of a square W, with "
                    "centres > 0; use theory: small_step"
                )
            self.student()

    def _check_network(self) -> None:
        """Refuse what is said of one array alone."""
        if self.axes != AXES:
            raise ConfigError(f"axes = {self.axes}: they are those of an array; name it, in array")
        if self.key_value_heads is not None and self.heads is None:
            raise ConfigError(f"key_value_heads = {self.key_value_heads}: give heads too")
        if self.split == "heads" and self.heads is None:
            raise ConfigError("split = heads: say how many there are, in heads")
        if self.centres and len(self.matrices) > 1:
            raise ConfigError(
                f"centres = {self.centres}: they are those of one matrix, and there are "
                f"{len(self.matrices)}; name it, in layers"
            )

    def student(self) -> TeacherStudentHyperparameters:
        """The linear student whose stationary law `theory: teacher_student` stands for.

        Raises
        ------
        ConfigError
            If it has no stationary state.
        """
        return TeacherStudentHyperparameters.from_config(
            {
                "size": self.columns,
                "teacher_spectrum": self.centres,
                "learning_rate": self.learning_rate,
                "batch_size": self.batch_size,
                "noise_scale": self.noise_scale,
                # The stationary law knows no times.
                "snapshots": 1,
                "burn_in": 0,
                "steps": 1,
            }
        )


def _check_axes(h: CheckpointHyperparameters) -> None:
    if len(set(h.axes)) < len(h.axes) or not {"row", "column"} <= set(h.axes):
        raise ConfigError(
            f"axes = {h.axes}: give row and column, and replica and snapshot at most once"
        )


def _kept(
    h: CheckpointHyperparameters,
) -> tuple[tuple[tuple[str, ...], ...], patterns.FileGrid, int]:
    """Files of the snapshots that are kept; all files; how many snapshots the file names give."""
    path = places.find(h.path, patterns.leads_anywhere, glob.escape)
    if h.is_network and os.path.isdir(path):
        # It says what is wrong with a folder, where a pattern would not match it.
        files_of(path)
    grid = patterns.find(path, is_checkpoint if h.is_network else os.path.isfile)
    if "snapshot" not in grid.axes:
        return grid.files, grid, 0
    first = _first(h, len(grid.files[0]))
    return tuple(row[first:] for row in grid.files), grid, first


def _first(h: CheckpointHyperparameters, snapshots: int) -> int:
    if not -snapshots <= h.first_snapshot < snapshots:
        raise ConfigError(
            f"first_snapshot = {h.first_snapshot}: {h.path} holds {snapshots} snapshots; give a "
            f"whole number >= {-snapshots} and < {snapshots}"
        )
    return h.first_snapshot % snapshots


def _held(h: CheckpointHyperparameters) -> Held:
    _check_axes(h)
    files, grid, first = _kept(h)
    for axis in grid.axes:
        if axis in h.axes:
            raise ConfigError(
                f"axes = {h.axes}: {axis} is told apart by the files of {h.path} already; give "
                "the axes of the array in one file"
            )
    paths = [path for row in files for path in row]
    headers = [arrays.header(path, h.array) for path in paths]
    shape = headers[0].shape
    if len(shape) != len(h.axes):
        raise ConfigError(
            f"axes = {h.axes}: array {h.array!r} of {paths[0]} has shape {shape}; name each of "
            f"its {len(shape)} axes"
        )
    for path, header in zip(paths, headers, strict=True):
        if header.shape != shape:
            raise ConfigError(
                f"{path}: array {h.array!r} has shape {header.shape}, that of {paths[0]} {shape}"
            )
    size = dict.fromkeys(AXES, 1) | dict(zip(h.axes, shape, strict=True))
    if 0 in shape:
        raise ConfigError(f"{paths[0]}: array {h.array!r} of shape {shape} is empty")
    if "snapshot" not in grid.axes:
        first = _first(h, size["snapshot"])
    return Held(
        files=files,
        replicas=len(files) * size["replica"],
        snapshots=len(files[0]) if "snapshot" in grid.axes else size["snapshot"] - first,
        rows=size["row"],
        columns=size["column"],
        first=first,
        dtype=max(header.dtype for header in headers),
        steps=grid.steps[first:] if grid.steps else None,
    )


def _matrices(layers: Sequence[network.Layer]) -> list[str]:
    return [f"{layer.name} {layer.rows} {layer.columns}" for layer in layers]


def _held_networks(h: CheckpointHyperparameters) -> Held:
    """What whole networks hold: the layers of the last snapshot, which all others have too."""
    files, grid, first = _kept(h)
    stamps = tuple(
        (file, status.st_size, status.st_mtime_ns)
        for path in (path for row in files for path in row)
        for file in files_of(path)
        for status in [os.stat(file)]
    )
    layers, lines, dtype = _chosen(files, h.rules, stamps)
    largest = max(layers, key=lambda layer: layer.rows * layer.columns)
    return Held(
        files=files,
        replicas=len(files),
        snapshots=len(files[0]),
        rows=largest.rows,
        columns=largest.columns,
        first=first,
        dtype=dtype,
        steps=grid.steps[first:] if grid.steps else None,
        layers=layers,
        lines=lines,
    )


@lru_cache(maxsize=256)
def _chosen(
    files: tuple[tuple[str, ...], ...],
    rules: network.Rules,
    stamps: tuple[tuple[str, int, int], ...],
) -> tuple[tuple[network.Layer, ...], tuple[network.Line, ...], str]:
    """Layers of all networks, what becomes of each tensor, and as what they are read.

    They are asked for again for every value that is left to be found, so the answer is kept as long
    as the stamps of the files are the same.
    """
    # At the start of training a matrix may be zero, or equal to another one.
    last = open_checkpoint(files[0][-1])
    layers, lines = network.choose(last, rules)
    used = {name for layer in layers for name in layer.tensors}
    dtypes = set()
    for path in (path for row in files for path in row):
        checkpoint = open_checkpoint(path)
        network.compare(checkpoint, last, layers)
        dtypes |= {one.entry.dtype for one in checkpoint.tensors if one.name in used}
    unknown = sorted(dtypes - set(arrays.FLOATS))
    if unknown:
        raise ConfigError(f"{files[0][-1]}: other checkpoints hold its layers as {unknown[0]}")
    return tuple(layers), tuple(lines), max(arrays.FLOATS[dtype] for dtype in dtypes)


def read(h: CheckpointHyperparameters, put: Callable[..., int]) -> np.ndarray:
    """Read the weights of a run from its files, one file after the other.

    Parameters
    ----------
    h : CheckpointHyperparameters
        Of the run.
    put : callable
        `put(first, snapshot, weights)` gets every snapshot of every file.

    Returns
    -------
    np.ndarray
        SGD step of each snapshot, shape (snapshot,).

    Raises
    ------
    ConfigError
        If a file cannot be used, no longer holds what it did when the run was planned, or holds a
        weight that is not finite; names file, replica and snapshot.
    """
    with arrays.unchanged(h.sources):
        held = h.held()
        if h.is_network:
            _read_networks(h, held, put)
        else:
            _read_arrays(h, held, put)
    ends = (int(h.burn_in), int(h.steps))
    named = held.steps and (held.steps[0], held.steps[-1]) == ends
    return np.array(held.steps if named else h.snapshot_steps)


def _read_arrays(h: CheckpointHyperparameters, held: Held, put: Callable[..., int]) -> None:
    """Hand on every snapshot of every file."""
    for i, row in enumerate(held.files):
        for j, path in enumerate(row):
            array = np.expand_dims(arrays.read(path, h.array), tuple(range(len(h.axes), len(AXES))))
            order = [*h.axes, *[axis for axis in AXES if axis not in h.axes]]
            array = array.transpose([order.index(axis) for axis in AXES])
            if "snapshot" in h.axes:
                array = array[:, held.first :]
            with np.errstate(over="ignore"):
                array = array.astype(h.dtype, copy=False)
            # One file holds all replicas, or there is one file for each; so for snapshots.
            first, snapshot = i * array.shape[0], j * array.shape[1]
            broken = np.argwhere(~np.isfinite(array).all(axis=(2, 3)))
            if len(broken):
                k, m = broken[0] + [first, snapshot]
                raise ConfigError(
                    f"{path}: a weight of replica {k}, snapshot {held.first + m} is not finite"
                )
            for k in range(array.shape[1]):
                put(first, snapshot + k, {"W": array[:, k]})


def _read_networks(h: CheckpointHyperparameters, held: Held, put: Callable[..., int]) -> None:
    """Hand on every layer of every checkpoint, one at a time."""
    for i, row in enumerate(held.files):
        for j, path in enumerate(row):
            checkpoint = open_checkpoint(path)
            for layer, matrix in network.read_layers(checkpoint, held.layers, h.dtype):
                put(i, j, {layer.name: matrix[np.newaxis]})


SYSTEM = System(CheckpointHyperparameters, read=read)
