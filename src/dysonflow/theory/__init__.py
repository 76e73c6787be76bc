"""What each model predicts with no free parameter: one file a model, named like the model.

A file defines

- `QUANTITY`, the name of the level that is fitted, in words;
- `LEVEL`, `VARIABLE` and `FINITE_STEP_VARIABLE`, axis labels of the level and of the variables of
  the scaling law;
- `SLOPE`, the slope of the mean gap against the variable for a pair of degenerate levels;
- `levels(hyperparameters, eigenvalues)`, from the eigenvalues of X = W^T W to ascending levels;
- `blocks(hyperparameters)`, what is predicted for each block of degenerate levels, ascending;
- `noise_free(hyperparameters, weights, steps)`, the levels that training without noise would have.

Predictions are kept apart from the dynamics, so that an edit here re-fits and trains nothing.
"""

import importlib
import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np

from dysonflow import coulomb_gas

DEGENERATE = 1e-9
"""Relative difference below which two centres are one."""
GAP_SIMULATIONS = 200_000


@dataclass(frozen=True)
class Block:
    """Prediction for one block of degenerate levels.

    Attributes
    ----------
    first, multiplicity : int
        Position of the block among the ascending levels, and its number of levels.
    centre : float
        Common centre of the levels.
    sigma : float
        Width of the Coulomb gas; NaN where the levels do not fluctuate about a centre.
    mean_gap : float
        Mean distance of neighbouring levels; NaN for a single level.
    variable : float
        Variable of the paper's scaling law for the block.
    finite_step_variable : float
        The same times the square root of the corrections to sigma^2 that are known exactly.
    stochasticity : float
        learning_rate / batch_size.
    flag : str
        Why the block cannot be fitted; empty where it can.
    """

    first: int
    multiplicity: int
    centre: float
    sigma: float
    mean_gap: float
    variable: float
    finite_step_variable: float
    stochasticity: float
    flag: str = ""

    @property
    def positions(self) -> slice:
        """Positions of the block's levels."""
        return slice(self.first, self.first + self.multiplicity)


def load(model: str) -> ModuleType:
    """Import the predictions for a model."""
    return importlib.import_module(f"{__name__}.{model}")


def multiplets(centres: np.ndarray) -> list[tuple[int, int]]:
    """Position and number of equal values in an ascending array."""
    starts = [0] + [
        i for i in range(1, len(centres)) if centres[i] - centres[i - 1] > DEGENERATE * centres[i]
    ]
    return [(a, b - a) for a, b in zip(starts, [*starts[1:], len(centres)], strict=True)]


@lru_cache
def unit_mean_gap(multiplicity: int) -> float:
    """Mean distance of neighbouring levels of a GOE block of unit sigma.

    sqrt(pi) for a pair; for larger blocks from 200 000 simulated ones (fixed seed), to 0.1 %.
    """
    if multiplicity == 1:
        return math.nan
    if multiplicity == 2:
        return math.sqrt(math.pi)
    rng = np.random.default_rng(multiplicity)
    levels = coulomb_gas.sample(multiplicity, 1.0, GAP_SIMULATIONS, rng)
    return float((levels[:, -1] - levels[:, 0]).mean() / (multiplicity - 1))
