"""What a figure gets to see of its study, and what it gives back."""

import importlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dysonflow import theory
from dysonflow.analysis.columns import INCIDENTAL, fitted_pairs
from dysonflow.analysis.spectra import read_eigenvalues
from dysonflow.artifacts import tables
from dysonflow.artifacts.files import atomic, envelope
from dysonflow.artifacts.pictures import checksums
from dysonflow.artifacts.weights import read_snapshot
from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.report.figures._page import Page
from dysonflow.theory.base import Block, Theory

PLAIN_SIGNS = {r"\\langle ?": "<", r" ?\\rangle": ">", r"\\times": "x", r"\\,": " "}
"""Plain text for signs of LaTeX, by regular expression."""
LIGHTEST = 0.64
"""Part of the colour map that has a contrast of at least 3:1 on white (WCAG 2.1, 1.4.11)."""


@dataclass(frozen=True)
class StudyData:
    """A study and the artifacts that a figure reads.

    Attributes
    ----------
    name : str
        Of the study.
    runs : sequence of Hyperparameters
        In the order of the configuration.
    layer : str
        Weight matrix that is shown; the first of the first run if not given.
    page : Page
        What the figure is drawn for.
    spectra, fits, weights : sequence of path
        Files of the runs, in the same order; empty where the figure does not need them.
    scaling : path, optional
        Table of the study's laws.
    increments : sequence of path
        Files of the runs with lags, in their order.
    gradient_noise : sequence of path
        Files of the runs, in their order.
    linear_scaling : sequence of path
        Table of the study's tests of the linear scaling rule, and that of what they are made of.
    bulk : sequence of path
        Files of the runs with large matrices, in their order.
    """

    name: str
    runs: Sequence[Hyperparameters]
    spectra: Sequence[str] = ()
    fits: Sequence[str] = ()
    weights: Sequence[str] = ()
    scaling: str | None = None
    increments: Sequence[str] = ()
    linear_scaling: Sequence[str] = ()
    bulk: Sequence[str] = ()
    gradient_noise: Sequence[str] = ()
    layer: str = ""
    page: Page = Page()

    def __post_init__(self) -> None:
        """Take the first layer if none is named."""
        if not self.layer:
            object.__setattr__(self, "layer", next(iter(self.runs[0].layers())))

    @property
    def title(self) -> str:
        """Name of the study for a caption, with the layer where there are several."""
        layer = f", layer ``{self.layer}``" if self.has_several_layers else ""
        return f"``{self.name}``{layer}"

    @property
    def has_several_layers(self) -> bool:
        """Whether a run has another weight matrix beside the one that is shown."""
        return any(len(run.layers()) > 1 for run in self.runs)

    @cached_property
    def theory(self) -> Theory[Any] | None:
        """Theory of the study's model, if it has one."""
        model = self.runs[0].MODEL
        return theory.load(model) if theory.exists(model) else None

    @property
    def physics(self) -> Theory[Any]:
        """Theory of the study's model; for figures that show fits, which need one."""
        return theory.load(self.runs[0].MODEL)

    @property
    def level_name(self) -> str:
        """What a level of the study is, in words."""
        if self.theory is None:
            return "eigenvalue of W^T W"
        return self.theory.level_name(self.runs[0], self.layer)

    @property
    def level_label(self) -> str:
        """Label of an axis of levels."""
        if self.theory is None:
            return r"eigenvalue $x$ of $W^T W$"
        return self.theory.level_label(self.runs[0], self.layer)

    @property
    def centre_symbol(self) -> str:
        """LaTeX symbol, without dollar signs, of the centre of a block without noise."""
        return self.physics.centre_symbol

    @property
    def centre_name(self) -> str:
        """The same symbol as plain text, for captions and tables."""
        return self.centre_symbol.replace("\\", "")

    def strength(self, run: Hyperparameters) -> float:
        """Variable of the scaling law for the lowest block: orders the runs by their noise."""
        blocks = self.blocks(run)
        if blocks and math.isfinite(blocks[0].variable):
            return blocks[0].variable
        # Without a prediction the stochasticity is all that is known of the noise.
        values = run.canonical()
        # Weights from files need not say what it was.
        return math.sqrt((values.get("learning_rate") or 1.0) / (values.get("batch_size") or 1))

    def blocks(self, run: Hyperparameters) -> list[Block]:
        """Prediction for each block that can be fitted."""
        return [block for block in self.all_blocks(run) if not block.flag]

    def all_blocks(self, run: Hyperparameters) -> list[Block]:
        """Prediction for each block; none without a theory.

        Centre, sigma and mean gap are those of the full theory where the figure reads fits, which
        hold them; elsewhere those of the block formula.
        """
        return self._predictions[run.name]

    @cached_property
    def _predictions(self) -> dict[str, list[Block]]:
        if self.theory is None:
            return {run.name: [] for run in self.runs}
        found = {run.name: self.theory.block_formulas(run, self.layer) for run in self.runs}
        if not self.fits:
            return found
        names = ("centre", "sigma", "mean_gap")
        for _, row in self.fit_table.iterrows():
            blocks = found.get(row["run"])
            if blocks is not None:
                full = {name: float(row[f"{name}_theory"]) for name in names}
                blocks[row["block"]] = replace(blocks[row["block"]], **full)
        return found

    def block_number(self, run: Hyperparameters, block: Block) -> int:
        """Number of a block in the table of the run's fits."""
        return [one.first for one in self.all_blocks(run)].index(block.first)

    def pair_numbers(self, run: Hyperparameters) -> list[int]:
        """Which of the `blocks` of a run are pairs that were fitted."""
        fitted = set(self.pairs.loc[self.pairs["run"] == run.name, "block"])
        kept = [k for k, block in enumerate(self.all_blocks(run)) if not block.flag]
        return [n for n, number in enumerate(kept) if number in fitted]

    def with_pairs(self) -> list[Hyperparameters]:
        """Runs with a fitted pair."""
        fitted = set(self.pairs["run"])
        return [run for run in self.runs if run.name in fitted]

    def representative(
        self, count: int, among: Sequence[Hyperparameters] | None = None
    ) -> list[Hyperparameters]:
        """Up to `count` runs, weakest noise first, evenly spread on a logarithmic scale.

        Of all runs, or of those `among` which it looks; where these have the same noise, evenly
        spread in their order.
        """
        runs = sorted(self.runs if among is None else among, key=self.strength)
        scale = np.log([max(self.strength(run), 1e-300) for run in runs])
        if scale[0] == scale[-1]:
            scale = np.arange(float(len(runs)))
        wanted = np.linspace(scale[0], scale[-1], count)
        chosen = sorted({int(np.abs(scale - target).argmin()) for target in wanted})
        return [runs[i] for i in chosen]

    def swept(self, name: str) -> list[Hyperparameters]:
        """Runs that differ in the hyperparameter `name` alone, ascending; the largest such set.

        What follows from the rest, such as the times of training, may differ too.

        Raises
        ------
        ConfigError
            If there are no two such runs.
        """
        families: dict[str, list[Hyperparameters]] = {}
        for run in self.runs:
            same = {k: v for k, v in run.canonical().items() if k not in (name, *INCIDENTAL)}
            families.setdefault(str(sorted(same.items())), []).append(run)
        largest = max(families.values(), key=len)
        if len(largest) < 2:
            raise ConfigError(
                f"study {self.name}: no two runs differ in {name} alone; sweep it, or leave the "
                "figure out"
            )
        return sorted(largest, key=lambda run: float(getattr(run, name)))

    def file(self, kind: str, run: Hyperparameters) -> str:
        """Path of the `spectra`, `fits` or `weights` of a run."""
        return str(getattr(self, kind)[list(self.runs).index(run)])

    def levels(self, run: Hyperparameters) -> np.ndarray:
        """Ascending levels of a run, shape (replica, snapshot, level)."""
        values = self.eigenvalues(run)
        return values if self.theory is None else self.theory.levels(run, self.layer, values)

    def eigenvalues(self, run: Hyperparameters) -> np.ndarray:
        """Ascending eigenvalues of W^T W of a run, shape (replica, snapshot, N)."""
        return read_eigenvalues(self.file("spectra", run), self.layer)[0]

    def steps(self, run: Hyperparameters) -> np.ndarray:
        """SGD steps of the snapshots of a run, shape (snapshot,)."""
        return read_eigenvalues(self.file("spectra", run), self.layer)[1]

    def start(self, run: Hyperparameters) -> np.ndarray:
        """Weights of the first snapshot of a run, shape (replica, M, N)."""
        return read_snapshot(self.file("weights", run), self.layer, 0)

    @cached_property
    def fit_table(self) -> pd.DataFrame:
        """Fits of the layer of all runs of the study."""
        return tables.read_table(self.fits, layer=self.layer)

    @cached_property
    def increment_table(self) -> pd.DataFrame:
        """Increments of the layer of all runs of the study that have lags."""
        return tables.read_table(self.increments, layer=self.layer)

    @cached_property
    def bulk_table(self) -> pd.DataFrame:
        """Bulk of all layers of all runs of the study that have one."""
        return tables.read_table(self.bulk)

    @property
    def pairs(self) -> pd.DataFrame:
        """Fits of the pairs of degenerate levels that could be fitted."""
        return fitted_pairs(self.fit_table)

    @cached_property
    def laws(self) -> pd.DataFrame:
        """Laws of the study, indexed by their name."""
        if self.scaling is None:
            raise ValueError(f"study {self.name}: the figure was not given the scaling table")
        return tables.read_table([self.scaling], layer=self.layer).set_index("law")


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers plotted in it, and its caption.

    Attributes
    ----------
    figure : matplotlib Figure
        The picture.
    numbers : list of DataFrame
        The plotted numbers, one table per curve, with columns `panel, curve, x, y` and, where there
        are error bars, `x_error, y_error`.
    caption : str
        In reStructuredText, quoting fitted numbers.
    axes : mapping
        What x and y of each panel in `numbers` are, labels of axes; under "" of all that are not
        named. Dimensionless where no unit stands in brackets.
    page : Page
        What it was drawn for.
    shows_all_layers : bool
        Whether it shows more than the one layer of its study.
    """

    figure: Figure
    caption: str
    numbers: list[pd.DataFrame] = field(default_factory=list)
    axes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    page: Page = Page()
    shows_all_layers: bool = False

    def save(
        self, png: str, pdf: str, csv: str, caption: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Write all four files, atomically and without time stamps.

        The PNG file comes last and holds `metadata` and the checksums of the others.
        """
        with self.page.look():
            # Laid out once for both files, which takes as long as to draw one of them.
            self.figure.draw_without_rendering()
            picture: dict[str, Any] = {"bbox_inches": self.page.frame(self.figure)}
            self.figure.set_layout_engine("none")
            with atomic(pdf) as path:
                self.figure.savefig(path, format="pdf", metadata={"CreationDate": None}, **picture)
            with atomic(csv) as path:
                table = pd.concat(self.numbers, ignore_index=True).to_csv(index=False)
                path.write_text(self.header() + table, encoding="utf-8")
            with atomic(caption) as path:
                path.write_text(self.caption + os.linesep, encoding="utf-8")
            text = envelope({**(metadata or {}), "files": checksums(png)})
            with atomic(png) as path:
                self.figure.savefig(path, format="png", metadata={"dysonflow": text}, **picture)

    def header(self) -> str:
        """First lines of the CSV file: what x and y are, in which units."""
        lines = ["pandas.read_csv(path, comment='#') reads this table"]
        panels = dict.fromkeys(str(name) for table in self.numbers for name in table["panel"])
        for panel in panels if self.axes.keys() - {""} else [""]:
            where = f" of panel {panel}" if panel else ""
            labels = self.axes[panel] if panel in self.axes else self.axes[""]
            for axis, label in zip("xy", labels, strict=True):
                unit = "" if label.endswith("]") else " [1]"
                lines.append(f"{axis}{where}: {plain(label)}{unit}")
        return "".join(f"# {line}\n" for line in lines)


def plain(label: str) -> str:
    """Label of an axis without the signs of LaTeX."""
    for sign, text in PLAIN_SIGNS.items():
        label = re.sub(sign, text, label)
    return " ".join(re.sub(r"[$\\]", "", label).split())


def draw_figure(module: str, data: StudyData, options: Mapping[str, Any]) -> Drawing:
    """Draw a figure of a study; the layer stands above it where there are several.

    Parameters
    ----------
    module : str
        File of this folder that draws it.
    data : StudyData
        The study.
    options : mapping
        Keyword arguments of the file's `draw`.
    """
    package = __name__.rpartition(".")[0]
    drawing: Drawing = importlib.import_module(f"{package}.{module}").draw(data, **options)
    drawing = replace(drawing, page=data.page)
    if data.has_several_layers and not drawing.shows_all_layers:
        with data.page.look():
            drawing.figure.suptitle(f"layer {data.layer}", x=0.01, ha="left")
    return drawing


def curve(panel: str, name: str, x: object, y: object, **errors: object) -> pd.DataFrame:
    """Numbers of one curve, for the CSV file."""
    return pd.DataFrame({"panel": panel, "curve": name, "x": x, "y": y, **errors})


def density(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Histogram of the values of each replica, normalised to one value, and its error.

    Parameters
    ----------
    values : np.ndarray
        Shape (replica, ...).
    edges : np.ndarray
        Edges of the bins, shape (bins + 1,).

    Returns
    -------
    density, error : np.ndarray
        Shape (bins,). The error is the standard error over replicas.
    """
    flat = values.reshape(len(values), -1)
    counts = np.stack([np.histogram(row, edges)[0] for row in flat]) / flat.shape[1]
    counts = counts / np.diff(edges)
    return counts.mean(axis=0), spread(counts) / math.sqrt(len(counts))


def spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation over replicas, shape (replica, ...) to (...); NaN for a single replica."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1)


def nothing_fitted(data: StudyData, what: str = "pair of degenerate levels") -> Drawing:
    """What is drawn where a figure shows fits of `what`, and there are none."""
    with data.page.look():
        figure = data.page.figure(6.5, 2.4)
        text = f"no {what} could be fitted"
        figure.text(0.5, 0.5, text, ha="center", va="center")
    caption = (
        f"In study {data.title} {text}: there is none, or the column ``flag`` of the fits says why."
    )
    return Drawing(figure, caption, [curve("none", "none", [], [])], {"": ("none", "none")})


def colours(count: int) -> list[tuple[float, float, float, float]]:
    """Colours for an ordered sequence, dark to light, readable without colour vision."""
    return [tuple(c) for c in mpl.colormaps["plasma"](np.linspace(0.0, LIGHTEST, count))]


def told_apart(runs: Sequence[Hyperparameters]) -> list[list[str]]:
    """What tells each run from the others, the times of training aside: `name = value`, .."""
    values = [run.canonical() for run in runs]
    names = dict.fromkeys(
        name for one in values for name in one if name not in ("burn_in", "steps")
    )
    differ = [name for name in names if any(one.get(name) != values[0].get(name) for one in values)]
    return [[f"{name} = {one[name]}" for name in differ if name in one] for one in values]


def name_of(run: Hyperparameters) -> str:
    """Values that tell the runs of a study apart, for a legend."""
    idle = run.idle()
    symbols = type(run).symbols().items()
    shown = {symbol: getattr(run, name) for name, symbol in symbols if name not in idle}
    return ", ".join(
        f"${symbol} = {value:g}$" if isinstance(value, int | float) else f"${symbol}$ = {value}"
        for symbol, value in shown.items()
        if value is not None
    )
