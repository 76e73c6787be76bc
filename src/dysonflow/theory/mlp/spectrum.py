"""Laws of all levels together: random matrices, and the gas of several species beside them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dysonflow.models.mlp import MLPHyperparameters
from dysonflow.statistics.gas_of_blocks import GasOfBlocks
from dysonflow.theory.base import Block, SpectrumLaws
from dysonflow.theory.mlp import draws, predictions
from dysonflow.theory.mlp.linear import LinearNetwork


def laws(h: MLPHyperparameters, layer: str) -> SpectrumLaws | None:
    """Laws of the levels of the teacher's modes; None where no law is known.

    - `matrix`: singular values of T + m + D, or of a layer (`draws`);
    - `matrix_linear_noise`: the same to first order in a/B, without the mean shift and the finite
      step; of a layer that of `matrix`, which is no other;
    - `gas`: one species for each singular value of the teacher, at the mean and with the standard
      deviation of the diagonal entries of `matrix`, so that the two differ by their interaction
      alone;
    - `gas_any_order`: the same where levels of different species may pass each other;
    - `gas_block_formula`: the gas at the values without noise, with the widths of a block on its
      own.
    """
    place = predictions.network(h)
    number = predictions.layer_number(h, layer)
    if place is None or (number is not None and place.layers > 2):
        return None
    blocks = [block for block in predictions.block_formulas(h, layer) if not block.flag]
    if not blocks:
        return None
    zeros = predictions.columns(h, layer) - len(place.singular_values)
    first = [block.first - zeros for block in blocks]
    centres, widths = _diagonal(place, number)
    if not (np.diff(centres[first]) > 0).all():
        return None
    positions = zeros + np.arange(len(place.singular_values))

    def full(groups: int, rng: np.random.Generator) -> np.ndarray:
        return predictions.draw(place, number, groups, rng)[0].swapaxes(0, 1)

    def linear(groups: int, rng: np.random.Generator) -> np.ndarray:
        if number is not None:
            return full(groups, rng)
        return draws.draw_linear_noise(place, groups, rng).swapaxes(0, 1)

    gas = _gas(blocks, centres[first].tolist(), widths[first].tolist())
    formula = _gas(
        blocks, [block.centre_block for block in blocks], [block.sigma_block for block in blocks]
    )
    return SpectrumLaws(
        positions,
        {"gas": gas, "gas_any_order": replace(gas, ordered=False), "gas_block_formula": formula},
        {"matrix": full, "matrix_linear_noise": linear},
    )


def _diagonal(place: LinearNetwork, number: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the diagonal entries, in units of the levels, shape (r,)."""
    if number is None:
        law = draws.product_law(place)
        return law.mean, np.sqrt(np.diagonal(law.squares))
    law = draws.layer_law(place, number)
    variance = np.diagonal(law.squares)
    root = np.sqrt(law.mean)
    # Square roots of normal numbers, to second order in their width.
    return root - variance / (8.0 * root**3), np.sqrt(variance) / (2.0 * root)


def _gas(blocks: Sequence[Block], centres: Sequence[float], sigmas: Sequence[float]) -> GasOfBlocks:
    return GasOfBlocks(tuple(block.multiplicity for block in blocks), tuple(centres), tuple(sigmas))
