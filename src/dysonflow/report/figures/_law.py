"""Points of a scaling law with the line of theory and the fitted one."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dysonflow.analysis.laws import Law, at_small_noise
from dysonflow.report.figures._page import logarithmic, plain_ticks
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    nothing_fitted,
)
from dysonflow.report.quoting import quote

MARKERS = "osD^vP*Xhp"
STRAIGHT = "0.4"
"""Grey of the line of the leading order."""
WIDE = 4.0
"""Largest over smallest abscissa from which on the axes are logarithmic."""


def draw_law(
    data: StudyData,
    value: str,
    error: str,
    panels: Sequence[tuple[Law, str]],
    ylabel: str,
    factor: float = 1.0,
) -> Drawing:
    """Draw a column of the fits against a variable, one panel per variable.

    Parameters
    ----------
    data : StudyData
        The study.
    value, error : str
        Columns of the fits.
    panels : sequence of (law, xlabel)
        Law of each panel, whose variable is on the x axis, and label.
    ylabel : str
        Label of the y axis.
    factor : float
        Multiplies value and error.
    """
    pairs = data.pairs
    if pairs.empty:
        return nothing_fitted(data)
    numbers, sentences = [], []
    shown: dict[str, tuple[str, str]] = {}
    with data.page.look():
        figure, frames = _frames(data, len(panels))
        for (top, bottom), (law, xlabel) in zip(frames, panels, strict=True):
            variable, has_theory = law.variable, law.slope is None
            line = data.laws.loc[law.name]
            shown[variable] = (xlabel, ylabel)
            ends = _ends(factor_of(variable) * pairs[variable])
            x_line = np.geomspace(*ends, 50) if ends[0] > 0 else np.array(ends)
            points: list[Any] = []
            lines: list[Any] = []
            look: dict[str, Any]
            for group, colour, marker in _groups(pairs):
                x = factor_of(variable) * group[variable]
                y, dy = factor * group[value], factor * group[error]
                style: dict[str, Any] = {"fmt": marker, "color": colour}
                centre = f"{group['centre_block_formula'].iloc[0]:.4g}"
                name = f"{data.centre_name} = {centre}"
                label = f"${data.centre_symbol} = {centre}$"
                points.append(top.errorbar(x, y, dy, label=label, **style))
                reference = line["slope_theory"] * x
                bottom.errorbar(x, y / reference, dy / reference, **style)
                numbers.append(curve(variable, name, x, y, y_error=dy))
                if has_theory:
                    full = factor * group[f"{value}_theory"]
                    look = {"marker": "_", "ls": "none", "color": "black", "mew": 1.2}
                    look["ms"] = 2.2 * mpl.rcParams["lines.markersize"]
                    lines = top.plot(x, full, zorder=5, label="full theory of each point", **look)
                    bottom.plot(x, full / reference, zorder=5, **look)
                    numbers.append(curve(variable, f"{name}, full theory", x, full))
            # Grey and thin, so that nobody takes it for what the black dashes belong to.
            straight: dict[str, Any] = {"color": STRAIGHT, "lw": 1.0, "zorder": 1}
            theory = "leading-order theory" if has_theory else "Wigner surmise"
            label = f"{theory}, slope {line['slope_theory']:.5g}"
            lines += top.plot(x_line, line["slope_theory"] * x_line, label=label, **straight)
            bottom.axhline(1.0, **straight)
            numbers.append(curve(variable, theory, x_line, line["slope_theory"] * x_line))
            drawn = [(law, "fit", "-.")]
            small = at_small_noise(law)
            if small is not None and small.name in data.laws.index:
                drawn.append((small, "fit at small noise", ":"))
            for fitted, text, dashes in drawn:
                found = data.laws.loc[fitted.name]
                if np.isnan(found["slope"]):
                    # No point is within the range of the theory.
                    continue
                look = {"color": "tab:red", "ls": dashes}
                label = f"{text}, slope {quote(found['slope'], found['slope_error'])}"
                lines += top.plot(x_line, found["slope"] * x_line, label=label, **look)
                bottom.axhline(found["slope"] / line["slope_theory"], **look)
                numbers.append(curve(variable, text, x_line, found["slope"] * x_line))
                sentences.append(_sentence(data, fitted))
            top.set_ylabel(ylabel)
            bottom.set_ylabel("ratio to\nleading order" if has_theory else "ratio")
            bottom.set_xlabel(xlabel)
            if ends[0] > 0:
                steps = (1.0, 2.0, 5.0) if ends[1] < 100 * ends[0] else (1.0,)
                logarithmic(top, steps)
                bottom.set_xscale("log")
                plain_ticks(bottom.xaxis, steps)
            else:
                top.set_ylim(bottom=0.0)
                top.xaxis.set_major_locator(MaxNLocator(6))
            top.set_xlim(*ends)
            # The points lie on the diagonal, which leaves two corners.
            top.add_artist(top.legend(handles=lines, loc="upper left"))
            top.legend(handles=points, loc="lower right")
    full = ", and on the black dashes where the full theory of each point does"
    caption = (
        f"Study {data.title}, {len(pairs)} pairs of degenerate levels in "
        f"{pairs['run'].nunique()} runs: points lie on the grey line where the law holds"
        f"{full * any(law.slope is None for law, _ in panels)}; below, their ratio to that line. "
        "Error bars: from whole replicas. No theory has a free "
        f"parameter. {' '.join(sentences)}"
    )
    return Drawing(figure, caption, numbers, shown)


def _frames(data: StudyData, count: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure with frames of `count` panels, each for the points and their ratio to a line."""
    if not data.page.is_column:
        figure = data.page.figure(4.6 * count + 0.4, 5.4)
        frames = figure.subplots(2, count, sharex="col", squeeze=False, height_ratios=[3, 1])
        return figure, [(top, bottom) for top, bottom in frames.T]
    figure = data.page.figure(0.0, 0.0, 3.2 * count)
    flat = figure.subplots(2 * count, 1, height_ratios=[3, 1] * count)
    found = list(zip(flat[::2], flat[1::2], strict=True))
    for top, bottom in found:
        top.sharex(bottom)
        top.tick_params(labelbottom=False)
    return figure, found


def _ends(x: pd.Series) -> tuple[float, float]:
    """Ends of an axis: from 0, or logarithmic where points would pile up there."""
    low, high = float(x.min()), float(x.max())
    return (0.0, 1.05 * high) if high < WIDE * low else (low / 1.25, high * 1.25)


def factor_of(variable: str) -> float:
    """Factor on the x axis: sigma is drawn as sqrt(pi) sigma."""
    return float(np.sqrt(np.pi)) if variable == "sigma" else 1.0


def _groups(pairs: pd.DataFrame) -> list[tuple[pd.DataFrame, object, str]]:
    centres = sorted(pairs["centre_block_formula"].unique())
    looks = zip(centres, colours(len(centres)), strict=True)
    return [
        (pairs[pairs["centre_block_formula"] == centre], colour, MARKERS[i % len(MARKERS)])
        for i, (centre, colour) in enumerate(looks)
    ]


def _sentence(data: StudyData, law: Law) -> str:
    line = data.laws.loc[law.name]
    parts = [
        f"Law ``{law.name}`` over {line['points']} points: slope "
        f"{quote(line['slope'], line['slope_error'])}, theory {line['slope_theory']:.4f} "
        f"({line['pull']:+.1f} errors)"
    ]
    # A single point scatters about no line, and has no exponent.
    if not np.isnan(line["p_value"]):
        parts.append(
            "chi2/dof of the points about the fitted line "
            f"{line['chi2']:.1f}/{line['dof']:.0f}, p = {line['p_value']:.2g}"
        )
    if not np.isnan(line["exponent"]):
        parts.append(
            "exponent of the stochasticity "
            f"{quote(line['exponent'], line['exponent_error'])}, theory "
            f"{line['exponent_theory']:.1f}"
        )
    return "; ".join(parts) + "."
