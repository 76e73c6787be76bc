"""Measure how weight matrices fluctuate under stochastic gradient descent.

`read_spectra`, `read_fits`, `read_increments`, `read_bulk`, `read_layers`, `read_scaling` and
`read_runs` read the tables of a results folder; `train`, `spectra`, `fit`, `increments` and `bulk`
do one run without the workflow; `Recorder` keeps the weights of a training loop of your own.
"""

from importlib.metadata import PackageNotFoundError, version

from dysonflow.recording.recorder import Recorder
from dysonflow.results import (
    read_bulk,
    read_fits,
    read_gradient_noise,
    read_increments,
    read_layers,
    read_linear_scaling,
    read_noise_response,
    read_runs,
    read_scaling,
    read_spectra,
)
from dysonflow.single import Run, bulk, fit, gradient_noise, increments, spectra, train

try:
    __version__ = version("dysonflow")
except PackageNotFoundError:
    # The sources beside no installation, as when they are only on the path.
    __version__ = "unknown"

__all__ = [
    "Recorder",
    "Run",
    "__version__",
    "bulk",
    "fit",
    "gradient_noise",
    "increments",
    "read_bulk",
    "read_fits",
    "read_gradient_noise",
    "read_increments",
    "read_layers",
    "read_runs",
    "read_linear_scaling",
    "read_noise_response",
    "read_scaling",
    "read_spectra",
    "spectra",
    "train",
]
