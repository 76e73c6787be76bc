"""Centre of every block over the one without noise: repulsion between modes moves the levels."""

import numpy as np

from dysonflow.report.figures._page import legend_above, plain_ticks
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve

MARKERS = "osD^vP*Xhp"


def draw(data: StudyData) -> Drawing:
    """Draw centre / kappa against a/B, and its distance from theory, for every distinct mode."""
    fits = data.fit_table
    fits = fits[fits["centre"].notna()].sort_values("stochasticity")
    blocks = sorted(fits["centre_block_formula"].unique())
    numbers = []
    with data.page.look():
        figure = data.page.figure(6.8, 5.8)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.3])
        for number, (kappa, colour) in enumerate(zip(blocks, colours(len(blocks)), strict=True)):
            rows = fits[fits["centre_block_formula"] == kappa]
            # Side by side, or points of one run would hide each other.
            x = rows["stochasticity"] * 1.02 ** (number - (len(blocks) - 1) / 2)
            y, dy = rows["centre"] / kappa, rows["centre_error"] / kappa
            theory = rows["centre_theory"] / kappa
            kind = "single" if rows["multiplicity"].iloc[0] == 1 else "pair"
            name = f"{data.centre_name} = {kappa:.4g} ({kind})"
            label = f"${data.centre_symbol} = {kappa:.4g}$ ({kind})"
            look = {"fmt": MARKERS[number % len(MARKERS)], "color": colour}
            top.errorbar(x, y, dy, label=label, **look)
            top.plot(x, theory, color=colour, lw=1.0)
            bottom.errorbar(x, y - theory, dy, **look)
            numbers += [
                curve("centre", name, rows["stochasticity"], y, y_error=dy),
                curve("centre", f"{name} theory", rows["stochasticity"], theory),
            ]
        top.plot([], [], color="black", lw=1.0, label="theory (no free parameter)")
        top.axhline(1.0, color="black", lw=0.7, ls=":", zorder=0)
        bottom.axhline(0.0, color="black", lw=0.7, ls=":", zorder=0)
        bottom.set_xscale("log")
        plain_ticks(bottom.xaxis)
        labels = (
            r"learning rate / batch size, $\alpha/B$",
            rf"fitted centre / ${data.centre_symbol}$",
        )
        bottom.set_xlabel(labels[0])
        top.set_ylabel(labels[1])
        bottom.set_ylabel("minus theory")
        handles, names = top.get_legend_handles_labels()
        legend_above(figure, handles, names, columns=3)
    pulls = fits["pull_centre"].dropna()
    caption = (
        f"Fitted centre of the {len(blocks)} distinct modes of study {data.title} over the one "
        "that they would have without noise. Lines: the shift that the theory of the whole matrix "
        "predicts, through the points of the study; below, the distance from it. "
        f"chi2/dof of all {len(pulls)} centres about theory: {np.square(pulls).sum():.1f}/"
        f"{len(pulls)}, largest distance {pulls.abs().max():.1f} errors."
    )
    return Drawing(figure, caption, numbers, {"": labels})
