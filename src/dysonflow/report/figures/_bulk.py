"""What the figures of bulks have in common: which run, layers and rows they show."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from dysonflow.analysis.bulk import BULK_LEVEL, MOST_OUTSIDE, ONE, WEIGHTS
from dysonflow.analysis.spectra import read_eigenvalues
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.report.figures._study import StudyData
from dysonflow.statistics.marchenko_pastur import MarchenkoPastur


@dataclass(frozen=True)
class BulkData:
    """The run of a study that a figure shows, its first replica, all its layers.

    Attributes
    ----------
    data : StudyData
        The study.
    """

    data: StudyData
    _read: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @cached_property
    def run(self) -> Hyperparameters:
        """The run with a bulk that has the weakest noise."""
        named = set(self.data.bulk_table["run"])
        among = [run for run in self.data.runs if run.name in named]
        return self.data.representative(1, among)[0]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Rows of the run's own matrices, of its first replica."""
        rows = self.data.bulk_table
        kept = (rows["run"] == self.run.name) & (rows["matrix"] == WEIGHTS)
        return rows[kept & (rows["pooled"] == ONE) & (rows["replica"] == 0)]

    @cached_property
    def layers(self) -> list[str]:
        """Layers with a bulk, in the order of the model."""
        return list(dict.fromkeys(self.table["layer"]))

    @cached_property
    def steps(self) -> np.ndarray:
        """SGD steps of the snapshots."""
        return np.array(sorted(set(self.table["step"])))

    def strongest(self, count: int) -> list[str]:
        """Up to `count` layers whose largest singular value is furthest over the edge at the end.

        In the order of the model; layers without a fitted bulk come last.
        """
        last = self.at(-1).set_index("layer")
        over = (last["spectral_norm"] ** 2 / last["upper_edge"]).fillna(0.0)
        chosen = set(over.sort_values(ascending=False, kind="stable").index[:count])
        return [layer for layer in self.layers if layer in chosen]

    def at(self, snapshot: int) -> pd.DataFrame:
        """Rows of one snapshot, counted from the end if negative."""
        numbers = sorted(set(self.table["snapshot"]))
        return self.table[self.table["snapshot"] == numbers[snapshot]]

    def row(self, layer: str, snapshot: int = -1) -> pd.Series:
        """The row of a layer and snapshot."""
        rows = self.at(snapshot)
        return rows[rows["layer"] == layer].iloc[0]

    def eigenvalues(self, layer: str) -> np.ndarray:
        """Eigenvalues that are not zero by shape, ascending, shape (snapshot, level)."""
        if layer not in self._read:
            values = read_eigenvalues(self.data.file("spectra", self.run), layer)[0][0]
            rows, columns = self.run.layers()[layer]
            self._read[layer] = values[:, max(columns - rows, 0) :]
        return self._read[layer]

    def split(self, layer: str, snapshot: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues below, in and above the bulk of a snapshot."""
        row, values = self.row(layer, snapshot), self.eigenvalues(layer)[snapshot]
        above, inside = int(row["outliers_above"]), int(row["bulk_levels"])
        end = len(values) - above
        return values[: end - inside], values[end - inside : end], values[end:]

    @property
    def scale(self) -> str:
        """Where the scale of the noise is from, in a word."""
        known = set(self.table["is_scale_known"])
        return {True: "known", False: "fitted"}[known.pop()] if len(known) == 1 else "given"

    @cached_property
    def doubtful(self) -> pd.Series:
        """Which rows of the table hold what is hardly a bulk."""
        rows = self.table
        outside = rows["outliers_above"] + rows["outliers_below"]
        many = outside > MOST_OUTSIDE * (outside + rows["bulk_levels"])
        return many | (rows["bulk_p_value"] < BULK_LEVEL)

    def title(self, shown: Sequence[str] | None = None) -> str:
        """What is shown, for a caption."""
        several = "" if len(self.data.runs) == 1 else f", run ``{self.run.name}``"
        text = f"study ``{self.data.name}``{several}"
        if self.run.replicas > 1:
            text += ", first replica"
        if shown is not None and len(shown) < len(self.layers):
            text += (
                f"; the {len(shown)} of {len(self.layers)} layers whose largest singular value is "
                "furthest over the edge of the bulk"
            )
        return text


def law_of(row: pd.Series) -> MarchenkoPastur:
    """The fitted law of a row: sides without the outliers and the zeros."""
    rows = row["matrix_rows"] - row["zero_rows"]
    columns = row["matrix_columns"] - row["zero_columns"]
    above = row["outliers_above"]
    return MarchenkoPastur(max(rows, columns) - above, row["bulk_levels"], row["scale"])


def short(layer: str, longest: int = 26) -> str:
    """Name of a layer that fits above a small panel: its last parts, where it is long."""
    if len(layer) <= longest:
        return layer
    end = layer[-longest + 2 :]
    # From the beginning of a part on, if there is one.
    return f"..{end[end.find('.') + 1 :]}"
