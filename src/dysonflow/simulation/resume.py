"""The state of an unfinished training job, in a file beside its output."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dysonflow.artifacts.weights import UNFINISHED, read_tensors, write_tensors
from dysonflow.errors import ArtifactError

log = logging.getLogger(__name__)

SUFFIX = ".checkpoint"


class Checkpoint:
    """A file that a killed training job goes on from.

    Parameters
    ----------
    output : path-like
        What the job is to write; the checkpoint lies beside it.
    identity : mapping
        All that decides the numbers: run, replicas, source digest, versions, device. The checkpoint
        of another identity is ignored.
    seconds : float
        Least time between two writes.
    """

    def __init__(self, output: str | Path, identity: Mapping[str, Any], seconds: float):
        self.path = Path(f"{output}{SUFFIX}")
        self.identity = dict(identity)
        self.seconds = seconds
        self._written = time.monotonic()

    def read(self) -> dict[str, np.ndarray]:
        """State that was saved; empty if there is none that this job can go on from."""
        try:
            state, metadata = read_tensors(self.path)
        except FileNotFoundError:
            return {}
        except ArtifactError as error:
            self.ignore(str(error))
            return {}
        if metadata.get("identity") != self.identity:
            log.info("%s is of another source or machine: training starts anew", self.path)
            return {}
        return state

    def ignore(self, reason: str) -> None:
        """Say why training starts anew though there is a checkpoint."""
        log.warning("the checkpoint is ignored, training starts anew: %s", reason)

    @property
    def is_due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, state: Mapping[str, np.ndarray]) -> None:
        """Save a state, atomically. Where that fails, training goes on without."""
        try:
            write_tensors(self.path, state, {"identity": self.identity})
        except ArtifactError as error:
            log.warning("no checkpoint: %s", error)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file, if there is one."""
        self.path.unlink(missing_ok=True)


def remove_all(output: str | Path) -> None:
    """Remove what unfinished jobs left of a finished one, also with another shard size."""
    path = Path(output)
    for suffix in (SUFFIX, UNFINISHED):
        for leftover in [Path(f"{output}{suffix}"), *path.parent.glob(f"shards/*{suffix}")]:
            leftover.unlink(missing_ok=True)
