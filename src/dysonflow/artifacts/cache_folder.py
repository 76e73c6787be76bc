"""Where things are kept that can be made again: in the user's cache."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """`dysonflow` below XDG_CACHE_HOME or `~/.cache`; None if there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "dysonflow"
