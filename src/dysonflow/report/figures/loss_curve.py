"""Loss over training, with its band over replicas."""

import numpy as np

from dysonflow.artifacts.weights import open_weights
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, told_apart

BAND = (16.0, 84.0)
"""Percentiles of the replicas: one standard deviation of a normal law."""
MOST_RUNS = 4
"""Runs whose bands can be told apart."""


def draw(data: StudyData) -> Drawing:
    """Draw median and band of all runs, against training time where learning rates differ."""
    runs = data.representative(MOST_RUNS)
    rates = {run.effective_rate for run in runs}
    has_time = len(rates) > 1 and bool(np.isfinite(list(rates)).all())
    label = "training time, effective learning rate times SGD steps" if has_time else "SGD step"
    numbers, finals = [], []
    with data.page.look():
        figure = data.page.figure(7.2, 4.4)
        panel = figure.subplots()
        for run, name, colour in zip(runs, told_apart(runs), colours(len(runs)), strict=True):
            with open_weights(data.file("weights", run)) as file:
                loss, step = file.loss, file.step
            x = step * (run.effective_rate if has_time else 1)
            low, median, high = np.percentile(loss, [BAND[0], 50.0, BAND[1]], axis=0)
            text = ", ".join(name) or run.MODEL
            panel.fill_between(x, low, high, color=colour, alpha=0.25, lw=0)
            panel.plot(x, median, color=colour, label=text)
            numbers.append(curve("loss", text, x, median, low=low, high=high))
            finals.append(float(median[-1]))
        if min(float(table["low"].min()) for table in numbers) > 0:
            panel.set_yscale("log")
        panel.set_xlabel(label)
        panel.set_ylabel("loss")
        panel.margins(x=0)
        if len(runs) > 1:
            legend_above(figure, *panel.get_legend_handles_labels(), columns=3)
    quoted = " to ".join(dict.fromkeys(f"{value:.3g}" for value in (min(finals), max(finals))))
    replicas = sorted({run.replicas for run in runs})
    caption = (
        f"Loss of study ``{data.name}`` over training. Line: median over "
        f"{' or '.join(map(str, replicas))} replicas; band: {BAND[0]:g} % to {BAND[1]:g} % of "
        f"them. At the end the median is {quoted}."
    )
    return Drawing(figure, caption, numbers, {"": (label, "loss")}, shows_all_layers=True)
