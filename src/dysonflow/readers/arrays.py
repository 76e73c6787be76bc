"""Named arrays in files that others wrote: NumPy, safetensors and PyTorch, and never a pickle."""

import contextlib
import hashlib
import math
import mmap
import os
import pickle
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors

from dysonflow.errors import ConfigError
from dysonflow.wording import did_you_mean, plain

TORCH = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".npz", ".safetensors", *TORCH)
FLOATS = {"float64": "float64"} | dict.fromkeys(("float32", "float16", "bfloat16"), "float32")
"""Types of arrays that can be weights, and as what they are read."""
SAFETENSORS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
SAFE_TORCH = (2, 6)
"""First version whose `weights_only` cannot be made to run code (CVE-2025-32434)."""
COMPRESSION = 100
"""Most times that an array may be larger than what holds it in a file: weights hardly compress."""
ALWAYS = 2**26
"""Bytes up to which it may be all the same: the start of training may be all zeros."""
CONSTRUCTOR = b"bytearray"
"""Torch would let a file make one of any length, filled, out of nothing."""
NAMED_FILES = 32
"""Up to so many files are recorded by name, more by one joint checksum."""


@dataclass(frozen=True)
class Header:
    """What is known of an array without reading it.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    dtype : str
        As what it is read: `float64` or `float32`.
    """

    shape: tuple[int, ...]
    dtype: str


def header(path: str | os.PathLike[str], array: str) -> Header:
    """Shape and type of an array, from the header of its file.

    Parameters
    ----------
    path : path-like
        Its suffix decides the format.
    array : str
        Name in the file; of nested torch dictionaries all keys, joined by `/`.

    Raises
    ------
    ConfigError
        If the file is missing, truncated, foreign, or could only be read as a pickle; if it has no
        such array, or one that is not of floating-point numbers.
    """
    with one_line(path):
        status = os.stat(path)
        # The same header is asked for at every point of a sweep.
        return _header(os.path.abspath(path), str(path), array, status.st_size, status.st_mtime_ns)


def read(path: str | os.PathLike[str], array: str) -> np.ndarray:
    """The array itself, float32 or float64; parameters and errors as of `header`."""
    found = header(path, array)
    with one_line(path):
        values = _READERS[Path(path).suffix](path, array)
        return np.asarray(values, dtype=found.dtype)


def record(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Any]:
    """Checksums of some files, for the metadata of what is made from them.

    Returns
    -------
    dict
        `sources`, the SHA-256 of each file by name, or how many there are and a joint one;
        `made_from`, the joint one.
    """
    each = {str(path): _file_digest(path) for path in paths}
    joint = hashlib.sha256("".join(each.values()).encode()).hexdigest()
    many = {"files": len(paths), "sha256": joint}
    return {"sources": each if len(paths) <= NAMED_FILES else many, "made_from": joint}


def digest(paths: Sequence[str | os.PathLike[str]]) -> str:
    """One SHA-256 over the contents of some files, in their order."""
    return str(record(paths)["made_from"])


def _file_digest(path: str | os.PathLike[str]) -> str:
    with one_line(path), open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def one_line(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a missing, truncated or foreign file raises into one line."""
    try:
        yield
    except ConfigError:
        raise
    except MemoryError as error:
        raise ConfigError(f"{path}: there is not enough memory for what it holds") from error
    except Exception as error:
        # The readers of three libraries stumble over foreign bytes in all ways that there are.
        reason = error.strerror if isinstance(error, OSError) else None
        raise _unreadable(path, reason or str(error) or type(error).__name__) from error


def _unreadable(path: str | os.PathLike[str], reason: str) -> ConfigError:
    first = plain((reason.splitlines() or [""])[0], longest=300)
    return ConfigError(
        f"{path}: cannot be read, cut off or not a {Path(path).suffix} file: {first}"
    )


def _needs_pickle(path: str | os.PathLike[str], what: str) -> ConfigError:
    return ConfigError(
        f"{path}: {what} could only be read as a pickle, which may run code and is never opened; "
        "save plain arrays as .npz or .safetensors, or a dictionary of tensors as .pt"
    )


@lru_cache(maxsize=100_000)
def _header(location: str, path: str, array: str, size: int, mtime: int) -> Header:
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: suffix {suffix!r} is unknown; known: {', '.join(SUFFIXES)}")
    shape, dtype = _HEADERS[suffix](path, array)
    if dtype not in FLOATS:
        raise ConfigError(
            f"{path}: array {array!r} has dtype {dtype}; weights are {', '.join(FLOATS)}"
        )
    return Header(tuple(int(length) for length in shape), FLOATS[dtype])


def _check_name(path: str | os.PathLike[str], array: str, names: Sequence[str]) -> None:
    if array not in names:
        known = did_you_mean(array, names) if names else "; the file holds no array"
        raise ConfigError(f"array = {array!r}: not in {path}{known}")


# --- NumPy ----------------------------------------------------------------------------------------


def _npz_header(path: str, array: str) -> tuple[Sequence[int], str]:
    with _npz_member(path, array) as (stream, size):
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            # Version 3 differs in the names of the fields of structured arrays alone.
            return (), "structured"
        shape, _, dtype = readers[version](stream)
        if dtype.hasobject:
            raise _needs_pickle(path, f"array {array!r}")
        length = dtype.itemsize * math.prod(shape)
        if length != size - stream.tell() or min(shape, default=0) < 0:
            raise _unreadable(path, f"array {array!r} is not as long as its shape {shape} says")
    return shape, dtype.name


def read_npz(path: str | os.PathLike[str], array: str) -> np.ndarray:
    """An array of an archive, of whatever numbers; other content is refused."""
    with _npz_member(path, array) as (stream, _):
        found: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        return found


@contextlib.contextmanager
def _npz_member(path: str | os.PathLike[str], array: str) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of an array of an archive, and how many these are."""
    if not zipfile.is_zipfile(path) and _first_byte(path) == pickle.PROTO:
        raise _needs_pickle(path, "the file")
    with zipfile.ZipFile(path) as archive:
        members = archive.namelist()
        _check_name(path, array, [name.removesuffix(".npy") for name in members])
        member = archive.getinfo(f"{array}.npy" if f"{array}.npy" in members else array)
        held = min(member.compress_size, os.path.getsize(path))
        if member.compress_type == zipfile.ZIP_STORED:
            honest = member.file_size <= held
        else:
            honest = member.compress_type == zipfile.ZIP_DEFLATED
            honest = honest and member.file_size <= max(COMPRESSION * held, ALWAYS)
        if not honest:
            raise _unreadable(
                path, f"{member.file_size} bytes of array {array!r} out of {held} are no weights"
            )
        with archive.open(member) as stream:
            yield stream, member.file_size


def _first_byte(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(1)


# --- safetensors ----------------------------------------------------------------------------------


def _safetensors_header(path: str, array: str) -> tuple[Sequence[int], str]:
    with safetensors.safe_open(path, framework="numpy") as file:
        _check_name(path, array, list(file.keys()))
        found = file.get_slice(array)
        dtype = found.get_dtype()
        return found.get_shape(), SAFETENSORS.get(dtype, dtype)


def _read_safetensors(path: str | os.PathLike[str], array: str) -> np.ndarray:
    with safetensors.safe_open(path, framework="numpy") as file:
        if file.get_slice(array).get_dtype() != "BF16":
            return file.get_tensor(array)
    # NumPy has no bfloat16.
    with safetensors.safe_open(path, framework="pt") as file:
        return file.get_tensor(array).float().numpy()


# --- PyTorch --------------------------------------------------------------------------------------


def _torch_header(path: str, array: str) -> tuple[Sequence[int], str]:
    import torch

    tensor = _torch_tensor(path, array)
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return (), f"sparse or without values {dtype}"
    if tensor.numel() * tensor.element_size() > os.path.getsize(path):
        raise _unreadable(path, f"array {array!r} of shape {tuple(tensor.shape)} is not all in it")
    return tuple(tensor.shape), dtype


def _read_torch(path: str | os.PathLike[str], array: str) -> np.ndarray:
    import torch

    tensor = _torch_tensor(path, array).detach()
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()


def _torch_tensor(path: str | os.PathLike[str], array: str) -> Any:
    """A tensor of a torch file, its numbers left on the disk where the format allows it."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise ConfigError(f"{path}: torch {torch.__version__} may run code in it; update torch")
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _check_archive(path)
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(CONSTRUCTOR) >= 0:
            raise _needs_pickle(path, "a bytearray in it")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        if _first_byte(path) == pickle.PROTO or is_archive:
            raise _needs_pickle(path, "something in it") from error
        raise _unreadable(path, "no torch file") from error
    tensors = dict(_tensors(content))
    _check_name(path, array, list(tensors))
    return tensors[array]


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Refuse what torch never writes: compressed parts, which it would read as they are."""
    size = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            lengths = (member.file_size, member.compress_size)
            if member.compress_type != zipfile.ZIP_STORED or max(lengths) > size:
                raise _unreadable(path, f"{plain(member.filename)} in it is compressed")


def _tensors(content: Any) -> Iterator[tuple[str, Any]]:
    """All tensors in nested dictionaries and lists, with the way to each.

    What stands at several places, or within itself, is found at the first of them.
    """
    import torch

    seen: set[int] = set()
    pending: list[tuple[str, Any]] = [("", content)]
    while pending:
        place, found = pending.pop()
        if isinstance(found, torch.Tensor):
            yield place, found
        elif isinstance(found, dict | list | tuple) and id(found) not in seen:
            seen.add(id(found))
            pairs = found.items() if isinstance(found, dict) else enumerate(found)
            inner = [(f"{place}/{name}" if place else str(name), value) for name, value in pairs]
            pending += reversed(inner)


_HEADERS = {".npz": _npz_header, ".safetensors": _safetensors_header} | dict.fromkeys(
    TORCH, _torch_header
)
_READERS = {".npz": read_npz, ".safetensors": _read_safetensors} | dict.fromkeys(TORCH, _read_torch)
