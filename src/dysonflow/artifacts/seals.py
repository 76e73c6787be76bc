"""A checksum inside a file that covers every byte of it.

A writer puts `BLANK` somewhere into the file, as text; `seal` replaces its zeros by the SHA-256 of
the whole file with those zeros in it. One mechanism thus serves safetensors and Parquet, whose own
page checksums leave out the footer.
"""

import hashlib
import mmap
import os
from typing import BinaryIO

from dysonflow.errors import DamagedError

SEAL_KEY = "seal"
"""Key of the metadata entry that holds the seal."""
MARK = "dysonflow-sha256:"
DIGITS = 64
CHUNK = 2**20
"""Bytes that are read at once."""
BLANK = MARK + "0" * DIGITS
"""What a writer leaves for the seal."""


def _locate(data: mmap.mmap) -> int:
    """Position of the digits of the seal, 0 if there is none."""
    mark = MARK.encode()
    # The metadata are at the end of a Parquet file and at the start of a safetensors file.
    found = data.rfind(mark) if data[:4] == b"PAR1" else data.find(mark)
    whole = found >= 0 and found + len(mark) + DIGITS <= len(data)
    return found + len(mark) if whole else 0


def _digest(stream: BinaryIO, position: int) -> bytes:
    # Read part by part: all that is looked at in a map counts as memory of the process.
    hashed = hashlib.sha256()
    stream.seek(0)
    left = position
    while left:
        part = stream.read(min(left, CHUNK))
        hashed.update(part)
        # A file that was cut off meanwhile has no digits to compare with either.
        left = left - len(part) if part else 0
    hashed.update(b"0" * DIGITS)
    stream.seek(position + DIGITS)
    while part := stream.read(CHUNK):
        hashed.update(part)
    return hashed.hexdigest().encode()


def seal(path: str | os.PathLike[str]) -> None:
    """Write the checksum of a file in the place that `BLANK` holds free in it.

    Raises
    ------
    ValueError
        If the file holds no `BLANK`.
    """
    with open(path, "rb+") as stream, mmap.mmap(stream.fileno(), 0) as data:
        position = _locate(data)
        if not position:
            raise ValueError(f"{path}: no place for a seal")
        data[position : position + DIGITS] = _digest(stream, position)


def check(path: str | os.PathLike[str]) -> bool:
    """Check every byte of a file against its seal.

    Returns
    -------
    bool
        Whether there is a seal.

    Raises
    ------
    ArtifactError
        If a byte is not what was written.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with (
            open(path, "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            position = _locate(data)
            if position and _digest(stream, position) != data[position : position + DIGITS]:
                raise DamagedError(path, "checksum does not match the content")
            return position > 0
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        # An empty file cannot be mapped.
        raise DamagedError(path, str(error)) from error
