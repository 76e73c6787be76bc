"""Levels from the random start to stationarity, beside training without noise."""

from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
    spread,
)


def draw(data: StudyData) -> Drawing:
    """Draw mean and spread of the ordered levels, one panel per run."""
    numbers = []
    with data.page.look():
        figure = data.page.figure(7.2, 4.4 * len(data.runs), 2.8 * len(data.runs))
        panels = figure.subplots(len(data.runs), 1, squeeze=False)[:, 0]
        for panel, run in zip(panels, data.runs, strict=True):
            levels, steps = data.levels(run), data.steps(run)
            drift = None
            if data.theory is not None:
                drift = data.theory.noise_free(run, data.layer, data.start(run), steps)
            mean, width = levels.mean(axis=0), spread(levels)
            for i, colour in enumerate(colours(levels.shape[-1])):
                panel.fill_between(
                    steps,
                    mean[:, i] - width[:, i],
                    mean[:, i] + width[:, i],
                    color=colour,
                    alpha=0.25,
                    lw=0,
                    label="standard deviation over replicas" if i == 0 else None,
                )
                panel.plot(steps, mean[:, i], color=colour, label="mean level" if i == 0 else None)
                numbers.append(curve(run.name, f"level {i}", steps, mean[:, i], spread=width[:, i]))
                if drift is None:
                    continue
                label = "same starts without noise (no free parameter)" if i == 0 else None
                quiet = drift.mean(axis=0)[:, i]
                panel.plot(steps, quiet, color="black", ls="--", lw=0.9, label=label)
                numbers.append(curve(run.name, f"level {i} without noise", steps, quiet))
            for number, block in enumerate(data.blocks(run)):
                panel.axhline(
                    block.centre_block,
                    color="grey",
                    lw=0.7,
                    ls=":",
                    zorder=0,
                    label=f"theory centre ${data.centre_symbol}$" if number == 0 else None,
                )
            panel.set_title(f"{name_of(run)}\n{len(levels)} replicas", loc="left")
            panel.set_xlabel("SGD step")
            panel.set_ylabel(data.level_label)
            if len(steps) > 1:
                panel.set_xlim(steps[0], steps[-1])
        handles, names = panels[0].get_legend_handles_labels()
        legend_above(figure, handles, names, columns=2)
    dashed = (
        ""
        if drift is None
        else "Dashed: mean over the same starts, trained on the exact gradient. "
    )
    dotted = "Dotted: the centres that theory predicts." if data.theory is not None else ""
    caption = (
        f"Levels ({data.level_name}) of study {data.title} "
        f"{'against the SGD step' if drift is None else 'from the random start'}. Colour: "
        "mean and standard deviation over replicas of each ordered level. "
        f"{dashed}{dotted}"
    )
    return Drawing(figure, caption, numbers, {"": ("step [SGD steps]", data.level_label)})
