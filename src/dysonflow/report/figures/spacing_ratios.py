"""Ratios of neighbouring spacings over training, beside the start as a control."""

import math
import warnings
from dataclasses import replace

import numpy as np

from dysonflow.analysis.spectra import read_eigenvalues
from dysonflow.report.figures._layers import left_out, some_of
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    nothing_fitted,
    told_apart,
)
from dysonflow.statistics.spacings import FEWEST_LEVELS, GOE, POISSON, gap_ratios

MOST_RUNS = 4
"""Runs that can be told apart."""
MOST_LAYERS = 24
"""Layers with a panel: of more, that many through the network; the numbers are those of all."""
COLUMNS = 3
"""Panels side by side."""


def draw(data: StudyData) -> Drawing:
    """Draw the mean ratio of each snapshot with its error over replicas, a panel for each layer."""
    layers = data.runs[0].layers()
    runs = data.representative(MOST_RUNS, [run for run in data.runs if run.layers() == layers])
    names = [", ".join(name) or run.MODEL for run, name in zip(runs, told_apart(runs), strict=True)]
    shown = [layer for layer, shape in layers.items() if min(shape) >= FEWEST_LEVELS]
    if not shown:
        what = f"ratio of spacings, for which {FEWEST_LEVELS} levels are needed,"
        return replace(nothing_fitted(data, what), shows_all_layers=True)
    numbers = []
    changes: dict[str, list[float]] = {name: [] for name in names}
    drawn = some_of(shown, MOST_LAYERS)
    columns = 1 if data.page.is_column else min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    with data.page.look():
        figure = data.page.figure(1.0 + 2.4 * columns, 0.9 + 1.9 * rows, 0.6 + 1.4 * rows)
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        panel_of = dict(zip(drawn, panels.flat, strict=False))
        for layer in shown:
            for run, name, colour in zip(runs, names, colours(len(runs)), strict=True):
                values, steps = read_eigenvalues(data.file("spectra", run), layer)
                levels = np.sqrt(np.clip(values[..., -min(layers[layer]) :], 0.0, None))
                mean, error = mean_ratios(levels)
                if layer in panel_of:
                    look = {"color": colour, "fmt": "o", "ms": 2.5, "lw": 0.8, "label": name}
                    panel_of[layer].errorbar(steps, mean, error, **look)
                numbers.append(curve(layer, name, steps, mean, y_error=error))
                change = mean[-1] - mean[0]
                changes[name].append(change / max(math.hypot(error[-1], error[0]), 1e-300))
        for layer, panel in panel_of.items():
            for value, label, style in ((GOE, "GOE", "--"), (POISSON, "independent levels", ":")):
                panel.axhline(value, color="black", ls=style, lw=0.9, label=label)
            panel.set_title(layer, loc="left")
        for panel in panels.flat[len(drawn) :]:
            panel.set_axis_off()
        figure.supxlabel("SGD step", fontsize="medium")
        figure.supylabel(
            r"mean ratio $\langle r \rangle$ of neighbouring spacings", fontsize="medium"
        )
        handles, labels = panels[0, 0].get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=2)
    words = [
        f"{name}: {min(found):+.1f} to {max(found):+.1f} errors, chi2 "
        f"{sum(x * x for x in found):.1f} for {len(found)} layers."
        for name, found in changes.items()
        if found
    ]
    caption = (
        f"Ratio of neighbouring spacings of the singular values of study ``{data.name}``, mean "
        "over the levels of a layer, with its error from the spread of replicas. A random start "
        "has the ratio of random matrices already, so that only a change says anything of "
        f"training. From the first to the last snapshot it changes by: {' '.join(words)}"
        f"{left_out(drawn, shown)}"
    )
    axes = {"": ("step [SGD steps]", "mean ratio of neighbouring spacings")}
    return Drawing(figure, caption, numbers, axes, shows_all_layers=True)


def mean_ratios(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ratio of each snapshot and its error.

    Parameters
    ----------
    values : np.ndarray
        Ascending levels, shape (replica, snapshot, level).

    Returns
    -------
    mean, error : np.ndarray
        Shape (snapshot,). The error is that of the mean over replicas, from their variance averaged
        over the snapshots: few replicas alone would not tell it. Of a single replica it is that of
        the ratios of its levels, whose correlation is left aside.
    """
    ratios = gap_ratios(values)
    # None of levels that are all the same.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|Degrees of freedom")
        return _mean_and_error(ratios)


def _mean_and_error(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    each = np.nanmean(ratios, axis=2)
    if len(ratios) > 1:
        variance = each.var(axis=0, ddof=1).mean() / len(each)
        return each.mean(axis=0), np.full(each.shape[1], math.sqrt(variance))
    error = np.nanstd(ratios[0], axis=1, ddof=1) / math.sqrt(ratios.shape[2])
    return each[0], error
