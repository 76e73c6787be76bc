"""Theory of the Gaussian restricted Boltzmann machine."""

import math

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters, modes
from dysonflow.statistics.kick import Kick
from dysonflow.theory.base import Block, Escape, SpectrumLaws, Theory
from dysonflow.theory.gaussian_rbm import escape, exact_gradient, motion, predictions, spectrum


class GaussianRBMTheory(Theory[GaussianRBMHyperparameters]):
    """Linear noise about the fixed point; the levels are those of the precision matrix K."""

    variable = r"$\sqrt{(\alpha/B)\,\kappa^2\,\Omega}$"
    finite_step_variable = (
        r"$\sqrt{(\alpha/B)\,\kappa^2\,\Omega}$ $\times$ finite-step and persistent-chain factors"
    )
    slope = math.sqrt(2.0 * math.pi)

    knows_spectrum = True

    def level_name(self, h: GaussianRBMHyperparameters, layer: str) -> str:
        """What a level is, in words."""
        return "lambda = mu^2 - sigma_h^2 x, eigenvalue of the machine's precision matrix"

    def level_label(self, h: GaussianRBMHyperparameters, layer: str) -> str:
        """Label of an axis of levels."""
        return r"$\lambda$"

    def levels(
        self, h: GaussianRBMHyperparameters, layer: str, eigenvalues: np.ndarray
    ) -> np.ndarray:
        """Eigenvalues lambda = mu^2 - sigma_h^2 x of the precision matrix K, ascending."""
        return h.rbm_mass_squared - h.hidden_width**2 * eigenvalues[..., ::-1]

    def eigenvalues(
        self, h: GaussianRBMHyperparameters, layer: str, levels: np.ndarray
    ) -> np.ndarray:
        """Eigenvalues x = (mu^2 - lambda) / sigma_h^2 of W^T W, in the order of the levels."""
        return (h.rbm_mass_squared - np.asarray(levels)) / h.hidden_width**2

    def blocks(self, h: GaussianRBMHyperparameters, layer: str) -> list[Block]:
        """Prediction for every block of degenerate modes, by ascending kappa."""
        return predictions.blocks(h)

    def block_formulas(self, h: GaussianRBMHyperparameters, layer: str) -> list[Block]:
        """The same blocks without the theory of the whole matrix, which takes a second."""
        return predictions.block_formulas(h)

    def expected_levels(
        self, h: GaussianRBMHyperparameters, layer: str, edges: np.ndarray
    ) -> np.ndarray:
        """Mean number of levels of a machine in each bin, shape (bins,)."""
        return predictions.expected_levels(h, edges)

    def pair_plane(
        self, h: GaussianRBMHyperparameters, layer: str, first: int
    ) -> tuple[np.ndarray, int]:
        """Plane of a degenerate pair of modes, and where its lower level is."""
        return modes(h)[:, first : first + 2], first

    def relaxation_rate(
        self, h: GaussianRBMHyperparameters, layer: str, block: Block
    ) -> float | None:
        """Of the slower of the two motions that matrix and chains have together."""
        return motion.relaxation_rate(h, block.first)

    def kick(
        self,
        h: GaussianRBMHyperparameters,
        layer: str,
        weights: np.ndarray,
        steps: np.ndarray,
        lag: int,
    ) -> Kick | None:
        """Moments of the change of X, averaged over the chains; None where modes are not learnt."""
        return motion.kick(h, weights, lag)

    def noise_free(
        self, h: GaussianRBMHyperparameters, layer: str, weights: np.ndarray, steps: np.ndarray
    ) -> np.ndarray:
        """Levels of machines trained with the exact gradient, from the given weights.

        W <- W + a sigma_h^2 W (K_phi^-1 - K^-1): the drift of the stochastic dynamics, eigenvectors
        included.
        """
        now, kept = 0, []
        gram = weights.transpose(0, 2, 1) @ weights
        for step in steps:
            gram = exact_gradient.train(h, gram, int(step) - now)
            now = int(step)
            kept.append(np.linalg.eigvalsh(gram))
        return self.levels(h, layer, np.stack(kept, axis=1))

    def escape(self, h: GaussianRBMHyperparameters, layer: str) -> Escape | None:
        """Of a mode whose place another one has taken, for want of hidden units."""
        return escape.escape(h)

    def spectrum_laws(self, h: GaussianRBMHyperparameters, layer: str) -> SpectrumLaws | None:
        """The random matrix and the Coulomb gases that compete with it."""
        return spectrum.laws(h)


THEORY = GaussianRBMTheory()
