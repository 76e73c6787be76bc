"""Weights of a run as a safetensors file, provenance in its header."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from dysonflow.artifacts import seals
from dysonflow.artifacts.tables import METADATA_KEY, atomic, check_seal, header
from dysonflow.errors import ArtifactError


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
        If the file is truncated, foreign, changed since it was written, or of a newer layout.
    FileNotFoundError
        If there is no such file.
    """
    sealed = seals.check(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            check_seal(metadata, sealed, path)
            tensors = {
                name: file.get_tensor(name) for name in (file.keys() if names is None else names)
            }
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise seals.damaged(path, str(error)) from error
    return tensors, metadata


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
        raise seals.damaged(path, str(error)) from error


def write_weights(
    path: str | os.PathLike[str],
    weights: np.ndarray,
    step: np.ndarray,
    loss: np.ndarray,
    metadata: Mapping[str, Any],
) -> None:
    """Write the snapshots of a run, atomically.

    Parameters
    ----------
    path : path-like
        Target.
    weights : np.ndarray
        Shape (replica, snapshot, M, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
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
    if not np.isfinite(weights).all():
        replica = int(np.argwhere(~np.isfinite(weights))[0, 0])
        raise ValueError(f"{path}: the weights of replica {replica} are not all finite")
    tensors = {"weights": weights, "step": np.asarray(step, dtype=np.int64), "loss": loss}
    write_tensors(path, tensors, {**metadata, "data": data_digest(tensors)})


def join_weights(paths: Sequence[str], output: str) -> None:
    """Join the shards of a run, each a file of consecutive replicas, into one file.

    Raises
    ------
    ArtifactError
        If a shard is damaged, or the shards are not those of one run in order.
    """
    shards = [read_weights(path) for path in paths]
    expected = 0
    for path, (tensors, metadata) in zip(paths, shards, strict=True):
        first, stop = metadata["members"]
        whole = metadata["run"] == shards[0][1]["run"] and stop - first == len(tensors["weights"])
        if first != expected or not whole:
            raise ArtifactError(f"{path}: not the shard that begins with replica {expected}")
        expected = stop
    metadata = dict(shards[0][1])
    del metadata["members"]
    for total in ("seconds", "replica_steps"):
        metadata[total] = sum(shard[total] for _, shard in shards)
    parts = [tensors for tensors, _ in shards]
    write_weights(
        output,
        np.concatenate([part["weights"] for part in parts]),
        parts[0]["step"],
        np.concatenate([part["loss"] for part in parts]),
        metadata,
    )


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the snapshots of a run.

    Returns
    -------
    tensors : dict of np.ndarray
        `weights`, `step` and `loss`, shaped as in `write_weights`.
    metadata : dict
        Provenance.

    Raises
    ------
    ArtifactError
        If the file is truncated, foreign, changed since it was written, or of a newer layout.
    """
    return read_tensors(path, ("weights", "step", "loss"))
