"""Correlation of the pairs of degenerate levels at two times, beside theory."""

import numpy as np

from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
    nothing_fitted,
)
from dysonflow.statistics.two_time import autocorrelation, gap_autocorrelation

LAGS = 8
"""Lags that are compared, evenly spaced in their logarithm."""
RELAXATION_TIMES = 3.0
"""The largest of them, in relaxation times."""


def draw(data: StudyData) -> Drawing:
    """Draw mean and gap of every pair of the first run against time."""
    run = data.runs[0]
    steps, levels = data.steps(run), data.levels(run)
    pairs = [block for block in data.blocks(run) if block.multiplicity == 2]
    if not pairs or data.theory is None:
        return nothing_fitted(data)
    numbers, sentences = [], []
    spacing = float(steps[1] - steps[0])
    with data.page.look():
        figure = data.page.figure(9.0, 4.2, 5.0)
        shape = (2, 1) if data.page.is_column else (1, 2)
        panels = figure.subplots(*shape, sharey=True)
        for block, colour in zip(pairs, colours(len(pairs)), strict=True):
            rate = data.theory.relaxation_rate(run, data.layer, block)
            if rate is None:
                continue
            longest = min(RELAXATION_TIMES / (rate * spacing), len(steps) - 2)
            lags = np.unique(np.geomspace(1, max(longest, 1), LAGS).round().astype(int))
            both = levels[..., block.positions]
            grid = np.linspace(0, lags[-1] * spacing, 200)
            name = f"${data.centre_symbol} = {block.centre_block:.4g}$"
            for panel, title, series, law in (
                (panels[0], "mean of the pair", both.mean(axis=2), lambda memory: memory),
                (panels[1], "gap", both[..., 1] - both[..., 0], gap_autocorrelation),
            ):
                found = autocorrelation(series, lags)
                p = found.p_value(law(np.exp(-rate * lags * spacing)))
                panel.errorbar(
                    lags * spacing * rate, found.value, found.error, fmt="o", color=colour
                )
                panel.plot(
                    grid * rate,
                    law(np.exp(-rate * grid)),
                    color="black",
                    lw=0.9,
                    label="theory (no free parameter)" if block is pairs[0] else None,
                )
                panel.plot([], [], "o", color=colour, label=f"{name}: p = {p:.2g}")
                panel.set_title(title, loc="left")
                key = f"centre {block.centre_block:.6g}"
                numbers += [
                    curve(title, key, lags * spacing, found.value, y_error=found.error),
                    curve(title, f"{key} theory", grid, law(np.exp(-rate * grid))),
                ]
                where = f"{title} at {data.centre_name} = {block.centre_block:.4g}"
                sentences.append(f"{where}: {p:.2g}")
        for panel in panels:
            panel.axhline(0.0, color="grey", lw=0.7)
            panel.set_xlabel(r"time $\times$ relaxation rate of theory")
            panel.legend()
        for panel in panels if data.page.is_column else panels[:1]:
            panel.set_ylabel("autocorrelation")
    caption = (
        f"Autocorrelation of the pairs of degenerate levels of study {data.title}, run "
        f"{name_of(run)}, against time in units of the relaxation time that theory gives. Left: "
        "mean of a pair, whose theory is exponential. Right: its gap, whose memory is shorter "
        "because the levels repel each other. p-values, all lags together: "
        f"{'; '.join(sentences)}. Error bars: whole replicas."
    )
    return Drawing(figure, caption, numbers, {"": ("time [SGD steps]", "autocorrelation")})
