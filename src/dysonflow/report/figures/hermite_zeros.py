"""The flow at beta = infinity: levels run into zeros of the Hermite polynomial, volume grows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.models.dyson import potential
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, name_of
from dysonflow.statistics.coulomb_gas import hermite_zeros, log_vandermonde


def draw(data: StudyData) -> Drawing:
    """Draw levels, their distance from the zeros, and the logarithm of the orbit's volume.

    Of the first run at beta = infinity, its first replica.

    Raises
    ------
    ConfigError
        If no run of the study has an infinite index, confinement, and one centre.
    """
    runs: Sequence[Any] = data.runs
    shown = [r for r in runs if np.isinf(r.dyson_index) and r.fitted and r.confinement > 0]
    if not shown:
        raise ConfigError(
            f"study {data.name}: no run has beta = infinity, confinement > 0 and one centre; give "
            "one, or leave the figure hermite_zeros out"
        )
    run = shown[0]
    levels, time = data.levels(run)[0], data.steps(run) * run.time_step
    zeros = hermite_zeros(run.size) / np.sqrt(run.confinement)
    away = np.abs(levels - zeros).max(axis=1)
    volume = log_vandermonde(levels)
    # Levels that begin as one have no volume, whose logarithm has no place in the figure.
    ascended = np.where(np.isfinite(volume), -potential(run, levels), np.nan)
    volume = np.where(np.isfinite(volume), volume, np.nan)
    numbers = [curve("levels", f"level {i}", time, x) for i, x in enumerate(levels.T)]
    numbers += [
        curve("levels", "hermite zeros", time[-1], zeros),
        curve("distance", "largest distance", time, away),
        curve("volume", "log Vandermonde", time, volume),
        curve("volume", "log Vandermonde less confinement", time, ascended),
    ]
    with data.page.look():
        figure = data.page.figure(7.2, 6.6)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[2, 1, 1])
        for i, colour in enumerate(colours(run.size)):
            text = "level" if i == 0 else None
            top.plot(time, levels[:, i], color=colour, label=text)
        for number, place in enumerate(zeros):
            text = r"zero of $H_n$ over $\sqrt{\theta}$" if number == 0 else None
            top.axhline(place, color="black", lw=0.8, ls="--", zorder=0, label=text)
        top.set_ylabel(data.level_label)
        top.set_title(name_of(run), loc="left")
        handles, labels = top.get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=2)
        # The last distances are rounding, or zero.
        middle.plot(time, np.maximum(away, 1e-17), color="black")
        middle.set_yscale("log")
        middle.set_ylabel("largest distance\nfrom a zero")
        bottom.plot(time, volume, color="black", label=r"$\log\Delta$")
        bottom.plot(
            time,
            ascended,
            color="tab:red",
            ls="-.",
            label=r"$\log\Delta - \theta\sum_i\lambda_i^2/2$",
        )
        bottom.legend(loc="lower right")
        bottom.set_ylabel("log volume")
        bottom.set_xlabel("time $t$")
        bottom.set_xlim(time[0], time[-1])
    rising = np.diff(ascended[np.isfinite(ascended)])
    falls = int((rising < -1e-12).sum())
    caption = (
        f"Study {data.title} at beta = infinity, n = {run.size}, theta = {run.confinement:g}, "
        f"dynamics {run.dynamics}: motion by mean curvature of the isospectral "
        "orbit, whose volume is the Vandermonde determinant of the levels up to a constant, "
        "against the confinement. Top: the levels, and the zeros of the Hermite "
        "polynomial over the square root of theta. Middle: the largest distance from them, "
        f"{away[-1]:.1e} at the end. Bottom: logarithm of the Vandermonde determinant, and the "
        f"same less the confinement, which the levels ascend: it falls in {falls} of "
        f"{len(rising)} intervals."
    )
    axes = {
        "levels": ("time t", data.level_label),
        "distance": ("time t", "largest distance from a zero"),
        "volume": ("time t", "log volume"),
    }
    return Drawing(figure, caption, numbers, axes)
