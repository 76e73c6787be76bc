"""A study as the document sees it: its tables, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from dysonflow.analysis.columns import fitted_pairs


@dataclass(frozen=True)
class MotionTables:
    """A study of the motion as the document sees it.

    Attributes
    ----------
    name : str
        In the configuration.
    increments : pandas.DataFrame
        One row per run, layer, lag and method.
    figures : sequence of str
        Figures that it draws.
    """

    name: str
    increments: pd.DataFrame
    figures: Sequence[str]


@dataclass(frozen=True)
class PhaseTables:
    """A phase diagram as the document sees it.

    Attributes
    ----------
    name : str
        In the configuration.
    points : pandas.DataFrame
        One row per run, as of `phases.phase_tables`.
    figures : sequence of str
        Figures that it draws.
    cost : pandas.DataFrame
        As of `StudyTables`.
    """

    name: str
    points: pd.DataFrame
    figures: Sequence[str]
    cost: pd.DataFrame


@dataclass(frozen=True)
class StudyTables:
    """A study as the document sees it.

    Attributes
    ----------
    name : str
        In the configuration.
    fits : pandas.DataFrame
        One row per run and block.
    laws : pandas.DataFrame
        Rows of its scaling table, indexed by the name of the law.
    figures : sequence of str
        Figures that it draws.
    cost : pandas.DataFrame
        One row per run: `training`, `analysis` (core-seconds) and `replica_steps`.
    """

    name: str
    fits: pd.DataFrame
    laws: pd.DataFrame
    figures: Sequence[str]
    cost: pd.DataFrame

    def of_layer(self, layer: str) -> StudyTables:
        """The same of one layer alone."""
        fits, laws = (table[table["layer"] == layer] for table in (self.fits, self.laws))
        return replace(self, fits=fits, laws=laws)

    @property
    def pairs(self) -> pd.DataFrame:
        """Fits of degenerate pairs."""
        return fitted_pairs(self.fits)
