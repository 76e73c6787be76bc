"""Measure how weight matrices fluctuate under stochastic gradient descent.

`read_spectra`, `read_fits`, `read_scaling` and `read_runs` read the tables of a results folder;
`train`, `spectra` and `fit` do one run without the workflow.
"""

from dysonflow.results import read_fits, read_runs, read_scaling, read_spectra
from dysonflow.single import Run, fit, spectra, train

__all__ = [
    "Run",
    "fit",
    "read_fits",
    "read_runs",
    "read_scaling",
    "read_spectra",
    "spectra",
    "train",
]
