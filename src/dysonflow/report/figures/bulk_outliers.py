"""Levels above the bulk against the step: how many, and how strong the strongest signal is."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from dysonflow.report.figures._bulk import BulkData, short
from dysonflow.report.figures._page import legend_above, plain_ticks
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve

LAYERS = 8
AXES = {
    "count": ("SGD step", "levels above the bulk"),
    "strength": ("SGD step", "strength of the signal / threshold"),
}


def draw(data: StudyData) -> Drawing:
    """Draw counts and strengths of the layers with the strongest signals."""
    bulk = BulkData(data)
    layers = bulk.strongest(LAYERS)
    numbers = []
    with data.page.look():
        figure = data.page.figure(8.4, 3.9, 5.2)
        shape = (2, 1) if data.page.is_column else (1, 2)
        left, right = figure.subplots(*shape, sharex=True)
        for layer, colour in zip(layers, colours(len(layers)), strict=True):
            table = bulk.table[bulk.table["layer"] == layer].sort_values("step")
            step, count = table["step"].to_numpy(), table["outliers_above"].to_numpy()
            ratio = (table["strength"] / table["threshold"]).to_numpy()
            error = (table["strength_error"] / table["threshold"]).to_numpy()
            left.plot(step, count, ".-", color=colour, label=short(layer))
            right.errorbar(step, ratio, error, fmt=".-", color=colour, elinewidth=0.8)
            numbers += [
                curve("count", layer, step, count),
                curve("strength", layer, step, ratio, y_error=error),
            ]
        right.axhline(1.0, color="grey", ls="--", lw=0.8)
        if np.isfinite((bulk.table["strength"] / bulk.table["threshold"]).max()):
            right.set_yscale("log")
            plain_ticks(right.yaxis, (1.0, 2.0, 5.0))
        left.yaxis.set_major_locator(MaxNLocator(integer=True))
        left.set_ylim(bottom=0.0)
        left.set_xlabel("" if data.page.is_column else AXES["count"][0])
        right.set_xlabel(AXES["strength"][0])
        left.set_ylabel(AXES["count"][1])
        right.set_ylabel(AXES["strength"][1])
        handles, labels = left.get_legend_handles_labels()
        legend_above(figure, handles, labels, 4)
    caption = (
        "Number of levels above the bulk (Tracy-Widom test at finite size, 1 % for each matrix), "
        "and strength of the strongest signal behind them over the threshold below which none "
        f"would be seen: {bulk.title(layers)}. Error bars: Gaussian noise, generic directions."
    )
    return Drawing(figure, caption, numbers, AXES, shows_all_layers=True)
