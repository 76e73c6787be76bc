"""Drift, diffusion and repulsion of the levels, measured against what theory says of each."""

import numpy as np
from matplotlib.axes import Axes

from dysonflow.analysis.increments import MOMENTS, motion_profiles
from dysonflow.artifacts.weights import open_weights
from dysonflow.report.figures._page import legend_above, logarithmic, plain_ticks
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
)
from dysonflow.statistics.increments import Profile

AXES = {
    "push": (r"gap $(x_i - x_j) / \sqrt{V_{ij}}$", r"push $/ \sqrt{V_{ij}}$"),
    "variance": (r"gap to the nearest level $/ \sqrt{V_{ij}}$", r"variance of the step $/ V_{ii}$"),
    "drift": (r"drift expected $/ \sqrt{V_{ii}}$", r"mean step without pushes $/ \sqrt{V_{ii}}$"),
}
"""What x and y of each panel are."""
PANELS = tuple(AXES)


def draw(data: StudyData) -> Drawing:
    """Draw the smallest lag of the run with the weakest noise."""
    runs = [run for run in data.runs if run.lags]
    (run,) = data.representative(1, runs)
    with open_weights(data.file("weights", run)) as weights:
        found, method = motion_profiles(run, data.layer, weights, 0)
    numbers = []
    dark, middle, _ = colours(3)
    with data.page.look():
        figure = data.page.figure(10.0, 3.9, 7.5)
        shape = (3, 1) if data.page.is_column else (1, 3)
        repulsion, diffusion, drift = figure.subplots(*shape)
        push = found.push
        _points(repulsion, push, dark)
        order = np.argsort(push.place)
        repulsion.plot(
            push.place[order],
            push.expected[order],
            color="black",
            label="exact for two levels" + _free(method),
        )
        repulsion.plot(
            push.place[order],
            1.0 / push.place[order],
            color=middle,
            ls="--",
            label=r"$1/(x_i - x_j)$" + _free(method),
        )
        logarithmic(repulsion)
        shown = push.expected[push.expected > 0]
        repulsion.set_ylim(0.3 * shown.min(), 3.0 * shown.max())
        for panel, labels in zip(
            (repulsion, diffusion, drift), (AXES[name] for name in PANELS), strict=True
        ):
            panel.set_xlabel(labels[0])
            panel.set_ylabel(labels[1])
        repulsion.set_title("repulsion", loc="left")

        _points(diffusion, found.variance, dark)
        diffusion.plot(found.variance.place, found.variance.expected, color="black")
        diffusion.set_xscale("log")
        plain_ticks(diffusion.xaxis)
        diffusion.set_ylim(0.0, 1.3)
        diffusion.set_title("diffusion", loc="left")

        _points(drift, found.drift, dark)
        drift.plot(found.drift.expected, found.drift.expected, color="black")
        drift.set_title("drift", loc="left")
        handles, labels = repulsion.get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=3)
    for name in PANELS:
        part: Profile = getattr(found, name)
        numbers += [
            curve(name, "measured", part.place, part.value, y_error=part.error),
            curve(name, "theory", part.place, part.expected),
        ]
    lag = run.lags[0]
    known = (
        "Mean and covariance of every step are those that theory gives for the weights at hand, "
        "with no free parameter"
        if method == MOMENTS
        else "Drift (a polynomial of each level) and diffusion are fitted, the repulsion is not"
    )
    caption = (
        f"How the levels of study {data.title} move in {lag} SGD step{'s' if lag > 1 else ''}: run "
        f"{name_of(run)}. Left: mean push of neighbouring levels away from each other against "
        "their gap, both in units of the kick; dashed, the repulsion of Dyson Brownian motion at "
        "beta = 1. Middle: variance of a level's step. Right: its mean step without the pushes. "
        f"{known}. Error bars: whole replicas."
    )
    return Drawing(figure, caption, numbers, AXES)


def _free(method: str) -> str:
    return " (no free parameter)" if method == MOMENTS else ""


def _points(panel: Axes, profile: Profile, colour: object) -> None:
    panel.errorbar(
        profile.place, profile.value, profile.error, fmt="o", color=colour, label="measured"
    )
