"""Drift against diffusion of the singular values, with the line where both move them as far."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D

from dysonflow.analysis.regimes import mean_squared_moves
from dysonflow.artifacts.weights import open_weights
from dysonflow.report.figures import _phases
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData

BOOTSTRAPS = 40
"""Contours of resampled replicas that are drawn."""
STEPS = 100
"""SGD steps over which drift and diffusion are compared where no lags say so."""
POWERS = (0.5, 1.5)
"""Of time in a mean square, on either side of diffusion: levels that are bound by the drift of a
restoring force at the time that is looked at, and v^2 t^2 + D t where both terms are equal."""
LEAST = 2.0**-30
"""Of what has a logarithm to be drawn; drifts too small to be seen are at their error already."""

Points = dict[tuple[int, int], np.ndarray]


def draw(data: StudyData) -> Drawing:
    """Draw both comparisons; that of increments for runs with two lags or more."""
    found = _phases.plane(data)
    lags = _lags(data)
    over = math.sqrt(lags[0] * lags[-1]) if lags else float(STEPS)
    ratios = {
        place: np.maximum(one.signal * over**0.5, LEAST) for place, one in found.outcomes.items()
    }
    panels: dict[str, tuple[Points, float, tuple[float, ...], str]] = {
        "gradients of single samples": (
            {place: np.log2(ratio) for place, ratio in ratios.items()},
            0.0,
            (0.0,),
            rf"$\log_2$ (drift / noise) of {over:g} SGD steps",
        )
    }
    if lags:
        moves = {}
        for place, run in found.runs.items():
            with open_weights(data.file("weights", run)) as file:
                squares = np.maximum(mean_squared_moves(run, file), 1e-300)
            moves[place] = np.log(squares[-1] / squares[0]) / math.log(lags[-1] / lags[0])
        label = f"power of time, {lags[0]:g} to {lags[-1]:g} SGD steps"
        panels["increments"] = (moves, 1.0, POWERS, label)
    numbers = [
        pd.DataFrame(
            {
                "panel": name,
                "curve": f"a/B = {found.rates[place[0]]:g}",
                "x": [found.widths[place[1]]],
                "y": [np.median(values[place])],
                "y_error": [_phases.median_error(values[place])],
            }
        )
        for name, (values, *_) in panels.items()
        for place in sorted(values)
    ]
    with data.page.look():
        count = len(panels)
        shape = (count, 1) if data.page.is_column else (1, count)
        figure = data.page.figure(5.2 * count + 0.6, 4.4, 3.4 * count)
        drawn = 0
        for panel, (name, (values, centre, balance, label)) in zip(
            figure.subplots(*shape, squeeze=False).ravel(), panels.items(), strict=True
        ):
            drawn += _panel(panel, found, values, centre, balance, label)
            panel.set_title(name, loc="left")
        if drawn:
            lines = [Line2D([], [], color="black"), Line2D([], [], color="grey", lw=0.5)]
            legend_above(figure, lines, ["drift as far as diffusion", "resampled replicas"], 2)
    replicas = len(next(iter(ratios.values())))
    batch = next(iter(found.runs.values())).batch_size
    measured = (
        ""
        if not lags
        else (
            " Right: the power of time with which the mean squared change of the singular values "
            f"grows from {lags[0]:g} to {lags[-1]:g} SGD steps, over the later half of the "
            "snapshots: 2 where they drift, 1 where they diffuse, less where a restoring force "
            f"binds them; {POWERS[1]:g} and {POWERS[0]:g} where such a drift and diffusion move "
            f"them about as far in {over:g} steps."
        )
    )
    caption = (
        f"Drift against diffusion of the singular values of study {data.title}; medians over "
        f"{replicas} replicas. {'Left: at' if lags else 'At'} the last snapshot, how far the mean "
        f"gradient would move them in {over:g} SGD steps, over how far the noise of batches of "
        f"{batch} samples would, both as root mean squares over the levels, from the gradients of "
        f"single test inputs; a drift too small to be seen is drawn as its error.{measured} Lines: "
        "where both are equal, black, and the same for "
        f"{BOOTSTRAPS} resamplings of the replicas, grey."
    )
    axes = {name: ("initial width", label) for name, (*_, label) in panels.items()}
    return Drawing(figure, caption, numbers, axes | {"": ("initial width", "value")})


def _lags(data: StudyData) -> list[int]:
    """Lags of the runs; none unless all have the same, at least two."""
    known = {tuple(run.lags) for run in data.runs}
    lags = list(known.pop()) if len(known) == 1 else []
    return lags if len(lags) > 1 else []


def _panel(
    panel: Axes,
    found: _phases.Plane,
    values: Points,
    centre: float,
    balance: tuple[float, ...],
    label: str,
) -> int:
    """Draw the medians and the contours; returns whether there is one."""
    medians = _medians(found, values)
    span = max(0.5, float(np.nanmax(np.abs(medians - centre))))
    mesh = panel.pcolormesh(
        _phases.edges(found.widths),
        _phases.edges(found.rates),
        medians,
        norm=TwoSlopeNorm(centre, centre - span, centre + span),
        cmap="RdBu",
    )
    assert panel.figure is not None
    panel.figure.colorbar(mesh, ax=panel, label=label)
    drawn = _contour(panel, found, medians, balance, colors="black", linewidths=1.4, zorder=3)
    rng = np.random.default_rng(0)
    for _ in range(BOOTSTRAPS):
        chosen = {
            place: one[rng.integers(len(one), size=len(one))] for place, one in values.items()
        }
        resampled = _medians(found, chosen)
        _contour(panel, found, resampled, balance, colors="grey", linewidths=0.5, alpha=0.6)
    _phases.prepare(panel, found)
    return drawn


def _medians(found: _phases.Plane, values: Points) -> np.ndarray:
    """Median at every point, shape (rates, widths)."""
    return found.map({place: float(np.median(one)) for place, one in values.items()})


def _contour(
    panel: Axes, found: _phases.Plane, values: np.ndarray, balance: tuple[float, ...], **look: Any
) -> int:
    levels = [level for level in balance if np.nanmin(values) < level < np.nanmax(values)]
    if min(values.shape) < 2 or not levels:
        return 0
    panel.contour(np.log2(found.widths), np.log2(found.rates), values, levels=levels, **look)
    return 1
