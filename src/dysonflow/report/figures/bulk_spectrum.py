"""Spectra of the last snapshot with the bulk, its edges and what lies outside."""

import numpy as np

from dysonflow.report.figures._bulk import BulkData, law_of, short
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve

LAYERS = 4
BINS = 40
SCALES = {
    "fitted": "scale of maximum likelihood",
    "known": "known scale",
    "given": "scale known, or of maximum likelihood",
}
AXES = (r"eigenvalue $x$ of $W^T W$", "levels per unit")


def draw(data: StudyData) -> Drawing:
    """Draw a row for each layer: the bulk on linear, the whole spectrum on logarithmic axes."""
    bulk = BulkData(data)
    layers = [one for one in bulk.strongest(LAYERS) if np.isfinite(bulk.row(one)["scale"])]
    numbers = []
    tone, accent = colours(3)[0], "tab:red"
    with data.page.look():
        figure = data.page.figure(8.0, 2.1 * len(layers) + 0.9, 1.5 * len(layers) + 0.9)
        panels = figure.subplots(max(len(layers), 1), 2, squeeze=False)
        for (left, right), layer in zip(panels, layers, strict=False):
            row = bulk.row(layer)
            below, inside, above = bulk.split(layer, -1)
            law = law_of(row)
            low, high = row["lower_edge"], row["upper_edge"]
            margin = 0.08 * (high - low)
            edges = np.linspace(max(low - margin, 0.0), high + margin, BINS + 1)
            grid = np.linspace(*law.edges, 402)[1:-1]
            density = len(inside) * law.density(grid)
            numbers += [
                _histogram(left, np.concatenate([below, inside, above]), edges, tone, layer),
                curve(layer, "Marchenko-Pastur", grid, density),
                curve(layer, "above", above, np.nan),
                curve(layer, "edges", [low, high], np.nan),
            ]
            left.plot(
                grid, density, color="black", lw=1.2, label=f"Marchenko-Pastur, {bulk.scale} scale"
            )
            ends = (min(below.min(initial=low), inside.min()), max(above.max(initial=high), high))
            wide = np.geomspace(max(ends[0], 1e-6 * ends[1]), 1.05 * ends[1], BINS + 1)
            whole = np.concatenate([below, inside, above])
            numbers.append(_histogram(right, whole, wide, tone, f"{layer}, logarithmic"))
            fine = np.geomspace(max(law.edges[0], wide[0]), law.edges[1], 402)[1:-1]
            right.plot(fine, len(inside) * law.density(fine), color="black", lw=1.2)
            right.set_xscale("log")
            right.set_yscale("log")
            for panel in (left, right):
                for edge in (low, high):
                    panel.axvline(edge, color="grey", ls="--", lw=0.8, label="edges of the bulk")
                outside = np.concatenate([below, above])
                panel.plot(
                    outside,
                    np.full(len(outside), 0.03),
                    "|",
                    color=accent,
                    ms=9,
                    transform=panel.get_xaxis_transform(),
                    label="level outside",
                )
            left.set_xlim(edges[0], edges[-1])
            p_value = row["bulk_p_value"]
            left.set_title(
                f"{short(layer)}: {int(row['outliers_above'])} above, bulk p = {p_value:.2g}",
                loc="left",
            )
            left.set_ylabel(AXES[1])
        for panel in panels[-1]:
            panel.set_xlabel(AXES[0])
        found = dict(zip(*panels[0, 0].get_legend_handles_labels()[::-1], strict=True))
        legend_above(figure, list(found.values()), list(found), 4)
    caption = (
        f"Spectrum of {bulk.title(layers)}, at SGD step {bulk.steps[-1]}: the bulk on linear axes, "
        "all levels on logarithmic ones. Black: Marchenko-Pastur law, {SCALES[bulk.scale]}. "
        "p: test of the law by its Chebyshev modes."
    )
    numbers = numbers or [curve("none", "none", [], [])]
    return Drawing(figure, caption, numbers, {"": AXES}, shows_all_layers=True)


def _histogram(panel, values, edges, colour, name):  # type: ignore[no-untyped-def]
    """Levels per unit, as a histogram."""
    count = np.histogram(values, edges)[0]
    height = count / np.diff(edges)
    panel.stairs(height, edges, fill=True, color=colour, alpha=0.35, label="levels")
    sides = {"x_low": edges[:-1], "x_high": edges[1:], "y_error": np.sqrt(count) / np.diff(edges)}
    return curve(name, "levels", 0.5 * (edges[1:] + edges[:-1]), height, **sides)
