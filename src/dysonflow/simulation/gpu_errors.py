"""What a GPU gives up with during training, in one line that says what to change."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dysonflow.errors import ConfigError
from dysonflow.readers.user_code import OF_DEVICES
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.devices import Device, why_refused

log = logging.getLogger(__name__)

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
OF_KERNEL = "CUDAError"
"""Name of the error of cuda.core."""
SHARE = 0.8
"""Of the memory that a shard is advised to fill: what was needed so far is not yet all."""


@dataclass(frozen=True)
class Memory:
    """Memory of a GPU at the moment it did not suffice, in bytes.

    Attributes
    ----------
    needed : int
        What this process held, and what it asked for.
    available : int
        What it held, and what was free.
    total : int
        Of the card.
    """

    needed: int
    available: int
    total: int


@contextmanager
def explained(device: Device, replicas: int) -> Iterator[None]:
    """Turn what a GPU gives up with into one line.

    Parameters
    ----------
    device : Device
        Where the replicas are.
    replicas : int
        Side by side.

    Raises
    ------
    ConfigError
        In the place of errors of the GPU; all others pass.
    """
    try:
        yield
    except Exception as error:
        if device.kind != "cuda" or not is_of_gpu(error):
            raise
        said = str(error)
        log.info("%s", said)
        if re.search("out.of.memory", said, re.I):
            line = out_of_memory(device.name, replicas, memory_of(said))
        else:
            line = why_refused(said, device.name)
        raise ConfigError(f"device = 'cuda': {line}") from error


def is_of_gpu(error: BaseException) -> bool:
    """Whether torch or cuda.core says that the device gave up, not that a program is wrong."""
    if type(error).__name__ in (*OF_DEVICES, OF_KERNEL):
        return True
    # Of a tensor in the wrong place torch says where it found it: on cuda:0.
    return isinstance(error, RuntimeError) and bool(
        re.search(
            r"CUDA (error|out of memory)|CUBLAS_STATUS|cusolver error|cuDNN error", str(error)
        )
    )


def out_of_memory(card: str, replicas: int, memory: Memory) -> str:
    """What to change where the memory of a card does not suffice.

    Parameters
    ----------
    card : str
        Its name.
    replicas : int
        Side by side.
    memory : Memory
        At that moment.
    """
    # What others than torch asked for is not known: then by half.
    share = SHARE * memory.available / memory.needed if memory.needed else 0.5
    needed = memory.needed or memory.available
    fits = share * replicas
    fitting = int(min(fits, replicas - 1)) // BLOCK_SIZE * BLOCK_SIZE
    if fitting:
        fix = f"lower shard_size to {fitting}"
    else:
        fix = (
            "lower batch_size or the width of the network, take dtype: float32, or a larger card "
            f"(shard_size goes down to {BLOCK_SIZE})"
        )
    others = memory.total - memory.available
    held = f", of which others hold {_gb(others)}" if others > 0.02 * memory.total else ""
    return (
        f"out of memory on {card}: {replicas} replicas side by side need more than "
        f"{_gb(needed)}, it has {_gb(memory.total)}{held}; {fix}"
    )


def memory_of(said: str) -> Memory:
    """Memory of the current GPU, and what torch says that it asked for."""
    import torch

    free, total = torch.cuda.mem_get_info()
    # Held by torch's cache, for which the other processes and the driver have no use.
    held = torch.cuda.memory_reserved()
    return Memory(torch.cuda.max_memory_allocated() + asked_for(said), free + held, total)


def asked_for(said: str) -> int:
    """Bytes that were asked for when memory did not suffice; 0 if the text does not say."""
    found = re.search(r"Tried to allocate ([\d.]+) (\w+)", said)
    return int(float(found[1]) * UNITS.get(found[2], 0)) if found else 0


def _gb(size: float) -> str:
    return f"{float(f'{size / 1e9:.2g}'):g} GB"
