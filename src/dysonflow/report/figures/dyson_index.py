"""The Dyson index that the levels show, over the one that they were given."""

import numpy as np

from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    nothing_fitted,
)

AXES = (r"Dyson index $\beta$ of the motion", r"fitted $\beta$ / $\beta$")


def draw(data: StudyData) -> Drawing:
    """Draw fitted over given index of every run, one colour for each of the dynamics."""
    fits = data.fit_table
    fits = fits[fits["dyson_index"].notna() & fits["dyson_index_theory"].notna()]
    if fits.empty:
        return nothing_fitted(data, "block")
    numbers = []
    with data.page.look():
        figure = data.page.figure(5.6, 3.8)
        axes = figure.subplots()
        kinds = list(dict.fromkeys(fits["dynamics"]))
        looks = zip(kinds, colours(len(kinds)), "os^", strict=False)
        for number, (kind, colour, marker) in enumerate(looks):
            rows = fits[fits["dynamics"] == kind]
            given = rows["dyson_index_theory"]
            ratio, error = rows["dyson_index"] / given, rows["dyson_index_error"] / given
            # Side by side, or runs of one index would hide each other.
            aside = 1.05 ** (number - 0.5 * (len(kinds) - 1))
            axes.errorbar(given * aside, ratio, error, fmt=marker, color=colour, label=kind)
            numbers.append(curve("dyson_index", kind, given, ratio, y_error=error))
        axes.axhline(1.0, color="black", zorder=0)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.set_xlabel(AXES[0])
        axes.set_ylabel(AXES[1])
        legend_above(figure, *axes.get_legend_handles_labels(), len(kinds))
    pull = fits["pull_dyson_index"].to_numpy()
    caption = (
        f"Dyson index of study {data.title} from the levels alone, with centre and width fitted, "
        f"over the index of the motion. Errors: from whole replicas. Of {len(pull)} runs, "
        f"{int((np.abs(pull) < 3).sum())} lie within three errors."
    )
    return Drawing(figure, caption, numbers, {"": AXES})
