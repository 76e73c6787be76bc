"""Weights of a run as a safetensors file, provenance in its header."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from dysonflow.errors import ArtifactError
from dysonflow.tables import FORMAT, METADATA_KEY, atomic, check_format


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
    header = {METADATA_KEY: json.dumps({"format": FORMAT, **metadata}, sort_keys=True)}
    tensors = {
        "weights": np.ascontiguousarray(weights),
        "step": np.asarray(step, dtype=np.int64),
        "loss": np.ascontiguousarray(loss),
    }
    with atomic(path) as temporary:
        # Not save_file: it makes files that only their owner can read, which a shared folder is
        # no use for.
        temporary.write_bytes(safetensors.numpy.save(tensors, metadata=header))


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
        If the file is truncated, foreign, or of a newer layout.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in ("weights", "step", "loss")}
    except (OSError, safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{path}: not a weights file of dysonflow, or damaged ({error}); delete it and run "
            "snakemake again"
        ) from error
    check_format(metadata, path)
    return tensors, metadata
