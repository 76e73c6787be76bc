"""Training of the machine on the exact gradient, without the noise of its samples."""

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters, precision_matrix


def train(h: GaussianRBMHyperparameters, gram: np.ndarray, steps: int) -> np.ndarray:
    """X = W^T W after some steps of W <- W + a sigma_h^2 W (K_phi^-1 - K^-1).

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run.
    gram : np.ndarray
        X before, shape (.., N, N).
    steps : int
        SGD steps.
    """
    identity = np.eye(h.sites)
    covariance = np.linalg.inv(precision_matrix(h))
    rate = h.learning_rate * h.hidden_width**2
    for _ in range(steps):
        model = h.rbm_mass_squared * identity - h.hidden_width**2 * gram
        growth = identity + rate * (covariance - np.linalg.inv(model))
        gram = growth.swapaxes(-1, -2) @ gram @ growth
    return gram
