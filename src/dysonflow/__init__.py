"""Measure how weight matrices fluctuate under stochastic gradient descent.

`read_spectra`, `read_fits`, `read_increments`, `read_scaling` and `read_runs` read the tables of a
results folder; `train`, `spectra`, `fit` and `increments` do one run without the workflow.
"""

from importlib.metadata import PackageNotFoundError, version

from dysonflow.results import (
    read_fits,
    read_increments,
    read_linear_scaling,
    read_noise_response,
    read_runs,
    read_scaling,
    read_spectra,
)
from dysonflow.single import Run, fit, increments, spectra, train

try:
    __version__ = version("dysonflow")
except PackageNotFoundError:
    # The sources beside no installation, as when they are only on the path.
    __version__ = "unknown"

__all__ = [
    "Run",
    "__version__",
    "fit",
    "increments",
    "read_fits",
    "read_increments",
    "read_runs",
    "read_linear_scaling",
    "read_noise_response",
    "read_scaling",
    "read_spectra",
    "spectra",
    "train",
]
