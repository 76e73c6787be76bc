"""Weights of a run: a safetensors file, one tensor per layer, written and read by slices.

The tensor `weights/<layer>` has the shape (replica, snapshot, M, N); `step` (snapshot,) holds the
SGD step of each snapshot, `loss` (replica, snapshot) the loss. Of a run with lags,
`lagged/<layer>` (replica, snapshot, lag, M, N) holds the weights so many SGD steps later. Of a
model whose replicas may diverge, `diverged` (replica,) holds the SGD step at which each did, or -1.
Provenance is in the header.
"""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy

from dysonflow.artifacts import seals
from dysonflow.artifacts.files import (
    METADATA_KEY,
    atomic,
    cannot_be_written,
    check_seal,
    header,
    publish,
)
from dysonflow.errors import ArtifactError, DamagedError

PREFIX = "weights/"
"""Of the tensors that hold weights; a layer's name has no slash."""
LAGGED = "lagged/"
"""Of the tensors that hold the weights after each lag."""
UNFINISHED = ".unfinished"
"""Suffix of a weights file that is still being written, beside its place."""
PART_BYTES = 2**26
"""Weights that a stage holds in memory at once, about."""
SPARE = 4096
"""Bytes of the header that are left free for what is known only when training has ended."""
CODES = {"float64": "F64", "float32": "F32", "int64": "I64"}

Shapes = Mapping[str, tuple[int, int]]


def data_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> None:
    """Write named arrays and their provenance as a sealed safetensors file, atomically.

    Raises
    ------
    ArtifactError
        If the file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic(path) as temporary:
        # Not save_file: it makes files that only their owner can read, which a shared folder is
        # no use for.
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata=header(metadata)))
        seals.seal(temporary)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A safetensors file of this project and its provenance; every byte is checked first."""
    sealed = seals.check(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise DamagedError(path, str(error)) from error
    check_seal(metadata, sealed, path)
    with safetensors.safe_open(path, framework="numpy") as file:
        yield file, metadata


def read_tensors(
    path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and provenance of a file of `write_tensors`; all of its bytes are checked.

    Parameters
    ----------
    path : path-like
        The file.
    names : sequence of str, optional
        Arrays to read, all if None.

    Raises
    ------
    ArtifactError
        If the file is truncated, foreign, changed since it was written, or of another layout.
    FileNotFoundError
        If there is no such file.
    """
    with _opened(path) as (file, metadata):
        wanted = file.keys() if names is None else names
        return {name: file.get_tensor(name) for name in wanted}, metadata


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a weights file, all of whose bytes are checked; errors as of `read_tensors`."""
    return read_tensors(path, ())[1]


def peek(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a weights file; nothing else of the file is checked.

    Raises
    ------
    ArtifactError
        If the file is truncated or foreign.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(json.loads((file.metadata() or {})[METADATA_KEY]))
    except FileNotFoundError:
        raise
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise DamagedError(path, str(error)) from error


class WeightsWriter:
    """A weights file that is filled in any order, in slices of whole snapshots of some replicas.

    What is written lies in a file beside the target until `finish` gives it its name. A later
    process of the same run may go on filling it.

    Parameters
    ----------
    path : path-like
        Target.
    shapes : mapping
        Layer to rows M and columns N.
    replicas, snapshots : int
        Of the run, or of the shard of it.
    dtype : str
        `float64` or `float32`, that of the weights.
    metadata : mapping
        Provenance as far as it is known; decides how much room the header gets.
    resumable : bool
        Whether what is written outlives an error, so that a later process may go on with it.
    lags : int
        Further weights that are kept after each snapshot. A frame is a snapshot or one of those;
        frames are counted in the order of their SGD steps.
    keeps_diverged : bool
        Whether the file says of each replica at which SGD step it diverged.

    Raises
    ------
    ArtifactError
        If the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shapes: Shapes,
        replicas: int,
        snapshots: int,
        dtype: str,
        metadata: Mapping[str, Any],
        resumable: bool = False,
        lags: int = 0,
        keeps_diverged: bool = False,
    ):
        self.target = Path(path)
        self.path = Path(f"{path}{UNFINISHED}")
        self.shapes, self.replicas, self.snapshots = dict(shapes), replicas, snapshots
        self.lags = lags
        self._resumable = resumable
        self.dtype = np.dtype(dtype)
        self._step = np.zeros(snapshots, dtype=np.int64)
        self._loss = np.full((replicas, snapshots), np.nan)
        self._diverged = np.full(replicas, -1, dtype=np.int64)
        self.keeps_diverged = keeps_diverged
        self._specs = {
            **{
                PREFIX + layer: (self.dtype, (replicas, snapshots, *shape))
                for layer, shape in self.shapes.items()
            },
            **{
                LAGGED + layer: (self.dtype, (replicas, snapshots, lags, *shape))
                for layer, shape in self.shapes.items()
                if lags
            },
            "loss": (np.dtype(np.float64), self._loss.shape),
            "step": (np.dtype(np.int64), self._step.shape),
            **({"diverged": (np.dtype(np.int64), self._diverged.shape)} if keeps_diverged else {}),
        }
        room = len(json.dumps(self._index())) + len(json.dumps(header(metadata))) + SPARE
        # The data begin at a multiple of 8 bytes.
        self._start = 8 + math.ceil(room / 8) * 8
        with cannot_be_written(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            if not resumable:
                self.path.unlink(missing_ok=True)
            mode = "rb+" if self.path.exists() else "wb+"
            self._file: IO[bytes] = open(self.path, mode)
            try:
                self._reserve(self._start + sum(self._size(name) for name in self._specs))
            except OSError:
                self._file.close()
                self.path.unlink(missing_ok=True)
                raise

    def __enter__(self) -> "WeightsWriter":
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._file.close()
        if kind is not None and not self._resumable:
            self.path.unlink(missing_ok=True)

    def _reserve(self, size: int) -> None:
        """Bring the file to its size, and take the room on the disk before anything is computed."""
        self._file.truncate(size)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file.fileno(), 0, size)

    def _size(self, name: str) -> int:
        dtype, shape = self._specs[name]
        return dtype.itemsize * math.prod(shape)

    def _offset(self, name: str) -> int:
        """Where a tensor begins, counted from the first; the largest alignment comes first."""
        names = list(self._specs)
        return sum(self._size(one) for one in names[: names.index(name)])

    def _index(self) -> dict[str, Any]:
        return {
            name: {
                "dtype": CODES[dtype.name],
                "shape": list(shape),
                "data_offsets": [self._offset(name), self._offset(name) + self._size(name)],
            }
            for name, (dtype, shape) in self._specs.items()
        }

    def _slices(self, layer: str, first: int, frame: int, count: int) -> Iterator[int]:
        """Places in the file of one frame of some replicas."""
        rows, columns = self.shapes[layer]
        size = rows * columns * self.dtype.itemsize
        snapshot, lag = divmod(frame, 1 + self.lags)
        begin = self._start + self._offset((LAGGED if lag else PREFIX) + layer)
        for replica in range(first, first + count):
            place = replica * self.snapshots + snapshot
            yield begin + (place * self.lags + lag - 1 if lag else place) * size

    def put(
        self,
        first: int,
        frame: int,
        weights: Mapping[str, np.ndarray],
        loss: np.ndarray | None = None,
    ) -> int:
        """Write one frame of some replicas.

        Parameters
        ----------
        first : int
            First replica, counted from the first of this file.
        frame : int
            Number of the frame; without lags, of the snapshot.
        weights : mapping
            Layer to array of shape (replicas, M, N); all layers, or those of large networks one
            after the other.
        loss : np.ndarray, optional
            Shape (replicas,); kept of snapshots.

        Returns
        -------
        int
            Checksum of the slice, for `checksum`.

        Raises
        ------
        ValueError
            If a weight is not finite, or an array has another shape.
        ArtifactError
            If the disk is full.
        """
        if not weights or not set(weights) <= set(self.shapes):
            raise ValueError(f"layers {sorted(weights)} are not of {sorted(self.shapes)}")
        checksum = 0
        with cannot_be_written(self.target):
            for layer in [layer for layer in self.shapes if layer in weights]:
                array = np.ascontiguousarray(weights[layer], dtype=self.dtype)
                if array.shape[1:] != self.shapes[layer]:
                    shape = array.shape[1:]
                    raise ValueError(f"layer {layer}: shape {shape}, not {self.shapes[layer]}")
                bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
                if bad.any():
                    replica = first + int(bad.argmax())
                    raise ValueError(
                        f"{self.target}: layer {layer} of replica {replica} is not finite"
                    )
                places = self._slices(layer, first, frame, len(array))
                for place, matrix in zip(places, array, strict=True):
                    self._file.seek(place)
                    self._file.write(matrix.data)
                checksum = zlib.crc32(array.data, checksum)
            self._file.flush()
        snapshot, lag = divmod(frame, 1 + self.lags)
        if loss is not None and not lag:
            self._loss[first : first + len(loss), snapshot] = loss
        return checksum

    def checksum(self, first: int, frame: int, count: int) -> int:
        """Checksum of what is in the file for one frame of some replicas, as `put` gave it."""
        checksum = 0
        for layer, (rows, columns) in self.shapes.items():
            for place in self._slices(layer, first, frame, count):
                self._file.seek(place)
                size = rows * columns * self.dtype.itemsize
                checksum = zlib.crc32(self._file.read(size), checksum)
        return checksum

    def sync(self) -> None:
        """Bring what was put to the disk itself, before a checkpoint relies on it."""
        with cannot_be_written(self.target):
            self._file.flush()
            os.fsync(self._file.fileno())

    @property
    def loss(self) -> np.ndarray:
        """Losses so far, shape (replica, snapshot); NaN where none was put."""
        return self._loss

    @property
    def diverged(self) -> np.ndarray:
        """SGD step at which each replica diverged, shape (replica,); -1 where it did not."""
        return self._diverged

    def finish(self, step: Sequence[int] | np.ndarray, metadata: Mapping[str, Any]) -> None:
        """Write header, steps and losses, seal the file and give it its name.

        Parameters
        ----------
        step : sequence of int
            SGD step of each snapshot.
        metadata : mapping
            All of the provenance.
        """
        self._step[:] = step
        with cannot_be_written(self.target):
            arrays = {"loss": self._loss, "step": self._step, "diverged": self._diverged}
            for name, array in arrays.items():
                if name not in self._specs:
                    continue
                self._file.seek(self._start + self._offset(name))
                self._file.write(array.data)
            self._file.flush()
            full = {**metadata, "data": self._digest()}
            index = {"__metadata__": header(full), **self._index()}
            text = json.dumps(index, separators=(",", ":")).encode()
            if len(text) > self._start - 8:
                raise ValueError(f"{self.target}: the provenance outgrew the header")
            self._file.seek(0)
            self._file.write((self._start - 8).to_bytes(8, "little"))
            # The format allows blanks at the end of a header.
            self._file.write(text.ljust(self._start - 8))
            self._file.close()
            seals.seal(self.path)
            publish(self.path, self.target)

    def _digest(self) -> str:
        """As `data_digest`, read back part by part."""
        digest = hashlib.sha256()
        for name in sorted(self._specs):
            dtype, shape = self._specs[name]
            digest.update(f"{name} {dtype.str} {shape}\n".encode())
            self._file.seek(self._start + self._offset(name))
            left = self._size(name)
            while left:
                part = self._file.read(min(left, PART_BYTES))
                digest.update(part)
                left -= len(part)
        return digest.hexdigest()


def write_weights(
    path: str | os.PathLike[str],
    weights: Mapping[str, np.ndarray],
    step: Sequence[int] | np.ndarray,
    loss: np.ndarray,
    metadata: Mapping[str, Any],
) -> None:
    """Write all snapshots of a run that fits into memory.

    Parameters
    ----------
    path : path-like
        Target.
    weights : mapping
        Layer to array of shape (replica, snapshot, M, N).
    step : sequence of int
        SGD step of each snapshot.
    loss : np.ndarray
        Shape (replica, snapshot).
    metadata : mapping
        Provenance; written as JSON into the header.

    Raises
    ------
    ValueError
        If a weight is not finite.
    ArtifactError
        If the file cannot be written.
    """
    shapes = {layer: (array.shape[2], array.shape[3]) for layer, array in weights.items()}
    one = next(iter(weights.values()))
    replicas, snapshots = one.shape[:2]
    with WeightsWriter(path, shapes, replicas, snapshots, one.dtype.name, metadata) as writer:
        for snapshot in range(snapshots):
            part = {layer: array[:, snapshot] for layer, array in weights.items()}
            writer.put(0, snapshot, part, loss[:, snapshot])
        writer.finish(step, metadata)


class WeightsFile:
    """Weights that are read by slices; made by `open_weights`.

    Attributes
    ----------
    path : str
        Where it lies.
    metadata : dict
        Provenance.
    shapes : dict
        Layer to (M, N), in the order of the file.
    replicas, snapshots, lags : int
        Of the ensemble; lags that each snapshot is followed by.
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
    loss : np.ndarray
        Shape (replica, snapshot).
    diverged : np.ndarray, optional
        SGD step at which each replica diverged, -1 where it did not; None where it is an error.
    """

    def __init__(self, path: str, file: Any, metadata: dict[str, Any]):
        self.path, self._file, self.metadata = path, file, metadata
        self.step: np.ndarray = file.get_tensor("step")
        self.loss: np.ndarray = file.get_tensor("loss")
        self.replicas, self.snapshots = self.loss.shape
        self.diverged: np.ndarray | None = None
        if "diverged" in file.keys():  # noqa: SIM118
            self.diverged = file.get_tensor("diverged")
        names = sorted(name for name in file.keys() if name.startswith(PREFIX))  # noqa: SIM118
        order = list(metadata.get("layers", []))
        layers = sorted(
            (name.removeprefix(PREFIX) for name in names),
            key=lambda layer: order.index(layer) if layer in order else len(order),
        )
        self.shapes: dict[str, tuple[int, int]] = {
            layer: tuple(file.get_slice(PREFIX + layer).get_shape()[2:]) for layer in layers
        }
        self.lags = 0
        if LAGGED + layers[0] in file.keys():  # noqa: SIM118
            self.lags = int(file.get_slice(LAGGED + layers[0]).get_shape()[2])
        self._begins = _begins(path)
        self.dtype = {code: name for name, code in CODES.items()}[
            file.get_slice(names[0]).get_dtype()
        ]

    def read(
        self, layer: str, replicas: slice = slice(None), snapshots: slice = slice(None)
    ) -> np.ndarray:
        """Weights of a layer, shape (replica, snapshot, M, N)."""
        if layer not in self.shapes:
            raise KeyError(f"there is no layer {layer}; there are {', '.join(self.shapes)}")
        first, stop, _ = replicas.indices(self.replicas)
        start, end, _ = snapshots.indices(self.snapshots)
        shape = self.shapes[layer]
        found = np.empty((max(stop - first, 0), max(end - start, 0), *shape), self.dtype)
        # Not through the library, which maps the file: all that was read of it would count as
        # memory of the process.
        size = math.prod(shape) * found.itemsize
        with open(self.path, "rb", buffering=0) as stream:
            for number, snapshots_of_one in enumerate(found, first):
                stream.seek(self._begins[PREFIX + layer] + (number * self.snapshots + start) * size)
                _fill(stream, snapshots_of_one)
        return found

    def read_lagged(
        self,
        layer: str,
        lag: int,
        replicas: slice = slice(None),
        snapshots: slice = slice(None),
    ) -> np.ndarray:
        """Weights of a layer after a lag, by its number, shape (replica, snapshot, M, N)."""
        if not 0 <= lag < self.lags:
            raise IndexError(f"there is no lag number {lag}; there are {self.lags}")
        return self._file.get_slice(LAGGED + layer)[replicas, snapshots, lag]

    def parts(self, layer: str, part_bytes: int = PART_BYTES) -> Iterator[slice]:
        """Replicas, in order, whose snapshots of a layer fill about `part_bytes`."""
        rows, columns = self.shapes[layer]
        each = self.snapshots * rows * columns * np.dtype(self.dtype).itemsize
        count = max(part_bytes // each, 1)
        for first in range(0, self.replicas, count):
            yield slice(first, min(first + count, self.replicas))

    def pieces(self, layer: str, part_bytes: int = PART_BYTES) -> Iterator[tuple[slice, slice]]:
        """Replicas and snapshots, in order, that fill about `part_bytes`; at least one matrix."""
        rows, columns = self.shapes[layer]
        count = max(part_bytes // (rows * columns * np.dtype(self.dtype).itemsize), 1)
        for replicas in self.parts(layer, part_bytes):
            # A part is of one replica alone where not even its snapshots fit.
            step = self.snapshots if replicas.stop - replicas.start > 1 else count
            for start in range(0, self.snapshots, step):
                yield replicas, slice(start, min(start + step, self.snapshots))


def _begins(path: str) -> dict[str, int]:
    """Where the numbers of each tensor begin in a safetensors file that was checked."""
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        index = json.loads(stream.read(length))
    index.pop("__metadata__", None)
    return {name: 8 + length + found["data_offsets"][0] for name, found in index.items()}


def _fill(stream: IO[bytes], array: np.ndarray) -> None:
    """Read the bytes of a contiguous array."""
    view = array.reshape(-1).view(np.uint8).data
    while len(view):
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise DamagedError(stream.name, "it ends too early")
        view = view[count:]


@contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[WeightsFile]:
    """Open a weights file, every byte of it checked, and read of it what is asked for.

    Raises
    ------
    ArtifactError
        If the file is truncated, foreign, changed since it was written, or of another layout.
    FileNotFoundError
        If there is no such file.
    """
    with _opened(path) as (file, metadata):
        yield WeightsFile(str(path), file, metadata)


def read_snapshot(path: str | os.PathLike[str], layer: str, snapshot: int) -> np.ndarray:
    """One snapshot of a layer, shape (replica, M, N); errors as of `open_weights`."""
    with open_weights(path) as file:
        return file.read(layer, snapshots=slice(snapshot, snapshot + 1))[:, 0]


def join_weights(paths: Sequence[str], output: str) -> None:
    """Join the shards of a run, each a file of consecutive replicas, into one file.

    Raises
    ------
    ArtifactError
        If a shard is damaged, or the shards are not those of one run in order.
    """
    shards = [peek(path) for path in paths]
    first, *_ = shards
    expected = 0
    for path, shard in zip(paths, shards, strict=True):
        start, stop = shard.get("members", (-1, -1))
        if start != expected or shard.get("run") != first.get("run"):
            raise ArtifactError(f"{path}: not the shard that begins with replica {expected}")
        expected = stop
    metadata = {key: value for key, value in first.items() if key not in ("members", "data")}
    for total in ("seconds", "replica_steps"):
        metadata[total] = sum(shard[total] for shard in shards)
    with open_weights(paths[0]) as one:
        shapes, snapshots, dtype, step = one.shapes, one.snapshots, one.dtype, one.step
        lags, keeps_diverged = one.lags, one.diverged is not None
    shape = (shapes, expected, snapshots, dtype)
    with WeightsWriter(
        output, *shape, metadata, lags=lags, keeps_diverged=keeps_diverged
    ) as writer:
        for path, shard in zip(paths, shards, strict=True):
            start, stop = shard["members"]
            with open_weights(path) as file:
                if (file.replicas, file.shapes, file.lags) != (stop - start, shapes, lags):
                    raise ArtifactError(f"{path}: not the shard that begins with replica {start}")
                if file.diverged is not None:
                    writer.diverged[start:stop] = file.diverged
                for snapshot in range(snapshots):
                    here, frame = slice(snapshot, snapshot + 1), snapshot * (1 + lags)
                    part = {layer: file.read(layer, snapshots=here)[:, 0] for layer in shapes}
                    writer.put(start, frame, part, file.loss[:, snapshot])
                    for lag in range(lags):
                        part = {
                            layer: file.read_lagged(layer, lag, snapshots=here)[:, 0]
                            for layer in shapes
                        }
                        writer.put(start, frame + 1 + lag, part)
        writer.finish(step, metadata)
