"""Theory of linear networks that learn a linear teacher; there is none of other networks."""

import math

import numpy as np

from dysonflow.models.mlp import MLPHyperparameters
from dysonflow.theory.base import Block, SpectrumLaws, Theory
from dysonflow.theory.mlp import predictions, spectrum


class MLPTheory(Theory[MLPHyperparameters]):
    """Linear noise about the least trace of the Hessian; the levels are singular values.

    Of networks that are not linear, or learn something else, it knows nothing: their levels are the
    eigenvalues of W^T W, and there are no blocks.
    """

    variable = r"$\sqrt{\alpha\,\epsilon^2 h/2B}$"
    finite_step_variable = r"$\sqrt{\alpha\,\epsilon^2 h/2B}$ $\times$ finite-step factor"
    slope = math.sqrt(math.pi)
    centre_symbol = "s"
    centre_meaning = "singular value without noise"
    knows_spectrum = True
    scope = (
        "a linear student of a noisy linear teacher: give activation: linear, bias: false, loss: "
        "squared_error, data: teacher, label_noise > 0, training_samples: 0, optimiser sgd or "
        "momentum at a constant rate"
    )

    def level_name(self, h: MLPHyperparameters, layer: str) -> str:
        """What a level is, in words."""
        return "singular value of W" if h.fitted else "eigenvalue of W^T W"

    def level_label(self, h: MLPHyperparameters, layer: str) -> str:
        """Label of an axis of levels."""
        return r"singular value $\sqrt{x}$" if h.fitted else r"eigenvalue $x$ of $W^T W$"

    def levels(self, h: MLPHyperparameters, layer: str, eigenvalues: np.ndarray) -> np.ndarray:
        """Singular values of the layer, ascending."""
        return np.sqrt(np.maximum(eigenvalues, 0.0)) if h.fitted else eigenvalues

    def eigenvalues(self, h: MLPHyperparameters, layer: str, levels: np.ndarray) -> np.ndarray:
        """Eigenvalues of W^T W that belong to levels, shape as given."""
        return np.asarray(levels) ** 2 if h.fitted else np.asarray(levels)

    def blocks(self, h: MLPHyperparameters, layer: str) -> list[Block]:
        """Prediction for every block of equal singular values, ascending; zeros first, flagged."""
        return predictions.blocks(h, layer)

    def block_formulas(self, h: MLPHyperparameters, layer: str) -> list[Block]:
        """The same blocks, each on its own, without drawing matrices."""
        return predictions.block_formulas(h, layer)

    def expected_levels(self, h: MLPHyperparameters, layer: str, edges: np.ndarray) -> np.ndarray:
        """Mean number of levels of the teacher's modes in each bin, shape (bins,)."""
        return predictions.expected_levels(h, layer, edges)

    def relaxation_rate(self, h: MLPHyperparameters, layer: str, block: Block) -> float | None:
        """Of the block's entries of the product, which the layers follow; None for zeros."""
        place = predictions.network(h)
        if place is None or block.flag:
            return None
        mode = block.first - (predictions.columns(h, layer) - len(place.singular_values))
        return place.relaxation_rate(float(place.curvature[mode, mode]))

    def spectrum_laws(self, h: MLPHyperparameters, layer: str) -> SpectrumLaws | None:
        """Random matrices and the gas of several species; None without a law."""
        return spectrum.laws(h, layer)


THEORY = MLPTheory()
