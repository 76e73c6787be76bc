"""Predictions for every block of degenerate modes, from the law of the whole matrix."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters
from dysonflow.theory.base import Block
from dysonflow.theory.blocks import crowding, levels_of_blocks, multiplets, why_crowded
from dysonflow.theory.drawn import Prediction, controls_of, predicted
from dysonflow.theory.gaussian_rbm import matrix
from dysonflow.theory.gaussian_rbm.matrix import Machine
from dysonflow.theory.tails import unit_mean_gap

LARGEST_MATRIX = 64
"""Sites up to which the theory of the whole matrix is worked out."""
MATRICES, FEWEST, WORK = 30_000, 2_000, 60_000_000
"""Matrices drawn for a prediction, fewer for large ones: about WORK / N^3, but not below FEWEST."""
DENSITY_MATRICES = 60_000
"""Matrices drawn for a density, fewer for large ones: 1.6 % of one of 160 bins, where a default run
has 12 %."""
SEED = 20240723
"""The same run always has the same prediction."""
LARGEST_CORRECTION = 0.16
"""Largest correction of second order to a variance of the matrix, relative to the first order, up
to which the theory is taken at its word: what is left out is about its square, 2.5 %."""

Physical = tuple[tuple[float, ...], tuple[float, ...], float, float, int, int]


def machine(h: GaussianRBMHyperparameters) -> Machine:
    """What the law of the machine's matrix depends on."""
    return _machine(*_physical(h))


def _physical(h: GaussianRBMHyperparameters) -> Physical:
    # Neither replicas nor seed: points that differ in these share one prediction.
    return (
        *(tuple(h.kappa().tolist()), tuple((h.hidden_width**2 * h.fixed_points()).tolist())),
        *(h.rbm_mass_squared, h.learning_rate * h.hidden_width**2, h.batch_size),
        h.gibbs_sweeps if h.sampler != "wishart" else 0,
    )


def _machine(
    kappa: tuple[float, ...],
    fixed: tuple[float, ...],
    mass: float,
    rate: float,
    batch: int,
    sweeps: int,
) -> Machine:
    return Machine(np.array(kappa), np.array(fixed), mass, rate, batch, sweeps)


def sample_levels(h: GaussianRBMHyperparameters, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the levels of independent stationary machines from the theory of the whole matrix.

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run; at most `LARGEST_MATRIX` sites.
    size : int
        Number of pairs of machines, each pair with opposite Gaussian parts.
    rng : numpy.random.Generator
        All randomness comes from here.

    Returns
    -------
    np.ndarray
        Levels, ascending, shape (2 size, N).
    """
    place = machine(h)
    matrices, _, _ = matrix.draw(place, matrix.moments(place), size, rng)
    found = np.linalg.eigvalsh(matrices).reshape(2 * size, -1)
    return h.rbm_mass_squared - found[..., ::-1]


def expected_levels(h: GaussianRBMHyperparameters, edges: np.ndarray) -> np.ndarray:
    """Mean number of levels of a machine in each bin, shape (bins,).

    From `DENSITY_MATRICES` matrices of the full theory with a fixed seed; beyond `LARGEST_MATRIX`
    sites the blocks count as if on their own.
    """
    if h.sites > LARGEST_MATRIX:
        return levels_of_blocks(blocks(h), edges)
    pairs = max(min(DENSITY_MATRICES, 3 * WORK // h.sites**3), 500) // 2
    drawn = sample_levels(h, pairs, np.random.default_rng(SEED))
    return np.histogram(drawn, edges)[0] / len(drawn)


@lru_cache
def _predictions(physical: Physical, positions: tuple[tuple[int, int], ...]) -> list[Prediction]:
    """One for each block of ascending levels, by diagonalising matrices that are drawn.

    The seed follows from the physics: the same run always has the same prediction, and the errors
    of different runs are independent. Both signs of the Gaussian part together have no odd errors.
    Control variates with known means: within the block the square of its entries, and of a pair the
    gap that these have and its logarithm; and the squares of the couplings to other modes, weighted
    as in second-order perturbation theory. To 0.1 to 0.2 % of sigma at the default study's points.
    """
    place = _machine(*physical)
    size = len(place.fixed)
    pairs = max(min(MATRICES, WORK // size**3), FEWEST) // 2
    # Seeds are whole numbers: the bytes of the others.
    entropy = np.array([*physical[0], *physical[1], *physical[2:]], dtype=float).view(np.uint32)
    rng = np.random.default_rng([SEED, *entropy.tolist()])
    law = matrix.moments(place)
    matrices, gaussian, squares = matrix.draw(place, law, pairs, rng)
    found = place.mass - np.linalg.eigvalsh(matrices)[..., ::-1]
    beyond, predictions = _beyond(law), []
    for first, count in positions:
        controls = controls_of(place.fixed, gaussian, squares, first, count)
        predictions.append(predicted(found[..., first : first + count], controls, beyond))
    return predictions


def _beyond(law: matrix.Moments) -> str:
    """Why the law of the matrix is not to be taken at its word, from its own corrections."""
    # Without the corrections of second order these are what is left out.
    largest = LARGEST_CORRECTION if law.second_order else LARGEST_CORRECTION**2
    if law.correction <= largest:
        return ""
    return (
        f"the correction of second order in a/B to a variance is {law.correction:.2g} of it, more "
        f"than {largest:.2g}: lower learning_rate or raise batch_size"
    )


def blocks(h: GaussianRBMHyperparameters) -> list[Block]:
    """Prediction for every block of degenerate modes, by ascending kappa.

    The full theory is that of the whole matrix, `matrix`: repulsion between all modes, finite
    step and persistent chains, non-linear drift to the next order in a/B; where some modes are not
    learnt, to leading order for those that are. Beyond `LARGEST_MATRIX` sites it is the block
    formula with its two exact corrections, which only holds for modes that are far apart.
    """
    found = block_formulas(h)
    learnt_blocks = [block for block in found if not block.flag]
    positions = tuple((block.first, block.multiplicity) for block in learnt_blocks)
    if h.sites > LARGEST_MATRIX:
        near = crowding(np.array([block.sigma for block in learnt_blocks]), h.kappa(), positions)
        why = iter(why_crowded(crowded) for crowded in near.tolist())
        return [block if block.flag else replace(block, beyond=next(why)) for block in found]
    full = iter(_predictions(_physical(h), positions))
    return [block if block.flag else replace(block, **vars(next(full))) for block in found]


def block_formulas(h: GaussianRBMHyperparameters) -> list[Block]:
    """Every block of degenerate modes on its own, by ascending kappa.

    The block formula is sigma^2 = 2 a sigma_h^2 (mu^2 - kappa) / B about the centre kappa, for
    independent samples, a small step and weak noise; in the paper's variable (at sigma_h = 1),
    sqrt(a/B kappa^2 Omega) with Omega = (mu^2 - kappa) / kappa^2, the mean gap of a pair is
    sqrt(2 pi) times the variable.

    `finite_step_variable` holds two corrections: a finite step widens sigma^2 by
    1 / (1 - a sigma_h^4 x_s / kappa^2), the persistent chains of the Gibbs sampler by
    (1 + rho) / (1 - rho) with rho = (1 - kappa/mu^2)^(2k).
    """
    kappa, fixed = h.kappa(), h.fixed_points()
    ratio = h.learning_rate / h.batch_size
    found: list[Block] = []
    for first, count in multiplets(kappa):
        centre = float(kappa[first])
        learnt = int((fixed[first : first + count] > 0).sum())
        if learnt:
            point = float(fixed[first])
            variable = math.sqrt(ratio * h.hidden_width**4 * point)
            step = h.learning_rate * h.hidden_width**4 * point / centre**2
            correction = 1.0 / (1.0 - step)
            if h.sampler != "wishart":
                rho = (1.0 - centre / h.rbm_mass_squared) ** (2 * h.gibbs_sweeps)
                correction *= (1.0 + rho) / (1.0 - rho)
            finite = variable * math.sqrt(correction)
            unit = math.sqrt(2.0) * unit_mean_gap(learnt)
            found.append(
                Block(
                    first=first,
                    multiplicity=learnt,
                    centre=centre,
                    sigma=math.sqrt(2.0) * finite,
                    mean_gap=unit * finite,
                    centre_block=centre,
                    sigma_block=math.sqrt(2.0) * variable,
                    mean_gap_block=unit * variable,
                    variable=variable,
                    finite_step_variable=finite,
                    stochasticity=ratio,
                    dyson_index=1.0 if learnt > 1 else math.nan,
                )
            )
        if learnt < count:
            why = (
                "kappa >= rbm_mass_squared"
                if centre >= h.rbm_mass_squared
                else f"only hidden_units = {h.hidden_units} modes can be"
            )
            found.append(
                Block(
                    *(first + learnt, count - learnt),
                    *(h.rbm_mass_squared, math.nan, math.nan),
                    *(h.rbm_mass_squared, math.nan, math.nan),
                    *(math.nan, math.nan, ratio),
                    flag=f"not learnt: {why}; the mode kappa = {centre:.4g} stays at x = 0",
                )
            )
    return found
