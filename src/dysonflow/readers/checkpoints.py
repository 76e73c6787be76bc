"""Checkpoints of whole networks: one file, or the shards that an index names; and their tensors.

Names are those of the network itself: what a training framework puts around or before them is left
out.
"""

import glob
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dysonflow.errors import ConfigError
from dysonflow.readers import arrays, patterns
from dysonflow.wording import plain

INDEX = ".index.json"
"""End of the name of a file that says which shard holds each tensor."""
WHOLE = (
    *("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors"),
    *("adapter_model.safetensors", "adapter_model.bin", "consolidated.safetensors"),
)
"""Names under which a folder holds one checkpoint, the first that is there."""
BESIDE = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state.*|random_states.*)\.\w+")
"""Files of a trainer beside a checkpoint, which hold no weights of the network."""
SHARD = re.compile(r"(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(?P<suffix>\.\w+)")
CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "params")
"""Keys under which a torch file keeps the network, beside an optimiser and counters."""
OPTIMISER = re.compile(r"(optim|lr_scheduler|grad_scaler)[a-z_]*[/.]")
WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""What torch.compile, FSDP and activation checkpointing put into a name."""
PARALLEL = "module."
"""What data parallel training puts before all names."""
FLAT = re.compile(r"(?:^|\.)_?flat_param")
DISTRIBUTED = "*.distcp"


@dataclass(frozen=True)
class Tensor:
    """A tensor of a checkpoint.

    Attributes
    ----------
    name : str
        In the network.
    file : str
        Where it lies.
    entry : arrays.Entry
        What the file says of it, under the name that it has there.
    why_not : str
        Why it is none of the network's weights; empty if it may be one.
    """

    name: str
    file: str
    entry: arrays.Entry
    why_not: str = ""


@dataclass(frozen=True)
class Checkpoint:
    """A network at one moment.

    Attributes
    ----------
    path : str
        A file, an index, or a folder.
    files : tuple of str
        Files that hold it, the index among them.
    tensors : tuple of Tensor
        In natural order of their names.
    """

    path: str
    files: tuple[str, ...]
    tensors: tuple[Tensor, ...]


def is_checkpoint(path: str) -> bool:
    """Whether a path may be a checkpoint: a file, or a folder that holds one."""
    return os.path.isfile(path) or (os.path.isdir(path) and bool(within(path)))


def files_of(path: str) -> tuple[str, ...]:
    """Files that hold a checkpoint.

    Parameters
    ----------
    path : str
        A file with tensors; the index of a sharded checkpoint, `*.index.json`; or a folder with
        either.

    Raises
    ------
    ConfigError
        If a folder holds none, or several; if an index cannot be read, a shard is missing, or one
        lies beside the others that the index does not name.
    """
    if os.path.isdir(path):
        path = _only(path)
    if path.endswith(INDEX):
        shards = sorted(set(_weight_map(path).values()))
        _check_shards(path, shards)
        return (path, *(str(Path(path).with_name(shard)) for shard in shards))
    part = SHARD.fullmatch(path)
    if part and int(part["count"]) > 1:
        raise ConfigError(
            f"{path}: one of {int(part['count'])} shards; give their index, "
            f"{part['stem']}{part['suffix']}{INDEX}"
        )
    return (path,)


def open_checkpoint(path: str) -> Checkpoint:
    """Names, shapes and types of all tensors of a checkpoint, from the headers of its files.

    Parameters and errors are those of `files_of` and of `arrays.catalogue`; also if a shard lacks a
    tensor that the index puts there.
    """
    files = files_of(path)
    index = _weight_map(files[0]) if files[0].endswith(INDEX) else None
    found: list[tuple[str, arrays.Entry]] = []
    for file in files[index is not None :]:
        found += [(file, entry) for entry in arrays.catalogue(file)]
    strangers: set[str] = set()
    if index is not None:
        there = {(Path(file).name, entry.name) for file, entry in found}
        for name, shard in index.items():
            if (shard, name) not in there:
                raise ConfigError(
                    f"{files[0]}: puts {plain(name)} into {shard}, which does not hold it; the "
                    "index is that of another checkpoint, or the shard is"
                )
        strangers = {entry.name for _, entry in found if entry.name not in index}
    tensors = _named(found, strangers)
    return Checkpoint(
        path, files, tuple(sorted(tensors, key=lambda one: patterns.natural(one.name)))
    )


def _named(found: Sequence[tuple[str, arrays.Entry]], strangers: set[str]) -> Iterator[Tensor]:
    """Tensors under the names that they have in the network."""
    container = next(
        (
            f"{key}/"
            for key in CONTAINERS
            if any(entry.name.startswith(f"{key}/") for _, entry in found)
        ),
        "",
    )
    inside = [entry.name for _, entry in found if entry.name.startswith(container)]
    bare = {name: WRAPPERS.sub("", name.removeprefix(container)) for name in inside}
    while bare and all(name.startswith(PARALLEL) for name in bare.values()):
        bare = {key: name.removeprefix(PARALLEL) for key, name in bare.items()}
    taken: dict[str, str] = {}
    for file, entry in found:
        name, why_not = bare.get(entry.name, entry.name), ""
        if entry.name not in bare:
            why_not = f"outside of {container[:-1]}"
        elif entry.name in strangers:
            why_not = "not named by the index"
        elif OPTIMISER.match(name):
            why_not = "state of an optimiser"
        elif FLAT.search(name):
            why_not = "flattened by FSDP; save a full state dict"
        elif name in taken:
            name, why_not = entry.name, f"named like {taken[name]} without its prefix"
        if not why_not:
            taken[name] = entry.name
        yield Tensor(name, file, entry, why_not)


def is_whole(folder: str) -> bool:
    """Whether a folder is one checkpoint, by the name of a file or an index in it."""
    return any(_says_so(path) for path in within(folder))


def _says_so(path: str) -> bool:
    return path.endswith(INDEX) or Path(path).name in WHOLE


def within(folder: str) -> list[str]:
    """Checkpoints that lie in a folder itself, under the name of each file or index."""
    names = sorted(os.listdir(folder))
    indices = [name for name in names if name.endswith(INDEX)]
    chosen = [name for name in WHOLE if name in names] if not indices else []
    if not indices and not chosen:
        chosen = [
            name
            for name in names
            if Path(name).suffix in (*arrays.SUFFIXES, *arrays.PICKLES)
            and not BESIDE.fullmatch(name)
        ]
    paths = [os.path.join(folder, name) for name in indices[:1] or chosen]
    return [path for path in paths if os.path.isfile(path)]


def _only(folder: str) -> str:
    """The checkpoint in a folder."""
    found = within(folder)
    whole = [path for path in found if _says_so(path)]
    if whole:
        return whole[0]
    if len(found) == 1:
        return found[0]
    if glob.glob(os.path.join(glob.escape(folder), DISTRIBUTED)):
        raise ConfigError(
            f"{folder}: a distributed checkpoint; python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} {folder}.pt makes "
            "one file of it"
        )
    if not found:
        raise ConfigError(f"{folder}: a folder without a checkpoint in it")
    if all(SHARD.fullmatch(path) for path in found):
        raise ConfigError(f"{folder}: holds {len(found)} shards, and no index (*{INDEX}) of them")
    raise ConfigError(
        f"{folder}: holds {len(found)} checkpoints, such as {Path(found[0]).name}; put "
        "{snapshot} or {replica} where their names differ: `dysonflow init` writes it down"
    )


def _weight_map(path: str) -> dict[str, str]:
    """Tensor to the name of its shard."""
    try:
        with open(path, "rb") as stream:
            found = json.load(stream)["weight_map"]
        pairs = {str(name): str(shard) for name, shard in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no weight_map in it"
        raise ConfigError(f"{path}: no index of a sharded checkpoint: {reason}") from None
    if not pairs:
        raise ConfigError(f"{path}: the index names no tensor")
    for shard in pairs.values():
        if not shard or Path(shard).name != shard:
            raise ConfigError(f"{path}: names {plain(shard)}, which is no file in its own folder")
    return pairs


def _check_shards(index: str, shards: Sequence[str]) -> None:
    """Refuse a set of shards that is not whole."""
    for shard in shards:
        if not Path(index).with_name(shard).is_file():
            raise ConfigError(f"{index}: shard {plain(shard)}, which it names, is missing")
    parts = [part for part in map(SHARD.fullmatch, shards) if part]
    for stem, count, suffix in sorted(
        {(one["stem"], one["count"], one["suffix"]) for one in parts}
    ):
        for number in range(1, int(count) + 1):
            shard = f"{stem}-{number:05}-of-{count}{suffix}"
            if shard not in shards:
                is_there = Path(index).with_name(shard).is_file()
                what = "lies beside it, but it names" if is_there else "is missing, and it names"
                raise ConfigError(f"{index}: shard {plain(shard)} {what} no tensor of it")
