"""Fit of every block of degenerate levels of a run, next to what theory predicts for it."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dysonflow import theory
from dysonflow.artifacts.tables import FITS_FIELDS, hyperparameter_columns, hyperparameter_fields
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics import angles
from dysonflow.statistics.correlation import autocorrelation_time
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.goodness import angle_p_value, density_p_value, surmise_p_value


def fits_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the fits of a model."""
    return pa.schema([*FITS_FIELDS, *hyperparameter_fields(hyperparameters)])


def fitted_pairs(fits: pd.DataFrame) -> pd.DataFrame:
    """Rows of a table of fits with the pairs of degenerate levels that could be fitted."""
    return fits[(fits["multiplicity"] == 2) & fits["mean_gap"].notna()]


def gap_ratio(levels: np.ndarray) -> tuple[float, float]:
    """Mean gap of pairs over the one that their sigma implies, <S> / (sqrt(pi) sigma).

    Parameters
    ----------
    levels : np.ndarray
        Ascending pairs, shape (replica, snapshot, 2).

    Returns
    -------
    ratio, error : float
        The error is from deleting one replica at a time, numerator and denominator together: both
        come from the same levels.
    """
    gap = (levels[..., 1] - levels[..., 0]).mean(axis=1)
    squares = ((levels - levels.mean()) ** 2).sum(axis=2).mean(axis=1)
    replicas = len(gap)

    def ratio(gap: Any, squares: Any) -> Any:
        return gap / np.sqrt(math.pi * squares / 3.0)

    without = ratio((gap.sum() - gap) / (replicas - 1), (squares.sum() - squares) / (replicas - 1))
    spread = np.sqrt((replicas - 1) * without.var())
    return float(ratio(gap.mean(), squares.mean())), float(spread)


def fit_run(
    hyperparameters: Hyperparameters, eigenvalues: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, Any]:
    """Columns of the fits of one run: one row per block, estimates beside predictions.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run.
    eigenvalues : np.ndarray
        Of W^T W, ascending, shape (replica, snapshot, N).
    weights : np.ndarray, optional
        Shape (replica, snapshot, M, N): for the test of rotation invariance, left out without.

    Returns
    -------
    dict
        Columns of `fits_schema`. A block that cannot be fitted has no estimates and says why in
        its `flag`.
    """
    physics = theory.load(hyperparameters.MODEL)
    levels = physics.levels(hyperparameters, eigenvalues)
    rows = []
    for number, block in enumerate(physics.blocks(hyperparameters)):
        row: dict[str, Any] = {
            "run": hyperparameters.run,
            "model": hyperparameters.MODEL,
            "block": number,
            "multiplicity": block.multiplicity,
            "samples": levels.shape[0] * levels.shape[1],
            "centre_theory": block.centre,
            "sigma_theory": block.sigma,
            "mean_gap_theory": block.mean_gap,
            "centre_block_formula": block.centre_block,
            "sigma_block_formula": block.sigma_block,
            "mean_gap_block_formula": block.mean_gap_block,
            "variable": block.variable,
            "finite_step_variable": block.finite_step_variable,
            "stochasticity": block.stochasticity,
            "quantity": physics.level_name(hyperparameters),
            "flag": block.flag,
        }
        if not block.flag:
            row |= _estimates(levels[..., block.positions])
            if row["flag"] == "" or "sigma" in row:
                row |= _tests(levels[..., block.positions])
                if weights is not None and block.multiplicity == 2:
                    plane = physics.pair_plane(hyperparameters, block.first)
                    if plane is not None:
                        found = angles.pair_angles(weights, *plane)
                        row["angle_p_value"] = angle_p_value(found)
            row |= _pulls(row, block)
        rows.append(row)
    columns = {
        field.name: pa.array([_null_if_nan(row.get(field.name)) for row in rows], field.type)
        for field in FITS_FIELDS
    }
    return columns | hyperparameter_columns(hyperparameters, len(rows))


def _estimates(levels: np.ndarray) -> dict[str, Any]:
    """Estimates for one block, or the reason why there are none."""
    try:
        fit = fit_block(levels)
    except ValueError as error:
        return {"flag": f"not fitted: {error}"}
    row = {
        name: getattr(fit, name)
        for name in (
            *("centre", "centre_error", "sigma", "sigma_error"),
            *("mean_gap", "mean_gap_error", "flag"),
        )
    }
    if levels.shape[-1] == 2:
        row["gap_ratio"], row["gap_ratio_error"] = gap_ratio(levels)
    return row


def _tests(levels: np.ndarray) -> dict[str, float]:
    """Dyson index and tests of the block's law, none of which knows what theory predicts."""
    # The null laws are simulated: a fixed seed makes the p-value a function of the data alone.
    rng = np.random.default_rng(0)
    free = fit_block(levels, dyson_index=None)
    time, time_error = autocorrelation_time(levels)
    found = {
        "dyson_index": free.dyson_index,
        "dyson_index_error": free.dyson_index_error,
        "density_p_value": density_p_value(levels, rng),
        "autocorrelation_time": time,
        "autocorrelation_time_error": time_error,
    }
    if levels.shape[-1] == 2:
        found["surmise_p_value"] = surmise_p_value(levels, rng)
    return found


def _pulls(row: dict[str, Any], block: theory.Block) -> dict[str, float]:
    """(estimate - theory) / error, the error with that of the theory's own integral."""
    pulls = {}
    for column, name in (("centre", "centre"), ("sigma", "sigma"), ("gap", "mean_gap")):
        if name not in row or not row[f"{name}_error"] > 0:
            continue
        error = math.hypot(row[f"{name}_error"], getattr(block, f"{name}_uncertainty"))
        pulls[f"pull_{column}"] = (row[name] - getattr(block, name)) / error
    return pulls


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
