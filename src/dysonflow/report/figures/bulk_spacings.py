"""Spacings and gap ratios within the bulk, of the start beside the end."""

import math

import numpy as np

from dysonflow.report.figures._bulk import BulkData, law_of, short
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve
from dysonflow.statistics import spacings

LAYERS = 16
BINS = np.linspace(0.0, 3.5, 29)
AXES = {
    "spacings": ("spacing / mean spacing", "density"),
    "number variance": ("length / mean spacing", r"number variance $\Sigma^2$"),
    "gap ratio": ("number of the layer", r"mean gap ratio $\langle r\rangle$"),
}


def draw(data: StudyData) -> Drawing:
    """Draw spacings and number variance of all layers together, the gap ratio of each."""
    bulk = BulkData(data)
    layers = [one for one in bulk.strongest(LAYERS) if np.isfinite(bulk.row(one)["scale"])]
    looks = [("end", -1, colours(3)[0], "o")]
    if len(bulk.steps) > 1:
        looks.insert(0, ("start", 0, colours(3)[2], "s"))
    numbers = []
    lengths = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0])
    s = np.linspace(0.0, BINS[-1], 200)
    with data.page.look():
        figure = data.page.figure(10.0, 4.2, 8.6)
        shape = (3, 1) if data.page.is_column else (1, 3)
        first, second, third = figure.subplots(*shape)
        for shift, (name, snapshot, colour, marker) in enumerate(looks):
            unfolded = [
                spacings.unfold(bulk.split(one, snapshot)[1], law_of(bulk.row(one, snapshot)).cdf)
                for one in layers
                if np.isfinite(bulk.row(one, snapshot)["scale"])
            ]
            # Levels that are all the same have no distances.
            each = [np.diff(u) / np.diff(u).mean() for u in unfolded if u[-1] > u[0]]
            gaps = np.concatenate([*each, np.zeros(0)])
            count = np.histogram(gaps, BINS)[0]
            width = np.diff(BINS) * max(len(gaps), 1)
            middle = 0.5 * (BINS[1:] + BINS[:-1])
            label = f"{name} (SGD step {bulk.steps[snapshot]})"
            look = {"color": colour, "ms": 4, "mfc": colour if name == "end" else "white"}
            first.errorbar(
                middle, count / width, np.sqrt(count) / width, fmt=marker, label=label, **look
            )
            found = [[spacings.number_variance(u, float(x)) for x in lengths] for u in unfolded]
            variance, error = _mean(found)
            second.errorbar(lengths + 0.06 * shift, variance, error, fmt=marker, **look)
            rows = bulk.at(snapshot).set_index("layer").loc[layers]
            x = np.arange(len(layers)) + 0.2 * shift
            third.errorbar(x, rows["gap_ratio"], rows["gap_ratio_error"], fmt=marker, **look)
            numbers += [
                curve("spacings", name, middle, count / width, y_error=np.sqrt(count) / width),
                curve("number variance", name, lengths, variance, y_error=error),
                curve(
                    "gap ratio",
                    name,
                    layers,
                    rows["gap_ratio"].to_numpy(),
                    y_error=rows["gap_ratio_error"].to_numpy(),
                ),
            ]
        goe, poisson = {"color": "black", "lw": 1.1}, {"color": "grey", "lw": 1.1, "ls": "--"}
        first.plot(s, 0.5 * math.pi * s * np.exp(-0.25 * math.pi * s**2), label="GOE", **goe)
        first.plot(s, np.exp(-s), label="Poisson", **poisson)
        grid = np.linspace(1.0, lengths[-1], 100)
        second.plot(grid, spacings.number_variance_goe(grid), **goe)
        second.plot(lengths, lengths, **poisson)
        second.set_ylim(0.0, 2.0)
        third.axhline(spacings.GOE, **goe)
        third.axhline(spacings.POISSON, **poisson)
        third.set_xlim(-0.6, len(layers) - 0.2)
        third.set_xticks(
            np.arange(len(layers)),
            [short(one, 22) for one in layers],
            rotation=90,
            fontsize=6,
        )
        for panel, name in zip((first, second, third), AXES, strict=True):
            if name != "gap ratio":
                panel.set_xlabel(AXES[name][0])
            panel.set_ylabel(AXES[name][1])
        handles, labels = first.get_legend_handles_labels()
        legend_above(figure, handles, labels, 4)
    caption = (
        "Distances of neighbouring levels within the bulk, unfolded by the fitted Marchenko-Pastur "
        "law, of the layers together, and the gap ratio of each, which needs no unfolding: "
        f"{bulk.title(layers)}. A random start has the distances of random matrices, too."
    )
    return Drawing(figure, caption, numbers, AXES, shows_all_layers=True)


def _mean(found: list[list[spacings.Measured]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over layers, and its error, of numbers that some have not."""
    values = np.array([[one.value for one in row] for row in found])
    errors = np.array([[one.error for one in row] for row in found])
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    error = np.sqrt(np.where(known, errors**2, 0.0).sum(axis=0)) / count
    return np.where(known.any(axis=0), mean, np.nan), error
