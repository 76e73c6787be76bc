"""The largest eigenvalues by their rank, with the power law that was fitted to them."""

import math

import numpy as np

from dysonflow.report.figures._bulk import BulkData, short
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve

LAYERS = 6
AXES = (r"eigenvalue $x$ of $W^T W$", "part of the levels above")


def draw(data: StudyData) -> Drawing:
    """Draw a panel for each of the layers with the strongest signals."""
    bulk = BulkData(data)
    layers = bulk.strongest(LAYERS)
    columns = 1 if data.page.is_column else min(3, max(len(layers), 1))
    rows = math.ceil(len(layers) / columns)
    tone, accent = colours(3)[0], "tab:red"
    numbers = []
    with data.page.look():
        figure = data.page.figure(3.0 * columns + 0.4, 2.6 * rows + 0.7, 1.9 * rows + 0.7)
        panels = figure.subplots(rows, columns, squeeze=False)
        for panel, layer in zip(panels.flat, layers, strict=False):
            row = bulk.row(layer)
            x = bulk.eigenvalues(layer)[-1]
            x = x[x > 1e-6 * x[-1]]
            above = 1.0 - (np.arange(len(x)) + 0.5) / len(x)
            panel.loglog(x, above, ".", color=tone, ms=3, label="levels")
            numbers.append(curve(layer, "levels", x, above))
            start = row["tail_start"]
            if np.isfinite(start):
                grid = np.geomspace(start, x[-1], 50)
                height = row["tail_levels"] / len(x)
                law = height * (grid / start) ** (1.0 - row["tail_exponent"])
                panel.plot(grid, law, color=accent, label="power law, fitted range")
                numbers.append(curve(layer, "power law", grid, law))
                panel.axvline(start, color="grey", ls=":", lw=0.8, label="where it begins")
                text = (
                    rf"$\alpha = {row['tail_exponent']:.2f} \pm {row['tail_exponent_error']:.2f}$"
                )
                # Over the lines that it would be crossed by.
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
                panel.text(0.05, 0.06, text, transform=panel.transAxes, bbox=box)
            if np.isfinite(row["upper_edge"]):
                edge = row["upper_edge"]
                panel.axvline(edge, color="grey", ls="--", lw=0.8, label="edge of the bulk")
            panel.set_title(short(layer), loc="left", fontsize=7)
            panel.set_ylabel(AXES[1])
        for panel in panels.flat[len(layers) :]:
            panel.set_visible(False)
        for column in range(columns):
            [one for one in panels[:, column] if one.get_visible()][-1].set_xlabel(AXES[0])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        legend_above(figure, handles, labels, 4)
    caption = (
        f"Part of the levels above an eigenvalue, at SGD step {bulk.steps[-1]}, and the power law "
        "of the tail, whose start is where its Kolmogorov-Smirnov distance is smallest: "
        f"{bulk.title(layers)}. The exponent is that of the density. A line that begins within the "
        "bulk describes the edge of the bulk, not a tail."
    )
    return Drawing(figure, caption, numbers, {"": AXES}, shows_all_layers=True)
