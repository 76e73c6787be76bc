"""Noise of the gradient along the singular directions, and the steps that it predicts."""

import numpy as np

from dysonflow.artifacts import tables
from dysonflow.report.figures._page import legend_above, plain_ticks
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, told_apart

MOST_RUNS = 3
"""Runs that are shown one above the other."""


def draw(data: StudyData) -> Drawing:
    """Draw anisotropy, and measured over predicted variance, of all layers at each step."""
    runs = data.representative(MOST_RUNS)
    names = told_apart(runs)
    numbers, words = [], []
    narrow = data.page.is_column
    columns = 1 if narrow else 2
    rows = 2 * len(runs) // columns
    with data.page.look():
        figure = data.page.figure(8.4, 0.8 + 3.2 * rows, 0.6 + 2.4 * rows)
        panels = figure.subplots(rows, columns, squeeze=False).reshape(len(runs), 2)
        for (left, right), run, name in zip(panels, runs, names, strict=True):
            table = tables.read_table([data.file("gradient_noise", run)])
            layers = list(dict.fromkeys(table["layer"]))
            steps = sorted(table["step"].unique())
            place = np.arange(len(layers))
            for number, (step, colour) in enumerate(zip(steps, colours(len(steps)), strict=True)):
                shift = 0.6 * ((number + 0.5) / len(steps) - 0.5)
                now = table[table["step"] == step].set_index("layer")
                each = [now.loc[[layer], "anisotropy"].to_numpy() for layer in layers]
                one = now[now["index"] == 0].loc[layers]
                low, high = (np.array([end(x) for x in each]) for end in (np.min, np.max))
                mean, error = one["mean_anisotropy"], one["mean_anisotropy_error"]
                left.vlines(place + shift, low, high, color=colour, lw=1.2, alpha=0.6)
                left.errorbar(
                    place + shift, mean, error, color=colour, fmt="o", ms=3, label=f"step {step}"
                )
                ratio, ratio_error = (
                    one[f"measured_over_predicted{end}"].to_numpy() for end in ("", "_error")
                )
                # The first step of Adam follows signs: nothing is predicted, and nothing is shown.
                if step or "adam" not in getattr(run, "optimiser", ""):
                    right.errorbar(place + shift, ratio, ratio_error, color=colour, fmt="o", ms=3)
                where = f"{run.name}, step {step}"
                ends = {"y_low": low, "y_high": high}
                axis = {"layer": layers}
                numbers.append(curve("anisotropy", where, place, mean.to_numpy(), **ends, **axis))
                numbers.append(curve("variance", where, place, ratio, y_error=ratio_error, **axis))
            left.axhline(1.0, color="black", ls="--", lw=0.9, label="isotropic, as predicted")
            right.axhline(1.0, color="black", ls="--", lw=0.9)
            left.set_yscale("log")
            plain_ticks(left.yaxis, (1.0,))
            left.set_ylabel("noise over isotropic noise")
            right.set_ylabel("variance of steps,\nmeasured / predicted")
            for panel in (left, right):
                panel.set_xticks(place, layers, rotation=90)
                panel.set_title(("\n" if narrow else ", ").join(name[:2]), loc="left")
            last = table[table["step"] == steps[-1]]
            words.append(
                f"Run ``{run.name}`` at step {steps[-1]}: {last['anisotropy'].min():.2g} to "
                f"{last['anisotropy'].max():.2g} times isotropic noise along single levels; "
                f"measured over predicted variance {last['measured_over_predicted'].min():.3g} to "
                f"{last['measured_over_predicted'].max():.3g} over the layers."
            )
        handles, labels = panels[0, 0].get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=5)
    caption = (
        f"Noise of the gradient of study ``{data.name}``. Left: variance of the gradient of single "
        "samples along the directions of the singular values, over that of isotropic noise of the "
        "same trace; points: mean over the levels of a layer, bars: from the smallest to the "
        "largest. Right: variance of the next step of the singular values, measured by taking it "
        "many times from the same state, over what the noise predicts without a free parameter; "
        f"the first step of Adam, which follows signs, is left out there. {' '.join(words)}"
    )
    axes = {
        "anisotropy": ("number of the layer", "noise over isotropic noise"),
        "variance": ("number of the layer", "variance of steps, measured over predicted"),
    }
    return Drawing(figure, caption, numbers, axes, shows_all_layers=True)
