"""Figures of docs/statistics.md, from the tables that parameter_recovery.py writes.

python benchmarks/parameter_recovery.py --datasets 1000 --csv results/recovery
python benchmarks/statistics_figures.py results/recovery docs/images
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dysonflow.report.figures._page import STYLE


def recovery_figure(table: pd.DataFrame, datasets: int) -> Figure:
    """Scatter of the estimates over the Cramer-Rao bound, and coverage of the intervals."""
    figure = Figure(figsize=(7.5, 6.2))
    top, bottom = figure.subplots(2, 1, sharex=True)
    blocks = table[["n", "beta"]].drop_duplicates().sort_values(["n", "beta"]).to_numpy()
    place = {tuple(block): i for i, block in enumerate(blocks)}
    looks = {
        ("likelihood", "centre"): ("o", "tab:blue", "centre, likelihood"),
        ("likelihood", "sigma"): ("s", "tab:orange", r"$\sigma$, likelihood"),
        ("likelihood", "dyson_index"): ("^", "tab:green", r"$\beta$, likelihood"),
        ("histogram", "centre"): ("o", "grey", "centre, histogram"),
        ("histogram", "sigma"): ("s", "black", r"$\sigma$, histogram"),
    }
    for number, ((method, parameter), (marker, colour, label)) in enumerate(looks.items()):
        # With beta fitted where it is, as the harder case.
        rows = table[(table["method"] == method) & (table["parameter"] == parameter)]
        rows = rows[rows["fit"].str.startswith("beta")]
        rows = rows.drop_duplicates(["n", "beta"], keep="last")
        x = np.array([place[n, beta] for n, beta in rows[["n", "beta"]].to_numpy()])
        x = x + 0.12 * (number - 2)
        style = {"fmt": marker, "color": colour, "label": label}
        error = rows["se_over_bound"] / np.sqrt(2 * datasets)
        top.errorbar(x, rows["se_over_bound"], error, **style)
        for level in (0.68, 0.95):
            column = "coverage_68" if level < 0.9 else "coverage_95"
            error = np.sqrt(level * (1 - level) / datasets)
            bottom.errorbar(x, rows[column], error, **style)
    top.axhline(1.0, color="black", lw=0.8, label="Cramér-Rao bound")
    top.set_ylabel("standard error / bound")
    top.legend(loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.25))
    for level in (0.68, 0.95):
        bottom.axhline(level, color="black", lw=0.8)
    bottom.set_ylabel("coverage of 68 and 95 % intervals")
    bottom.set_xticks(range(len(blocks)), [f"{n:g}, {beta:g}" for n, beta in blocks])
    bottom.set_xlabel(r"levels $n$, Dyson index $\beta$")
    return figure


def uniformity_figure(table: pd.DataFrame, datasets: int) -> Figure:
    """Share of data sets rejected under the null, for every test."""
    figure = Figure(figsize=(7.5, 0.24 * len(table) + 1.2))
    axes = figure.subplots()
    y = np.arange(len(table))[::-1]
    for name, level, colour in (
        ("below_0.10", 0.10, "tab:blue"),
        ("below_0.05", 0.05, "tab:orange"),
        ("below_0.01", 0.01, "tab:green"),
    ):
        error = np.sqrt(level * (1 - level) / datasets)
        axes.axvspan(level - 2 * error, level + 2 * error, color=colour, alpha=0.15, lw=0)
        axes.plot(table[name], y, "o", color=colour, label=f"p < {level:.2f}")
    labels = [
        f"{test}, n = {n}, β = {beta:g}"
        for test, n, beta in table[["test", "n", "beta"]].itertuples(index=False)
    ]
    axes.set_yticks(y, labels)
    axes.set_xlabel("share of data sets under the null; bands: two standard errors")
    axes.legend(loc="lower center", ncols=3, bbox_to_anchor=(0.4, 1.0))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", help="prefix of the tables")
    parser.add_argument("images", type=Path, help="folder for the figures")
    parser.add_argument("--datasets", type=int, default=1000, help="data sets a row of the tables")
    options = parser.parse_args()
    with mpl.rc_context(fname=STYLE):
        for name, draw in (("recovery", recovery_figure), ("uniformity", uniformity_figure)):
            table = pd.read_csv(f"{options.tables}_{name}.csv")
            picture = draw(table, options.datasets)
            picture.savefig(options.images / f"{name}.png", bbox_inches="tight")


if __name__ == "__main__":
    main()
