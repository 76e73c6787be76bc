"""Distance of every estimate from theory, in errors."""

import numpy as np
import pandas as pd

from dysonflow.report.figures._page import legend_above, plain_ticks
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    nothing_fitted,
)
from dysonflow.report.quoting import quote

QUANTITIES = {"pull_centre": "centre", "pull_sigma": r"$\sigma$", "pull_gap": "mean gap"}
AXES = ("learning rate / batch size", "(estimate - theory) / error")
LARGEST = 6.0
"""Pulls beyond this are drawn at the edge, as arrows."""


def draw(data: StudyData) -> Drawing:
    """Draw the pulls against the stochasticity, and their distribution beside the normal law."""
    fits = data.fit_table
    if fits[list(QUANTITIES)].isna().all(axis=None):
        return nothing_fitted(data, "block")
    learns = fits["stochasticity"].notna().any()
    # Where nothing is learnt, the runs stand in the order of the configuration.
    noise = fits["stochasticity"] if learns else pd.Series(range(1, len(fits) + 1), fits.index)
    numbers, sentences = [], []
    with data.page.look():
        figure = data.page.figure(8.5, 4.2)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
        edges = np.arange(-LARGEST, LARGEST + 0.5, 0.5)
        looks = zip(QUANTITIES.items(), colours(len(QUANTITIES)), "os^", strict=True)
        for number, ((column, name), colour, marker) in enumerate(looks):
            rows = fits[fits[column].notna()]
            pull = rows[column].to_numpy()
            if not len(pull):
                continue
            # Side by side, or points of one run would hide each other.
            x = noise[rows.index]
            x = x * 1.04 ** (number - 1) if learns else x + 0.15 * (number - 1)
            inside = np.abs(pull) <= LARGEST
            left.plot(x[inside], pull[inside], marker, color=colour, label=name)
            edge = np.clip(pull[~inside], -LARGEST, LARGEST)
            for sign, arrow in ((1, "^"), (-1, "v")):
                shown = np.sign(edge) == sign
                if not shown.any():
                    continue
                left.plot(
                    x[~inside][shown], edge[shown], arrow, color=colour, mfc="white", clip_on=False
                )
            right.hist(
                np.clip(pull, -LARGEST, LARGEST),
                edges,
                orientation="horizontal",
                histtype="step",
                color=colour,
                density=True,
            )
            numbers.append(curve("pulls", column, noise[rows.index], pull))
            error = 1 / np.sqrt(len(pull))
            variance = "unknown"
            if len(pull) > 1:
                variance = quote(pull.var(ddof=1), np.sqrt(2) * error)
            sentences.append(
                f"{column.removeprefix('pull_')}: mean {quote(pull.mean(), error, '+')}, variance "
                f"{variance}, largest {np.abs(pull).max():.1f} of {len(pull)}"
            )
        grid = np.linspace(-LARGEST, LARGEST, 200)
        right.plot(
            np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi), grid, color="black", label="normal law"
        )
        for level in (-3, 0, 3):
            left.axhline(level, color="black", lw=0.7, ls="-" if level == 0 else ":", zorder=0)
        if learns:
            left.set_xscale("log")
            plain_ticks(left.xaxis)
        labels_of_axes = AXES if learns else ("run", AXES[1])
        left.set_xlabel(labels_of_axes[0])
        left.set_ylabel(labels_of_axes[1])
        right.set_xlabel("density")
        handles, labels = left.get_legend_handles_labels()
        more, names = right.get_legend_handles_labels()
        legend_above(figure, handles + more, labels + names, 4)
    caption = (
        f"Pulls of study {data.title}: distance of every estimate from the full theory, which "
        "has no free parameter, in errors; a normal law where the theory holds, so that nearly all "
        "lie between the dotted lines, at three errors. Open arrows: beyond the frame. "
        f"{'; '.join(sentences)}."
    )
    return Drawing(figure, caption, numbers, {"": AXES})
