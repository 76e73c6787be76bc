"""Density of the levels over the centres that theory predicts, for three strengths of noise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from dysonflow.figures._study import STYLE, Drawing, StudyData, colours, curve, density, name_of

BINS = 160


def draw(data: StudyData) -> Drawing:
    """Draw the densities one above the other, on one axis of levels."""
    runs = data.representative(3)
    levels = [data.levels(run) for run in runs]
    low, high = min(x.min() for x in levels), max(x.max() for x in levels)
    margin = 0.02 * (high - low)
    edges = np.linspace(low - margin, high + margin, BINS + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    numbers = []
    predicted = bool(data.blocks(runs[0]))
    dashed = "Dashed: the centres that theory predicts. " if predicted else ""
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(6.5, 1.7 * len(runs) + 0.6))
        panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
        for panel, run, values, colour in zip(
            panels, runs, levels, colours(len(runs)), strict=True
        ):
            height, error = (part * values.shape[-1] for part in density(values, edges))
            panel.stairs(height, edges, color=colour, fill=True, alpha=0.35)
            panel.stairs(height, edges, color=colour)
            panel.errorbar(middle, height, error, fmt="none", ecolor=colour, elinewidth=0.7)
            centres = [block.centre_block for block in data.blocks(run)]
            for number, centre in enumerate(centres):
                label = r"theory centre $\kappa$ (no free parameter)" if number == 0 else None
                panel.axvline(centre, color="black", lw=0.8, ls="--", label=label, zorder=0)
            panel.set_title(name_of(run), loc="left")
            panel.set_ylabel("levels per unit")
            numbers += [
                curve(run.run, "density", middle, height, y_error=error),
                curve(run.run, "centre_theory", centres, np.nan),
            ]
        if predicted:
            panels[0].legend(loc="upper right", bbox_to_anchor=(1.0, 1.25))
        panels[-1].set_xlabel(data.physics.LEVEL)
    caption = (
        f"Density of the levels ({data.physics.QUANTITY}) of study ``{data.name}`` at "
        f"{len(runs)} strength(s) of the noise, weakest on top, from "
        f"{levels[0].shape[0]} replica(s) with {levels[0].shape[1]} snapshot(s) each. {dashed}"
        "Error bars: standard error over replicas."
    )
    return Drawing(figure, caption, numbers)
