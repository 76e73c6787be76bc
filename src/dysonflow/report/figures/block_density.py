"""Density of the two levels of a degenerate pair, with the closed form on it."""

import math

import numpy as np

from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    density,
    name_of,
    nothing_fitted,
)
from dysonflow.report.quoting import quote
from dysonflow.statistics.laws import BlockDensity

PANELS = 4
BINS = np.linspace(-3.6, 3.6, 25)


def draw(data: StudyData) -> Drawing:
    """Draw up to four pairs: all of the run with the weakest noise, or one of several runs."""
    if data.pairs.empty:
        return nothing_fitted(data)
    runs = data.representative(PANELS, data.with_pairs())
    runs = runs[:1] if len(data.pair_numbers(runs[0])) > 1 else runs
    shown = [(run, n) for run in runs for n in data.pair_numbers(run)][:PANELS]
    numbers, quoted = [], []
    with data.page.look():
        # The titles are as wide as a column of a journal.
        across = 1 if data.page.is_column else min(2, len(shown))
        down = math.ceil(len(shown) / across)
        figure = data.page.figure(7.5, 2.5 * down + 0.7, 1.4 * down + 0.4)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for panel, (run, number), colour in zip(panels, shown, colours(len(shown)), strict=False):
            block = data.blocks(run)[number]
            beta = block.gas_index
            fits = data.fit_table
            row = fits[(fits["run"] == run.name) & (fits["block"] == data.block_number(run, block))]
            centre, sigma = row["centre"].iloc[0], row["sigma"].iloc[0]
            edges = block.centre + BINS * block.sigma
            middle = 0.5 * (edges[1:] + edges[:-1])
            fine = np.linspace(edges[0], edges[-1], 300)
            height, error = density(data.levels(run)[..., block.positions], edges)
            panel.errorbar(middle, height, error, fmt="o", color=colour, label="levels")
            curves = {
                "theory": (
                    "theory (no free parameter)",
                    BlockDensity(2, block.centre, block.sigma, beta),
                ),
                "fit": (r"fitted centre and $\sigma$", BlockDensity(2, centre, sigma, beta)),
            }
            place = f"{run.name} {data.centre_name} = {block.centre_block:.4g}"
            numbers.append(curve(place, "levels", middle, height, y_error=error))
            for (name, (label, law)), look in zip(
                curves.items(),
                ({"color": "black"}, {"color": "tab:red", "ls": "-."}),
                strict=True,
            ):
                panel.plot(fine, law.pdf(fine), label=label, **look)
                numbers.append(curve(place, name, fine, law.pdf(fine)))
            centre_text = f"${data.centre_symbol} = {block.centre_block:.4g}$"
            panel.set_title(f"{centre_text}; {name_of(run)}", loc="left")
            panel.set_xlabel(data.level_label)
            panel.set_ylabel("density")
            quoted.append(
                f"{data.centre_name} = {block.centre_block:.4g}: "
                f"sigma = {quote(sigma, row['sigma_error'].iloc[0])}, "
                f"theory {block.sigma:.4g}"
            )
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        legend_above(figure, handles, labels, 3)
    caption = (
        f"Density of the levels of degenerate pairs of study {data.title}, normalised to one. "
        "Black: the closed form for two levels of a block with the centre and sigma that "
        "theory predicts; red: with the fitted ones. Error bars: standard error over replicas. "
        f"{'; '.join(quoted)}."
    )
    return Drawing(figure, caption, numbers, {"": (data.level_label, "density")})
