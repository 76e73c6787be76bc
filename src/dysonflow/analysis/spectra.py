"""From weight matrices to eigenvalues of X = W^T W, or of what else a model says."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from dysonflow.analysis.columns import RUN_FIELDS, hyperparameter_fields, run_columns
from dysonflow.artifacts.arrow import arrow_array, numpy_array
from dysonflow.artifacts.tables import read_arrow
from dysonflow.artifacts.weights import WeightsFile
from dysonflow.errors import ArtifactError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics.singular_values import singular_values, symmetric_eigenvalues

SPECTRA_FIELDS = [
    *RUN_FIELDS,
    pa.field("replica", pa.int64(), False),
    pa.field("snapshot", pa.int64(), False),
    pa.field("step", pa.int64(), False),
    pa.field("index", pa.int64(), False),
    pa.field("eigenvalue", pa.float64(), False),
]


DIVERGED_FIELD = pa.field("diverged_at", pa.int64())
"""Of models whose replicas may diverge: SGD step at which the replica did, null if it did not."""


def eigenvalues(
    weights: np.ndarray,
    of: str = "gram",
    decompose: Callable[[np.ndarray], np.ndarray] = singular_values,
) -> np.ndarray:
    """Eigenvalues of X = W^T W, ascending, exactly as many as W has columns.

    Parameters
    ----------
    weights : np.ndarray
        Shape (..., M, N).
    of : str
        `gram`; or `symmetric` for the eigenvalues of a symmetric W itself, or `levels` for a W of
        one row that holds them: `Hyperparameters.eigenvalues_of`.
    decompose : callable
        What computes singular values, by LAPACK or elsewhere.

    Returns
    -------
    np.ndarray
        Shape (..., N), float64. For M < N the first N - M are exactly zero.

    Raises
    ------
    ValueError
        If a weight is not finite.
    numpy.linalg.LinAlgError
        If the eigenvalues do not add up to the norm of the matrix.
    """
    if of == "symmetric":
        return symmetric_eigenvalues(weights)
    if of == "levels":
        if not np.isfinite(weights).all():
            raise ValueError("a weight is not finite")
        return weights[..., 0, :].astype(np.float64)
    *shape, rows, columns = weights.shape
    values = np.zeros((*shape, columns))
    singular = decompose(weights)
    values[..., columns - min(rows, columns) :] = singular[..., ::-1] ** 2
    return values


def spectra_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the spectra of a model."""
    diverged = [DIVERGED_FIELD] if hyperparameters.KEEPS_DIVERGED else []
    return pa.schema([*SPECTRA_FIELDS, *diverged, *hyperparameter_fields(hyperparameters)])


def spectra_columns(
    hyperparameters: Hyperparameters,
    layer: str,
    weights: np.ndarray,
    step: np.ndarray,
    first: int = 0,
    first_snapshot: int = 0,
    diverged: np.ndarray | None = None,
    decompose: Callable[[np.ndarray], np.ndarray] = singular_values,
) -> dict[str, pa.Array]:
    """Tidy columns of the spectra of some replicas: one row per eigenvalue.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run.
    layer : str
        Of the weights.
    weights : np.ndarray
        Shape (replica, snapshot, M, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
    first, first_snapshot : int
        Number of the first replica and of the first snapshot.
    diverged : np.ndarray, optional
        SGD step at which each of these replicas diverged, -1 where it did not, shape (replica,).
    decompose : callable
        What computes singular values.
    """
    values = eigenvalues(weights, hyperparameters.eigenvalues_of, decompose)
    replica, snapshot, index = np.indices(values.shape).reshape(3, -1)
    extra = {}
    if diverged is not None:
        at = diverged[replica]
        extra[DIVERGED_FIELD.name] = pa.array(at, pa.int64(), mask=at < 0)
    return {
        **run_columns(hyperparameters, layer, values.size),
        **extra,
        "replica": arrow_array(first + replica, pa.int64()),
        "snapshot": arrow_array(first_snapshot + snapshot, pa.int64()),
        "step": arrow_array(step[snapshot], pa.int64()),
        "index": arrow_array(index, pa.int64()),
        "eigenvalue": arrow_array(values.ravel(), pa.float64()),
    }


def spectra_parts(
    hyperparameters: Hyperparameters,
    weights: WeightsFile,
    decompose: Callable[[np.ndarray], np.ndarray] = singular_values,
) -> Iterator[dict[str, pa.Array]]:
    """Columns of the spectra of a run, a bounded part of one layer at a time.

    Raises
    ------
    ArtifactError
        If the layers of the file are not those of the model.
    """
    if weights.shapes != hyperparameters.layers():
        raise ArtifactError(
            f"{weights.path}: the weights have the layers {weights.shapes}, the model has "
            f"{hyperparameters.layers()}; delete the file and run snakemake again"
        )
    for layer in weights.shapes:
        for replicas, snapshots in weights.pieces(layer):
            yield spectra_columns(
                hyperparameters,
                layer,
                # What was read is let go before LAPACK takes a copy of its own.
                weights.read(layer, replicas, snapshots).astype(np.float64, copy=False),
                weights.step[snapshots],
                replicas.start,
                snapshots.start,
                None if weights.diverged is None else weights.diverged[replicas],
                decompose,
            )


def read_eigenvalues(path: str, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of one layer of one run, back in the shape of the ensemble.

    Returns
    -------
    eigenvalues : np.ndarray
        Ascending, shape (replica, snapshot, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).

    Raises
    ------
    ArtifactError
        If the file is damaged or incomplete, or has no such layer.
    """
    names = ["replica", "snapshot", "step", "index", "eigenvalue"]
    table = read_arrow([path], names, layer)
    if not len(table):
        raise ArtifactError(f"{path}: there is no layer {layer!r} in it")
    columns = {name: numpy_array(table[name]) for name in names}
    place = [columns[name] for name in ("replica", "snapshot", "index")]
    shape = tuple(int(one.max()) + 1 for one in place)
    if len(table) != np.prod(shape):
        raise ArtifactError(f"{path}: rows are missing; delete it and run snakemake again")
    order = np.ravel_multi_index(place, shape)
    values, step = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    values.flat[order], step.flat[order] = columns["eigenvalue"], columns["step"]
    return values, step[0, :, 0].copy()
