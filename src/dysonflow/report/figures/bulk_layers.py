"""All layers over training: edges of the bulk and the largest singular values against the step."""

import math

import numpy as np

from dysonflow.analysis.bulk import BULK_LEVEL, MOST_OUTSIDE
from dysonflow.report.figures._bulk import BulkData, short
from dysonflow.report.figures._page import legend_above, plain_ticks
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve

LAYERS, LAYERS_OF_A_COLUMN = 24, 12
FAR = 4.0
"""Largest singular value over the edge from which on a panel is logarithmic."""
LARGEST = 6
"""Singular values that are drawn."""
AXES = ("SGD step", "singular value of $W$")


def draw(data: StudyData) -> Drawing:
    """Draw a small panel for each layer."""
    bulk = BulkData(data)
    layers = bulk.strongest(LAYERS_OF_A_COLUMN if data.page.is_column else LAYERS)
    columns = 2 if data.page.is_column else min(4, max(len(layers), 1))
    rows = math.ceil(len(layers) / columns)
    numbers = []
    tone, inside = colours(3)[1], colours(3)[0]
    with data.page.look():
        figure = data.page.figure(2.5 * columns + 0.4, 1.9 * rows + 0.8, 1.3 * rows + 0.8)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for panel, layer in zip(panels.flat, layers, strict=False):
            table = bulk.table[bulk.table["layer"] == layer].sort_values("step")
            step = table["step"].to_numpy()
            low, high = (np.sqrt(table[f"{side}_edge"].to_numpy()) for side in ("lower", "upper"))
            largest = np.sqrt(bulk.eigenvalues(layer)[:, ::-1][:, :LARGEST])
            look = {"marker": "." if len(step) < 30 else None}
            sure = ~bulk.doubtful[table.index].to_numpy()
            band = {"color": inside, "lw": 0}
            panel.fill_between(step, low, high, alpha=0.08, label="hardly a bulk", **band)
            panel.fill_between(step, low, high, where=sure, alpha=0.2, label="bulk", **band)
            for k, values in enumerate(largest.T):
                label = f"largest {LARGEST}" if k == 0 else None
                panel.plot(step, values, color=tone, lw=0.9, ms=3, label=label, **look)
                numbers.append(curve(layer, f"singular value {k}", step, values))
            numbers += [
                curve(layer, "lower edge", step, low),
                curve(layer, "upper edge", step, high),
            ]
            panel.set_title(short(layer), loc="left", fontsize=7)
            if np.nanmax(largest) > FAR * np.nanmax(high):
                # A bulk below values far over it would be but a line.
                panel.set_yscale("log")
                panel.set_ylim(bottom=0.1 * np.nanmin(high))
                plain_ticks(panel.yaxis, (1.0, 3.0), 4)
            else:
                panel.set_ylim(bottom=0.0)
        for panel in panels.flat[len(layers) :]:
            panel.set_visible(False)
        for column in range(columns):
            bottom = [one for one in panels[:, column] if one.get_visible()][-1]
            bottom.set_xlabel(AXES[0])
            bottom.tick_params(labelbottom=True)
        figure.supylabel(AXES[1])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        legend_above(figure, handles, labels, 3)
    caption = (
        f"Largest singular values and the bulk between its edges ({bulk.scale} scale) against the "
        f"step: {bulk.title(layers)}. Pale: hardly a bulk at one of the two snapshots, by the test "
        f"of the law (p-value below {BULK_LEVEL:g}) or with over {MOST_OUTSIDE:.0%} of the levels "
        "outside."
    )
    return Drawing(figure, caption, numbers, {"": AXES}, shows_all_layers=True)
