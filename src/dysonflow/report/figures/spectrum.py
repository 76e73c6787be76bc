"""Density of the levels over the centres that theory predicts, for three strengths of noise."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from dysonflow.report.figures._study import (
    STYLE,
    Drawing,
    StudyData,
    colours,
    curve,
    density,
    name_of,
)

BINS = 160
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
    low, high = min(x.min() for x in values), max(x.max() for x in values)
    margin = 0.02 * (high - low)
    edges = np.linspace(low - margin, high + margin, BINS + 1)
    if not is_level:
        # No eigenvalue of W^T W is negative, nor is an edge of a bin.
        edges = np.linspace(max(low - margin, 0.0), high + margin, BINS + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])
    label = data.level_label if is_level else r"eigenvalue $x$ of $W^T W$"
    numbers = []
    predicted = bool(data.blocks(runs[0]))
    lines = (
        f"Black: theory of each point, no free parameter. Dashed: {data.physics.centre_meaning}. "
        if predicted
        else ""
    )
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(6.5, 1.7 * len(runs) + 0.9))
        panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
        for panel, run, x, colour in zip(panels, runs, values, colours(len(runs)), strict=True):
            height, error = (part * x.shape[-1] for part in density(x, edges))
            panel.stairs(height, edges, color=colour, fill=True, alpha=0.35)
            panel.stairs(height, edges, color=colour)
            panel.errorbar(middle, height, error, fmt="none", ecolor=colour, elinewidth=0.7)
            if data.blocks(run):
                theory = _expected(data, run, edges, is_level) / np.diff(edges)
                panel.plot(
                    middle, theory, color="black", lw=1.0, label="theory (no free parameter)"
                )
                numbers.append(curve(run.name, "theory", middle, theory))
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
                curve(run.name, "density", middle, height, y_error=error),
                curve(run.name, "centre_theory", centres, np.nan),
            ]
        panels[-1].set_xlabel(label)
        if predicted:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=2)
    caption = (
        f"Density of the {'levels' if is_level else 'eigenvalues of X = W^T W'} "
        f"({data.level_name}) of study {data.title}, from {values[0].shape[0]} replica(s) "
        f"with {values[0].shape[1]} snapshot(s) each. {lines}Error bars: standard error over "
        "replicas."
    )
    return Drawing(figure, caption, numbers)


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
