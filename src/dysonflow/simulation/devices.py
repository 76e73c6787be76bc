"""Where to train: a CPU, or a GPU if one can be used."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dysonflow.errors import ConfigError

log = logging.getLogger(__name__)

DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""What the drivers of GPUs leave on Linux: Nvidia's, its twin under Windows, AMD's."""
HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that show no GPU; Slurm sets the last where a job got none."""


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


def choose_device(name: str, nor: str = "") -> Device:
    """Device for `auto`, `cpu` or `cuda`.

    For `auto` the CPU stands in where no GPU can be used, and the log says why.

    Parameters
    ----------
    name : str
        As the configuration says it.
    nor : str
        What else than torch cannot use a GPU, and why; for the line.

    Raises
    ------
    ConfigError
        If `cuda` is asked for and none can be used; the line says why and what to change.
    """
    if name == "cpu":
        return CPU
    if name == "auto" and not may_have_gpu():
        log.info("device: auto: there is no driver of a GPU here, so it is the CPU")
        return CPU
    why = why_unusable()
    if not why:
        import torch

        return Device("cuda", torch.cuda.get_device_name())
    if nor:
        why = f"{why}; nor can {nor}"
    if name == "cuda":
        raise ConfigError(f"device = 'cuda': {why}; or set device: auto or cpu")
    log.info("device: auto: it is the CPU, for no GPU can be used: %s", why)
    return CPU


def why_unusable() -> str:
    """Why torch cannot use a GPU here, and what to change; empty if it can."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} was built without CUDA, so that no GPU is visible to it; "
            "install one that was built with it (pytorch.org says how)"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in HIDDEN:
        return (
            f"no GPU is visible here, for CUDA_VISIBLE_DEVICES = {visible!r} hides them all; unset "
            "it, or where Slurm has set it see gpu_model and slurm_partition in the profile"
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        text = " ".join(str(warning.message) for warning in said)
        return why_invisible(text, visible, torch.__version__)
    names, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    known = torch.cuda.get_arch_list()
    if not has_code_for(capability, known):
        return (
            f"torch {torch.__version__} has no code for {names} (sm_{capability[0]}{capability[1]},"
            f" where it knows {' '.join(known)}); install a torch that was built for it"
        )
    try:
        # Whoever holds a card for himself, or its memory, is noticed only at the first use.
        float(torch.ones(2, device="cuda").sum())
    except RuntimeError as error:
        return why_refused(str(error), names)
    return ""


def why_invisible(said: str, visible: str | None, version: str) -> str:
    """Why torch sees no GPU, and what to change.

    Parameters
    ----------
    said : str
        What it said when it looked for one; may be empty.
    visible : str or None
        CUDA_VISIBLE_DEVICES.
    version : str
        Of torch.
    """
    if "too old" in said:
        found = re.search(r"found version (\d+)", said)
        number = int(found[1]) if found else 0
        reach = f", made for CUDA {number // 1000}.{number % 1000 // 10}," if found else ""
        return (
            f"no GPU is visible here, for its driver{reach} is too old for torch {version}; update "
            "the driver, or install a torch for an older CUDA"
        )
    if visible is not None:
        return (
            f"no GPU is visible here, for CUDA_VISIBLE_DEVICES = {visible!r} names none that there "
            "is; `nvidia-smi -L` lists them"
        )
    more = f" ({_first_line(said)})" if said else ""
    return (
        f"no GPU is visible here{more}; `nvidia-smi -L` lists those that there are, and on Slurm "
        "gpu_model and slurm_partition in the profile say which a job gets"
    )


def why_refused(said: str, card: str) -> str:
    """Why a GPU that is there does not work, and what to change.

    Parameters
    ----------
    said : str
        By torch, or the name that the driver has for it.
    card : str
        Its name.
    """
    if "busy or unavailable" in said or re.search("DEVICES?_UNAVAILABLE", said):
        return (
            f"{card} is held by another process (it is in exclusive mode; `nvidia-smi` shows by "
            "which); wait for it, or take another card (CUDA_VISIBLE_DEVICES)"
        )
    if "out of memory" in said:
        return (
            f"the memory of {card} is full before anything was done (`nvidia-smi` shows who holds "
            "it); wait for it, or take another card (CUDA_VISIBLE_DEVICES)"
        )
    if "no kernel image" in said:
        return f"torch has no code for {card}; install a torch that was built for it"
    return f"{card} does not work ({_first_line(said)}); `nvidia-smi` may show more"


def has_code_for(capability: tuple[int, int], known: Sequence[str]) -> bool:
    """Whether a card can run what torch was built for.

    Machine code runs on cards of the same major number and the same or a higher minor one, PTX on
    all cards that are not older; code with a letter behind its number is for that card alone, or
    with `f` for its family (CUDA C++ programming guide, Compute capability).

    Parameters
    ----------
    capability : tuple of int
        Major and minor number of the card.
    known : sequence of str
        As `torch.cuda.get_arch_list` gives them: sm_90, compute_90, sm_90a, or AMD's gfx90a.
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name) for name in known]
    if not any(found):
        # Of AMD's names, or of none, nothing is known.
        return True
    for match in filter(None, found):
        built = (int(match[2]), int(match[3]))
        if match[4] and match[4] != "f":
            runs = built == capability
        elif match[1] == "compute" and not match[4]:
            runs = built <= capability
        else:
            runs = built[0] == capability[0] and built[1] <= capability[1]
        if runs:
            return True
    return False


def _first_line(text: str) -> str:
    """First line of what a library says, bounded, without a full stop."""
    return (text.strip().splitlines() or [""])[0][:200].rstrip(". ")


def may_have_gpu() -> bool:
    """Whether it is worth asking for one: importing torch takes longer than most jobs."""
    return sys.platform != "linux" or any(Path(driver).exists() for driver in DRIVERS)
