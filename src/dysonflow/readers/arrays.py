"""Named arrays in files that others wrote: NumPy, safetensors and PyTorch, and never a pickle."""

import contextlib
import hashlib
import json
import math
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors

from dysonflow.errors import ConfigError
from dysonflow.wording import did_you_mean, plain

TORCH = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".npz", ".safetensors", *TORCH)
PICKLES = (".pkl", ".pickle")
FLOATS = {"float64": "float64"} | dict.fromkeys(
    ("float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"), "float32"
)
"""Types of arrays that can be weights, and as what they are read."""
SAFETENSORS = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
    **{"U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8"},
}
SAFE_TORCH = (2, 6)
"""First version whose `weights_only` cannot be made to run code (CVE-2025-32434)."""
COMPRESSION = 100
"""Most times that an array may be larger than what holds it in a file: weights hardly compress."""
ALWAYS = 2**26
"""Bytes up to which it may be all the same: the start of training may be all zeros."""
CONSTRUCTOR = b"bytearray"
"""Torch would let a file make one of any length, filled, out of nothing."""
KEPT = 2**23
"""Bytes that are read of a torch file before it is opened anew."""
CHUNK = 2**22
"""Bytes of a file that are looked at at once: what is mapped counts as memory of the process."""
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


@dataclass(frozen=True)
class Entry:
    """One of the arrays of a file.

    Attributes
    ----------
    name : str
        In the file; of nested torch dictionaries all keys, joined by `/`.
    shape : tuple of int
        Of the array.
    dtype : str
        As in the file, in the words of torch.
    place : tuple of int
        Where its numbers lie: two arrays of one place, shape and type are one. Empty if not known.
    is_readable : bool
        Whether its numbers are all in the file, as those of a sparse or quantised tensor are not.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    place: tuple[int, ...] = ()
    is_readable: bool = True


def catalogue(path: str | os.PathLike[str]) -> tuple[Entry, ...]:
    """All arrays of a file, from its header; errors as of `header`."""
    with one_line(path):
        status = os.stat(path)
        return _catalogue(os.path.abspath(path), str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _catalogue(location: str, path: str, size: int, mtime: int) -> tuple[Entry, ...]:
    suffix = _suffix(path)
    return tuple(_CATALOGUES[suffix](path))


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


class Reader:
    """Reads arrays of some files one after the other, and keeps the last torch file open.

    To open one takes as long as to read some MB. But what was read of it counts as memory of the
    process as long as it is open, so it is opened anew after `KEPT` bytes.
    """

    def __init__(self) -> None:
        self._path: str | None = None
        self._tensors: dict[str, Any] = {}
        self._bytes = 0

    def read(self, path: str | os.PathLike[str], array: str) -> np.ndarray:
        """A whole array; errors as of `read`."""
        return self._read(path, array, None)

    def start(self, path: str | os.PathLike[str], array: str, count: int) -> np.ndarray:
        """The first numbers of an array, at most `count`; errors as of `read`."""
        return self._read(path, array, count)

    def _read(self, path: str | os.PathLike[str], array: str, count: int | None) -> np.ndarray:
        found = header(path, array)
        if count is None:
            count = math.prod(found.shape)
        with one_line(path):
            suffix = Path(path).suffix
            if suffix in TORCH:
                values = _torch_array(self._tensor(str(path), array).flatten()[:count])
                self._bytes += values.nbytes
            elif suffix == ".safetensors":
                values = _safetensors_start(path, array, count)
            else:
                values = _READERS[suffix](path, array).reshape(-1)[:count]
        values = np.asarray(values, dtype=found.dtype)
        return values.reshape(found.shape) if count == math.prod(found.shape) else values

    def _tensor(self, path: str, array: str) -> Any:
        if path != self._path or self._bytes > KEPT:
            # Let go before the next one is opened.
            self._tensors = {}
            self._tensors, self._path, self._bytes = _torch_tensors(path), path, 0
        _check_name(path, array, list(self._tensors))
        return self._tensors[array].detach()


@contextlib.contextmanager
def unchanged(paths: Sequence[str | os.PathLike[str]]) -> Iterator[None]:
    """Refuse files that change while a block reads them.

    Raises
    ------
    ConfigError
        At the end of the block, if the size, the time or the identity of a file is another one.
    """
    before = [_stamp(path) for path in paths]
    yield
    for path, stamp in zip(paths, before, strict=True):
        if _stamp(path) != stamp:
            raise ConfigError(
                f"{path}: changed while it was read; let what writes it finish, and run again"
            )


def _stamp(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    with one_line(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns, status.st_ino


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
    line = (
        f"{path}: {what} could only be read as a pickle, which may run code and is never opened; "
        "save plain arrays as .npz or .safetensors, or a dictionary of tensors as .pt"
    )
    if Path(path).suffix == ".npz":
        return ConfigError(line)
    load = f"torch.load({str(path)!r}, weights_only=False)"
    if Path(path).suffix in PICKLES:
        load = f"__import__('pickle').load(open({str(path)!r}, 'rb'))"
    convert = (
        f"import torch; x = {load}; "
        "x = x.state_dict() if hasattr(x, 'state_dict') else x.get('state_dict', x); "
        "torch.save({k: torch.as_tensor(v) for k, v in x.items() if hasattr(v, 'shape')}, "
        f"{str(Path(path).with_suffix('.plain.pt'))!r})"
    )
    return ConfigError(f'{line}; where its maker is trusted: python -c "{convert}"')


def _suffix(path: str) -> str:
    suffix = Path(path).suffix
    if suffix in PICKLES:
        raise _needs_pickle(path, "the file")
    if suffix not in SUFFIXES:
        raise ConfigError(f"{path}: suffix {suffix!r} is unknown; known: {', '.join(SUFFIXES)}")
    return suffix


@lru_cache(maxsize=100_000)
def _header(location: str, path: str, array: str, size: int, mtime: int) -> Header:
    shape, dtype = _HEADERS[_suffix(path)](path, array)
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


def _safetensors_index(path: str) -> tuple[dict[str, Any], int]:
    """What the header says of each tensor, and where the numbers begin."""
    # The library checks that every tensor lies within the file, and none in another.
    with safetensors.safe_open(path, framework="numpy"), open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        index = json.loads(stream.read(length))
    index.pop("__metadata__", None)
    return index, 8 + length


def _safetensors_catalogue(path: str) -> Iterator[Entry]:
    index, start = _safetensors_index(path)
    for name, found in index.items():
        dtype = SAFETENSORS.get(found["dtype"], found["dtype"])
        place = (start + found["data_offsets"][0],)
        yield Entry(name, tuple(found["shape"]), dtype, place)


def _safetensors_header(path: str, array: str) -> tuple[Sequence[int], str]:
    found = _safetensors_entry(path, array)
    return found.shape, found.dtype


def _safetensors_entry(path: str | os.PathLike[str], array: str) -> Entry:
    entries = {entry.name: entry for entry in catalogue(path)}
    _check_name(path, array, list(entries))
    return entries[array]


def _read_safetensors(path: str | os.PathLike[str], array: str) -> np.ndarray:
    entry = _safetensors_entry(path, array)
    return _safetensors_start(path, array, math.prod(entry.shape)).reshape(entry.shape)


def _safetensors_start(path: str | os.PathLike[str], array: str, count: int) -> np.ndarray:
    # Not through the library, which maps the file: what was read of it would count as memory.
    entry = _safetensors_entry(path, array)
    count = min(count, math.prod(entry.shape))
    kind = {"bfloat16": "<u2", "float8_e4m3fn": "u1", "float8_e5m2": "u1"}.get(entry.dtype)
    with open(path, "rb") as stream:
        stream.seek(entry.place[0])
        raw = np.fromfile(stream, np.dtype(kind or entry.dtype).newbyteorder("<"), count)
    if len(raw) < count:
        raise _unreadable(path, f"array {array!r} is not all in it")
    return _widened(raw, entry.dtype)


def _widened(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers that NumPy has no type for, from their bits, as float32; exact."""
    if dtype == "bfloat16":
        # The upper half of a float32.
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype in FLOAT8:
        return _float8_values(*FLOAT8[dtype])[raw]
    return raw


FLOAT8 = {"float8_e4m3fn": (4, True), "float8_e5m2": (5, False)}
"""Bits of the exponent; whether there are no infinities (arXiv:2209.05433)."""


@lru_cache
def _float8_values(exponent_bits: int, is_finite: bool) -> np.ndarray:
    """All 256 values of an 8-bit floating-point type."""
    mantissa_bits = 7 - exponent_bits
    bits = np.arange(128)
    exponent, mantissa = bits >> mantissa_bits, bits & ((1 << mantissa_bits) - 1)
    bias = 2 ** (exponent_bits - 1) - 1
    fraction = mantissa / 2**mantissa_bits
    normal = exponent > 0
    values = (fraction + normal) * 2.0 ** (np.where(normal, exponent, 1) - bias)
    if is_finite:
        values[-1] = np.nan
    else:
        values[exponent == 2**exponent_bits - 1] = np.nan
        values[(exponent == 2**exponent_bits - 1) & (mantissa == 0)] = np.inf
    return np.concatenate([values, -values]).astype(np.float32)


# --- PyTorch --------------------------------------------------------------------------------------


def _torch_catalogue(path: str) -> Iterator[Entry]:
    size = os.path.getsize(path)
    for name, tensor in _torch_tensors(path).items():
        entry = _torch_entry(name, tensor)
        within = not entry.place or entry.place[1] <= size
        yield entry if within else replace(entry, is_readable=False)


def _torch_entry(name: str, tensor: Any) -> Entry:
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(tensor.shape)
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return Entry(name, shape, dtype, is_readable=False)
    # Parts of one storage are told apart by where they begin, and by their strides.
    place = (tensor.data_ptr(), tensor.numel() * tensor.element_size(), *tensor.stride())
    return Entry(name, shape, dtype, place)


def _torch_header(path: str, array: str) -> tuple[Sequence[int], str]:
    entries = {entry.name: entry for entry in catalogue(path)}
    _check_name(path, array, list(entries))
    entry = entries[array]
    if not entry.place:
        return (), f"sparse or without values {entry.dtype}"
    if not entry.is_readable:
        raise _unreadable(path, f"array {array!r} of shape {entry.shape} is not all in it")
    return entry.shape, entry.dtype


def _read_torch(path: str | os.PathLike[str], array: str) -> np.ndarray:
    tensors = _torch_tensors(path)
    _check_name(path, array, list(tensors))
    return _torch_array(tensors[array].detach())


def _torch_array(tensor: Any) -> np.ndarray:
    import torch

    values: np.ndarray = (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
    return values


def _torch_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tensors of a torch file, their numbers left on the disk where the format allows it."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise ConfigError(f"{path}: torch {torch.__version__} may run code in it; update torch")
    status = os.stat(path)
    key = (os.path.abspath(path), str(path), status.st_size, status.st_mtime_ns)
    if _checked_archive(*key):
        return _loaded(str(path), True)
    # The old layout cannot be mapped: it is read once, and held.
    return _old_layout(*key)


@lru_cache(maxsize=1)
def _old_layout(location: str, path: str, size: int, mtime: int) -> dict[str, Any]:
    return _loaded(path, False)


def _loaded(path: str, is_archive: bool) -> dict[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            # What torch makes of an unusual pickle is said below, in one line.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        if _first_byte(path) == pickle.PROTO or is_archive:
            raise _needs_pickle(path, "something in it") from error
        raise _unreadable(path, "no torch file") from error
    return dict(_tensors(content))


@lru_cache(maxsize=1000)
def _checked_archive(location: str, path: str, size: int, mtime: int) -> bool:
    """Whether a torch file is an archive; refuses what torch never writes."""
    is_archive = zipfile.is_zipfile(path)
    if is_archive:
        _check_archive(path)
    with open(path, "rb") as stream:
        before = b""
        while part := stream.read(CHUNK):
            if CONSTRUCTOR in before + part:
                raise _needs_pickle(path, "a bytearray in it")
            before = part[1 - len(CONSTRUCTOR) :]
    return is_archive


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


def _npz_catalogue(path: str) -> Iterator[Entry]:
    if not zipfile.is_zipfile(path) and _first_byte(path) == pickle.PROTO:
        raise _needs_pickle(path, "the file")
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    for name in names:
        shape, dtype = _npz_header(path, name)
        yield Entry(name, tuple(shape), dtype)


_CATALOGUES = {".npz": _npz_catalogue, ".safetensors": _safetensors_catalogue} | dict.fromkeys(
    TORCH, _torch_catalogue
)
_HEADERS = {".npz": _npz_header, ".safetensors": _safetensors_header} | dict.fromkeys(
    TORCH, _torch_header
)


_READERS = {".npz": read_npz, ".safetensors": _read_safetensors} | dict.fromkeys(TORCH, _read_torch)
