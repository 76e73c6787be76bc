"""What can be measured of a run without a theory of its levels: loss, levels, fluctuations, motion.

A level is a singular value of a layer. Two widths of it are told apart. `level_width` is its
standard deviation over replicas at a snapshot: in networks also that of where the starts led to.
`fluctuation` is the standard deviation over the snapshots of one replica, without the mean path of
all replicas and a straight line of its own: what the noise moves, where levels still drift as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dysonflow.analysis.columns import RUN_FIELDS, hyperparameter_fields
from dysonflow.analysis.spectra import read_eigenvalues
from dysonflow.artifacts.arrow import arrow_array, in_column
from dysonflow.artifacts.weights import open_weights
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means

ALL = -1
"""Number that stands for all levels of a layer together."""
LOSS, MEAN, WIDTH, FLUCTUATION = "loss", "mean_level", "level_width", "fluctuation"
DIFFUSION = "diffusion"
POINT_FIELDS = [
    *RUN_FIELDS,
    pa.field("quantity", pa.string(), False),
    pa.field("level", pa.int64(), False),
    pa.field("value", pa.float64(), False),
    pa.field("error", pa.float64(), False),
    pa.field("effective_rate", pa.float64(), False),
    pa.field("noise", pa.float64(), False),
]


def points_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the points of a model."""
    known = {field.name for field in POINT_FIELDS}
    more = [field for field in hyperparameter_fields(hyperparameters) if field.name not in known]
    return pa.schema([*POINT_FIELDS, *more])


def level_rows(levels: np.ndarray) -> Iterator[dict[str, Any]]:
    """Mean, width and fluctuation of each level, and of all together.

    Parameters
    ----------
    levels : np.ndarray
        Ascending, shape (replica, snapshot, level); at least two replicas.

    Yields
    ------
    dict
        `quantity`, `level`, `value` and its `error` from whole replicas. Of all levels together:
        the mean, and the root mean square of the widths.
    """
    replicas, snapshots, _ = levels.shape
    means = leave_one_out_means(levels.mean(axis=1))
    yield from _rows(MEAN, means, means.mean(axis=1))
    centred = levels - levels.mean(axis=0)
    square = (centred**2).mean(axis=1)
    variance = square.sum(axis=0) / (replicas - 1)
    # Variance without one replica, whose absence moves the mean as well.
    without = ((replicas - 1) * variance - replicas / (replicas - 1) * square) / (replicas - 2)
    variances = np.concatenate([variance[None], without])
    yield from _rows(WIDTH, np.sqrt(variances), np.sqrt(variances.mean(axis=1)))
    if snapshots > 2:
        # What all replicas do together is drift; so is what each does steadily.
        line = np.vander(np.linspace(-1.0, 1.0, snapshots), 2)
        basis = np.linalg.qr(line)[0]
        own = centred - np.einsum("sk,tk,rtl->rsl", basis, basis, centred)
        # Two degrees of freedom are gone for each replica, and one replica for the mean path.
        freedom = (snapshots - 2) * (replicas - 1) / replicas
        variances = leave_one_out_means((own**2).sum(axis=1) / freedom)
        yield from _rows(FLUCTUATION, np.sqrt(variances), np.sqrt(variances.mean(axis=1)))


def _rows(quantity: str, each: np.ndarray, together: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of estimates, the first of each with all replicas, the others without one."""
    for level, values in [(ALL, together), *enumerate(each.T)]:
        error = float(jackknife_error(values[1:]))
        yield {"quantity": quantity, "level": level, "value": float(values[0]), "error": error}


def singular_values(weights: np.ndarray) -> np.ndarray:
    """Singular values, ascending, shape (..., M, N) to (..., min(M, N))."""
    found = np.linalg.svd(weights.astype(np.float64), compute_uv=False)[..., ::-1]
    return np.ascontiguousarray(found)


def diffusion_rows(changes: np.ndarray, time: float) -> Iterator[dict[str, Any]]:
    """Variance of the change of each level within a lag, per unit of time; as of `level_rows`.

    Parameters
    ----------
    changes : np.ndarray
        Of the levels, shape (replica, snapshot, level).
    time : float
        That the lag takes.
    """
    replicas = len(changes)
    own = changes - changes.mean(axis=0)
    variance = (own**2).mean(axis=1) * replicas / (replicas - 1) / time
    variances = leave_one_out_means(variance)
    yield from _rows(DIFFUSION, variances, variances.mean(axis=1))


def run_points(run: Hyperparameters, spectra: str, weights: str) -> Iterator[dict[str, Any]]:
    """Rows of the points of one run; the hyperparameters are in them.

    Parameters
    ----------
    run : Hyperparameters
        The run; it has at least three replicas. If it has lags, the diffusion is measured over the
        smallest, per unit of training time, effective rate times steps.
    spectra, weights : str
        Its files.
    """
    values = run.canonical()
    rate = run.effective_rate
    same = {
        "run": run.name,
        "model": run.MODEL,
        "effective_rate": rate,
        "noise": rate / values["batch_size"],
    }
    same |= {name: value for name, value in values.items() if name not in same}
    with open_weights(weights) as file:
        losses = file.loss.mean(axis=1)
        error = float(losses.std(ddof=1)) / math.sqrt(len(losses))
        row = {"quantity": LOSS, "level": ALL, "value": float(losses.mean()), "error": error}
        yield {**same, "layer": "", **row}
        for layer, shape in run.layers().items():
            eigenvalues = read_eigenvalues(spectra, layer)[0]
            # A matrix of fewer rows than columns has no other singular values.
            levels = np.sqrt(np.clip(eigenvalues[..., -min(shape) :], 0.0, None))
            for row in level_rows(levels):
                yield {**same, "layer": layer, **row}
            if run.lags:
                parts = file.parts(layer)
                later = [singular_values(file.read_lagged(layer, 0, part)) for part in parts]
                changes = np.concatenate(later) - levels
                for row in diffusion_rows(changes, rate * run.lags[0]):
                    yield {**same, "layer": layer, **row}


def points_columns(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Rows of points as the columns of their schema."""
    return {
        field.name: arrow_array(
            [in_column(row.get(field.name), field.type) for row in rows], field.type
        )
        for field in schema
    }
