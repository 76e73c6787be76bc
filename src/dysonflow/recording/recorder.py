"""Snapshots of the weight matrices of a training loop, in files that `model: checkpoints` reads.

recorder = dysonflow.Recorder("weights", layers="blocks.*.attn.*", every=100)
recorder(step, model)

Each snapshot is one safetensors file, `weights/step100.safetensors`, with the tensors as they are
stored: no type is changed, and none is copied but the one that is being written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from dysonflow.artifacts.files import atomic
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.readers.names import matches_parameter
from dysonflow.wording import did_you_mean, plain

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PREFIX, SUFFIX = "step", ".safetensors"
"""A snapshot's file is named by its step between them."""
LOCK = ".recorder.lock"
"""File that the process holds that writes into a folder."""
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of a name that torch.compile, FSDP and activation checkpointing put into it."""
PARALLEL = ("DistributedDataParallel", "DataParallel")
"""Classes that hold the model as `module`."""
CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
"""Names of the safetensors format for the types that weights have."""

LAUNCHERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Variables in which launchers tell a process its number before the processes have met."""

Fetch = Callable[[], "torch.Tensor"]
Found = tuple[Fetch, str, tuple[int, ...]]
"""How to get a tensor, its type and its shape."""


class Recorder:
    """Writes the weight matrices of a model every so many steps; two lines in any training loop.

    Parameters
    ----------
    folder : path-like
        Where the snapshots go, one folder for each run; it is made if it is not there.
    layers : str or sequence of str
        Patterns of the parameters to record, with `*`, `?` and `[...]`, where `*` stands for any
        text, dots included; a trailing `.weight` may be left out. Of what they match, tensors of
        two and more dimensions are recorded. All such by default.
    every : int
        Steps between two snapshots: those that are multiples of it are recorded.
    resume : bool
        Whether to go on in a folder that holds snapshots of an earlier run, for a training that was
        interrupted. Snapshots of steps that are made again are replaced.

    Raises
    ------
    ConfigError
        If another run writes into the folder, or an earlier one did and `resume` is not set.

    Notes
    -----
    With several processes (DistributedDataParallel, FSDP) all of them call the recorder, and rank 0
    writes. Tensors that are spread over processes are gathered one after the other.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        layers: str | Sequence[str] = "*",
        every: int = 1,
        *,
        resume: bool = False,
    ):
        self.folder = Path(folder)
        self.patterns = (layers,) if isinstance(layers, str) else tuple(layers)
        if every < 1:
            raise ConfigError(f"every = {every}: give a whole number of steps >= 1")
        self.every, self.resume = every, resume
        self._lock: IO[str] | None = None
        self._last: int | None = None
        if _rank() == 0 and all(os.environ.get(name, "0") == "0" for name in LAUNCHERS):
            self._open()

    @property
    def path(self) -> str:
        """Pattern under which a study of `model: checkpoints` finds the snapshots."""
        return str(self.folder / f"{PREFIX}{{snapshot}}{SUFFIX}")

    def __call__(self, step: int, model: Any) -> Path | None:
        """Record the weights if the step is a multiple of `every`.

        Parameters
        ----------
        step : int
            Steps made so far. A step that was just recorded is not recorded again.
        model : torch.nn.Module or mapping
            The model, wrapped or not, or names to tensors as of `state_dict()`.

        Returns
        -------
        Path or None
            The file, where one was written.

        Raises
        ------
        ConfigError
            If the patterns match no matrix, or the folder holds snapshots of other shapes.
        ArtifactError
            If the file cannot be written; the training itself is as it was.
        """
        if step % self.every or step == self._last:
            return None
        tensors = _tensors(model)
        first, self._last = self._last is None, step
        if _rank() != 0:
            for fetch, _, _ in self._chosen(tensors).values() if tensors else ():
                # The others wait for this process to hand over its part.
                fetch()
            return None
        found = self._chosen(tensors)
        if self._lock is None:
            self._open()
        if first:
            self._check_earlier(found)
        target = self.folder / f"{PREFIX}{step}{SUFFIX}"
        _write(target, found, {"format": "pt", "step": str(step)})
        return target

    def close(self) -> None:
        """Let go of the folder, so that another recorder may write into it."""
        if self._lock is not None:
            # Said aloud: a forked worker that loads data has the file open too.
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()
            self._lock = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def lightning_callback(self) -> Any:
        """Callback for `Trainer(callbacks=[...])` of Lightning."""
        from dysonflow.recording.lightning import RecorderCallback

        return RecorderCallback(self)

    def transformers_callback(self) -> Any:
        """Callback for `Trainer(callbacks=[...])` of Hugging Face transformers."""
        from dysonflow.recording.transformers import RecorderCallback

        return RecorderCallback(self)

    def _open(self) -> None:
        """Make the folder, and hold it as long as this recorder lives."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = open(self.folder / LOCK, "a+", encoding="utf-8")
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = plain(lock.readline().strip()) or "another process"
            lock.close()
            raise ConfigError(
                f"{self.folder}: {owner} is recording into it; give each run a folder of its own, "
                "or close() the recorder that is no longer needed"
            ) from None
        except OSError as error:
            # Some network file systems know no locks; a training must not fail for that.
            log.warning("%s: cannot be locked: %s", self.folder, error.strerror)
        steps = _steps(self.folder)
        if steps and not self.resume:
            lock.close()
            raise ConfigError(
                f"{self.folder}: holds snapshots of an earlier run, up to step {max(steps)}; give "
                "another folder, or resume=True to go on with that run"
            )
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node() or 'localhost'}\n")
        lock.flush()
        self._lock = lock

    def _chosen(self, tensors: Mapping[str, Found]) -> dict[str, Found]:
        """Of all tensors those that are recorded."""
        tensors = {name: found for name, found in tensors.items() if len(found[2]) >= 2}
        chosen: dict[str, Found] = {}
        for pattern in self.patterns:
            names = [name for name in tensors if matches_parameter(name, pattern)]
            if not names:
                # Of a hundred blocks one pattern says it.
                known = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in tensors)
                nearest = did_you_mean(pattern, known) if known else "; the model has none"
                raise ConfigError(f"layers = {pattern!r}: matches no weight matrix{nearest}")
            chosen |= {name: tensors[name] for name in names}
        return chosen

    def _check_earlier(self, found: Mapping[str, Found]) -> None:
        """Refuse a folder with snapshots of another model."""
        steps = _steps(self.folder)
        if not steps:
            return
        path = self.folder / f"{PREFIX}{max(steps)}{SUFFIX}"
        there = _shapes(path)
        here = {name: shape for name, (_, _, shape) in found.items()}
        if there != here:
            differing = sorted(set(there.items()) ^ set(here.items()))[0][0]
            raise ConfigError(
                f"{path}: holds other layers than this model ({plain(differing)}: "
                f"{there.get(differing, 'not there')}, now {here.get(differing, 'not there')}); "
                "give another folder"
            )


def _rank() -> int:
    """Number of this process among those that train one model together."""
    # Who trains in several processes has imported torch.distributed; nobody else needs it.
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return 0
    return int(distributed.get_rank())


def _steps(folder: Path) -> list[int]:
    """Steps of the snapshots in a folder."""
    names = [path.name for path in folder.iterdir()]
    matches = [re.fullmatch(rf"{PREFIX}(\d+){re.escape(SUFFIX)}", name) for name in names]
    return [int(match[1]) for match in matches if match]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name to shape of the tensors of a safetensors file."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ConfigError(f"{path}: is no snapshot ({error}); remove it") from None


def _tensors(model: Any) -> dict[str, Found]:
    """Name without wrappers to tensor, of all that hold floating-point numbers.

    Empty on the processes from which FSDP has collected them on rank 0.
    """
    named = model if isinstance(model, Mapping) else _parameters(model)
    names = [_bare(name) for name in named]
    # A state dict of a wrapped model; a model may have a part of its own of that name.
    wrapped = bool(names) and all(name.startswith("module.") for name in names)
    found: dict[str, Found] = {}
    seen: set[Any] = set()
    for name, tensor in zip(names, named.values(), strict=True):
        code = CODES.get(str(getattr(tensor, "dtype", "")).removeprefix("torch."))
        if code is None or _place(tensor) in seen:
            # Whole numbers and whatever else a state dict holds; a tied weight is recorded once.
            continue
        seen.add(_place(tensor))
        bare = name.removeprefix("module.") if wrapped else name
        found[bare] = (_fetch(tensor), code, tuple(tensor.shape))
    return found


def _place(tensor: Any) -> Any:
    """Where the numbers of a tensor lie: two names of one place are one weight."""
    address = 0 if hasattr(tensor, "full_tensor") else getattr(tensor, "data_ptr", int)()
    return (address, tuple(tensor.shape), tensor.stride()) if address else id(tensor)


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _parameters(model: Any) -> Mapping[str, Any]:
    """Name to parameter of a module, those that FSDP has taken apart put together again."""
    while type(model).__name__ in PARALLEL or hasattr(model, "_orig_mod"):
        model = model.module if type(model).__name__ in PARALLEL else model._orig_mod
    if not hasattr(model, "named_parameters"):
        raise ConfigError(
            f"recorder: {type(model).__name__} is neither a torch module nor a dictionary of "
            "tensors; give model or model.state_dict()"
        )
    if any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules()):
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        # On a CPU there is nothing to move away, and torch 2.13 would free what it has collected.
        is_on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
        options = StateDictOptions(full_state_dict=True, cpu_offload=not is_on_cpu)
        # With the move only rank 0 gets it; the others have done their part.
        found: dict[str, Any] = get_model_state_dict(model, options=options)
        return found
    return dict(model.named_parameters())


def _fetch(tensor: Any) -> Fetch:
    """How to get a tensor whole, on the CPU, its numbers one after the other."""

    def fetch() -> torch.Tensor:
        if not hasattr(tensor, "detach"):
            import torch

            return torch.from_numpy(np.ascontiguousarray(tensor))
        # A DTensor is spread over processes, all of which have to ask for it.
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        found: torch.Tensor = whole.detach().cpu().contiguous()
        return found

    return fetch


def _write(
    target: Path,
    tensors: Mapping[str, Found],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file, atomically and one tensor after the other."""
    import torch

    # Wide types first, so that every tensor begins at a multiple of its width.
    order = sorted(tensors, key=lambda name: -_width(tensors[name][1]))
    index: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        _, code, shape = tensors[name]
        begin, end = end, end + _width(code) * int(torch.Size(shape).numel())
        index[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(index).encode()
    header += b" " * (-len(header) % 8)
    with atomic(target) as temporary:
        try:
            with open(temporary, "wb") as stream:
                stream.write(len(header).to_bytes(8, "little") + header)
                for name in order:
                    values = tensors[name][0]().reshape(-1)
                    stream.write(values.view(torch.uint8).numpy().data)
        except OSError as error:
            # The remedies of the workflow are none for a training of somebody else.
            raise ArtifactError(
                f"{target}: cannot be written: {error.strerror or error}; the training itself is "
                "as it was"
            ) from error


def _width(code: str) -> int:
    """Bytes of a number."""
    return int(code.lstrip("BF").partition("_")[0]) // 8
