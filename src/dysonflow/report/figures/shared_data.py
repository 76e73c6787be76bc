"""Runs on one training set for all replicas: the drawn inputs decide the width of a pair."""

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, name_of


def draw(data: StudyData) -> Drawing:
    """Draw mean gap over the small-step formula for every run, and against what is predicted."""
    pairs = data.pairs.set_index("run")
    if pairs.empty:
        raise ConfigError(f"study {data.name}: no degenerate pair; leave `shared_data` out")
    names = {run.name: name_of(run) for run in data.runs}
    points = list(dict.fromkeys(names[run.name] for run in data.runs))
    formula = pairs["mean_gap_block_formula"]
    measured, error = pairs["mean_gap"] / formula, pairs["mean_gap_error"] / formula
    given = pairs["mean_gap_theory"] / formula
    fresh = pairs["finite_step_variable"] / pairs["variable"]
    place = np.array([points.index(names[run]) for run in pairs.index], dtype=float)
    # Runs of one point side by side.
    order = pairs.groupby(place).cumcount().to_numpy()
    count = int(order.max()) + 1
    x = place + 0.6 * ((order + 0.5) / count - 0.5)
    tone = colours(2)[0]
    label = r"$\langle S\rangle$ / small-step formula"
    with data.page.look():
        figure = data.page.figure(9.6, 4.6, 5.4)
        if data.page.is_column:
            left, right = figure.subplots(2, 1, height_ratios=[1, 1])
        else:
            left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
        look = {"fmt": "o", "color": tone, "ms": 4}
        left.errorbar(x, measured, error, label="measured, one drawn training set each", **look)
        dash = {"marker": "_", "ls": "none", "ms": 9}
        left.plot(
            x, given, color="black", label="theory given the inputs (no free parameter)", **dash
        )
        left.plot(
            place, fresh, color="tab:red", label="theory for fresh inputs", **dash | {"ms": 22}
        )
        left.axhline(1.0, color="grey", lw=0.8, ls=":", label="small-step formula")
        size = None if data.page.is_column else 7
        left.set_xticks(range(len(points)), points, rotation=60, ha="right", fontsize=size)
        left.set_ylabel(label)
        right.errorbar(given, measured, error, **look)
        ends = np.array([min(given.min(), measured.min()), max(given.max(), measured.max())])
        ends = ends + np.array([-0.05, 0.05]) * np.ptp(ends)
        right.plot(ends, ends, color="black", lw=1.0)
        right.set_xlabel("theory given the inputs")
        right.set_ylabel("measured")
        handles, names = left.get_legend_handles_labels()
        legend_above(figure, handles, names, columns=2)
    pulls = pairs["pull_gap"]
    caption = (
        f"Mean gap of study {data.title} over the formula for a small step. All replicas of a "
        "run see the same inputs, drawn anew for every run. Measured: "
        f"{measured.min():.2f} to {measured.max():.2f} times the formula over {len(pairs)} runs, "
        f"predicted from the inputs: {given.min():.2f} to {given.max():.2f}; chi2/dof about the "
        f"prediction {np.square(pulls).sum():.1f}/{len(pulls)}."
    )
    numbers = [
        curve("runs", "measured", pairs.index, measured, y_error=error),
        curve("runs", "theory given the inputs", pairs.index, given),
        curve("runs", "theory for fresh inputs", pairs.index, fresh),
    ]
    return Drawing(figure, caption, numbers, {"": ("name of the run []", label)})
