"""Does only a/B count: measured quantities against the noise, and runs of equal noise compared."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dysonflow.analysis.linear_scaling import (
    ADAPTIVE,
    EXCHANGE,
    EXPONENT_A,
    EXPONENT_B,
    equal_family,
    equal_pairs,
    families,
)
from dysonflow.analysis.noise_response import ALL, DIFFUSION, FLUCTUATION, LOSS, WIDTH
from dysonflow.artifacts import tables
from dysonflow.report.figures._page import legend_above, plain_ticks
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve
from dysonflow.report.quoting import quote

SHOWN = {
    LOSS: "loss",
    FLUCTUATION: "fluctuation of a level\nin time",
    WIDTH: "width of a level\nover replicas",
    DIFFUSION: "diffusion of a level\nper training time",
}
"""Quantities that have a panel, and their labels."""
MARKERS = "osD^vP*X"
NOISE, ROOT_NOISE = r"noise $a/((1-m)B)$", r"noise $a/\sqrt{B}$"
RATE = r"effective learning rate $a/(1-m)$"


def draw(data: StudyData) -> Drawing:
    """Draw values against a/B above, ratios at equal a/B below, for all levels together."""
    laws, points = (tables.read_table([path]) for path in data.linear_scaling)
    points = points[points["level"] == ALL]
    points = points.assign(**families(points, list(type(data.runs[0]).model_fields)))
    optimisers = points.get("optimiser", pd.Series("sgd", points.index))
    points["root"] = optimisers.isin(ADAPTIVE)
    points["x"] = points["effective_rate"] / points["batch_size"] ** (1.0 - 0.5 * points["root"])
    noise = ROOT_NOISE if points["root"].all() else NOISE
    if points["root"].any() and noise == NOISE:
        noise += r", Adam $a/\sqrt{B}$"
    shown = [quantity for quantity in SHOWN if (points["quantity"] == quantity).any()]
    layers = list(dict.fromkeys(layer for layer in points["layer"] if layer))
    tones = {"": "black"} | dict(zip(layers, colours(len(layers)), strict=True))
    looks = dict(zip(dict.fromkeys(points["family"]), MARKERS * 9, strict=False))
    numbers, axes = [], {}
    with data.page.look():
        width = 1.0 + 2.7 * len(shown)
        figure = data.page.figure(width, 5.6, 2.3 * len(shown))
        if data.page.is_column:
            panels = figure.subplots(len(shown), 2, squeeze=False).T
        else:
            panels = figure.subplots(2, len(shown), squeeze=False)
        for column, quantity in enumerate(shown):
            upper, lower = panels[:, column]
            here = points[points["quantity"] == quantity]
            for (layer, family), rows in here.groupby(["layer", "family"], sort=False):
                look = {"fmt": looks[family], "color": tones[layer], "ms": 4, "mfc": "none"}
                upper.errorbar(rows["x"], rows["value"], rows["error"], **look)
                numbers.append(
                    curve(
                        f"{quantity} against noise",
                        " ".join(filter(None, [layer, family])) or "network",
                        rows["x"].to_numpy(),
                        rows["value"].to_numpy(),
                        y_error=rows["error"].to_numpy(),
                    )
                )
            numbers += _ratios(lower, here, quantity, tones, looks)
            _scale(upper, here["value"])
            for panel, x in ((upper, here["x"]), (lower, here["effective_rate"])):
                panel.set_xscale("log")
                plain_ticks(panel.xaxis, (1.0, 3.0) if x.max() > 10 * x.min() else (1.0, 2.0, 5.0))
            lower.axhline(1.0, color="grey", lw=0.8)
            upper.set_xlabel(noise)
            upper.set_ylabel(SHOWN[quantity])
            lower.set_xlabel(RATE if not data.page.is_column else r"$a/(1-m)$")
            lower.set_ylabel("ratio at equal noise")
            axes[f"{quantity} against noise"] = (noise, SHOWN[quantity].replace("\n", " "))
            axes[f"{quantity} at equal noise"] = (RATE, "ratio to the run of smallest rate")
        handles = []
        for layer in (name for name in tones if name in set(points["layer"])):
            name = layer or "network"
            handles += panels[0, 0].plot([], [], "s", color=tones[layer], label=name)
        for family, marker in looks.items():
            if family:
                look = {"color": "grey", "mfc": "none", "label": family}
                handles += panels[0, 0].plot([], [], marker, **look)
        legend_above(figure, handles, [handle.get_label() for handle in handles], columns=4)
    caption = (
        f"Linear scaling rule in study ``{data.name}``. Above: each run at its noise, learning "
        "rate over batch size (Adam: over its root), with a momentum m over 1 - m as well; of "
        "levels the root mean square over a layer. Below: runs over that of the smallest learning "
        f"rate of equal noise; 1 if nothing else counts. {_sentences(laws, layers)}"
        "Errors: whole replicas."
    )
    return Drawing(figure, caption, numbers, axes, shows_all_layers=True)


def _scale(panel: Axes, values: pd.Series) -> None:
    """A logarithmic axis of y where the values span some range."""
    if values.min() > 0 and values.max() > 3 * values.min():
        panel.set_yscale("log")
        plain_ticks(panel.yaxis, (1.0, 2.0, 5.0), 6)


def _ratios(
    panel: Axes, here: pd.DataFrame, quantity: str, tones: dict, looks: dict
) -> list[pd.DataFrame]:
    """Draw the ratios of runs of equal noise; returns their numbers."""
    numbers = []
    # Layers side by side, where they have the same learning rates.
    shift = dict(zip(tones, 1.03 ** np.arange(len(tones)), strict=True))
    for (layer, _), rows in here.groupby(["layer", equal_family(quantity)], sort=False):
        pairs = equal_pairs(rows, bool(rows["root"].all())).set_index("run")
        pairs["family"] = rows.set_index("run")["family"]
        for family, some in pairs.groupby("family", sort=False):
            error = some["ratio"] * (some["own_error"] ** 2 + some["reference_error"] ** 2) ** 0.5
            look = {"fmt": looks[family], "color": tones[layer], "ms": 4, "mfc": "none"}
            panel.errorbar(some["effective_rate"] * shift[layer], some["ratio"], error, **look)
            numbers.append(
                curve(
                    f"{quantity} at equal noise",
                    " ".join(filter(None, [layer, family])) or "network",
                    some["effective_rate"].to_numpy(),
                    some["ratio"].to_numpy(),
                    y_error=error.to_numpy(),
                )
            )
    return numbers


def _sentences(laws: pd.DataFrame, layers: list[str]) -> str:
    """Exponents of the fluctuations of the first layer in words, for each family."""
    found = []
    rows = laws[(laws["level"] == ALL) & (laws["quantity"] == FLUCTUATION)]
    rows = rows[rows["layer"] == layers[0]] if layers else rows
    for family, some in rows.groupby("family", sort=False):
        table = some.set_index("law")
        parts = [
            f"{quote(table.loc[law, 'value'], table.loc[law, 'error'])} in {symbol}"
            for law, symbol in ((EXPONENT_A, "a"), (EXPONENT_B, "B"))
            if law in table.index
        ]
        if EXCHANGE in table.index:
            row = table.loc[EXCHANGE]
            parts.append(f"the same at a ~ B^{quote(row['value'], row['error'])}")
        if parts:
            which = f" ({family})" if family else ""
            found.append(f"Exponents of the fluctuation of {layers[0]}{which}: {', '.join(parts)}.")
    return "".join(sentence + " " for sentence in found)
