"""Density of many equal levels: the exact law of n levels, and the semicircle it tends to."""

import math

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, density
from dysonflow.statistics.laws import BlockDensity, Semicircle

PANELS = 3
BINS = np.linspace(-1.4, 1.4, 57)
"""In units of the semicircle's radius sigma sqrt(2 n)."""


def draw(data: StudyData) -> Drawing:
    """Draw the largest block of up to three runs, smallest block first."""
    shown = []
    for run in data.runs:
        block = max(data.blocks(run), key=lambda block: block.multiplicity)
        if block.multiplicity > 1:
            shown.append((run, block))
    if not shown:
        raise ConfigError(f"study {data.name}: no run has equal levels; leave `semicircle` out")
    shown = sorted(shown, key=lambda item: item[1].multiplicity)[-PANELS:]
    middle = 0.5 * (BINS[1:] + BINS[:-1])
    fine = np.linspace(BINS[0], BINS[-1], 600)
    numbers, sentences = [], []
    label = rf"$(s - {data.centre_symbol}) / \sigma\,\sqrt{{2n}}$"
    with data.page.look():
        figure = data.page.figure(3.6 * len(shown) + 0.8, 5.4, 2.9)
        axes = figure.subplots(
            2, len(shown), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1.3]
        )
        for (top, bottom), (run, block), colour in zip(
            axes.T, shown, colours(len(shown)), strict=True
        ):
            n = block.multiplicity
            radius = block.sigma * math.sqrt(2 * n)
            scaled = (data.levels(run)[..., block.positions] - block.centre) / radius
            height, error = density(scaled, BINS)
            exact = BlockDensity(n, 0.0, 1.0 / math.sqrt(2 * n))
            limit = Semicircle.of_block(n, 0.0, 1.0 / math.sqrt(2 * n))
            # Bins where nothing is seen have no error either.
            seen = error > 0
            top.errorbar(
                middle[seen], height[seen], error[seen], fmt="o", color=colour, ms=3, label="levels"
            )
            top.plot(fine, exact.pdf(fine), color="black", label="exact law of n levels")
            top.plot(fine, limit.pdf(fine), color="tab:red", ls="--", label="semicircle")
            expected = np.diff(exact.cdf(BINS)) / np.diff(BINS)
            bottom.errorbar(
                middle[seen], (height - expected)[seen], error[seen], fmt="o", color=colour, ms=3
            )
            bottom.axhline(0.0, color="black", lw=0.8)
            top.set_title(f"$n = {n}$", loc="left")
            bottom.set_xlabel(label)
            place = f"n={n}"
            numbers += [
                curve(place, "levels", middle, height, y_error=error),
                curve(place, "exact", fine, exact.pdf(fine)),
                curve(place, "semicircle", fine, limit.pdf(fine)),
            ]
            fits = data.fit_table
            row = fits[(fits["run"] == run.name) & (fits["block"] == data.block_number(run, block))]
            distance = 0.5 * np.abs(height - np.diff(limit.cdf(BINS)) / np.diff(BINS)).sum()
            sentences.append(
                f"n = {n}: p = {row['density_p_value'].iloc[0]:.2g} for the exact law, "
                f"{distance * np.diff(BINS)[0]:.1%} of the levels would have to move to make the "
                "histogram a semicircle"
            )
        axes[0, 0].set_ylabel("density")
        axes[1, 0].set_ylabel("minus exact law")
        handles, names = axes[0, 0].get_legend_handles_labels()
        legend_above(figure, handles, names, columns=3)
    caption = (
        f"Density of equal levels of study {data.title}, over the radius of the semicircle. "
        "Centre and sigma are those of theory: no curve has a free parameter. Error bars: standard "
        f"error over replicas. {'; '.join(sentences)}."
    )
    return Drawing(figure, caption, numbers, {"": (label, "density")})
