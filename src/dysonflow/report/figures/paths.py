"""Levels of single replicas over time: they come close, and turn away."""

import numpy as np

from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, name_of

BEFORE = 40
"""Snapshots that are shown on either side of the closest approach."""


def draw(data: StudyData) -> Drawing:
    """Draw one replica of the first run whole, and the closest approaches of all replicas."""
    run = data.runs[0]
    levels, steps = data.levels(run), data.steps(run)
    gaps = np.diff(levels, axis=2)
    numbers = []
    with data.page.look():
        figure = data.page.figure(9.0, 4.2, 5.0)
        whole, close = (
            figure.subplots(2, 1)
            if data.page.is_column
            else figure.subplots(1, 2, width_ratios=[2, 1])
        )
        for i, colour in enumerate(colours(levels.shape[2])):
            whole.plot(steps, levels[0, :, i], color=colour, lw=0.8)
            numbers.append(curve("replica 0", f"level {i}", steps, levels[0, :, i]))
        whole.set_xlabel("SGD step")
        whole.set_ylabel(data.level_label)
        whole.set_title(f"{name_of(run)}, replica 0", loc="left")
        # The closest approaches of as many replicas, away from the ends of the series.
        inner = gaps[:, BEFORE:-BEFORE] if gaps.shape[1] > 2 * BEFORE + 1 else gaps
        first = BEFORE if inner is not gaps else 0
        smallest = inner.reshape(len(inner), -1).min(axis=1)
        for replica, colour in zip(np.argsort(smallest)[:3], colours(3), strict=False):
            when, pair = np.unravel_index(inner[replica].argmin(), inner.shape[1:])
            when = int(when) + first
            window = slice(max(when - BEFORE, 0), when + BEFORE + 1)
            both = levels[replica, window, pair : pair + 2]
            time = steps[window] - steps[when]
            middle = both.mean(axis=1, keepdims=True)
            close.plot(time, both - middle, color=colour)
            numbers += [
                curve(f"closest approach of replica {replica}", f"level {k}", time, part)
                for k, part in enumerate((both - middle).T)
            ]
        close.set_xlabel("SGD steps from the closest approach")
        close.set_ylabel("level - mean of the two")
        close.set_title("three closest approaches", loc="left")
    caption = (
        f"Levels ({data.level_name}) of study {data.title} over time. Left: all levels of one "
        "replica. Right: the pairs of neighbouring levels that came closest in three replicas, "
        "about their mean: they turn away from each other and never cross."
    )
    axes = {
        "": ("SGD steps from the closest approach [SGD steps]", "level - mean of the two"),
        "replica 0": ("step [SGD steps]", data.level_label),
    }
    return Drawing(figure, caption, numbers, axes)
