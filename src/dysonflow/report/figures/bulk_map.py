"""A column of the bulk for all layers and steps at once."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from dysonflow.report.figures._bulk import BulkData, short
from dysonflow.report.figures._study import Drawing, StudyData, curve

COUNTED = ("zeros", "outliers_above", "outliers_below")
"""Columns of whole numbers."""
LABELLED = 50
"""Layers whose names are all written; of more, every second or third one."""


def draw(data: StudyData, column: str = "outliers_above") -> Drawing:
    """Draw a map with a row for each layer and a column for each snapshot."""
    bulk = BulkData(data)
    layers, steps = bulk.layers, bulk.steps
    values = np.full((len(layers), len(steps)), np.nan)
    for _, row in bulk.table.iterrows():
        place = layers.index(row["layer"]), int(np.searchsorted(steps, row["step"]))
        values[place] = np.nan if row[column] is None else float(row[column])
    shown, label = values, column.replace("_", " ")
    if "p_value" in column:
        # Smaller ones are as good as impossible.
        shown, label = np.log10(np.maximum(values, 1e-16)), f"log10 of the {label}"
    axes = ("SGD step", label)
    with data.page.look():
        height = min(0.17 * len(layers) + 1.5, 11.0)
        figure = data.page.figure(7.0, max(height, 2.6), max(height, 2.6))
        panel = figure.subplots()
        edges = _edges(steps)
        mesh = panel.pcolormesh(edges, np.arange(len(layers) + 1), shown, cmap="viridis")
        every = -(-len(layers) // LABELLED)
        names = [short(layer) for layer in layers][::every]
        panel.set_yticks(np.arange(len(layers))[::every] + 0.5, names, fontsize=6)
        panel.invert_yaxis()
        panel.set_xlabel(axes[0])
        if len(steps) <= 8:
            panel.set_xticks(0.5 * (edges[1:] + edges[:-1]), [f"{step}" for step in steps])
        ticks = MaxNLocator(integer=True) if column in COUNTED else None
        figure.colorbar(mesh, ax=panel, label=label, ticks=ticks)
    numbers = [curve(layer, column, steps, one) for layer, one in zip(layers, values, strict=True)]
    caption = f"Column ``{column}`` of the bulk for every layer and step: {bulk.title()}."
    return Drawing(figure, caption, numbers, {"": (axes[0], column)}, shows_all_layers=True)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Edges of the columns: half way between the steps; of equal width where the steps are few."""
    if len(steps) <= 8:
        return np.arange(len(steps) + 1.0)
    middle = 0.5 * (steps[1:] + steps[:-1])
    return np.concatenate([[2 * steps[0] - middle[0]], middle, [2 * steps[-1] - middle[-1]]])
