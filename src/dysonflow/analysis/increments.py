"""Coefficients of the motion of a run's levels: one row per layer, lag and method."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from dysonflow import theory
from dysonflow.analysis.columns import (
    RUN_FIELDS,
    hyperparameter_fields,
    null_if_nan,
    run_columns,
)
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.artifacts.arrow import arrow_array
from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics import increments
from dysonflow.statistics.increments import Coefficients, FreeMotion
from dysonflow.statistics.kick import Kick, joined

QUANTITIES = ("drift", "diffusion", "repulsion", "dyson_index")
INCREMENTS_FIELDS = [
    *RUN_FIELDS,
    pa.field("lag", pa.int64(), False),
    pa.field("method", pa.string(), False),
    pa.field("samples", pa.int64(), False),
    pa.field("pairs", pa.int64(), False),
    pa.field("smallest_gap", pa.float64()),
    pa.field("largest_gap", pa.float64()),
    *[
        pa.field(name, pa.float64())
        for quantity in QUANTITIES
        for name in (quantity, f"{quantity}_error", f"{quantity}_theory", f"pull_{quantity}")
    ],
    pa.field("relative_kick", pa.float64()),
    pa.field("flag", pa.string(), False),
]
MOMENTS, FREE = "moments", "free"
"""With the moments that theory gives, and without any knowledge of the machine."""
LARGEST_KICK = 0.08
"""Largest kick over the distance of second neighbours up to which what the two-level problem does
not know, triples of close levels and a drift that bends within the lag, changes a coefficient by
less than 3 % (docs/motion.md)."""

BEYOND_FITTING = 1.0
"""Such a kick from which on levels have changed places so often that nothing is fitted."""


class LaggedWeights(Protocol):
    """Weights of a run with lags, read part by part."""

    step: np.ndarray

    def read(
        self, layer: str, replicas: slice = slice(None), snapshots: slice = slice(None)
    ) -> np.ndarray:
        """Weights of a layer, shape (replica, snapshot, M, N)."""
        ...

    def read_lagged(
        self,
        layer: str,
        lag: int,
        replicas: slice = slice(None),
        snapshots: slice = slice(None),
    ) -> np.ndarray:
        """Weights of a layer after a lag, by its number, same shape."""
        ...

    def parts(self, layer: str) -> Iterable[slice]:
        """Replicas that are read at once."""
        ...


def increments_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the increments of a model."""
    return pa.schema([*INCREMENTS_FIELDS, *hyperparameter_fields(hyperparameters)])


def increments_run(
    hyperparameters: Hyperparameters, layer: str, weights: LaggedWeights
) -> dict[str, Any]:
    """Columns of the increments of one layer of a run, a row per lag and method.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run; it has lags.
    layer : str
        Name of the weight matrix.
    weights : LaggedWeights
        Its snapshots, and the weights after each lag.

    Returns
    -------
    dict
        Columns of `increments_schema`. Coefficients that cannot be had are missing, and `flag` says
        why.
    """
    rows: list[dict[str, Any]] = []
    for number, lag in enumerate(hyperparameters.lags):
        rows += _rows(hyperparameters, layer, weights, number, lag)
    constant = run_columns(hyperparameters, layer, len(rows))
    columns = {
        field.name: arrow_array([null_if_nan(row.get(field.name)) for row in rows], field.type)
        for field in INCREMENTS_FIELDS
        if field.name not in constant
    }
    return columns | constant


def motion_profiles(
    h: Hyperparameters, layer: str, weights: LaggedWeights, number: int
) -> tuple[increments.Profiles, str]:
    """Increments of one lag in bins, and the method that says what is expected.

    Parameters
    ----------
    h : Hyperparameters
        Of the run.
    layer : str
        Name of the weight matrix.
    weights : LaggedWeights
        Its snapshots, and the weights after each lag.
    number : int
        Of the lag, from 0.

    Raises
    ------
    ValueError
        If fewer than two levels move.
    ConfigError
        If they move so far within the lag that nothing can be fitted.
    """
    motion = _moving(*_read(h, layer, weights, number, h.lags[number]))
    if motion.before.shape[1] < 2:
        raise ValueError(f"run {h.name}, layer {layer}: fewer than two levels move")
    method = MOMENTS if motion.kick is not None else FREE
    levels = (motion.before, motion.after, motion.replica)
    try:
        kick = motion.kick or increments.fit_free(*levels).kick
    except FloatingPointError as error:
        raise ConfigError(
            f"run {h.name}, layer {layer}: {error}: give smaller lags, or leave its figure out"
        ) from None
    return increments.profiles(*levels, kick), method


@dataclass(frozen=True)
class _Motion:
    """Levels before and after a lag, shape (sample, N), and what theory knows of the change."""

    before: np.ndarray
    after: np.ndarray
    replica: np.ndarray
    kick: Kick | None


def _moving(
    before: np.ndarray, after: np.ndarray, replica: np.ndarray, kick: Kick | None
) -> _Motion:
    """Leave out levels that stand still, as that of a mode that is not learnt."""
    moving = before.std(axis=0) > 1e-9 * max(float(np.abs(before).max()), 1e-300)
    if kick is not None and not moving.all():
        kick = kick.of(moving)
    return _Motion(before[:, moving], after[:, moving], replica, kick)


def _rows(
    h: Hyperparameters, layer: str, weights: LaggedWeights, number: int, lag: int
) -> list[dict[str, Any]]:
    motion = _moving(*_read(h, layer, weights, number, lag))
    before, after, replica, kick = motion.before, motion.after, motion.replica, motion.kick
    row: dict[str, Any] = {"lag": lag, "samples": len(before), "pairs": 0, "flag": ""}
    if before.shape[1] < 2:
        return [row | {"method": FREE, "flag": "fewer than two levels move"}]
    spacing = _second_neighbours(before)
    relative = float(np.sqrt((after - before).var(axis=0).mean())) / spacing
    if relative > BEYOND_FITTING:
        flag = (
            f"the kick over the lag is {relative:.2g} of the distance of second neighbours, beyond "
            "what can be fitted: give a smaller lag"
        )
        return [row | {"method": FREE, "relative_kick": relative, "flag": flag}]
    try:
        free = increments.fit_free(before, after, replica)
    except FloatingPointError as error:
        return [row | {"method": FREE, "flag": f"{error}: give a smaller lag"}]
    rows = []
    expected: dict[str, float] = {}
    if kick is not None:
        found = increments.fit_with_moments(before, after, replica, kick)
        expected = _expected(before, kick, found, lag)
        rows.append(
            row
            | {"method": MOMENTS}
            | _with_moments(found, expected)
            | _flagged(float(np.einsum("sii->", kick.variance)) / before.size, spacing)
        )
    rows.append(
        row
        | {"method": FREE}
        | _without(free, expected, lag)
        | _flagged(float(free.variance.mean()), spacing)
    )
    return rows


def _read(
    h: Hyperparameters, layer: str, weights: LaggedWeights, number: int, lag: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Kick | None]:
    """Levels before and after, replica of each sample, and the moments that theory gives."""
    physics = theory.load(h.MODEL) if theory.exists(h.MODEL) else None
    before, after, replica, kicks = [], [], [], []
    for part in weights.parts(layer):
        now = weights.read(layer, part)
        later = weights.read_lagged(layer, number, part)
        count, snapshots = now.shape[:2]
        flat = now.reshape(count * snapshots, *now.shape[2:])
        before.append(eigenvalues(flat, h.eigenvalues_of))
        after.append(eigenvalues(later.reshape(flat.shape), h.eigenvalues_of))
        replica.append(np.repeat(np.arange(part.start, part.start + count), snapshots))
        if physics is not None:
            kicks.append(physics.kick(h, layer, flat, np.tile(weights.step, count), lag))
    known = [kick for kick in kicks if kick is not None]
    kick = joined(known) if known else None
    return np.concatenate(before), np.concatenate(after), np.concatenate(replica), kick


def _second_neighbours(levels: np.ndarray) -> float:
    """Median distance of second neighbours, of the two levels if there are no more."""
    apart = levels[:, 2:] - levels[:, :-2] if levels.shape[1] > 2 else np.full(1, np.inf)
    return float(np.median(apart))


def _flagged(variance: float, spacing: float) -> dict[str, Any]:
    """How large the kick is against the distance of levels, and whether that is too large."""
    relative = math.sqrt(variance) / spacing
    flag = ""
    if relative > LARGEST_KICK:
        flag = (
            f"the kick over the lag is {relative:.2g} of the distance of second neighbours; up to "
            f"{LARGEST_KICK:g} is accounted for: give a smaller lag"
        )
    return {"relative_kick": relative if math.isfinite(spacing) else math.nan, "flag": flag}


def _per_step(factor: float, lag: int) -> float:
    """Variance of one SGD step over that of a lag, for relaxation by `factor` over the lag.

    Of an Ornstein-Uhlenbeck process, 2 gamma / (1 - e^(-2 gamma lag)).
    """
    if not 0.0 < factor < 1.0:
        return 1.0 / lag
    rate = -math.log(factor) / lag
    return 2.0 * rate / -math.expm1(-2.0 * rate * lag)


def _expected(before: np.ndarray, kick: Kick, found: Coefficients, lag: int) -> dict[str, float]:
    """What theory says of the coefficients, averaged as they are."""
    own = np.einsum("sii->si", kick.mean)
    centred = before - before.mean(axis=0)
    slope = (centred * own).sum(axis=0) / (centred**2).sum(axis=0)
    factor = float(np.clip(1.0 + slope, 1e-12, None).prod() ** (1.0 / len(slope)))
    per_step = _per_step(factor, lag)
    return {
        "drift": -math.log(factor) / lag,
        "diffusion": 2.0 * found.half_diffusion * per_step,
        "repulsion": found.off_diagonal * per_step,
        "dyson_index": found.off_diagonal / found.half_diffusion,
    }


def _with_moments(found: Coefficients, expected: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = _range(found)
    for name in ("drift", "diffusion", "repulsion"):
        ratio, error = getattr(found, name), getattr(found, f"{name}_error")
        row[name] = ratio * expected[name]
        row[f"{name}_error"] = error * abs(expected[name])
    row["dyson_index"] = found.dyson_index
    row["dyson_index_error"] = found.dyson_index_error
    return row | _compared(row, expected)


def _without(free: FreeMotion, expected: dict[str, float], lag: int) -> dict[str, Any]:
    found = free.coefficients
    per_step = _per_step(math.exp(-free.rate), lag)
    diffusion = 2.0 * found.half_diffusion * per_step
    row: dict[str, Any] = _range(found) | {
        "drift": free.rate / lag,
        "drift_error": free.rate_error / lag,
        "diffusion": diffusion,
        "diffusion_error": found.diffusion_error * diffusion,
        "repulsion": found.repulsion * found.off_diagonal * per_step,
        "repulsion_error": found.repulsion_error * found.off_diagonal * per_step,
        "dyson_index": found.dyson_index,
        "dyson_index_error": found.dyson_index_error,
    }
    return row | _compared(row, expected)


def _range(found: Coefficients) -> dict[str, Any]:
    names = ("pairs", "smallest_gap", "largest_gap")
    return {name: getattr(found, name) for name in names}


def _compared(row: dict[str, Any], expected: dict[str, float]) -> dict[str, float]:
    """Theory and pulls, where there is a theory."""
    compared = {}
    for name, value in expected.items():
        compared[f"{name}_theory"] = value
        if row[f"{name}_error"] > 0:
            compared[f"pull_{name}"] = (row[name] - value) / row[f"{name}_error"]
    return compared
