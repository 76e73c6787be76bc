"""Singular values of all layers over training."""

import numpy as np

from dysonflow.analysis.spectra import read_eigenvalues
from dysonflow.report.figures._layers import left_out, some_of
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    spread,
    told_apart,
)

MOST_RUNS = 3
"""Runs that are shown side by side, one less in a column."""
MOST_LAYERS = 12
"""Layers that are shown one above the other: of more, that many through the network."""


def draw(data: StudyData) -> Drawing:
    """Draw a row of panels for each layer, a column for each of some runs."""
    # Layers may differ between runs: those of the first are shown.
    layers = data.runs[0].layers()
    drawn = some_of(list(layers), MOST_LAYERS)
    among = [run for run in data.runs if run.layers() == layers]
    runs = data.representative(MOST_RUNS - data.page.is_column, among)
    names = dict(zip((run.name for run in data.runs), told_apart(data.runs), strict=True))
    numbers, axes = [], {}
    with data.page.look():
        rows, columns = len(drawn), len(runs)
        figure = data.page.figure(1.2 + 3.2 * columns, 0.6 + 2.1 * rows, 0.4 + 1.5 * rows)
        panels = figure.subplots(rows, columns, squeeze=False, sharex="col", sharey="row")
        for column, run in enumerate(runs):
            text = ", ".join(names[run.name])
            for row, layer in enumerate(drawn):
                shape = layers[layer]
                panel = panels[row, column]
                values, steps = read_eigenvalues(data.file("spectra", run), layer)
                levels = np.sqrt(np.clip(values[..., -min(shape) :], 0.0, None))
                mean, width = levels.mean(axis=0), spread(levels)
                for i, colour in enumerate(colours(levels.shape[-1])):
                    below, above = mean[:, i] - width[:, i], mean[:, i] + width[:, i]
                    panel.fill_between(steps, below, above, color=colour, alpha=0.2, lw=0)
                    panel.plot(steps, mean[:, i], color=colour, lw=1.0)
                    name = f"singular value {i}"
                    where = f"{layer} of {run.name}"
                    numbers.append(curve(where, name, steps, mean[:, i], spread=width[:, i]))
                label = f"{layer} ({shape[0]}x{shape[1]})"
                axes[f"{layer} of {run.name}"] = ("step [SGD steps]", f"singular value of {layer}")
                if column == 0:
                    panel.set_ylabel(f"singular values\n{label}")
                if row == 0:
                    panel.set_title(text.replace(", ", "\n"), loc="left")
                if row == rows - 1:
                    panel.set_xlabel("SGD step")
                panel.margins(x=0)
    which = f", of {len(runs)} of {len(data.runs)} runs" if len(data.runs) > 1 else ""
    caption = (
        f"Singular values of all layers of study ``{data.name}`` over training, in ascending "
        f"order{which}. Line: mean over replicas; band: their "
        "standard deviation, which holds the noise and where each start led to."
        f"{left_out(drawn, layers)}"
    )
    return Drawing(figure, caption, numbers, axes, shows_all_layers=True)
