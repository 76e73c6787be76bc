"""Measure how weight matrices fluctuate under stochastic gradient descent."""

from dysonflow.artifacts.tables import read_fits, read_runs, read_scaling, read_spectra

__all__ = ["read_fits", "read_runs", "read_scaling", "read_spectra"]
