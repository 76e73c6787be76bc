"""Figures as artifacts: provenance inside the PNG file, checksums of the files beside it."""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dysonflow.errors import DamagedError

COMPANIONS = (".pdf", ".csv", ".rst")
"""Suffixes of the files that are written beside the PNG file of a figure."""
PNG = b"\x89PNG\r\n\x1a\n"


def checksums(png: str | os.PathLike[str], suffixes: Sequence[str] = COMPANIONS) -> dict[str, str]:
    """SHA-256 of the files beside a figure, by suffix."""
    paths = [Path(png).with_suffix(suffix) for suffix in suffixes]
    return {path.suffix: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def embedded(png: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a figure, from its PNG file, whose own checksums are verified.

    Raises
    ------
    ArtifactError
        If the file is damaged or foreign.
    """
    raw = Path(png).read_bytes()
    position, text = len(PNG), ""
    if not raw.startswith(PNG):
        raise DamagedError(png, "no PNG file")
    # Readers skip most of the checksums; each chunk is its length, kind, data and CRC.
    while position < len(raw):
        size = int.from_bytes(raw[position : position + 4], "big")
        end = position + 8 + size
        chunk = raw[position + 4 : end]
        if end + 4 > len(raw) or zlib.crc32(chunk) != int.from_bytes(raw[end : end + 4], "big"):
            raise DamagedError(png, "checksum does not match the content")
        if chunk.startswith(b"tEXtdysonflow\0"):
            text = chunk.partition(b"\0")[2].decode("latin-1")
        position = end + 4
    if not text or chunk[:4] != b"IEND":
        raise DamagedError(png, "no provenance in it, or cut off")
    return dict(json.loads(text))


def read_metadata(png: str | os.PathLike[str]) -> dict[str, Any]:
    """Provenance of a figure, every byte of it and of the files beside it checked.

    Raises
    ------
    ArtifactError
        If one of them is damaged, changed or missing.
    """
    metadata = embedded(png)
    for suffix, recorded in metadata.get("files", {}).items():
        companion = Path(png).with_suffix(suffix)
        if not companion.is_file() or checksums(png, (suffix,))[suffix] != recorded:
            raise DamagedError(png, f"{companion}: missing or changed")
    return metadata
