"""Figures of a study: one file each, tables in, a matplotlib figure and its numbers out.

A figure's file defines `draw(data: StudyData) -> Drawing`. The dictionary `INPUTS` says what it
reads; nothing here imports matplotlib, so that the workflow can be planned without it.
"""

import hashlib
import importlib
import json
import os
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
    "evolution": ("spectra", "weights"),
}
"""What each figure reads of its study, by name of the figure."""

FROM_THE_START = ("evolution",)
"""Figures of the approach to stationarity: their runs are not fitted."""

STATIONARY = tuple(name for name in INPUTS if name not in FROM_THE_START)
"""Figures of the stationary state, those a study draws by default."""


def load(name: str) -> ModuleType:
    """Import the file of the figure `name`."""
    return importlib.import_module(f"{__name__}.{name}")


COMPANIONS = (".pdf", ".csv", ".rst")
"""Suffixes of the files that are written beside the PNG file of a figure."""


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
    from PIL import Image

    try:
        with Image.open(png) as picture:
            # The text ahead of the pixels is read on opening; verifying goes through every chunk.
            text = dict(picture.info)["dysonflow"]
            picture.verify()
        return dict(json.loads(text))
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, KeyError, ValueError) as error:
        raise damaged(png, str(error)) from error
