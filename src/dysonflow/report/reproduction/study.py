"""A study as the document sees it: its tables, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dysonflow.analysis.columns import fitted_pairs


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

    @property
    def pairs(self) -> pd.DataFrame:
        """Fits of degenerate pairs."""
        return fitted_pairs(self.fits)
