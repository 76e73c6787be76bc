"""Dyson index of the motion: repulsion over half of the diffusion, for all runs and lags."""

import numpy as np

from dysonflow.analysis.increments import FREE, MOMENTS
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
    told_apart,
)

AXES = ("number of the run, shifted for each lag", r"Dyson index $\beta$ of the motion")
LOOKS = {MOMENTS: ("o", "moments that theory gives"), FREE: ("s", "from the levels alone")}


def draw(data: StudyData) -> Drawing:
    """Draw a column of points for every run, by ascending lag."""
    table = data.increment_table
    runs = [run for run in data.runs if run.name in set(table["run"])]
    lags = sorted(set(table["lag"]))
    numbers = []
    with data.page.look():
        figure = data.page.figure(max(4.6, 1.3 * len(runs) + 2.6), 4.2)
        panel = figure.subplots()
        shift = np.linspace(-0.3, 0.3, 2 * len(lags)) if lags else np.zeros(0)
        for (number, lag), colour in zip(enumerate(lags), colours(len(lags)), strict=True):
            for second, (method, (marker, _)) in enumerate(LOOKS.items()):
                rows = table[(table["lag"] == lag) & (table["method"] == method)]
                rows = rows[rows["dyson_index"].notna()]
                if rows.empty:
                    continue
                place = [[run.name for run in runs].index(name) for name in rows["run"]]
                x = np.array(place) + shift[2 * number + second]
                panel.errorbar(
                    x,
                    rows["dyson_index"],
                    rows["dyson_index_error"],
                    fmt=marker,
                    color=colour,
                    mfc=colour if method == MOMENTS else "white",
                )
                numbers.append(
                    curve(
                        f"lag {lag}",
                        method,
                        x,
                        rows["dyson_index"].to_numpy(),
                        y_error=rows["dyson_index_error"].to_numpy(),
                    )
                )
            step = "step" if lag == 1 else "steps"
            panel.plot([], [], "o", color=colour, label=f"lag {lag} SGD {step}")
        for marker, text in LOOKS.values():
            filled = "grey" if marker == "o" else "white"
            panel.plot([], [], marker, color="grey", mfc=filled, label=text)
        panel.axhline(1.0, color="black", lw=1.0, label="GOE noise")
        for value, style in ((0.0, ":"), (2.0, "--")):
            panel.axhline(value, color="grey", lw=0.8, ls=style)
        panel.set_ylim(-0.2, 2.3)
        panel.set_xlim(-0.6, len(runs) - 0.4)
        words = dict(zip((run.name for run in data.runs), told_apart(data.runs), strict=True))
        labels = ["\n".join(words[run.name]) or name_of(run) for run in runs]
        panel.set_xticks(range(len(runs)), labels)
        panel.set_ylabel(AXES[1])
        handles, names = panel.get_legend_handles_labels()
        legend_above(figure, handles, names, columns=2)
    good = table[table["flag"] == ""]
    known = good[(good["method"] == MOMENTS) & good["pull_dyson_index"].notna()]
    sentence = ""
    if len(known):
        pull = known["pull_dyson_index"].abs()
        sentence = (
            f" With the moments of theory, the largest of {len(known)} distances from theory is "
            f"{pull.max():.1f} errors."
        )
    caption = (
        f"Dyson index of the motion of study {data.title}: coefficient of 1/(x_i - x_j) in the "
        "mean step of a level over half of its variance. Lines: 0 (no repulsion), 1 (GOE), 2 (GUE)."
        f"{sentence} Error bars: whole replicas."
    )
    return Drawing(figure, caption, numbers or [curve("none", "none", [], [])], {"": AXES})
