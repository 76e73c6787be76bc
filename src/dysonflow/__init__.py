"""Measure how weight matrices fluctuate under stochastic gradient descent.

`read_spectra`, `read_fits`, `read_increments`, `read_bulk`, `read_scaling` and `read_runs` read the
tables of a results folder; `train`, `spectra`, `fit`, `increments` and `bulk` do one run without
the workflow.
"""

from importlib.metadata import PackageNotFoundError, version

from dysonflow.results import (
    read_bulk,
    read_fits,
    read_increments,
    read_runs,
    read_scaling,
    read_spectra,
)
from dysonflow.single import Run, bulk, fit, increments, spectra, train

try:
    __version__ = version("dysonflow")
except PackageNotFoundError:
    # The sources beside no installation, as when they are only on the path.
    __version__ = "unknown"

__all__ = [
    "Run",
    "__version__",
    "bulk",
    "fit",
    "increments",
    "read_bulk",
    "read_fits",
    "read_increments",
    "read_runs",
    "read_scaling",
    "read_spectra",
    "spectra",
    "train",
]
