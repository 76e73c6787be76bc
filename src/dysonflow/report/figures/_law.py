"""Points of a scaling law with the line of theory and the fitted one."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dysonflow.analysis.laws import Law, at_small_noise
from dysonflow.report.figures._study import (
    STYLE,
    Drawing,
    StudyData,
    colours,
    curve,
    nothing_fitted,
)
from dysonflow.report.quoting import quote

MARKERS = "osD^vP*Xhp"


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
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(4.6 * len(panels) + 0.4, 5.4))
        axes = figure.subplots(2, len(panels), sharex="col", squeeze=False, height_ratios=[3, 1])
        for (top, bottom), (law, xlabel) in zip(axes.T, panels, strict=True):
            variable, has_theory = law.variable, law.slope is None
            line = data.laws.loc[law.name]
            x_end = 1.05 * (factor_of(variable) * pairs[variable]).max()
            x_line = np.array([0.0, x_end])
            for group, colour, marker in _groups(pairs):
                x = factor_of(variable) * group[variable]
                y, dy = factor * group[value], factor * group[error]
                style = {"fmt": marker, "color": colour}
                name = f"${data.centre_symbol} = {group['centre_block_formula'].iloc[0]:.4g}$"
                top.errorbar(x, y, dy, label=name, **style)
                reference = line["slope_theory"] * x
                bottom.errorbar(x, y / reference, dy / reference, **style)
                numbers.append(curve(variable, name.strip("$"), x, y, y_error=dy))
                if has_theory:
                    full = factor * group[f"{value}_theory"]
                    look = {"marker": "_", "ls": "none", "color": "black", "ms": 9}
                    top.plot(x, full, zorder=5, **look)
                    bottom.plot(x, full / reference, zorder=5, **look)
                    numbers.append(curve(variable, f"{name.strip('$')} full theory", x, full))
            if has_theory:
                top.plot([], [], label="full theory of each point (no free parameter)", **look)
            top.plot(
                x_line,
                line["slope_theory"] * x_line,
                color="black",
                label=f"theory, slope {line['slope_theory']:.4f} (no free parameter)",
            )
            bottom.axhline(1.0, color="black")
            drawn = [(law, f"fit, slope {quote(line['slope'], line['slope_error'])}", "-.")]
            small = at_small_noise(law)
            if small is not None and small.name in data.laws.index:
                quiet = data.laws.loc[small.name]
                text = f"fit at small noise, slope {quote(quiet['slope'], quiet['slope_error'])}"
                drawn.append((small, text, ":"))
            for fitted, text, dashes in drawn:
                if np.isnan(data.laws.loc[fitted.name, "slope"]):
                    # No point is within the range of the theory.
                    continue
                slope = data.laws.loc[fitted.name, "slope"]
                look = {"color": "tab:red", "ls": dashes}
                top.plot(x_line, slope * x_line, label=text, **look)
                bottom.axhline(slope / line["slope_theory"], **look)
                numbers.append(curve(variable, text, x_line, slope * x_line))
                sentences.append(_sentence(data, fitted))
            theory_line = curve(variable, "theory", x_line, line["slope_theory"] * x_line)
            numbers.append(theory_line)
            top.set_ylabel(ylabel)
            bottom.set_ylabel("ratio to theory")
            bottom.set_xlabel(xlabel)
            top.set_ylim(bottom=0.0)
            top.set_xlim(0.0, x_end)
            top.xaxis.set_major_locator(MaxNLocator(6))
            top.legend(loc="upper left")
    caption = (
        f"Study {data.title}, {len(pairs)} pairs of degenerate levels in "
        f"{pairs['run'].nunique()} runs. Error bars: from whole replicas. {' '.join(sentences)}"
    )
    return Drawing(figure, caption, numbers)


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
    return (
        f"Law ``{law.name}`` over {line['points']} points: slope "
        f"{quote(line['slope'], line['slope_error'])}, theory {line['slope_theory']:.4f} "
        f"({line['pull']:+.1f} errors); chi2/dof of the points about the fitted line "
        f"{line['chi2']:.1f}/{line['dof']:.0f}, p = {line['p_value']:.2g}; exponent of the "
        f"stochasticity {quote(line['exponent'], line['exponent_error'])}, theory "
        f"{line['exponent_theory']:.1f}."
    )
