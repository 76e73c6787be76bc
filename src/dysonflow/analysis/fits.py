"""Fit of every block of degenerate levels of a run, next to what theory predicts for it."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from dysonflow import theory
from dysonflow.analysis.columns import RUN_FIELDS, hyperparameter_fields, run_columns
from dysonflow.artifacts.arrow import arrow_array
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics import angles, correlation, estimators, goodness
from dysonflow.statistics.coulomb_gas import degrees_of_freedom, mean_pair_gap
from dysonflow.statistics.laws import BlockDensity
from dysonflow.statistics.pulls import pull
from dysonflow.theory.base import Block, Theory

if TYPE_CHECKING:
    import pandas as pd

QUANTITIES = {
    "centre": "centre",
    "sigma": "sigma",
    "gap": "mean_gap",
    "dyson_index": "dyson_index",
    "gap_ratio": "gap_ratio",
}
"""Columns of pulls, less their `pull_`, and what each compares."""

FITS_FIELDS = [
    *RUN_FIELDS,
    pa.field("block", pa.int64(), False),
    pa.field("multiplicity", pa.int64(), False),
    pa.field("samples", pa.int64(), False),
    *[
        pa.field(name + suffix, pa.float64())
        for name in ("centre", "sigma", "mean_gap")
        for suffix in ("", "_error", "_theory", "_theory_error", "_block_formula")
    ],
    *[
        pa.field(name + suffix, pa.float64())
        for name in ("dyson_index", "gap_ratio")
        for suffix in ("", "_error", "_theory", "_theory_error")
    ],
    pa.field("gap_excess_theory", pa.float64()),
    *[pa.field(f"pull_{name}", pa.float64()) for name in QUANTITIES],
    *[
        pa.field(name, pa.float64())
        for name in (
            *("surmise_p_value", "gap_law_p_value", "density_p_value", "angle_p_value"),
            *("autocorrelation_time", "autocorrelation_time_error"),
        )
    ],
    pa.field("variable", pa.float64()),
    pa.field("finite_step_variable", pa.float64()),
    pa.field("stochasticity", pa.float64()),
    pa.field("quantity", pa.string(), False),
    pa.field("beyond_theory", pa.string(), False),
    pa.field("flag", pa.string(), False),
]


class SlicedWeights(Protocol):
    """Weights of a run that are read part by part: a file of them, or those in memory."""

    def read(
        self, layer: str, replicas: slice = slice(None), snapshots: slice = slice(None)
    ) -> np.ndarray:
        """Weights of a layer, shape (replica, snapshot, M, N)."""
        ...

    def parts(self, layer: str) -> Iterable[slice]:
        """Replicas that are read at once."""
        ...


def fits_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the fits of a model."""
    return pa.schema([*FITS_FIELDS, *hyperparameter_fields(hyperparameters)])


def gap_ratio(levels: np.ndarray, dyson_index: float = 1.0) -> tuple[float, float]:
    """Mean gap of pairs over the one that their sigma implies, <S> / (sqrt(pi) sigma) at beta = 1.

    Parameters
    ----------
    levels : np.ndarray
        Ascending pairs, shape (replica, snapshot, 2).
    dyson_index : float
        Repulsion beta of the law that sigma is that of.

    Returns
    -------
    ratio, error : float
        The error is from deleting one replica at a time, numerator and denominator together: both
        come from the same levels.
    """
    gap = (levels[..., 1] - levels[..., 0]).mean(axis=1)
    squares = ((levels - levels.mean()) ** 2).sum(axis=2).mean(axis=1)
    replicas = len(gap)
    square_of_unit = math.pi if dyson_index == 1.0 else mean_pair_gap(dyson_index) ** 2
    freedom = float(degrees_of_freedom(2, dyson_index))

    def ratio(gap: Any, squares: Any) -> Any:
        return gap / np.sqrt(square_of_unit * squares / freedom)

    without = ratio((gap.sum() - gap) / (replicas - 1), (squares.sum() - squares) / (replicas - 1))
    spread = np.sqrt((replicas - 1) * without.var())
    return float(ratio(gap.mean(), squares.mean())), float(spread)


def fit_run(
    hyperparameters: Hyperparameters,
    layer: str,
    eigenvalues: np.ndarray,
    weights: SlicedWeights | None = None,
) -> dict[str, Any]:
    """Columns of the fits of one layer of a run: one row per block, estimates beside predictions.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run.
    layer : str
        Name of the weight matrix.
    eigenvalues : np.ndarray
        Of W^T W, ascending, shape (replica, snapshot, N).
    weights : SlicedWeights, optional
        For the test of rotation invariance, left out without.

    Returns
    -------
    dict
        Columns of `fits_schema`. A block that cannot be fitted has no estimates and says why in
        its `flag`.
    """
    physics = theory.load(hyperparameters.MODEL)
    levels = physics.levels(hyperparameters, layer, eigenvalues)
    rows = []
    for number, block in enumerate(physics.blocks(hyperparameters, layer)):
        row: dict[str, Any] = {
            "block": number,
            "multiplicity": block.multiplicity,
            "samples": levels.shape[0] * levels.shape[1],
            "centre_theory": block.centre,
            "sigma_theory": block.sigma,
            "mean_gap_theory": block.mean_gap,
            "centre_block_formula": block.centre_block,
            "sigma_block_formula": block.sigma_block,
            "mean_gap_block_formula": block.mean_gap_block,
            "dyson_index_theory": block.dyson_index,
            "gap_ratio_theory": block.gap_ratio,
            "gap_excess_theory": block.gap_excess if block.multiplicity == 2 else math.nan,
            "variable": block.variable,
            "finite_step_variable": block.finite_step_variable,
            "stochasticity": block.stochasticity,
            **{
                f"{name}_theory_error": getattr(block, f"{name}_uncertainty")
                for name in QUANTITIES.values()
                if not math.isnan(getattr(block, name))
            },
            "quantity": physics.level_name(hyperparameters, layer),
            "beyond_theory": block.beyond,
            "flag": block.flag,
        }
        if not block.flag:
            row |= _estimates(levels[..., block.positions], block.gas_index)
            if row["flag"] == "" or "sigma" in row:
                row |= _tests(levels[..., block.positions], block.gas_index, block.gap_excess)
                if weights is not None and block.multiplicity == 2:
                    row |= _angles(physics, hyperparameters, layer, block, weights)
            row |= _pulls(row, block, len(levels))
            if block.beyond:
                beyond = f"beyond the theory: {block.beyond}"
                row["flag"] = "; ".join(text for text in (row["flag"], beyond) if text)
        rows.append(row)
    constant = run_columns(hyperparameters, layer, len(rows))
    columns = {
        field.name: arrow_array([_null_if_nan(row.get(field.name)) for row in rows], field.type)
        for field in FITS_FIELDS
        if field.name not in constant
    }
    return columns | constant


def _angles(
    physics: Theory[Any],
    hyperparameters: Hyperparameters,
    layer: str,
    block: Block,
    weights: SlicedWeights,
) -> dict[str, float]:
    """Test of rotation invariance of a pair, weights read part by part."""
    plane = physics.pair_plane(hyperparameters, layer, block.first)
    if plane is None:
        return {}
    found = [angles.pair_angles(weights.read(layer, part), *plane) for part in weights.parts(layer)]
    return {"angle_p_value": goodness.angle_p_value(np.concatenate(found))}


def _estimates(levels: np.ndarray, dyson_index: float) -> dict[str, Any]:
    """Estimates for one block at the index of its theory, or the reason why there are none."""
    try:
        fit = estimators.fit_block(levels, dyson_index=dyson_index)
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
        row["gap_ratio"], row["gap_ratio_error"] = gap_ratio(levels, dyson_index)
    return row


def _tests(levels: np.ndarray, gas_index: float, gap_excess: float) -> dict[str, float]:
    """Dyson index and tests of the block's law; only `gap_law_p_value` knows of the theory.

    The law is the gas of the index that theory says; where its density is not known in closed form,
    the density is not tested.
    """
    # The null laws are simulated: a fixed seed makes the p-value a function of the data alone.
    rng = np.random.default_rng(0)
    free = estimators.fit_block(levels, dyson_index=None)
    time, time_error = correlation.autocorrelation_time(levels)
    found = {
        "dyson_index": free.dyson_index,
        "dyson_index_error": free.dyson_index_error,
        "autocorrelation_time": time,
        "autocorrelation_time_error": time_error,
    }
    if BlockDensity.is_known(levels.shape[-1], gas_index):
        found["density_p_value"] = goodness.density_p_value(levels, rng, dyson_index=gas_index)
    if levels.shape[-1] == 2 and gas_index in (1.0, 2.0, 4.0):
        # Both from the same snapshots, where correlated ones are thinned.
        found["surmise_p_value"], found["gap_law_p_value"] = (
            goodness.surmise_p_value(
                levels, np.random.default_rng(1), dyson_index=int(gas_index), excess=excess
            )
            for excess in (0.0, gap_excess)
        )
    return found


def _pulls(row: dict[str, Any], block: Block, replicas: int) -> dict[str, float]:
    """Distance of each estimate from theory, as a standard normal number.

    None where the theory is not to be taken at its word.
    """
    pulls: dict[str, float] = {}
    if block.beyond:
        return pulls
    for column, name in QUANTITIES.items():
        if name not in row or not row[f"{name}_error"] > 0:
            continue
        error = math.hypot(row[f"{name}_error"], getattr(block, f"{name}_uncertainty"))
        origin = {"sigma": 0.0, "mean_gap": 0.0, "dyson_index": -2.0 / block.multiplicity}.get(name)
        distance = pull(row[name], getattr(block, name), error, replicas - 1, origin)
        pulls[f"pull_{column}"] = distance
    return pulls


def _null_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def within_theory(fits: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of a table of fits at which the theory is taken at its word."""
    return fits[fits["beyond_theory"] == ""]
