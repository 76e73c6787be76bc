"""What a theory says of a system: the interface, and the prediction for one block of levels."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics.coulomb_gas import mean_pair_gap
from dysonflow.statistics.gas_of_blocks import GasOfBlocks
from dysonflow.statistics.kick import Kick

H = TypeVar("H", bound=Hyperparameters)


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
        squares about the centre and d = n + beta n (n - 1) / 2; NaN where the levels do not
        fluctuate.
    mean_gap : float
        Mean distance of neighbouring levels; NaN for a single level.
    centre_block, sigma_block, mean_gap_block : float
        The same from the formula for a block on its own, to leading order in the noise.
    variable : float
        Variable of the paper's scaling law for the block; NaN where it has none.
    finite_step_variable : float
        The same times the square root of the corrections to sigma^2 that are known exactly.
    stochasticity : float
        learning_rate / batch_size; NaN where nothing is learnt.
    dyson_index : float
        What the likelihood of the Coulomb gas estimates as beta where it is free: 1 for a GOE
        block, other where the block is not exactly one. NaN for a single level, and where it is not
        known.
    gap_excess : float
        E[S^4] / (2 E[S^2]^2) - 1 of the gap S of a pair, 0 for the Wigner surmise: the first
        coefficient by which the law of the gap differs from it.
    centre_uncertainty, sigma_uncertainty, mean_gap_uncertainty : float
        Standard errors of `centre`, `sigma` and `mean_gap` where these are Monte Carlo integrals.
    dyson_index_uncertainty, gap_ratio_uncertainty : float
        The same of `dyson_index` and `gap_ratio`.
    gas_index : float
        Dyson index of the gas whose likelihood gives sigma, and whose laws are tested.
    flag : str
        Why the block cannot be fitted; empty where it can.
    beyond : str
        Why the theory is not to be taken at its word for this block; empty where it is.
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
    dyson_index: float = math.nan
    gap_excess: float = 0.0
    centre_uncertainty: float = 0.0
    sigma_uncertainty: float = 0.0
    mean_gap_uncertainty: float = 0.0
    dyson_index_uncertainty: float = 0.0
    gap_ratio_uncertainty: float = 0.0
    gas_index: float = 1.0
    flag: str = ""
    beyond: str = ""

    @property
    def gap_ratio(self) -> float:
        """<S> of a pair over what the gas has at its sigma, 1 for a GOE block; NaN of others."""
        if self.multiplicity != 2 or not self.sigma > 0:
            return math.nan
        unit = math.sqrt(math.pi) if self.gas_index == 1.0 else mean_pair_gap(self.gas_index)
        return self.mean_gap / (unit * self.sigma)

    @property
    def positions(self) -> slice:
        """Positions of the block's levels."""
        return slice(self.first, self.first + self.multiplicity)


@dataclass(frozen=True)
class Escape:
    """Law of the time at which noise drives a run off an unstable start.

    The amplitude that grows is Gaussian with mean 0; what it is long after the start, extrapolated
    back by its growth, has the standard deviation `seed`, and has passed at t once its size is
    `passed` (1 + rate)^-t:

        P(T <= t) = erfc(passed (1 + rate)^-t / (sqrt(2) seed)).

    Attributes
    ----------
    rate : float
        Growth of the amplitude per SGD step.
    seed : float
        Standard deviation, in the unit of the amplitude.
    passed : float
        In the same unit.
    threshold : float
        Sum of all levels at which the run counts as having left.
    """

    rate: float
    seed: float
    passed: float
    threshold: float

    def probability(self, steps: np.ndarray) -> np.ndarray:
        """P(T <= t) at SGD steps t, of the shape of `steps`."""
        from scipy.special import erfc

        amplitude = self.passed * np.exp(-np.log1p(self.rate) * np.asarray(steps, dtype=float))
        found: np.ndarray = erfc(amplitude / (math.sqrt(2.0) * self.seed))
        return found

    @property
    def mean(self) -> float:
        """E[T] in SGD steps, from E[log |z|] = -(gamma + log 2) / 2 of a normal number z."""
        size = math.log(self.passed / self.seed) + (np.euler_gamma + math.log(2.0)) / 2.0
        return float(size / math.log1p(self.rate))


@dataclass(frozen=True)
class SpectrumLaws:
    """Laws of all fluctuating levels of a run together, each by the name that tables give it.

    Attributes
    ----------
    positions : np.ndarray
        Which of the ascending levels fluctuate, shape (n,).
    gases : mapping of str to GasOfBlocks
        Coulomb gases of these levels.
    matrices : mapping of str to callable
        Functions of a number of groups and a random generator that draw the levels of random
        matrices, ascending, shape (group, member, n); groups are independent of each other.
    """

    positions: np.ndarray
    gases: Mapping[str, GasOfBlocks]
    matrices: Mapping[str, Callable[[int, np.random.Generator], np.ndarray]]


class Theory(ABC, Generic[H]):
    """Predictions for one system, with no free parameter.

    Everything is asked for a run, by its hyperparameters, and one of its layers. A theory is kept
    apart from the dynamics, so that an edit of it fits again and trains nothing.
    """

    variable: str
    """Label of an axis: variable of the scaling law."""
    finite_step_variable: str
    """The same with the corrections that are known exactly."""
    slope: float
    """Slope of the mean gap of a pair of degenerate levels against the variable."""
    centre_symbol: str = r"\kappa"
    """LaTeX symbol, without dollar signs, of where a block would be without noise."""
    centre_meaning: str = "centre without noise"
    """The same in words, for legends."""
    knows_spectrum: bool = False
    """Whether it has laws of all levels together."""
    scope: str = ""
    """What a run must have, and what is to be done, for its levels to be known, in words that
    follow on `without`; empty where they always are."""

    @abstractmethod
    def level_name(self, h: H, layer: str) -> str:
        """What a level is, in words."""

    @abstractmethod
    def level_label(self, h: H, layer: str) -> str:
        """Label of an axis of levels."""

    @abstractmethod
    def levels(self, h: H, layer: str, eigenvalues: np.ndarray) -> np.ndarray:
        """Ascending levels from ascending eigenvalues x of X = W^T W, shape (..., N)."""

    @abstractmethod
    def eigenvalues(self, h: H, layer: str, levels: np.ndarray) -> np.ndarray:
        """Eigenvalues of X that belong to levels, in the order of the levels."""

    @abstractmethod
    def blocks(self, h: H, layer: str) -> list[Block]:
        """Prediction for every block of degenerate levels, ascending."""

    def block_formulas(self, h: H, layer: str) -> list[Block]:
        """The same blocks, each by the formula for a block on its own, where that costs less.

        `centre`, `sigma` and `mean_gap` are then those of the formula; by default, of `blocks`.
        """
        return self.blocks(h, layer)

    def expected_levels(self, h: H, layer: str, edges: np.ndarray) -> np.ndarray:
        """Mean number of levels of a replica in each bin; by default each block on its own.

        Parameters
        ----------
        h : Hyperparameters
            Of the run.
        layer : str
            Name of the weight matrix.
        edges : np.ndarray
            Ascending edges of the bins, in the unit of the levels, shape (bins + 1,).

        Returns
        -------
        np.ndarray
            Shape (bins,).
        """
        from dysonflow.theory.blocks import levels_of_blocks

        return levels_of_blocks(self.blocks(h, layer), edges)

    def pair_plane(self, h: H, layer: str, first: int) -> tuple[np.ndarray, int] | None:
        """Plane in which the eigenvectors of a degenerate pair turn freely; None if not known.

        Parameters
        ----------
        h : Hyperparameters
            Of the run.
        layer : str
            Name of the weight matrix.
        first : int
            Position of the pair's lower level.

        Returns
        -------
        basis : np.ndarray
            Two orthonormal vectors, shape (N, 2).
        position : int
            Position of the lower level's singular value, counted from the largest.
        """
        return None

    def relaxation_rate(self, h: H, layer: str, block: Block) -> float | None:
        """Rate per SGD step at which the matrix entries of a block relax; None if not known."""
        return None

    def kick(
        self, h: H, layer: str, weights: np.ndarray, steps: np.ndarray, lag: int
    ) -> Kick | None:
        """Moments of the change of X = W^T W over some SGD steps; None if not known.

        Parameters
        ----------
        h : Hyperparameters
            Of the run.
        layer : str
            Name of the weight matrix.
        weights : np.ndarray
            Weights before, shape (sample, M, N).
        steps : np.ndarray
            SGD step of each sample, shape (sample,).
        lag : int
            SGD steps.
        """
        return None

    def noise_free(
        self, h: H, layer: str, weights: np.ndarray, steps: np.ndarray
    ) -> np.ndarray | None:
        """Levels that training on the exact gradient would have; None if not known.

        Parameters
        ----------
        h : Hyperparameters
            Of the run.
        layer : str
            Name of the weight matrix.
        weights : np.ndarray
            Weights at step 0, shape (replica, M, N).
        steps : np.ndarray
            Ascending SGD steps, shape (T,).

        Returns
        -------
        np.ndarray
            Levels, ascending, shape (replica, T, N).
        """
        return None

    def escape(self, h: H, layer: str) -> Escape | None:
        """Law of the time at which a run leaves an unstable start; None where it has none."""
        return None

    def spectrum_laws(self, h: H, layer: str) -> SpectrumLaws | None:
        """Laws of all levels together; None where none is worked out for the run."""
        return None
