"""Figures of a study: one file each, tables in, a matplotlib figure and its numbers out.

A figure's file defines `draw(data: StudyData) -> Drawing`. The dictionary `INPUTS` says what it
reads; nothing here imports matplotlib, so that the workflow can be planned without it.
"""

import hashlib
import importlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dysonflow.seals import damaged

INPUTS: dict[str, tuple[str, ...]] = {
    "spectrum": ("spectra",),
    "gap_distribution": ("spectra", "fits"),
    "mean_gap": ("fits", "scaling"),
    "sigma": ("fits", "scaling"),
    "gap_against_sigma": ("fits", "scaling"),
    "block_density": ("spectra", "fits"),
    "pulls": ("fits",),
    "p_values": ("fits",),
    "evolution": ("spectra", "weights"),
}
"""What each figure reads of its study, by name of the figure."""

FROM_THE_START = ("evolution",)
"""Figures of the approach to stationarity: their runs are not fitted."""

STATIONARY = tuple(name for name in INPUTS if name not in FROM_THE_START)
"""Figures of the stationary state, those a study draws by default."""


def needs_fits(name: str) -> bool:
    """Whether a figure reads the fits of its runs, or laws made of them."""
    return bool({"fits", "scaling"} & set(INPUTS[name]))


def load(name: str) -> ModuleType:
    """Import the file of the figure `name`."""
    return importlib.import_module(f"{__name__}.{name}")


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
        raise damaged(png, "no PNG file")
    # Readers skip most of the checksums; each chunk is its length, kind, data and CRC.
    while position < len(raw):
        size = int.from_bytes(raw[position : position + 4], "big")
        end = position + 8 + size
        chunk = raw[position + 4 : end]
        if end + 4 > len(raw) or zlib.crc32(chunk) != int.from_bytes(raw[end : end + 4], "big"):
            raise damaged(png, "checksum does not match the content")
        if chunk.startswith(b"tEXtdysonflow\0"):
            text = chunk.partition(b"\0")[2].decode("latin-1")
        position = end + 4
    if not text or chunk[:4] != b"IEND":
        raise damaged(png, "no provenance in it, or cut off")
    return dict(json.loads(text))
