"""Distribution of the gap of degenerate pairs, raw and rescaled on the Wigner surmise."""

import math

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.report.figures._page import legend_above, logarithmic
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    density,
    name_of,
    nothing_fitted,
)
from dysonflow.statistics.laws import WignerSurmise

RUNS = 4
BINS = np.linspace(0.0, 3.2, 17)
RAW = ("gap $S$", "$P(S)$")
RESCALED = (r"$s = S / \langle S \rangle$", "$P(s)$")
"""Labels of the axes."""
KNOWN = (1.0, 2.0, 4.0)
"""Dyson indices of the Wigner surmise."""


def draw(data: StudyData, over: str | None = None, pair: int | None = None) -> Drawing:
    """Draw one row per pair: the gap S on the left, S over its mean on the right.

    Parameters
    ----------
    data : StudyData
        The study.
    over : str, optional
        Draw all values of this hyperparameter among runs that differ in nothing else; by default
        four strengths of noise.
    pair : int, optional
        Draw only this degenerate pair, counted from 1; by default all.
    """
    if data.pairs.empty:
        return nothing_fitted(data)
    there = data.with_pairs()
    runs = data.representative(RUNS, there) if over is None else data.swept(over)
    pairs = sorted({number for run in runs for number in data.pair_numbers(run)})
    if pair is not None:
        if pair > len(pairs):
            raise ConfigError(
                f"study {data.name}: no pair {pair}, there are {len(pairs)} degenerate pair(s)"
            )
        pairs = [pairs[pair - 1]]
    indices = sorted({block.gas_index for run in runs for block in data.blocks(run)})
    surmises = {beta: WignerSurmise(int(beta)) for beta in indices if beta in KNOWN}
    fine = np.linspace(0.0, BINS[-1], 200)
    middle = 0.5 * (BINS[1:] + BINS[:-1])
    numbers = [
        curve("rescaled", _name_of_surmise(beta, "wigner_surmise"), fine, surmise.pdf(fine))
        for beta, surmise in surmises.items()
    ]
    axes = {"rescaled": RESCALED}
    with data.page.look():
        tall = 2.3 * len(pairs) + 0.8 if pair is None else 3.9
        figure = data.page.figure(7.5, tall, 0.62 * tall)
        panels = figure.subplots(len(pairs), 2, squeeze=False)
        for (raw, rescaled), number in zip(panels, pairs, strict=True):
            there = [run for run in runs if number in data.pair_numbers(run)]
            for run in there:
                colour = colours(len(runs))[runs.index(run)]
                block = data.blocks(run)[number]
                levels = data.levels(run)[..., block.positions]
                gap = levels[..., 1] - levels[..., 0]
                # The mean gap sets the unit of the bins too, so that both columns show the same
                # bins of the same data.
                unit = float(gap.mean())
                height, error = density(gap / unit, BINS)
                dots = {"fmt": "o", "color": colour, "ms": 3}
                raw.errorbar(middle * unit, height / unit, error / unit, **dots)
                rescaled.errorbar(middle, height, error, label=name_of(run), **dots)
                place = f"{data.centre_name} = {block.centre_block:.4g}"
                axes |= {f"{place} raw": RAW, f"{place} rescaled": RESCALED}
                surmise = surmises.get(block.gas_index)
                if surmise is not None:
                    theory = surmise.pdf(fine * unit / block.mean_gap) / block.mean_gap
                    raw.plot(fine * unit, theory, color=colour, lw=1.0)
                    name = f"{run.name} theory"
                    numbers.append(curve(f"{place} raw", name, fine * unit, theory))
                numbers += [
                    curve(
                        f"{place} raw", run.name, middle * unit, height / unit, y_error=error / unit
                    ),
                    curve(f"{place} rescaled", run.name, middle, height, y_error=error),
                ]
            for (beta, surmise), dashes in zip(surmises.items(), ("-", "--", ":"), strict=False):
                name = _name_of_surmise(beta, "Wigner surmise")
                rescaled.plot(fine, surmise.pdf(fine), color="black", ls=dashes, label=name)
            logarithmic(raw, (1.0,), 4 if data.page.is_column else 6)
            raw.set_xlim(
                left=0.5 * middle[0] * min(data.blocks(run)[number].mean_gap for run in there)
            )
            raw.set_ylabel(RAW[1])
            rescaled.set_ylabel(RESCALED[1])
            for panel in (raw, rescaled):
                panel.set_title(f"${data.centre_symbol} = {block.centre_block:.4g}$", loc="left")
        panels[-1, 0].set_xlabel(RAW[0])
        panels[-1, 1].set_xlabel(RESCALED[0])
        named = [panel.get_legend_handles_labels() for panel in panels[:, 1]]
        look = {label: handle for found in named for handle, label in zip(*found, strict=True)}
        legend_above(figure, list(look.values()), list(look), math.ceil(len(look) / 2))
    caption = (
        f"Gaps of the {len(pairs)} degenerate pair(s) of study {data.title}. Left: as measured; "
        "the lines are the Wigner surmise with the mean gap that theory predicts (no free "
        "parameter). Right: over the measured mean gap, all on one Wigner surmise. Error bars: "
        f"standard error over replicas. {_agreement(data, runs, pairs)}"
    )
    return Drawing(figure, caption, numbers, axes)


def _name_of_surmise(dyson_index: float, name: str) -> str:
    """Name of a surmise; of another index than 1 with the index."""
    return name if dyson_index == 1.0 else f"{name}, $\\beta = {dyson_index:g}$"


def _agreement(data: StudyData, runs: list[Hyperparameters], pairs: list[int]) -> str:
    """What the tests of the pairs shown say."""
    fits = data.fit_table
    drawn = {
        (run.name, data.block_number(run, data.blocks(run)[n]))
        for run in runs
        for n in pairs
        if n in data.pair_numbers(run)
    }
    places = zip(fits["run"], fits["block"], strict=True)
    shown = fits[[place in drawn for place in places]]
    pulls, p_values = shown["pull_gap"].dropna(), shown["surmise_p_value"].dropna()
    within = int((pulls.abs() < 3).sum())
    return (
        f"Of {len(pulls)} mean gaps, {within} lie within three errors of theory; smallest of the "
        f"{len(p_values)} p-values of the surmise: {p_values.min():.2g}."
    )
