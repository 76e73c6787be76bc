"""Figures of a study: one file each, tables in, a matplotlib figure and its numbers out.

A figure's file defines `draw(data: StudyData) -> Drawing`. The dictionary `INPUTS` says what it
reads; nothing here imports matplotlib, so that the workflow can be planned without it.
"""

import importlib
from types import ModuleType

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


def load(name: str) -> ModuleType:
    """Import the file of the figure `name`."""
    return importlib.import_module(f"{__name__}.{name}")
