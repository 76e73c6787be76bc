"""Levels of single replicas of Dyson Brownian motion against time: they repel, and never cross."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
)
from dysonflow.statistics.coulomb_gas import hermite_zeros

PANELS = 4


def draw(data: StudyData) -> Drawing:
    """Draw the first replica of up to four runs, one panel each, on one axis of levels."""
    runs: Sequence[Any] = data.representative(PANELS)
    numbers, closest = [], []
    with data.page.look():
        figure = data.page.figure(7.2, 1.9 * len(runs) + 0.9)
        panels = figure.subplots(len(runs), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for panel, run in zip(panels, runs, strict=True):
            levels, time = data.levels(run)[0], data.steps(run) * run.time_step
            for i, colour in enumerate(colours(levels.shape[1])):
                panel.plot(time, levels[:, i], color=colour, lw=0.8)
                numbers.append(curve(run.name, f"level {i}", time, levels[:, i]))
            if run.fitted and run.confinement > 0:
                rest = hermite_zeros(run.size) / np.sqrt(run.confinement)
                for number, place in enumerate(rest):
                    text = r"zero of $H_n$ over $\sqrt{\theta}$" if number == 0 else None
                    panel.axhline(place, color="black", lw=0.7, ls="--", zorder=0, label=text)
                numbers.append(curve(run.name, "hermite zeros", time[-1], rest))
            panel.set_title(name_of(run), loc="left")
            panel.set_ylabel(data.level_label)
            # Levels may begin as one.
            gaps = np.diff(levels[time > 0], axis=1)
            if gaps.size:
                closest.append(f"{gaps.min():.2g} at beta = {run.beta}")
        panels[-1].set_xlabel("time $t$")
        panels[-1].set_xlim(time[0], time[-1])
        handles, labels = panels[0].get_legend_handles_labels()
        if handles:
            legend_above(figure, handles, labels, columns=1)
    caption = (
        f"Levels of the first replica of study {data.title} against time, steps times time_step. "
        "Dashed: where they rest at beta = infinity. Smallest gap of the snapshots after the "
        f"start: {', '.join(closest)}."
    )
    return Drawing(figure, caption, numbers, {"": ("time t", data.level_label)})
