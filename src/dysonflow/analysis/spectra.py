"""From weight matrices to eigenvalues of X = W^T W."""

import numpy as np
import pyarrow as pa

from dysonflow.artifacts.tables import (
    SPECTRA_FIELDS,
    hyperparameter_columns,
    hyperparameter_fields,
    read_table,
)
from dysonflow.errors import ArtifactError
from dysonflow.hyperparameters import Hyperparameters


def eigenvalues(weights: np.ndarray) -> np.ndarray:
    """Eigenvalues of X = W^T W, ascending, exactly as many as W has columns.

    Parameters
    ----------
    weights : np.ndarray
        Shape (..., M, N).

    Returns
    -------
    np.ndarray
        Shape (..., N), float64. For M < N the first N - M are exactly zero.

    Raises
    ------
    ValueError
        If a weight is not finite.

    Notes
    -----
    They are squares of singular values: diagonalising X would lose half of the digits of the
    small ones.
    """
    if not np.isfinite(weights).all():
        raise ValueError("a weight is not finite")
    *shape, rows, columns = weights.shape
    values = np.zeros((*shape, columns))
    singular = np.linalg.svd(weights.astype(np.float64), compute_uv=False)
    values[..., columns - min(rows, columns) :] = singular[..., ::-1] ** 2
    return values


def spectra_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the spectra of a model."""
    return pa.schema([*SPECTRA_FIELDS, *hyperparameter_fields(hyperparameters)])


def spectra_columns(
    hyperparameters: Hyperparameters, weights: np.ndarray, step: np.ndarray
) -> dict[str, pa.Array]:
    """Tidy columns of the spectra of one run: one row per eigenvalue.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run.
    weights : np.ndarray
        Shape (replica, snapshot, M, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
    """
    values = eigenvalues(weights)
    replica, snapshot, index = np.indices(values.shape).reshape(3, -1)
    return {
        "run": pa.repeat(hyperparameters.run, values.size),
        "model": pa.repeat(hyperparameters.MODEL, values.size),
        "replica": pa.array(replica),
        "snapshot": pa.array(snapshot),
        "step": pa.array(step[snapshot]),
        "index": pa.array(index),
        "eigenvalue": pa.array(values.ravel()),
        **hyperparameter_columns(hyperparameters, values.size),
    }


def read_eigenvalues(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of one run, back in the shape of the ensemble.

    Returns
    -------
    eigenvalues : np.ndarray
        Ascending, shape (replica, snapshot, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).

    Raises
    ------
    ArtifactError
        If the file is damaged or incomplete.
    """
    table = read_table([path], columns=["replica", "snapshot", "step", "index", "eigenvalue"])
    shape = tuple(int(table[name].max()) + 1 for name in ("replica", "snapshot", "index"))
    if len(table) != np.prod(shape):
        raise ArtifactError(f"{path}: rows are missing; delete it and run snakemake again")
    table = table.sort_values(["replica", "snapshot", "index"])
    values = table["eigenvalue"].to_numpy().reshape(shape)
    return values, table["step"].to_numpy().reshape(shape)[0, :, 0]
