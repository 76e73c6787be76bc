"""Levels of every run against two laws of the whole spectrum: Coulomb gas and random matrix."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from dysonflow.analysis.gas_or_matrix import MeasuredSpectrum
from dysonflow.errors import ConfigError
from dysonflow.report.figures._study import STYLE, Drawing, StudyData, colours, curve
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.levels import InsufficientData
from dysonflow.statistics.lines import weighted_mean

LAWS = {"gas": "Coulomb gas", "matrix": "random matrix"}
PANELS = {
    "mean": "means",
    "width": "standard deviations",
    "correlation": "correlations of neighbours",
}
LINEAR = 5.0
"""Pulls up to this are drawn on a linear scale, larger ones on a logarithmic one."""
TICKS = (-1000, -300, -100, -30, -10, -3, 0, 3, 10, 30, 100, 300, 1000)
REJECTED = 1e-3
"""P-value below which the caption counts a law as rejected."""


def draw(data: StudyData) -> Drawing:
    """Draw the pulls of all levels against a/B for both laws, and the joint Dyson index.

    Raises
    ------
    ConfigError
        If no run bears the comparison; the reason is that of the last one.
    """
    tables, indices, p_values, left_out = [], [], [], ""
    for run in data.runs:
        try:
            spectrum = MeasuredSpectrum(run, data.layer, data.eigenvalues(run))
            comparison = spectrum.compare(tuple(LAWS))
        except InsufficientData as error:
            left_out = f"run {run.name}: {error}"
            continue
        noise = float(data.all_blocks(run)[0].stochasticity)
        table = pd.DataFrame(comparison.columns)
        tables.append(table.assign(run=run.name, stochasticity=noise))
        p_values.append({name: comparison.distances[name].p_value for name in LAWS})
        indices.append({"run": run.name, "stochasticity": noise, **_indices(spectrum)})
    if not tables:
        raise ConfigError(
            f"study {data.name}: {left_out}; leave `gas_against_matrix` out, or train more"
        )
    table, index = pd.concat(tables), pd.DataFrame(indices).dropna()
    tone = dict(zip(LAWS, ("tab:red", colours(2)[0]), strict=True))
    numbers = []
    with mpl.rc_context(fname=STYLE):
        figure = Figure(figsize=(9.2, 6.4))
        axes = figure.subplots(2, 2, sharex=True)
        for panel, (statistic, name) in zip(axes.flat, PANELS.items(), strict=False):
            rows = table[table["statistic"] == statistic]
            place = _beside(rows)
            for law, text in LAWS.items():
                look: dict[str, Any] = {"mfc": "none"} if law == "gas" else {"ms": 3}
                pull = rows[f"{law}_pull"]
                marker = "s" if law == "gas" else "o"
                panel.plot(place, pull, marker, color=tone[law], label=text, alpha=0.7, **look)
                numbers.append(_curve(statistic, law, rows))
            _frame(panel, name)
        _same_scale(list(axes.flat)[: len(PANELS)])
        numbers += _draw_indices(axes[1, 1], index, tone["matrix"])
        _frame_noise(axes)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        more, names = axes[1, 1].get_legend_handles_labels()
        figure.legend(handles + more, labels + names, loc="outside upper center", ncols=4)
    caption = (
        f"Which law do the levels of study {data.title} have? Distance of every level from theory, "
        "in errors, of its mean, of its standard deviation, and of its correlation with the next "
        "level. Squares: the Coulomb gas; points: the random matrix of the full theory. Both have "
        "the same centres and widths, and no free parameter; they differ by what distant modes do "
        "to each other. Levels lie side by side, ascending; the scale is logarithmic beyond "
        f"{LINEAR:g}; dotted: three errors. {_verdict(table, pd.DataFrame(p_values))}"
        f"{_index_sentence(index)}"
    )
    return Drawing(figure, caption, numbers)


def _indices(spectrum: MeasuredSpectrum) -> dict[str, float]:
    """Dyson index of a run by both estimates; NaN where there is none."""
    try:
        joint = spectrum.dyson_index()
        fits = [
            fit_block(spectrum.levels[..., own], dyson_index=None) for own in spectrum.degenerate
        ]
    except InsufficientData:
        return dict.fromkeys(("joint", "joint_error", "alone", "alone_error"), np.nan)
    alone = weighted_mean(
        [fit.dyson_index for fit in fits], [fit.dyson_index_error for fit in fits]
    )
    return {
        "joint": joint.dyson_index,
        "joint_error": joint.error,
        "alone": alone[0],
        "alone_error": alone[1],
    }


def _beside(rows: pd.DataFrame) -> pd.Series:
    """Where the levels of a run stand: side by side about its a/B."""
    count = rows["level"].max() + 1
    shift = (rows["level"] - 0.5 * (count - 1)) / count
    return rows["stochasticity"] * 10 ** (0.1 * shift)


def _curve(statistic: str, law: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Numbers of one law: pulls, and what they are made of."""
    return curve(
        *(statistic, law, rows["stochasticity"], rows[f"{law}_pull"]),
        run=rows["run"],
        level=rows["level"],
        measured=rows["measured"],
        measured_error=rows["error"],
        predicted=rows[law],
        predicted_error=rows[f"{law}_error"],
    )


def _frame(panel: Any, name: str) -> None:
    panel.set_yscale("symlog", linthresh=LINEAR)
    panel.yaxis.set_major_locator(FixedLocator(TICKS))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_title(name, loc="left")
    panel.set_ylabel("(measured - law) / error")
    for level in (-3, 0, 3):
        panel.axhline(level, color="black", lw=0.7, ls="-" if level == 0 else ":", zorder=0)


def _same_scale(panels: list[Any]) -> None:
    reach = max(LINEAR, *(abs(end) for panel in panels for end in panel.get_ylim()))
    for panel in panels:
        panel.set_ylim(-reach, reach)


def _draw_indices(panel: Any, index: pd.DataFrame, colour: Any) -> list[pd.DataFrame]:
    names = {"alone": "each block on its own", "joint": "all blocks in the random matrix"}
    numbers = []
    # Runs of equal noise side by side.
    place = index["stochasticity"] * 1.2 ** index.groupby("stochasticity").cumcount()
    for shift, (column, text) in zip((0.97, 1.03), names.items(), strict=True):
        y, error = index[column], index[f"{column}_error"]
        look = {"mfc": "none", "color": "tab:grey"} if column == "alone" else {"color": colour}
        panel.errorbar(place * shift, y, error, fmt="D", label=text, **look)
        numbers.append(
            curve("dyson_index", column, index["stochasticity"], y, y_error=error, run=index["run"])
        )
    panel.axhline(1.0, color="black", lw=0.7, zorder=0)
    panel.set_title("Dyson index of degenerate levels", loc="left")
    panel.set_ylabel(r"$\beta$")
    return numbers


def _frame_noise(axes: Any) -> None:
    for panel in axes[1]:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(r"learning rate / batch size, $\alpha/B$")


def _verdict(table: pd.DataFrame, p_values: pd.DataFrame) -> str:
    """Root mean squares of the pulls of both laws, and in how many runs they are rejected."""
    sentences = []
    for law, text in LAWS.items():
        size = [
            f"{name} {np.sqrt((rows[f'{law}_pull'] ** 2).mean()):.1f}"
            for name, rows in table.groupby("statistic", sort=False)
        ]
        known = p_values[law].dropna()
        sentences.append(
            f"{text[0].upper()}{text[1:]}: root mean square pull {', '.join(size)}; all levels of "
            f"a run together reject it in {(known < REJECTED).sum()} of {len(known)} runs "
            f"(p < {REJECTED:g}, Hotelling's T^2). "
        )
    return "".join(sentences)


def _index_sentence(index: pd.DataFrame) -> str:
    if index.empty:
        return "No two levels are degenerate."
    joint, alone = (
        weighted_mean(index[name], index[f"{name}_error"]) for name in ("joint", "alone")
    )
    return (
        f"Dyson index of all degenerate levels: {joint[0]:.3f} ± {joint[1]:.3f} in the random "
        f"matrix, {alone[0]:.3f} ± {alone[1]:.3f} from each block on its own."
    )
