r"""Coulomb gas of several blocks with unequal centres and widths, sampled by a Markov chain.

Block b has n_b levels, centre c_b and width sigma_b; the density of all levels is

    P(x) ~ prod_{i<j} |x_i - x_j|^{beta_ij} exp(-sum_i (x_i - c_i)^2 / (2 sigma_i^2)),
    beta_ij = dyson_index inside a block, between from one block to another,

either on ascending levels, the lowest of which belong to the lowest centre, as levels that repel
each other never pass each other on their way; or on levels in any order, sorted afterwards.
"""

import math
from dataclasses import dataclass

import numpy as np

from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.correlation import integrated_time
from dysonflow.statistics.coulomb_gas import check_parameters, degrees_of_freedom, sample

ADAPT, FEWEST_TO_ADAPT = 4, 32
"""Sweeps of the warm-up from one look at the chains to the next, and chains that bear it."""
WIDER = 1.1
"""Width of the proposals over that of the levels, so that their tails cover those of the gas."""


@dataclass(frozen=True)
class GasOfBlocks:
    """Parameters of the gas.

    Attributes
    ----------
    multiplicities : tuple of int
        Levels of each block, by ascending centre.
    centres, sigmas : tuple of float
        Centre and width of each block.
    dyson_index : float
        Repulsion inside a block, positive.
    between : float
        Repulsion of levels of different blocks, not negative.
    ordered : bool
        Whether the levels of a lower block lie below those of a higher one.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    multiplicities: tuple[int, ...]
    centres: tuple[float, ...]
    sigmas: tuple[float, ...]
    dyson_index: float = 1.0
    between: float = 1.0
    ordered: bool = True

    def __post_init__(self) -> None:
        if not len(self.multiplicities) == len(self.centres) == len(self.sigmas) > 0:
            raise ValueError("a gas has one multiplicity, centre and sigma for each block")
        if (np.diff(self.centres) < 0).any():
            raise ValueError(f"centres must be ascending, not {self.centres}")
        if not (np.isfinite(self.between) and self.between >= 0):
            raise ValueError(f"between must not be negative, and is {self.between}")
        for count, sigma in zip(self.multiplicities, self.sigmas, strict=True):
            check_parameters(count, self.dyson_index, sigma)

    @property
    def positions(self) -> list[slice]:
        """Positions of the levels of each block."""
        ends = np.cumsum(self.multiplicities).tolist()
        return [slice(end - n, end) for end, n in zip(ends, self.multiplicities, strict=True)]


@dataclass(frozen=True)
class Chains:
    """Draws of several Markov chains, and how far they can be trusted.

    Attributes
    ----------
    levels : np.ndarray
        Ascending levels, shape (chain, draw, N).
    acceptance : np.ndarray
        Share of the proposals that were accepted, for each block.
    r_hat : float
        Largest split-R-hat of all levels (`split_r_hat`): 1 where the chains have forgotten their
        start.
    effective : float
        Smallest effective number of independent draws of a level, chains * draws / (2 tau) with tau
        its integrated autocorrelation time.
    """

    levels: FloatArray
    acceptance: FloatArray
    r_hat: float
    effective: float


def sample_gas(
    gas: GasOfBlocks,
    chains: int,
    draws: int,
    rng: np.random.Generator,
    *,
    warm_up: int = 50,
    thin: int = 1,
) -> Chains:
    """Draw from the gas by a Metropolis chain that moves one block at a time.

    The levels of a block are proposed from the gas of a block on its own (`coulomb_gas.sample`),
    whose width, and whose centre as a function of the levels beside the block, follow all chains
    during the warm-up, and accepted by the ratio of the densities (W. K. Hastings, Biometrika 57,
    97 (1970)). What is left to the chain is the repulsion between blocks: near the limit of weak
    noise most is accepted.

    Parameters
    ----------
    gas : GasOfBlocks
        The gas.
    chains : int
        Independent chains, side by side, each from a start of its own: the sorted levels of blocks
        on their own.
    draws : int
        Draws of each chain that are kept, at least 4.
    rng : numpy.random.Generator
        All randomness comes from here.
    warm_up : int
        Sweeps over all blocks before the first draw; in the last quarter of them the proposals stay
        as they are.
    thin : int
        Sweeps from one draw to the next.

    Returns
    -------
    Chains
        With diagnostics; it is for the caller to look at them.

    Raises
    ------
    ValueError
        If there are fewer than 2 chains or 4 draws.
    """
    if chains < 2 or draws < 4:
        raise ValueError(f"{chains} chains of {draws} draws: at least 2 of 4 are needed")
    blocks = list(zip(gas.positions, gas.centres, gas.sigmas, gas.multiplicities, strict=True))
    guides = [_Guide(np.array([centre, 0.0, 0.0]), sigma) for _, centre, sigma, _ in blocks]
    alone = [sample(n, gas.dyson_index, chains, rng, c, s) for _, c, s, n in blocks]
    x = np.sort(np.concatenate(alone, axis=1), axis=1)
    kept = np.empty((chains, draws, x.shape[1]))
    accepted = np.zeros(len(blocks))
    adapting = range(-warm_up + 1, -(warm_up // 4)) if chains >= FEWEST_TO_ADAPT else range(0)
    for sweep in range(-warm_up, draws * thin):
        if sweep in adapting and sweep % ADAPT == 0:
            guides = [_guide(gas, x, own) for own, *_ in blocks]
        for number, (own, centre, sigma, n) in enumerate(blocks):
            guide, now = guides[number], x[:, own]
            middle = _neighbours(x, own) @ guide.coefficients
            new = middle[:, None] + sample(n, gas.dyson_index, chains, rng, 0.0, guide.width)
            below, above = x[:, : own.start], x[:, own.stop :]
            inside = np.ones(chains, dtype=bool)
            if gas.ordered and own.start:
                inside &= new[:, 0] > below[:, -1]
            if gas.ordered and own.stop < x.shape[1]:
                inside &= new[:, -1] < above[:, 0]
            others = np.concatenate([below, above], axis=1)
            gain = gas.between * (_repulsion(new, others) - _repulsion(now, others))
            # What confines the block, less what confines the proposals: quadratic in the levels.
            square = 0.5 / guide.width**2 - 0.5 / sigma**2
            linear = centre / sigma**2 - middle / guide.width**2
            gain += ((new - now) * (square * (new + now) + linear[:, None])).sum(axis=1)
            taken = inside & (np.log(rng.random(chains)) < gain)
            x[taken, own] = new[taken]
            accepted[number] += taken.mean() * (sweep >= 0)
        if sweep >= 0 and sweep % thin == thin - 1:
            kept[:, sweep // thin] = np.sort(x, axis=1)
    series = np.moveaxis(kept, -1, 0)
    slowest = max(integrated_time(one)[0] for one in series)
    return Chains(
        levels=kept,
        acceptance=accepted / (draws * thin),
        r_hat=max(split_r_hat(one) for one in series),
        effective=chains * draws / (2.0 * slowest),
    )


@dataclass(frozen=True)
class _Guide:
    """Gas of one block from which its levels are proposed.

    Attributes
    ----------
    coefficients : np.ndarray
        Its centre is linear in the nearest level of the blocks beside it (`_neighbours`).
    width : float
        Its sigma.
    """

    coefficients: FloatArray
    width: float


def _neighbours(x: FloatArray, own: slice) -> FloatArray:
    """1 and the levels beside a block, 0 where there is none; shape (chain, 3)."""
    found = np.zeros((len(x), 3))
    found[:, 0] = 1.0
    if own.start:
        found[:, 1] = x[:, own.start - 1]
    if own.stop < x.shape[1]:
        found[:, 2] = x[:, own.stop]
    return found


def _guide(gas: GasOfBlocks, x: FloatArray, own: slice) -> _Guide:
    """The guide that is nearest to the levels of all chains, by least squares."""
    levels, neighbours = x[:, own], _neighbours(x, own)
    coefficients, *_ = np.linalg.lstsq(neighbours, levels.mean(axis=1), rcond=None)
    rest = levels - (neighbours @ coefficients)[:, None]
    freedom = float(degrees_of_freedom(levels.shape[1], gas.dyson_index))
    return _Guide(coefficients, WIDER * math.sqrt(float((rest**2).sum(axis=1).mean()) / freedom))


def _repulsion(levels: FloatArray, others: FloatArray) -> FloatArray:
    """Sum of log |x_i - y_j| over all pairs, shape (chain,)."""
    return np.log(np.abs(levels[:, :, None] - others[:, None, :])).sum(axis=(1, 2))


def split_r_hat(series: FloatArray) -> float:
    """Spread between the halves of all chains over the one within them.

    Parameters
    ----------
    series : numpy.ndarray
        One observable, shape (chain, draw), at least 4 draws.

    Returns
    -------
    float
        R-hat of the chains cut in two (A. Gelman et al., *Bayesian Data Analysis*, 3rd edition,
        section 11.4): 1 where all halves have one law, larger where they do not.
    """
    half = series.shape[1] // 2
    halves = np.concatenate([series[:, :half], series[:, -half:]])
    within = halves.var(axis=1, ddof=1).mean()
    between = halves.mean(axis=1).var(ddof=1)
    return float(np.sqrt((half - 1) / half + between / within))
