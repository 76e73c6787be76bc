"""Predictions for the Gaussian restricted Boltzmann machine, to leading order in noise."""

import math

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters, precision_matrix
from dysonflow.theory import Block, multiplets, unit_mean_gap

QUANTITY = "lambda = mu^2 - sigma_h^2 x, eigenvalue of the machine's precision matrix"
LEVEL = r"$\lambda$"
VARIABLE = r"$\sqrt{(\alpha/B)\,\kappa^2\,\Omega}$"
FINITE_STEP_VARIABLE = (
    r"$\sqrt{(\alpha/B)\,\kappa^2\,\Omega}$ $\times$ finite-step and persistent-chain factors"
)
SLOPE = math.sqrt(2.0 * math.pi)


def levels(h: GaussianRBMHyperparameters, eigenvalues: np.ndarray) -> np.ndarray:
    """Eigenvalues lambda = mu^2 - sigma_h^2 x of the precision matrix K, ascending.

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run.
    eigenvalues : np.ndarray
        Ascending eigenvalues x of W^T W, shape (..., N).
    """
    return h.rbm_mass_squared - h.hidden_width**2 * eigenvalues[..., ::-1]


def blocks(h: GaussianRBMHyperparameters) -> list[Block]:
    """Prediction for every block of degenerate modes, by ascending kappa.

    For independent samples and a small step sigma^2 = 2 a sigma_h^2 (mu^2 - kappa) / B about the
    centre kappa; in the paper's variable (at sigma_h = 1), sqrt(a/B kappa^2 Omega) with
    Omega = (mu^2 - kappa) / kappa^2, the mean gap of a pair is sqrt(2 pi) times the variable.

    Two corrections are known: a finite step widens sigma^2 by 1 / (1 - a sigma_h^4 x_s / kappa^2),
    the persistent chains of the Gibbs sampler by (1 + rho) / (1 - rho) with
    rho = (1 - kappa/mu^2)^(2k).
    The repulsion between different modes, of the next order in a/B, is not contained.
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
            sigma = math.sqrt(2.0) * finite
            gap = sigma * unit_mean_gap(learnt)
            found.append(Block(first, learnt, centre, sigma, gap, variable, finite, ratio))
        if learnt < count:
            why = (
                "kappa >= rbm_mass_squared"
                if centre >= h.rbm_mass_squared
                else f"only hidden_units = {h.hidden_units} modes can be"
            )
            nan = math.nan
            found.append(
                Block(
                    *(first + learnt, count - learnt),
                    *(h.rbm_mass_squared, nan, nan, nan, nan),
                    ratio,
                    f"not learnt: {why}; the mode kappa = {centre:.4g} stays at x = 0",
                )
            )
    return found


def noise_free(h: GaussianRBMHyperparameters, weights: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Levels of machines trained with the exact gradient, from the given weights.

    W <- W + a sigma_h^2 W (K_phi^-1 - K^-1): the drift of the stochastic dynamics, eigenvectors
    included.

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run.
    weights : np.ndarray
        Weights at step 0, shape (replica, M, N).
    steps : np.ndarray
        Ascending SGD steps, shape (T,).

    Returns
    -------
    np.ndarray
        Levels, ascending, shape (replica, T, N).
    """
    covariance = np.linalg.inv(precision_matrix(h))
    rate = h.learning_rate * h.hidden_width**2
    now, kept = 0, []
    gram = weights.transpose(0, 2, 1) @ weights
    for step in steps:
        for _ in range(int(step) - now):
            model = h.rbm_mass_squared * np.eye(h.sites) - h.hidden_width**2 * gram
            growth = np.eye(h.sites) + rate * (covariance - np.linalg.inv(model))
            gram = growth.transpose(0, 2, 1) @ gram @ growth
        now = int(step)
        kept.append(np.linalg.eigvalsh(gram))
    return levels(h, np.stack(kept, axis=1))
