"""Which law levels with unequal centres have: that of a Coulomb gas or of a random matrix.

Every level of a run is compared with laws of the whole spectrum that have no free parameter. Two
indices are estimated with all levels taken into account: the Dyson index of degenerate levels, and
the repulsion of levels of different modes (docs/gas_or_matrix.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dysonflow import theory
from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics.gas_of_blocks import Chains, sample_gas
from dysonflow.statistics.joint_index import JointIndex, fit_between, fit_joint_index
from dysonflow.statistics.levels import InsufficientData, checked_levels
from dysonflow.statistics.ordered_levels import Distance, distance, level_statistics

LAWS = ("gas", "matrix", "gas_any_order", "gas_block_formula", "matrix_linear_noise")
"""Laws, by the names that a theory gives them (`theory.base.SpectrumLaws`)."""
FULL = "matrix"
"""The law in which the Dyson index is estimated."""
HALF_GAS = "gas_half"
"""The gas with half of the repulsion between blocks, by whose draws the latter is estimated."""
REPLICAS = 30
"""Fewest replicas that bear an error."""
DRAWS, FEWEST, MOST = 10, 10_000, 100_000
"""Draws from a law for each spectrum that was measured, in any case, and at most."""
WORK, LEAST = 100_000_000, 2000
"""Large matrices are drawn more rarely, about WORK / N^3 times, but not more rarely than that."""
CHAINS, SHORTEST = 256, 40
"""Markov chains of a gas, side by side, and draws of each at least."""
LARGEST_R_HAT = 1.1
"""Beyond, the chains have not mixed, and nothing is compared with them; short chains that have are
above 1 by their own correlation."""
SEED = 16427


@dataclass(frozen=True)
class Comparison:
    """Levels of a run beside laws of the whole spectrum.

    Attributes
    ----------
    columns : dict of str to sequence
        One row for each number: `statistic` (`mean`, `width` or `correlation` with the next level),
        `level` (position among the ascending levels, from 0), `measured`, `error` (from leaving out
        whole replicas), and for each law `<law>`, `<law>_error` (Monte Carlo) and `<law>_pull`, the
        difference over both errors.
    distances : dict of str to Distance
        All numbers of a law together.
    """

    columns: dict[str, Sequence[Any]]
    distances: dict[str, Distance]


class MeasuredSpectrum:
    """Levels of a run whose laws are known, and what is drawn from these with a fixed seed.

    Parameters
    ----------
    h : Hyperparameters
        Of the run.
    layer : str
        Name of the weight matrix.
    eigenvalues : np.ndarray
        Of W^T W, ascending, shape (replica, snapshot, N).

    Raises
    ------
    ConfigError
        If no law of the whole spectrum is known.
    InsufficientData
        If there are fewer than `REPLICAS` replicas, or levels are tied or do not fluctuate.
    """

    def __init__(self, h: Hyperparameters, layer: str, eigenvalues: np.ndarray):
        physics = theory.load(h.MODEL)
        laws = physics.spectrum_laws(h, layer)
        if laws is None:
            raise ConfigError(f"run {h.name}: no law of all levels together is known")
        self.laws = laws
        levels = physics.levels(h, layer, eigenvalues)[..., laws.positions]
        self._gases = {
            **laws.gases,
            HALF_GAS: replace(laws.gases["gas"], between=0.5),
        }
        self.levels = checked_levels(levels, REPLICAS)
        replicas, snapshots, size = self.levels.shape
        wanted = min(max(DRAWS * replicas * snapshots, FEWEST), MOST)
        self._draws = max(min(wanted, WORK // size**3), LEAST)
        self._key = h.key
        self._levels: dict[str, np.ndarray] = {}
        self._chains: dict[str, Chains] = {}

    def chains(self, gas: str) -> Chains:
        """Markov chains of a gas, with their diagnostics.

        Raises
        ------
        InsufficientData
            If they have not mixed.
        """
        if gas not in self._chains:
            draws = max(-(-self._draws // CHAINS), SHORTEST)
            found = sample_gas(self._gases[gas], CHAINS, draws, self._random(gas), thin=2)
            if not found.r_hat < LARGEST_R_HAT:
                raise InsufficientData(
                    f"the Markov chains of the Coulomb gas do not mix (R-hat {found.r_hat:.2f})"
                )
            self._chains[gas] = found
        return self._chains[gas]

    def drawn(self, law: str) -> np.ndarray:
        """Levels from a law, shape (group, member, n), groups independent of each other."""
        if law in self._gases:
            return self.chains(law).levels
        if law not in self._levels:
            self._levels[law] = self.laws.matrices[law](self._draws // 2, self._random(law))
        return self._levels[law]

    def compare(self, names: Sequence[str] = LAWS) -> Comparison:
        """Compare means, widths and neighbour correlations of all levels with laws, of `LAWS`."""
        measured = level_statistics(self.levels)
        columns: dict[str, Sequence[Any]] = {
            "statistic": measured.statistic,
            "level": self.laws.positions[measured.level].tolist(),
            "measured": measured.value.tolist(),
            "error": measured.error.tolist(),
        }
        distances = {}
        for name in names:
            law = level_statistics(self.drawn(name))
            distances[name] = distance(measured, law)
            columns[name] = law.value.tolist()
            columns[f"{name}_error"] = law.error.tolist()
            columns[f"{name}_pull"] = distances[name].pull.tolist()
        return Comparison(columns, distances)

    @property
    def degenerate(self) -> list[slice]:
        """Positions of the blocks of degenerate levels, among those that fluctuate."""
        return [own for own in self.laws.gases["gas"].positions if own.stop - own.start > 1]

    def dyson_index(self, *, free_blocks: bool = True) -> JointIndex:
        """Dyson index of all degenerate levels, each block among its neighbours.

        Parameters
        ----------
        free_blocks : bool
            Whether centre and width of each block are estimated too, or those of theory.

        Raises
        ------
        InsufficientData
            If no two levels are degenerate, or the draws do not reach the data.
        """
        return fit_joint_index(
            self.levels, self.drawn(FULL), self.degenerate, free_blocks=free_blocks
        )

    def repulsion_between(self, law: str | None = None) -> JointIndex:
        """Repulsion of levels of different blocks, whatever their centres and widths are.

        Parameters
        ----------
        law : str, optional
            Estimate it from the draws of a law, of `LAWS`, in place of the measured levels.

        Raises
        ------
        InsufficientData
            If there is but one block, or the draws do not reach the data.
        """
        blocks = self.laws.gases["gas"].positions
        levels = self.levels if law is None else self.drawn(law)
        index = self._gases[HALF_GAS].between
        return fit_between(levels, self.drawn(HALF_GAS), blocks, index)

    def _random(self, law: str) -> np.random.Generator:
        # Of its own for every run, or the errors of the draws would be those of all runs at once.
        return np.random.default_rng([SEED, (*LAWS, HALF_GAS).index(law), int(self._key, 16)])
