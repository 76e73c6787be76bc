"""Drift against noise of the singular values at the end, with the line where both are equal."""

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D

from dysonflow.report.figures import _phases
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData

BOOTSTRAPS = 40
"""Contours of resampled replicas that are drawn."""


def draw(data: StudyData) -> Drawing:
    """Draw the median of drift over noise, and its contour for resampled replicas."""
    found = _phases.plane(data)
    # No drift at all, of a replica whose units are saturated, is far below any scale of interest.
    ratio = {place: np.log2(np.maximum(one.signal, 2.0**-20)) for place, one in found.outcomes.items()}
    numbers = [
        pd.DataFrame(
            {
                "panel": "drift over noise",
                "curve": f"a/B = {found.rates[place[0]]:g}",
                "x": [found.widths[place[1]]],
                "y": [2.0 ** _phases.median(ratio[place])],
                "y_error": [_phases.median_error(found.outcomes[place].signal)],
            }
        )
        for place in sorted(ratio)
    ]
    with data.page.look():
        figure = data.page.figure(6.4, 4.6, 3.6)
        panel = figure.subplots()
        values = _medians(found, ratio)
        span = max(1.0, float(np.nanmax(np.abs(values))))
        mesh = panel.pcolormesh(
            _phases.edges(found.widths),
            _phases.edges(found.rates),
            values,
            norm=TwoSlopeNorm(0.0, -span, span),
            cmap="RdBu",
        )
        figure.colorbar(mesh, ax=panel, label=r"$\log_2$ (drift / noise) of one SGD step")
        rng = np.random.default_rng(0)
        drawn = 0
        for number in range(BOOTSTRAPS + 1):
            chosen = {
                place: one if number == 0 else one[rng.integers(len(one), size=len(one))]
                for place, one in ratio.items()
            }
            drawn += _contour(panel, found, _medians(found, chosen), number == 0)
        _phases.prepare(panel, found)
        if drawn:
            lines = [Line2D([], [], color="black"), Line2D([], [], color="grey", lw=0.5)]
            legend_above(figure, lines, ["drift = noise", "resampled replicas"], 2)
    replicas = len(next(iter(ratio.values())))
    batch = data.runs[0].batch_size
    caption = (
        f"Drift over noise of the singular values of study {data.title} in one SGD step at the "
        "last snapshot: root mean squares over the levels of the step by the mean gradient, and of "
        f"the standard deviation over batches of {batch} samples, from the gradients of single test "
        f"inputs; medians over {replicas} replicas. Lines: where both are equal, black, and the same "
        f"for {BOOTSTRAPS} resamplings of the replicas, grey."
    )
    axes = {"": ("initial width", "drift over noise of one SGD step")}
    return Drawing(figure, caption, numbers, axes)


def _medians(found: _phases.Plane, values: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Median at every point, shape (rates, widths)."""
    medians = np.full((len(found.rates), len(found.widths)), np.nan)
    for place, one in values.items():
        medians[place] = np.median(one)
    return medians


def _contour(panel: object, found: _phases.Plane, values: np.ndarray, is_main: bool) -> int:
    """Draw where the logarithm is 0; returns whether there is such a line."""
    if min(values.shape) < 2 or not np.nanmin(values) < 0.0 < np.nanmax(values):
        return 0
    look = {"colors": "black", "linewidths": 1.4} if is_main else {"colors": "grey"}
    panel.contour(  # type: ignore[attr-defined]
        np.log2(found.widths),
        np.log2(found.rates),
        values,
        levels=[0.0],
        zorder=2 if is_main else 1.5,
        **({"linewidths": 0.5, "alpha": 0.6} if not is_main else {}),
        **look,
    )
    return 1
