"""What each model predicts with no free parameter: one file a model, named like the model.

A file defines

- `level_name(hyperparameters)` and `level_label(hyperparameters)`, the level that is fitted, in
  words and as the label of an axis;
- `VARIABLE` and `FINITE_STEP_VARIABLE`, axis labels of the variables of the scaling law;
- `SLOPE`, the slope of the mean gap against the variable for a pair of degenerate levels;
- `levels(hyperparameters, eigenvalues)`, from the eigenvalues of X = W^T W to ascending levels;
- `eigenvalues(hyperparameters, levels)`, the eigenvalue of X that belongs to a level;
- `expected_levels(hyperparameters, edges)`, the mean number of levels in each bin;
- `pair_plane(hyperparameters, first)`, the plane in which the eigenvectors of a pair turn freely;
- `blocks(hyperparameters)`, what is predicted for each block of degenerate levels, ascending;
- `noise_free(hyperparameters, weights, steps)`, the levels that training without noise would have.

`pair_plane` and `noise_free` return None where this is not known.

Predictions are kept apart from the dynamics, so that an edit here re-fits and trains nothing.
"""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np

from dysonflow.statistics import coulomb_gas
from dysonflow.statistics.laws import BlockDensity

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
        Mean of the block's levels.
    sigma : float
        Width that the likelihood of the Coulomb gas estimates, sqrt(E[SS] / d) with SS the sum of
        squares about the centre and d = n + n (n - 1) / 2; NaN where the levels do not fluctuate.
    mean_gap : float
        Mean distance of neighbouring levels; NaN for a single level.
    centre_block, sigma_block, mean_gap_block : float
        The same from the formula for a block on its own, to leading order in the noise.
    variable : float
        Variable of the paper's scaling law for the block.
    finite_step_variable : float
        The same times the square root of the corrections to sigma^2 that are known exactly.
    stochasticity : float
        learning_rate / batch_size.
    centre_uncertainty, sigma_uncertainty, mean_gap_uncertainty : float
        Standard errors of `centre`, `sigma` and `mean_gap` where these are Monte Carlo integrals.
    flag : str
        Why the block cannot be fitted; empty where it can.
    """

    first: int
    multiplicity: int
    centre: float
    sigma: float
    mean_gap: float
    centre_block: float
    sigma_block: float
    mean_gap_block: float
    variable: float
    finite_step_variable: float
    stochasticity: float
    centre_uncertainty: float = 0.0
    sigma_uncertainty: float = 0.0
    mean_gap_uncertainty: float = 0.0
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


def levels_of_blocks(blocks: Sequence[Block], edges: np.ndarray) -> np.ndarray:
    """Mean number of levels in each bin, shape (bins,), if no block knew of the others."""
    laws = [
        (block.multiplicity, BlockDensity(block.multiplicity, block.centre, block.sigma))
        for block in blocks
        if not block.flag
    ]
    return sum((count * np.diff(law.cdf(edges)) for count, law in laws), np.zeros(len(edges) - 1))


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


def integrate(values: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of Monte Carlo samples, with control variates.

    Parameters
    ----------
    values : np.ndarray
        Independent samples, shape (samples, quantities).
    controls : np.ndarray
        Functions of the same samples whose mean is known to be 0, shape (samples, controls).

    Returns
    -------
    mean, error : np.ndarray
        Shape (quantities,): intercepts of the regression on the controls, and their errors.
    """
    design = np.column_stack([np.ones(len(values)), controls])
    fitted, *_ = np.linalg.lstsq(design, values, rcond=None)
    residual = values - design @ fitted
    return fitted[0], residual.std(axis=0) / math.sqrt(len(values))
