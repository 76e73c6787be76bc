"""Levels x(t) of W^T W in time, one panel for a run in each regime."""

import numpy as np

from dysonflow.analysis.regimes import REGIMES
from dysonflow.report.figures import _phases
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve
from dysonflow.report.figures.regimes import NAMES

BAND = (16.0, 84.0)
"""Percentiles over replicas between which each level is shaded."""


def draw(data: StudyData) -> Drawing:
    """Draw the levels of the run in the middle of each regime, of most levels first."""
    found = _phases.plane(data)
    chosen = {name: place for name in REGIMES if (place := _middle(found, name)) is not None}
    numbers = []
    with data.page.look():
        count = len(chosen)
        shape = (count, 1) if data.page.is_column else (1, count)
        figure = data.page.figure(2.9 * count + 0.6, 3.6, 2.6 * count)
        panels = figure.subplots(*shape, squeeze=False).ravel()
        for panel, (regime, place) in zip(panels, chosen.items(), strict=True):
            run = found.runs[place]
            levels, steps = data.levels(run), data.steps(run)
            # As many levels are zero as W has more columns than rows.
            moving = range(
                levels.shape[2] - min(run.hidden_size, run.feature_size), levels.shape[2]
            )
            for i, colour in zip(moving, colours(len(moving)), strict=True):
                low, middle, high = np.percentile(levels[:, :, i], [BAND[0], 50, BAND[1]], axis=0)
                panel.fill_between(steps, low, high, color=colour, alpha=0.25, lw=0)
                panel.plot(steps, middle, color=colour, lw=0.9)
                name = f"{regime}: s = {run.initial_width:g}, a = {run.learning_rate:g}"
                numbers.append(curve(name, f"level {i}", steps, middle, low=low, high=high))
            panel.set_yscale("log")
            panel.set_xlabel("SGD step")
            panel.set_title(
                f"{NAMES[regime]}\n$s = {run.initial_width:g}$, "
                rf"$\alpha / B = {run.learning_rate / run.batch_size:g}$",
                loc="left",
            )
            panel.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
        panels[0].set_ylabel(data.level_label)
    replicas = len(next(iter(found.outcomes.values())).loss)
    caption = (
        f"Levels (eigenvalues of W^T W that are not zero by its shape) of study {data.title} in "
        f"time, for the run in the middle of each regime. Lines: median over {replicas} replicas "
        f"of each ordered level; bands: from {BAND[0]:g} to {BAND[1]:g} per cent of the replicas."
    )
    return Drawing(figure, caption, numbers, {"": ("step [SGD steps]", data.level_label)})


def _middle(found: _phases.Plane, regime: str) -> tuple[int, int] | None:
    """Point of a regime nearest to the mean of all of its points; None where there is none."""
    number = REGIMES.index(regime)
    places = [place for place, one in found.outcomes.items() if one.common_regime == number]
    if not places:
        return None
    centre = np.mean(places, axis=0)
    return min(places, key=lambda place: (float(np.square(place - centre).sum()), place))
