"""Where to train: a CPU, or a GPU if one is visible."""

import sys
from dataclasses import dataclass
from pathlib import Path

from dysonflow.errors import ConfigError

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What the drivers of GPUs leave on Linux: Nvidia's, its twin under Windows, AMD's."""


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes
    ----------
    kind : str
        `cpu` or `cuda`.
    name : str
        As artifacts record it: `cpu`, or the name of the card.
    """

    kind: str
    name: str


CPU = Device("cpu", "cpu")


def choose_device(name: str) -> Device:
    """Device for `auto`, `cpu` or `cuda`.

    Raises
    ------
    ConfigError
        If `cuda` is asked for and there is none.
    """
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return CPU
    import torch

    if torch.cuda.is_available():
        return Device("cuda", torch.cuda.get_device_name())
    if name == "cuda":
        raise ConfigError("device = 'cuda': no GPU is visible here; set device: auto or cpu")
    return CPU


def _may_have_gpu() -> bool:
    """Whether it is worth asking torch, whose import takes longer than most jobs."""
    return sys.platform != "linux" or any(Path(driver).exists() for driver in DRIVERS)
