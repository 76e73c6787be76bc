"""One run without Snakemake: train it, diagonalise it, fit it, all in memory.

run = dysonflow.train("teacher_student", {"replicas": 64})
levels = dysonflow.spectra(run)
fits = dysonflow.fit(run)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A trained run, in memory.

    Attributes
    ----------
    hyperparameters : Hyperparameters
        All of them, defaults filled in and `auto` resolved.
    weights : dict of np.ndarray
        Layer to weights, shape (replica, snapshot, M, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
    loss : np.ndarray
        Shape (replica, snapshot); NaN for weights that were read from files.
    implementation : str
        What the numbers were made with.
    lagged : dict of np.ndarray
        Layer to the weights after each of the `lags`, shape (replica, snapshot, lag, M, N).
    diverged : np.ndarray, optional
        SGD step at which each replica diverged, -1 where it did not, shape (replica,); None of
        models of which that is an error.
    """

    hyperparameters: Hyperparameters
    weights: dict[str, np.ndarray] = field(repr=False)
    step: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    implementation: str
    lagged: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    diverged: np.ndarray | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name under which the workflow keeps the same run."""
        return self.hyperparameters.name


def train(
    model: str,
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    threads: int = 1,
    progress: TextIO | None = None,
) -> Run:
    """Train one run, or read its weights from files, and hold it in memory.

    The numbers are those that the workflow gives for the same hyperparameters.

    Parameters
    ----------
    model : str
        Name of the system, as in the configuration.
    hyperparameters : mapping, optional
        Under the names of the configuration; the rest take their defaults.
    device : str
        `auto`, `cpu` or `cuda`.
    threads : int
        Threads of the compiled kernel; they change no number.
    progress : text stream, optional
        Where the progress bar is drawn; standard error if None.

    Raises
    ------
    ConfigError
        If a hyperparameter is out of range; one line for each.
    DivergedError
        With replica and step, if a replica diverges.
    """
    from dysonflow import models
    from dysonflow.simulation import ensemble
    from dysonflow.simulation.gpu_errors import explained
    from dysonflow.simulation.implementation import choose, choose_place

    system = models.load(model)
    run = system.hyperparameters.from_config(dict(hyperparameters or {}))
    run.check_sources()
    if system.read is not None:
        memory = ensemble.Memory(run, run.replicas)
        step = np.asarray(system.read(run, memory.put))
        return Run(run, memory.layers, step, memory.loss, "read from files")
    place = choose_place(system, device, run)
    how = choose(system, place, run)
    threads = threads if how.is_compiled else 1
    with explained(place, run.replicas):
        found = ensemble.train_in_memory(how.simulation, run, place, progress, threads=threads)
    return Run(run, found.layers, found.step, found.loss, how.name, found.lagged, found.diverged)


def spectra(run: Run) -> "pd.DataFrame":
    """Eigenvalues of W^T W of a run, or of what else its model says.

    Returns
    -------
    pandas.DataFrame
        One row per eigenvalue; the columns of `spectra.parquet` (docs/tables.md).
    """
    import pyarrow as pa

    from dysonflow.analysis.spectra import spectra_columns, spectra_schema

    schema = spectra_schema(type(run.hyperparameters))
    parts = [
        pa.table(
            spectra_columns(run.hyperparameters, layer, weights, run.step, diverged=run.diverged)
        ).select(schema.names)
        for layer, weights in run.weights.items()
    ]
    return pa.concat_tables(parts).to_pandas()


def fit(run: Run) -> "pd.DataFrame":
    """Fits of all blocks of degenerate levels of a run, beside what theory predicts.

    Returns
    -------
    pandas.DataFrame
        One row per layer and block; the columns of `fits.parquet` (docs/tables.md).

    Raises
    ------
    ConfigError
        If there is no theory of the model, or it does not know the levels.
    """
    import pyarrow as pa

    from dysonflow import theory
    from dysonflow.analysis.fits import fit_run, fits_schema
    from dysonflow.analysis.spectra import eigenvalues

    run_of = run.hyperparameters
    if not (theory.exists(run_of.MODEL) and run_of.fitted):
        raise ConfigError(f"{run_of.MODEL}: no theory says which levels there are; nothing to fit")
    schema = fits_schema(type(run_of))
    of = run_of.eigenvalues_of
    parts = [
        pa.table(
            fit_run(run_of, layer, eigenvalues(weights, of), MemoryWeights(run)), schema=schema
        )
        for layer, weights in run.weights.items()
    ]
    return pa.concat_tables(parts).to_pandas()


def increments(run: Run) -> "pd.DataFrame":
    """Drift, diffusion and repulsion of the levels of a run with `lags`.

    Returns
    -------
    pandas.DataFrame
        One row per layer, lag and method; the columns of `increments.parquet` (docs/tables.md).

    Raises
    ------
    ConfigError
        If the run has no lags.
    """
    import pyarrow as pa

    from dysonflow.analysis.increments import increments_run, increments_schema

    if not run.hyperparameters.lags:
        raise ConfigError("lags: the run has none; train it with some, such as lags = [1, 4]")
    schema = increments_schema(type(run.hyperparameters))
    parts = [
        pa.table(increments_run(run.hyperparameters, layer, MemoryWeights(run)), schema=schema)
        for layer in run.weights
    ]
    return pa.concat_tables(parts).to_pandas()


def gradient_noise(
    model: str,
    hyperparameters: Mapping[str, Any] | None = None,
    *,
    steps: Sequence[int],
    samples: int = 128,
    branches: int = 32,
) -> "pd.DataFrame":
    """Noise of the gradient of a network, and how singular values move by it.

    A run is trained in memory. After each of the `steps` the covariance C of the gradient is
    measured from single samples, and the next step is taken many times over, each time with other
    samples (docs/gradient_noise.md).

    Parameters
    ----------
    model : str
        `mlp` or `char_gpt`.
    hyperparameters : mapping, optional
        As of `train`; up to 64 replicas.
    steps : sequence of int
        SGD steps after which to measure, ascending.
    samples : int
        Gradients of single samples, for each replica.
    branches : int
        How often the next step is taken.

    Returns
    -------
    pandas.DataFrame
        One row per step, layer and singular value; the columns of `gradient_noise.parquet`
        (docs/tables.md).

    Raises
    ------
    ConfigError
        If a hyperparameter is out of range, or the model has no gradients of single samples.
    """
    import pyarrow as pa

    from dysonflow import models
    from dysonflow.analysis.gradient_noise import gradient_noise_parts, gradient_noise_schema

    system = models.load(model)
    run = system.hyperparameters.from_config(dict(hyperparameters or {}))
    run.check_sources()
    if system.simulation is None:
        raise ConfigError(f"{model}: is not trained here, so that there are no gradients")
    schema = gradient_noise_schema(type(run))
    parts = gradient_noise_parts(run, system.simulation, steps, samples, branches)
    return pa.concat_tables([pa.table(part, schema=schema) for part in parts]).to_pandas()


def bulk(
    run: Run, extras: Sequence[str] = (), scale: float | Mapping[str, float] | None = None
) -> "pd.DataFrame":
    """Bulk, outliers and spacings of the spectra of a run with large matrices.

    Parameters
    ----------
    run : Run
        The run.
    extras : sequence of str
        Some of `vectors`, `shuffled` and `truncated`, as in a study's `bulk`.
    scale : float, or mapping of str to float, optional
        Known scale of the noise, as a study's `bulk_scale`.

    Returns
    -------
    pandas.DataFrame
        One row per layer, snapshot and replica; the columns of `bulk.parquet` (docs/tables.md).

    Raises
    ------
    ConfigError
        If no matrix is large enough, an extra is unknown, or a scale is none.
    """
    import pyarrow as pa

    from dysonflow.analysis.bulk import bulk_columns, bulk_schema
    from dysonflow.analysis.bulk_scope import (
        EXTRAS,
        SMALLEST_SIDE,
        known_scales,
        layers_with_bulk,
    )
    from dysonflow.analysis.spectra import eigenvalues

    unknown = [extra for extra in extras if extra not in EXTRAS]
    if unknown:
        raise ConfigError(f"extras = {unknown}: give some of {', '.join(EXTRAS)}")
    given = scale.values() if isinstance(scale, Mapping) else [scale]
    if not all(one is None or 0.0 < one < math.inf for one in given):
        raise ConfigError(f"scale = {scale}: give a number > 0, or layers with one each")
    if not layers_with_bulk(run.hyperparameters):
        raise ConfigError(
            f"run {run.name}: no matrix whose shorter side is at least {SMALLEST_SIDE}; no bulk"
        )
    columns = bulk_columns(
        run.hyperparameters,
        lambda layer: eigenvalues(run.weights[layer]),
        MemoryWeights(run),
        extras,
        known_scales(run.hyperparameters, scale),
    )
    return pa.table(columns, schema=bulk_schema(type(run.hyperparameters))).to_pandas()


class MemoryWeights:
    """Weights of a run in memory, read like a weights file."""

    def __init__(self, run: Run):
        self.step = run.step
        self._weights, self._lagged = run.weights, run.lagged

    def read(
        self, layer: str, replicas: slice = slice(None), snapshots: slice = slice(None)
    ) -> np.ndarray:
        """Weights of a layer, shape (replica, snapshot, M, N)."""
        return self._weights[layer][replicas, snapshots]

    def read_lagged(
        self,
        layer: str,
        lag: int,
        replicas: slice = slice(None),
        snapshots: slice = slice(None),
    ) -> np.ndarray:
        """Weights of a layer after a lag, by its number, shape (replica, snapshot, M, N)."""
        return self._lagged[layer][replicas, snapshots, lag]

    def parts(self, layer: str) -> list[slice]:
        """All replicas at once."""
        return [slice(0, len(self._weights[layer]))]
