"""When the levels first come half of the way from the start, beside training without noise."""

import numpy as np

from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
    nothing_fitted,
    spread,
)
from dysonflow.report.quoting import quote
from dysonflow.statistics.first_passage import first_passage

LEVELS = 5
"""Levels that are shown, evenly spread."""


def draw(data: StudyData) -> Drawing:
    """Draw distributions of the passage times of the first run, and how much noise delays them."""
    run = data.runs[0]
    levels, steps = data.levels(run), data.steps(run)
    quiet = None
    if data.theory is not None:
        quiet = data.theory.noise_free(run, data.layer, data.start(run), steps)
    if quiet is None or len(levels) < 2:
        return nothing_fitted(data, "first passage")
    last = levels.shape[2] - 1
    shown = np.unique(np.linspace(0, last, min(LEVELS, last + 1)).round().astype(int))
    numbers, sentences = [], []
    places: list[float] = []
    with data.page.look():
        figure = data.page.figure(9.0, 4.2, 5.4)
        shape = (2, 1) if data.page.is_column else (1, 2)
        left, right = figure.subplots(*shape)
        for place, (i, colour) in enumerate(zip(shown, colours(len(shown)), strict=True)):
            # Half of the way on average, without noise.
            threshold = 0.5 * float(quiet[:, 0, i].mean() + quiet[:, -1, i].mean())
            times = first_passage(levels[:, :, i], steps, threshold)
            without = first_passage(quiet[:, :, i], steps, threshold)
            share = (np.arange(len(levels)) + 0.5) / len(levels)
            name = f"level {i}"
            looks = ((times, colour, "-"), (without, "black", "--"))
            for number, (values, tone, dashes) in enumerate(looks):
                # What never passes stays away from the right end.
                ordered = np.sort(values)
                kept = np.isfinite(ordered)
                label = name if number == 0 else ("without noise" if place == 0 else None)
                left.step(
                    ordered[kept], share[kept], where="mid", label=label, color=tone, ls=dashes
                )
                text = "measured" if number == 0 else "without noise"
                numbers.append(curve(name, text, ordered[kept], share[kept]))
            both = np.isfinite(times) & np.isfinite(without)
            if both.sum() < 2:
                continue
            delay = (times - without)[both]
            width = float(spread(delay))
            error = width / np.sqrt(both.sum())
            places.append(place)
            right.errorbar(place, delay.mean(), width, color="lightgrey", fmt="none", elinewidth=4)
            right.errorbar(place, delay.mean(), error, color=colour, fmt="o")
            numbers.append(curve("delay", name, [i], [delay.mean()], y_error=[error], spread=width))
            sentences.append(f"{name}: {quote(float(delay.mean()), error)} (spread {width:.2g})")
        left.set_xlabel("SGD step of the first passage")
        left.set_ylabel("share of the replicas")
        left.set_title(f"{name_of(run)}, {len(levels)} replicas", loc="left")
        right.axhline(0.0, color="black", lw=0.7)
        right.set_xticks(range(len(shown)), [str(i) for i in shown])
        right.set_xlim(-0.6, len(shown) - 0.4)
        right.set_xlabel("level, from the lowest")
        right.set_ylabel("delay by noise, SGD steps")
        handles, labels = left.get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=3)
    caption = (
        f"First passage of the levels ({data.level_name}) of study {data.title} through the middle "
        "between start and end. Left: share of the replicas that have passed; dashed: the same "
        "starts, trained on the exact gradient, with no free parameter. Right: how much later than "
        "that each replica passes, mean with its error, and in grey the standard deviation over "
        f"replicas. Delay in SGD steps: {'; '.join(sentences)}."
    )
    axes = {
        "": ("first passage [SGD steps]", "share of the replicas"),
        "delay": ("level, from the lowest", "delay by noise [SGD steps]"),
    }
    return Drawing(figure, caption, numbers, axes)
