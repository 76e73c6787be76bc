"""Levels of every run against two laws of the whole spectrum: Coulomb gas and random matrix."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from dysonflow.analysis.gas_or_matrix import MeasuredSpectrum
from dysonflow.errors import ConfigError
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData, colours, curve
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.levels import InsufficientData
from dysonflow.statistics.lines import weighted_mean

LAWS = {"gas": "Coulomb gas", "matrix": "random matrix"}
PANELS = {
    "mean": "means",
    "width": "standard deviations",
    "correlation": "correlations of neighbours",
}
INDICES = {
    "inside": (r"$\beta$ of degenerate levels", ("alone", "joint")),
    "between": ("repulsion exponent of different modes", ("between", "between_matrix")),
}
"""Panels of indices: title, and the estimates that they show."""
ESTIMATES = {
    "alone": "each block on its own",
    "joint": "all levels, in the random matrix",
    "between": "all levels",
    "between_matrix": "levels drawn from the random matrix",
}
LARGEST_ERROR = 0.3
"""Indices with a larger error are in the table of numbers only."""
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
    tables, indices, p_values, left_out = [], [], [], []
    for run in data.runs:
        try:
            spectrum = MeasuredSpectrum(run, data.layer, data.eigenvalues(run))
            comparison = spectrum.compare(tuple(LAWS))
        except InsufficientData as error:
            left_out.append(f"run {run.name}: {error}")
            continue
        noise = float(data.all_blocks(run)[0].stochasticity)
        table = pd.DataFrame(comparison.columns)
        tables.append(table.assign(run=run.name, stochasticity=noise))
        p_values.append({name: comparison.distances[name].p_value for name in LAWS})
        samples = math.prod(spectrum.levels.shape[:2])
        found = {"run": run.name, "stochasticity": noise, "samples": samples}
        indices.append(found | _indices(spectrum))
    if not tables:
        raise ConfigError(
            f"study {data.name}: {left_out[-1]}; leave `gas_against_matrix` out, or train more"
        )
    table, index = pd.concat(tables), pd.DataFrame(indices)
    tone = dict(zip(LAWS, ("tab:red", colours(2)[0]), strict=True))
    numbers = []
    with data.page.look():
        figure = data.page.figure(10.5, 6.6, 11.0)
        # Three panels above, two below.
        places: list[Any] = [
            [name for name in names for _ in range(6 // len(names))]
            for names in (list(PANELS), list(INDICES))
        ]
        if data.page.is_column:
            places = [[name] for name in (*PANELS, *INDICES)]
        axes = figure.subplot_mosaic(places, sharex=True)
        for statistic, name in PANELS.items():
            panel, shown = axes[statistic], table[table["statistic"] == statistic]
            place = _beside(shown)
            for law, text in LAWS.items():
                look: dict[str, Any] = {"mfc": "none"} if law == "gas" else {"ms": 3}
                marker = "s" if law == "gas" else "o"
                pull = shown[f"{law}_pull"]
                panel.plot(place, pull, marker, color=tone[law], label=text, alpha=0.7, **look)
                numbers.append(_curve(statistic, law, shown))
            _frame(panel, name)
        _same_scale([axes[name] for name in PANELS])
        for name in INDICES:
            numbers += _draw_indices(axes[name], name, index, tone)
        for panel in axes.values():
            _frame_noise(panel)
        axes["mean"].set_ylabel("(measured - law) / error")
        handles, labels = axes["mean"].get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=2)
    caption = (
        f"Which law do the levels of study {data.title} have? Above: distance of every level from "
        "theory, in errors, of its mean, its standard deviation, and its correlation with the next "
        "level. Squares: the Coulomb gas; points: the random matrix of the full theory. Both "
        "have the same centres and widths, and no free parameter; they differ by what different "
        "modes do to each other. Levels of a run lie side by side, ascending; the scale is "
        f"logarithmic beyond {LINEAR:g}; dotted: three errors. {_verdict(table, p_values)}Below: "
        "exponents of |x_i - x_j|, maximum-likelihood estimates with centre and width of every "
        f"block free, so far as they are known to {LARGEST_ERROR:g}. {_index_sentence(index)}"
        f"{''.join(f' Left out: {reason}.' for reason in left_out)}"
    )
    axes_of = {name: ("learning rate / batch size", "exponent") for name in INDICES}
    axes_of[""] = ("learning rate / batch size", "(measured - law) / error")
    return Drawing(figure, caption, numbers, axes_of)


def _indices(spectrum: MeasuredSpectrum) -> dict[str, float]:
    """Indices of a run by all estimates; NaN where there is none."""

    def alone() -> tuple[float, float]:
        levels = [spectrum.levels[..., own] for own in spectrum.degenerate]
        if not levels:
            return np.nan, np.nan
        fits = [fit_block(x, dyson_index=None) for x in levels]
        return weighted_mean(
            [fit.dyson_index for fit in fits],
            [fit.dyson_index_error for fit in fits],
            # What a block says of the index grows about as its pairs of levels.
            [math.comb(x.shape[-1], 2) for x in levels],
        )

    def joint() -> tuple[float, float]:
        found = spectrum.dyson_index()
        return found.dyson_index, found.error

    def between(law: str | None = None) -> tuple[float, float]:
        found = spectrum.repulsion_between(law)
        return found.dyson_index, found.error

    estimates: dict[str, Callable[[], tuple[float, float]]] = {
        "alone": alone,
        "joint": joint,
        "between": between,
        "between_matrix": lambda: between("matrix"),
    }
    row = {}
    for name, estimate in estimates.items():
        try:
            row[name], row[f"{name}_error"] = estimate()
        except InsufficientData:
            row[name], row[f"{name}_error"] = np.nan, np.nan
    return row


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
    for level in (-3, 0, 3):
        panel.axhline(level, color="black", lw=0.7, ls="-" if level == 0 else ":", zorder=0)


def _same_scale(panels: list[Any]) -> None:
    reach = max(LINEAR, *(abs(end) for panel in panels for end in panel.get_ylim()))
    for panel in panels:
        panel.set_ylim(-reach, reach)


def _draw_indices(
    panel: Any, name: str, index: pd.DataFrame, tone: dict[str, Any]
) -> list[pd.DataFrame]:
    """One panel of indices; the numbers hold all of them, also those that are hardly known."""
    title, estimates = INDICES[name]
    numbers = []
    # Runs of equal noise side by side.
    place = index["stochasticity"] * 1.2 ** index.groupby("stochasticity").cumcount()
    for number, column in enumerate(estimates):
        y, error = index[column], index[f"{column}_error"]
        beside = column in ("alone", "between_matrix")
        look = {"mfc": "none", "color": "tab:grey"} if beside else {"color": "black"}
        shown = error < LARGEST_ERROR
        at = place[shown] * 1.06 ** (number - 0.5 * (len(estimates) - 1))
        panel.errorbar(at, y[shown], error[shown], fmt="D", label=ESTIMATES[column], **look)
        numbers.append(
            curve(name, column, index["stochasticity"], y, y_error=error, run=index["run"])
        )
    if name == "between":
        panel.axhline(1.0, color=tone["gas"], lw=1.0, zorder=0, label="Coulomb gas")
        far = "matrix, distant modes"
        panel.axhline(0.5, color=tone["matrix"], lw=1.0, zorder=0, label=far)
    else:
        panel.axhline(1.0, color="black", lw=0.7, zorder=0)
    panel.set_title(title, loc="left")
    panel.legend(loc="best")
    return numbers


def _frame_noise(panel: Any) -> None:
    panel.set_xscale("log")
    panel.tick_params(labelbottom=True)
    panel.xaxis.set_major_locator(LogLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(r"learning rate / batch size, $\alpha/B$")


def _verdict(table: pd.DataFrame, p_values: Sequence[dict[str, float]]) -> str:
    """Root mean squares of the pulls of both laws, and in how many runs they are rejected."""
    sentences = []
    for law, text in LAWS.items():
        size = [
            f"{name} {np.sqrt((rows[f'{law}_pull'] ** 2).mean()):.1f}"
            for name, rows in table.groupby("statistic", sort=False)
        ]
        known = np.array([one[law] for one in p_values if not np.isnan(one[law])])
        sentences.append(
            f"{text[0].upper()}{text[1:]}: root mean square pull {', '.join(size)}; all levels of "
            f"a run together reject it in {(known < REJECTED).sum()} of {len(known)} runs "
            f"(p < {REJECTED:g}, Hotelling's T^2). "
        )
    return "".join(sentences)


def _index_sentence(index: pd.DataFrame) -> str:
    if index["joint"].isna().all():
        return "No two levels are degenerate."
    joint, alone = (
        weighted_mean(index[name], index[f"{name}_error"], index["samples"])
        for name in ("joint", "alone")
    )
    return (
        f"Dyson index of all degenerate levels: {joint[0]:.3f} ± {joint[1]:.3f} in the random "
        f"matrix, {alone[0]:.3f} ± {alone[1]:.3f} from each block on its own. Levels of different "
        "modes repel each other with the exponent 1 in the gas; in the random matrix with 1/2 "
        "where they are far apart, and with more where they come near each other."
    )
