"""Density of the levels over the centres that theory predicts, for three strengths of noise."""

import math

import numpy as np

from dysonflow.hyperparameters import FEWEST_REPLICAS, Hyperparameters
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    density,
    name_of,
)

BINS = 160
"""Over the whole range, where there is nothing narrow."""
BINS_OF_A_PEAK = 8
"""Fewest across the two standard deviations to either side of a level."""
FEWEST_BINS, MOST_BINS = 8, 500
"""Of equal width."""
PANELS = 3


def draw(data: StudyData, over: str | None = None, axis: str = "level") -> Drawing:
    """Draw the densities one above the other, on one axis.

    Parameters
    ----------
    data : StudyData
        The study.
    over : str, optional
        Draw smallest, middle and largest value of this hyperparameter among runs that differ in
        nothing else; by default the weakest, a middle and the strongest noise.
    axis : str
        `level`, or `eigenvalue` for those of X = W^T W.
    """
    runs = data.representative(PANELS) if over is None else _three(data.swept(over))
    is_level = axis == "level"
    values = [data.levels(run) if is_level else data.eigenvalues(run) for run in runs]
    predicted = bool(data.blocks(runs[0]))
    # Of a wide matrix they would dwarf all else.
    zeros = [0 if predicted else _zeros(data, run) for run in runs]
    values = [x[..., none:] for x, none in zip(values, zeros, strict=True)]
    low, high = min(x.min() for x in values), max(x.max() for x in values)
    margin = 0.02 * (high - low)
    # No eigenvalue of W^T W is negative, nor is an edge of a bin.
    ends = (low - margin if is_level else max(low - margin, 0.0), high + margin)
    label = data.level_label if is_level else r"eigenvalue $x$ of $W^T W$"
    numbers = []
    lines = (
        f"Black: theory of each point, no free parameter. Dashed: {data.physics.centre_meaning}. "
        if predicted
        else ""
    )
    with data.page.look():
        figure = data.page.figure(6.5, 1.7 * len(runs) + 0.9)
        panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
        for panel, run, x, colour in zip(panels, runs, values, colours(len(runs)), strict=True):
            *samples, levels = x.shape
            is_one_density = math.prod(samples) < FEWEST_REPLICAS <= levels and not predicted
            edges = even_bins(x, *ends) if is_one_density else bins(x, *ends)
            middle = 0.5 * (edges[1:] + edges[:-1])
            sides = {"x_low": edges[:-1], "x_high": edges[1:]}
            height, error = (part * x.shape[-1] for part in density(x, edges))
            panel.stairs(height, edges, color=colour, fill=True, alpha=0.35)
            panel.stairs(height, edges, color=colour)
            panel.errorbar(middle, height, error, fmt="none", ecolor=colour, elinewidth=0.7)
            if data.blocks(run):
                theory = _expected(data, run, edges, is_level) / np.diff(edges)
                panel.plot(
                    middle, theory, color="black", lw=1.0, label="theory (no free parameter)"
                )
                numbers.append(curve(run.name, "theory", middle, theory, **sides))
            centres = np.array([block.centre_block for block in data.blocks(run)])
            if not is_level and len(centres):
                centres = data.physics.eigenvalues(run, data.layer, centres)
            for number, centre in enumerate(centres):
                text = data.physics.centre_meaning if number == 0 else None
                panel.axvline(centre, color="black", lw=0.8, ls="--", label=text, zorder=0)
            panel.set_title(name_of(run), loc="left")
            panel.set_ylabel("levels per unit")
            panel.set_ylim(bottom=0.0)
            numbers += [
                curve(run.name, "density", middle, height, y_error=error, **sides),
                curve(run.name, "centre_theory", centres, np.nan),
            ]
        panels[-1].set_xlabel(label)
        if predicted:
            handles, labels = panels[0].get_legend_handles_labels()
            legend_above(figure, handles, labels, 2)
    caption = (
        f"Density of the {'levels' if is_level else 'eigenvalues of X = W^T W'} "
        f"({data.level_name}) of study {data.title}, from {values[0].shape[0]} replica(s) "
        f"with {values[0].shape[1]} snapshot(s) each. {lines}Error bars: standard error over "
        "replicas."
    )
    if any(zeros):
        caption += " Levels that are zero because W has more columns than rows are not shown."
    return Drawing(figure, caption, numbers, {"": (label, "levels per unit")})


def _zeros(data: StudyData, run: Hyperparameters) -> int:
    """Eigenvalues of W^T W of a run that are zero whatever the weights are."""
    rows, columns = run.layers()[data.layer]
    return max(columns - rows, 0) if run.eigenvalues_of == "gram" else 0


def bins(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Edges of bins that are narrow where levels lie close, and wide elsewhere.

    Parameters
    ----------
    values : np.ndarray
        Ascending levels, shape (replica, snapshot, level).
    low, high : float
        Ends of the range.

    Returns
    -------
    np.ndarray
        Ascending, shape (bins + 1,): no bin is wider than the range over `BINS`, and
        `BINS_OF_A_PEAK` lie between two standard deviations below and above the mean of any level.
    """
    flat = values.reshape(-1, values.shape[-1])
    centre, width = flat.mean(axis=0), flat.std(axis=0)
    # A level that does not fluctuate has no width to be divided.
    centre, width = centre[width > 0], width[width > 0]
    coarse, fine = (high - low) / BINS, 4.0 * width / BINS_OF_A_PEAK
    edges = [low]
    # Sums of many bins end a little beside the end.
    while edges[-1] < high - 1e-6 * coarse:
        x = edges[-1]
        start, end = centre - 4.0 * width - x, centre + 4.0 * width - x
        within, ahead = (start <= 0) & (end > 0), start > 0
        # A wide bin must not end in the midst of a peak, nor be a sliver before it.
        widest = [fine[within], np.maximum(start, fine)[ahead], [coarse]]
        edges.append(x + np.concatenate(widest).min())
    return np.array(edges)


def even_bins(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Edges of equal bins, where levels are many, and values of each too few to tell its width.

    Of the width of Freedman and Diaconis (1981), 2 IQR / n^(1/3), for all levels together.
    """
    quarter, most = np.quantile(values, [0.25, 0.75])
    width = 2.0 * (most - quarter) / values.size ** (1 / 3)
    count = np.ceil((high - low) / width) if width > 0 else BINS
    return np.linspace(low, high, int(np.clip(count, FEWEST_BINS, MOST_BINS)) + 1)


def _three(runs: list) -> list:
    """First, middle and last of a list, as far as there are so many."""
    chosen = sorted({0, (len(runs) - 1) // 2, len(runs) - 1})
    return [runs[i] for i in chosen]


def _expected(data: StudyData, run: object, edges: np.ndarray, is_level: bool) -> np.ndarray:
    """Levels per bin in theory; bins of eigenvalues are taken to the levels and back."""
    if is_level:
        return data.physics.expected_levels(run, data.layer, edges)
    bins = data.physics.levels(run, data.layer, edges)
    expected = data.physics.expected_levels(run, data.layer, bins)
    # Levels come out ascending; if they fall with the eigenvalue, so do the bins.
    ends = data.physics.eigenvalues(run, data.layer, bins[[0, -1]])
    return expected if ends[0] < ends[1] else expected[::-1]
