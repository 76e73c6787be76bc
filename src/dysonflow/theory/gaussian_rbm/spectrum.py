"""Laws of all levels of the machine together: the random matrix, and Coulomb gases beside it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters
from dysonflow.statistics.gas_of_blocks import GasOfBlocks
from dysonflow.theory.base import Block, SpectrumLaws
from dysonflow.theory.gaussian_rbm import matrix, predictions
from dysonflow.theory.gaussian_rbm.matrix import Machine, Moments


def laws(h: GaussianRBMHyperparameters) -> SpectrumLaws | None:
    """Laws of the levels that are learnt, in units of the precision matrix.

    - `matrix`: eigenvalues of the random matrix of the full theory;
    - `matrix_linear_noise`: of the Gaussian matrix X_s + H, to first order in 1/B;
    - `gas`: the Coulomb gas whose centres and widths are means and standard deviations of the
      diagonal entries of `matrix`, so that the two differ by their interaction alone;
    - `gas_any_order`: the same where levels of different blocks may pass each other;
    - `gas_block_formula`: the gas as arXiv:2407.16427 writes it, centres kappa and widths of the
      block formula.

    None beyond `predictions.LARGEST_MATRIX` sites.
    """
    if h.sites > predictions.LARGEST_MATRIX:
        return None
    place = predictions.machine(h)
    blocks = [block for block in predictions.block_formulas(h) if not block.flag]
    positions = np.concatenate([np.arange(len(place.fixed))[block.positions] for block in blocks])
    full, linear = matrix.moments(place), matrix.linear_noise(place)
    first = [block.first for block in blocks]
    centres = place.mass - place.fixed - full.mean
    variances = 2.0 * np.diagonal(full.variance) + np.diagonal(full.cross)

    def levels_of(law: Moments, groups: int, rng: np.random.Generator) -> np.ndarray:
        return _levels(place, law, groups, rng)[..., positions]

    gas = _gas(blocks, centres[first], np.sqrt(variances[first]))
    return SpectrumLaws(
        positions,
        {
            "gas": gas,
            "gas_any_order": replace(gas, ordered=False),
            "gas_block_formula": _gas(
                blocks,
                [block.centre_block for block in blocks],
                [block.sigma_block for block in blocks],
            ),
        },
        {
            "matrix": lambda groups, rng: levels_of(full, groups, rng),
            "matrix_linear_noise": lambda groups, rng: levels_of(linear, groups, rng),
        },
    )


def _gas(blocks: Sequence[Block], centres: Sequence[float], sigmas: Sequence[float]) -> GasOfBlocks:
    return GasOfBlocks(
        tuple(block.multiplicity for block in blocks),
        tuple(float(centre) for centre in centres),
        tuple(float(sigma) for sigma in sigmas),
    )


def _levels(place: Machine, law: Moments, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Ascending levels, shape (group, 2, N): of g and of -g."""
    size = len(place.fixed)
    found = np.empty((groups, 2, size))
    # A few matrices at a time, so that the memory does not grow with what is asked for.
    part = max(1, PART // size**2)
    for start in range(0, groups, part):
        rows = found[start : start + part]
        matrices, _, _ = matrix.draw(place, law, len(rows), rng)
        rows[:] = place.mass - np.linalg.eigvalsh(matrices).swapaxes(0, 1)[..., ::-1]
    return found


PART = 2**20
"""Entries of matrices that are drawn at once."""
