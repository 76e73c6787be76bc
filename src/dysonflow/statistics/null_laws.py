"""Null laws of the Anderson-Darling distances, simulated or from the table beside this module.

Parameters fitted to the data make the null law of a distance another one, and the levels of a
block depend on each other: it is simulated, from the gas itself and with the same fit. A fixed
seed gives the same data the same p-value always.

``null_laws.npz`` holds the laws of `TABULATED`, those of every fit of enough blocks: under the name
of each the ascending distances as 64-bit floats, bit for bit what the simulation gives with
`NULL_SEED`. It is made anew by

    python -m dysonflow.statistics.null_laws
"""

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dysonflow.errors import ArtifactError
from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.coulomb_gas import degrees_of_freedom, sample
from dysonflow.statistics.laws import BlockDensity, WignerSurmise

NULL_SEED = 20240723
"""Seed of the simulated null laws: the same data always get the same p-value."""
TABLE = Path(__file__).with_suffix(".npz")
"""File of the laws in `TABULATED`."""


def simulated_size(levels: int) -> tuple[int, int]:
    """Size of a simulation, at which the law of the distance has converged.

    Parameters
    ----------
    levels : int
        Number n of levels.

    Returns
    -------
    blocks, data_sets : int
        Blocks in a simulated data set, at most: more data need no more. Number of data sets.
    """
    if levels <= 2:
        return 200, 19_999
    if levels <= 4:
        return 100, 9_999
    if levels <= 8:
        return 100, 5_999
    return (100, 1_999) if levels <= 16 else (50, 499)


@dataclass(frozen=True)
class SurmiseNull:
    """Distance of the gaps of pairs from the Wigner surmise.

    Attributes
    ----------
    blocks : int
        Pairs in a data set.
    dyson_index : int
        Index of the surmise: 1, 2 or 4.
    scale_fitted : bool
        Whether gaps are taken in units of their own mean.
    """

    blocks: int
    dyson_index: int
    scale_fitted: bool

    @property
    def name(self) -> str:
        """Name in the table."""
        fitted = "_scale_fitted" if self.scale_fitted else ""
        return f"surmise_{self.blocks}_blocks_beta_{self.dyson_index}{fitted}"

    @property
    def data_sets(self) -> int:
        """Number of distances."""
        return simulated_size(2)[1]

    def simulate(self) -> FloatArray:
        """Ascending distances of simulated data sets."""
        blocks = self.blocks
        rng = np.random.default_rng([NULL_SEED, blocks, self.dyson_index, self.scale_fitted])
        surmise = WignerSurmise(self.dyson_index)
        null = np.empty(self.data_sets)
        for part in np.array_split(np.arange(null.size), max(1, null.size * blocks // 500_000)):
            if self.scale_fitted:
                gap = np.sqrt(rng.chisquare(self.dyson_index + 1.0, (part.size, blocks)))
                probability = surmise.cdf(gap / gap.mean(axis=1, keepdims=True))
            else:
                # Nothing is fitted: the gaps' probabilities are uniform themselves.
                probability = rng.random((part.size, blocks))
            null[part] = anderson_darling(probability)
        return np.sort(null)


@dataclass(frozen=True)
class DensityNull:
    """Distance of the levels of blocks from the density of their block.

    Attributes
    ----------
    blocks : int
        Blocks in a data set.
    levels : int
        Number n of levels in a block.
    dyson_index : float
        Repulsion beta.
    centre_fitted, sigma_fitted : bool
        Which parameters of the gas are fitted to each data set.
    """

    blocks: int
    levels: int
    dyson_index: float
    centre_fitted: bool
    sigma_fitted: bool

    @property
    def name(self) -> str:
        """Name in the table."""
        fitted = "_centre_fitted" if self.centre_fitted else ""
        fitted += "_sigma_fitted" if self.sigma_fitted else ""
        return (
            f"density_{self.blocks}_blocks_{self.levels}_levels_beta_{self.dyson_index:g}{fitted}"
        )

    @property
    def data_sets(self) -> int:
        """Number of distances."""
        return simulated_size(self.levels)[1]

    def simulate(self) -> FloatArray:
        """Ascending distances of simulated data sets."""
        blocks, n = self.blocks, self.levels
        rng = np.random.default_rng([NULL_SEED, blocks, n, self.centre_fitted, self.sigma_fitted])
        density = BlockDensity(n, dyson_index=self.dyson_index)
        null = np.empty(self.data_sets)
        parts = max(1, null.size * blocks * n // 500_000)
        for part in np.array_split(np.arange(null.size), parts):
            x = sample(n, self.dyson_index, part.size * blocks, rng)
            standard = standardised_levels(
                x.reshape(part.size, blocks, n),
                self.dyson_index,
                None if self.centre_fitted else 0.0,
                None if self.sigma_fitted else 1.0,
            )
            # Of ascending levels the spline finds the next cell beside the last.
            standard.sort(axis=-1)
            null[part] = anderson_darling(density.cdf(standard))
        return np.sort(null)


TABULATED: tuple[SurmiseNull | DensityNull, ...] = (
    SurmiseNull(simulated_size(2)[0], 1, True),
    *(DensityNull(simulated_size(n)[0], n, 1.0, True, True) for n in (1, 2, 4, 16, 64)),
)
"""Laws in the table: all parameters fitted, beta = 1, the blocks of large data sets."""


@lru_cache(maxsize=64)
def null_distances(law: SurmiseNull | DensityNull) -> FloatArray:
    """Ascending distances under the null, from the table if they are there, else simulated.

    Parameters
    ----------
    law : SurmiseNull or DensityNull
        Which distance, and what is fitted.

    Returns
    -------
    numpy.ndarray
        Shape (data set,).

    Raises
    ------
    ArtifactError
        If the table is damaged.
    """
    return read_table(law) if law in TABULATED else law.simulate()


def read_table(law: SurmiseNull | DensityNull, path: Path = TABLE) -> FloatArray:
    """One law of the table.

    Parameters
    ----------
    law : SurmiseNull or DensityNull
        One of `TABULATED`.
    path : pathlib.Path
        The table.

    Returns
    -------
    numpy.ndarray
        Ascending distances, shape (data set,).

    Raises
    ------
    ArtifactError
        If the file is missing, truncated or another one; it names the file and the command that
        makes it anew.
    """
    try:
        with np.load(path, allow_pickle=False) as table:
            null = table[law.name]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(_damaged(path, str(error))) from error
    if null.shape != (law.data_sets,) or null.dtype != np.float64:
        raise ArtifactError(_damaged(path, f"{law.name} is {null.dtype} of shape {null.shape}"))
    return null


def write_table(path: Path = TABLE) -> None:
    """Simulate all laws of `TABULATED`, which takes some seconds, and write the table.

    Parameters
    ----------
    path : pathlib.Path
        The table; what is there is replaced.
    """
    laws: dict[str, Any] = {law.name: law.simulate() for law in TABULATED}
    np.savez_compressed(path, **laws)


def _damaged(path: Path, reason: str) -> str:
    return (
        f"{path}: not a table of the null laws ({reason}); "
        "python -m dysonflow.statistics.null_laws makes it anew"
    )


def standardised_levels(
    x: FloatArray, dyson_index: float, centre: float | None, sigma: float | None
) -> FloatArray:
    """Levels of data sets, each in units of its own gas.

    Parameters
    ----------
    x : numpy.ndarray
        Levels, shape (set, block, n).
    dyson_index : float
        Repulsion beta.
    centre, sigma : float or None
        Parameters of the gas; None to fit them to each data set by maximum likelihood.

    Returns
    -------
    numpy.ndarray
        (x - c) / sigma, shape (set, block * n).
    """
    sets, blocks, n = x.shape
    moved = x - (x.mean(axis=(1, 2), keepdims=True) if centre is None else centre)
    if sigma is None:
        square = np.sum(moved**2, axis=(1, 2), keepdims=True)
        return (moved / np.sqrt(square / (blocks * degrees_of_freedom(n, dyson_index)))).reshape(
            sets, -1
        )
    return (moved / sigma).reshape(sets, -1)


def anderson_darling(probability: FloatArray) -> FloatArray:
    """Anderson-Darling distance of probabilities from the uniform law.

    Parameters
    ----------
    probability : numpy.ndarray
        Cumulative probabilities of the data, shape (..., count), in any order.

    Returns
    -------
    numpy.ndarray
        Shape (...). T. W. Anderson and D. A. Darling, J. Am. Stat. Assoc. 49, 765 (1954).
    """
    p = np.clip(np.sort(probability, axis=-1), 1e-15, 1 - 1e-15)
    count = p.shape[-1]
    odd = 2 * np.arange(1, count + 1) - 1
    return -count - np.sum(odd * (np.log(p) + np.log1p(-p[..., ::-1])), axis=-1) / count


def tail_probability(distance: float, null: FloatArray) -> float:
    """p-value from a simulated null law, its last percent continued by an exponential.

    The distance is a weighted sum of chi-squared variables, whose tail is exponential: small
    p-values neither end at one over the number of draws nor jump.

    Parameters
    ----------
    distance : float
        Distance of the data.
    null : numpy.ndarray
        Ascending distances under the null, shape (data set,).

    Returns
    -------
    float
        Probability of a distance as large, above zero.
    """
    tail = null[int(0.99 * null.size) :]
    start = float(tail[0])
    if distance <= start:
        above = null.size - int(np.searchsorted(null, distance))
        return (above + 1) / (null.size + 1)
    weight = tail.size / (null.size + 1)
    decay = float(tail.mean()) - start
    return max(weight * float(np.exp(-(distance - start) / decay)), float(np.finfo(float).tiny))


if __name__ == "__main__":
    write_table()
