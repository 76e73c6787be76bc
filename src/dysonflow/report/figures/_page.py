"""The page that a figure is drawn for: a screen, or one column of a journal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

STYLE = Path(__file__).with_name("dysonflow.mplstyle")
COLUMN_STYLE = Path(__file__).with_name("column.mplstyle")
"""What differs from the other for a column."""
COLUMN_INCHES = 3.4
"""Width of a column, as of most physics journals."""


@dataclass(frozen=True)
class Page:
    """Size and look of a figure.

    Attributes
    ----------
    style : str
        What it is for, a `dysonflow.report.figures.Style`.
    """

    style: str = "screen"

    @property
    def is_column(self) -> bool:
        """Whether panels that do not fit side by side stand one above the other."""
        return self.style == "column"

    @contextmanager
    def look(self) -> Iterator[None]:
        """Settings of matplotlib, for as long as a figure is drawn or saved."""
        with mpl.rc_context(fname=STYLE):
            if self.is_column:
                mpl.rcParams.update(
                    mpl.rc_params_from_file(COLUMN_STYLE, use_default_template=False)
                )
            yield

    def figure(self, width: float, height: float, column_height: float | None = None) -> Figure:
        """An empty figure.

        Parameters
        ----------
        width, height : float
            In inches, for a screen.
        column_height : float, optional
            In inches, for a column; by default in proportion, and a little more for the text.
        """
        if not self.is_column:
            return Figure(figsize=(width, height))
        if column_height is None:
            column_height = 1.15 * height * COLUMN_INCHES / width
        return Figure(figsize=(COLUMN_INCHES, column_height))

    def frame(self, figure: Figure) -> Bbox:
        """Part of a laid out figure that goes into its files, in inches.

        For a column its own size, so that it needs no scaling there.
        """
        if self.is_column:
            return Bbox.from_bounds(0.0, 0.0, *figure.get_size_inches())
        return figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])


def legend_above(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int
) -> None:
    """Put a legend above all panels, in as many columns as fit, at most `columns`."""
    for number in range(columns, 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper center", ncols=number)
        if number == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def plain_ticks(axis: Axis, steps: Sequence[float] = (1.0, 3.0), most: int | None = None) -> None:
    """Label a logarithmic axis with plain numbers, at `steps` of each decade and nowhere else.

    With `most` no more than about so many ticks are labelled.

    Powers of ten would be smaller than the rest of the text, and over less than two decades
    matplotlib labels the minor ticks too, which then collide.
    """
    axis.set_major_locator(LogLocator(subs=steps, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def logarithmic(axes: Axes, steps: Sequence[float] = (1.0, 3.0), most: int | None = None) -> None:
    """Make both axes logarithmic, with ticks as of `plain_ticks`."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        plain_ticks(axis, steps, most)
