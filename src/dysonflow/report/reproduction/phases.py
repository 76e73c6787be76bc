"""The phase diagram of students of two layers: what the paper says of it, as measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from dysonflow.analysis.regimes import REGIMES, outcome
from dysonflow.artifacts import kinds
from dysonflow.artifacts.weights import open_weights
from dysonflow.models.two_layer_student import TwoLayerStudentHyperparameters
from dysonflow.report.reproduction.checks import Check, estimate
from dysonflow.report.reproduction.study import PhaseTables

COMPARED_STEPS = 100
"""SGD steps over which drift and noise of the singular values are compared."""
GROWTH = 1.0 / 3.0
"""Power of time with which saturated students grow: their gradient fades as 1 / |W|, so that noise
moves |W|^3 as a^2 t (docs/phase_diagram.md)."""
LATER = 0.25
"""Share of the steps after which growth is measured."""


def phase_tables(
    name: str, runs: Sequence[tuple[TwoLayerStudentHyperparameters, str]], figures: Sequence[str]
) -> PhaseTables:
    """What became of the students of a study.

    Parameters
    ----------
    name : str
        Of the study.
    runs : sequence
        Hyperparameters and path of the weights of each run.
    figures : sequence of str
        Figures that it draws.

    Returns
    -------
    PhaseTables
        One row for each run: its place; `regime`, that of most replicas, and `agreeing`, their
        share; `drift`, the median over replicas of drift over noise; `growth` and its error, the
        power of time of the largest singular value; `stopped` replicas.
    """
    rows = []
    for run, path in runs:
        with open_weights(path) as file:
            found = outcome(run, file)
            steps = np.array(run.snapshot_steps)
            later = int(np.searchsorted(steps, LATER * steps[-1]))
            weights = file.read("W", snapshots=slice(later, len(steps))).astype(np.float64)
        growth, growth_error = power_of_time(weights, steps[later:])
        rows.append(
            {
                "width": run.initial_width,
                "temperature": run.learning_rate / run.batch_size,
                "regime": REGIMES[found.common_regime],
                "agreeing": float(np.mean(found.regime == found.common_regime)),
                "drift": float(np.median(found.signal)) * math.sqrt(COMPARED_STEPS),
                "growth": growth,
                "growth_error": growth_error,
                "stopped": int((found.diverged_at >= 0).sum()),
            }
        )
    trained = [kinds.peek(path) for _, path in runs]
    cost = pd.DataFrame(
        {
            "training": [made["seconds"] for made in trained],
            "replica_steps": [made["replica_steps"] for made in trained],
            "analysis": 0.0,
        }
    )
    return PhaseTables(name, pd.DataFrame(rows), figures, cost)


def power_of_time(weights: np.ndarray, steps: np.ndarray) -> tuple[float, float]:
    """Power p with which the largest singular value grows, as t^p.

    Parameters
    ----------
    weights : array
        Shape (replica, snapshot, row, column).
    steps : array
        SGD step of each snapshot, > 0.

    Returns
    -------
    power, error : float
        Mean over replicas of the slope of logarithms, and its standard error; NaN where there are
        too few snapshots or replicas.
    """
    if len(steps) < 2:
        return math.nan, math.nan
    largest = np.linalg.svd(weights, compute_uv=False)[..., 0]
    # The slope of each replica by itself: replicas are independent, snapshots are not.
    slopes = np.polyfit(np.log(steps), np.log(largest).T, 1)[0]
    error = np.std(slopes, ddof=1) / math.sqrt(len(slopes)) if len(slopes) > 1 else math.nan
    return float(np.mean(slopes)), float(error)


def phase_checks(points: pd.DataFrame) -> list[Check | None]:
    """The statements about the diagram, and the growth of students that noise carries away.

    Parameters
    ----------
    points : pandas.DataFrame
        As of `phase_tables`. Where a student that has learnt ends is told by the points on either
        side, a factor of their spacing apart.
    """
    count = len(points)
    number = points["regime"].value_counts()
    learnt = points[points["regime"] == "learnt"]
    kept = points[points["regime"].isin(("kept", "frozen"))]
    away = points[points["regime"] == "diverged"]
    checks: list[Check | None] = [
        _said(
            "Training has three phases, in each of which the singular values move in another way",
            f"of {count} points {number.get('learnt', 0)} have learnt, {len(kept)} keep the order "
            f"of their start ({number.get('frozen', 0)} frozen), {len(away)} are carried away; "
            f"{points['stopped'].sum()} replicas stopped; {points['agreeing'].mean():.0%} of the "
            "replicas are in the regime of their point",
            "three",
        )
    ]
    if len(learnt):
        ends = learnt.groupby("width")["temperature"].max()
        checks += [
            _said(
                "a/B is a temperature, at which order is lost",
                f"the largest a/B of students that learn is {_span(ends)} over s = "
                f"{_span(ends.index)}",
                "one boundary",
            ),
            _said(
                "The width s of the start is the strength of the disorder",
                f"students learn up to s = {learnt['width'].max():g}"
                + (
                    f", and keep their start from s = {kept['width'].min():g} on"
                    if len(kept)
                    else ""
                ),
                "one boundary",
            ),
        ]
    sides = (points["drift"] > 1.0) == (points["regime"] == "learnt")
    drifting = points[points["drift"] > 1.0]
    both = int((drifting["regime"] == "learnt").sum())
    checks.append(
        _said(
            "Drift against diffusion of the levels tells the phases apart",
            f"drift of {COMPARED_STEPS} SGD steps exceeds their noise at {len(drifting)} points, "
            f"{both} of which have learnt; {int(sides.sum())} of {count} points are on their side "
            "of the line",
            f"{count} of {count}",
        )
    )
    narrow = away[away["width"] == away["width"].min()].sort_values("temperature")
    for _, row in narrow.iterrows():
        checks.append(
            estimate(
                f"Carried away (ours): largest singular value ~ t^p at s = {row['width']:g}, a/B = "
                f"{row['temperature']:g}: p",
                row["growth"],
                row["growth_error"],
                GROWTH,
            )
        )
    return checks


def _said(statement: str, measured: str, theory: str) -> Check:
    """What has no error, and thus no verdict."""
    return Check(statement, measured, theory, math.nan, "")


def _span(values: pd.Series | pd.Index) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
