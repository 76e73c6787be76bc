"""Maps over initial width and a/B: loss, gradient, overlap with the teacher, singular values."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize

from dysonflow.report.figures import _phases
from dysonflow.report.figures._study import Drawing, StudyData

PANELS = (
    ("loss", "loss", True),
    ("gradient_norm", "length of the gradient", True),
    ("overlap", "overlap of weights with the teacher", False),
    ("hidden_overlap", "overlap of hidden units", False),
    ("largest", "largest singular value", True),
    ("smallest", "smallest singular value", True),
)
"""Attribute of the outcomes, title, whether the scale is logarithmic."""
LOWEST = 1e-12
"""Smallest value on a logarithmic scale, over the largest."""


def draw(data: StudyData) -> Drawing:
    """Draw the median over replicas of each quantity at the last snapshot."""
    found = _phases.plane(data)
    numbers = []
    with data.page.look():
        rows, columns = (6, 1) if data.page.is_column else (2, 3)
        figure = data.page.figure(10.5, 6.2, 14.0)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, (name, title, is_log) in zip(panels, PANELS, strict=True):
            values = found.medians(name)
            mesh = panel.pcolormesh(
                _phases.edges(found.widths),
                _phases.edges(found.rates),
                values,
                norm=_norm(values, is_log),
                cmap="viridis",
            )
            figure.colorbar(mesh, ax=panel)
            panel.set_title(title, loc="left")
            _phases.prepare(panel, found)
            numbers += [
                pd.DataFrame(
                    {
                        "panel": name,
                        "curve": f"a/B = {rate:g}",
                        "x": [width],
                        "y": [np.median(getattr(one, name))],
                        "y_error": [_phases.median_error(getattr(one, name))],
                    }
                )
                for width, rate, one in _phases.flat(found)
            ]
    replicas = len(next(iter(found.outcomes.values())).loss)
    steps = max(int(run.steps) for run in data.runs)
    caption = (
        f"Students of study {data.title} after {steps:g} SGD steps, over the width of their start "
        f"and a/B: medians over {replicas} replicas. Loss and gradient are those of test inputs; "
        "overlaps are cosines, of the weights W with the teacher's and of the hidden units "
        "f(W phi) with the teacher's; singular values are those of W. Errors are in the table of "
        "numbers, from a bootstrap over replicas."
    )
    axes = {name: ("initial width", title) for name, title, _ in PANELS}
    return Drawing(figure, caption, numbers, axes | {"": ("initial width", "value")})


def _norm(values: np.ndarray, is_log: bool) -> Normalize:
    largest = float(np.nanmax(values))
    if is_log and largest > 0:
        smallest = max(float(np.nanmin(values)), LOWEST * largest)
        return LogNorm(smallest, largest if largest > smallest else 2 * smallest)
    return Normalize(min(float(np.nanmin(values)), 0.0), max(largest, 1e-3))
