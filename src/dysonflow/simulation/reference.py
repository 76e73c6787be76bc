"""The equations, one replica at a time.

Each function makes one training step of one replica from the state and the noise that it is given,
in torch and float64 (the student of two layers in NumPy), as one would write it down from the
papers. Nothing here is fast: it is what
the compiled kernel and the batched code are tested and timed against.

Sources: `arXiv:2309.15002 <https://arxiv.org/abs/2309.15002>`_ (Gaussian restricted Boltzmann
machine), `arXiv:2407.16427 <https://arxiv.org/abs/2407.16427>`_ (it and the linear student),
`arXiv:2509.01349 <https://arxiv.org/abs/2509.01349>`_ (student of two layers).

Notation: W weights (M, N); v visible units (B, N), one chain per row; h hidden units (B, M); a
learning rate; ``target`` the covariance of the data (N, N).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "ar1_sweeps",
    "bartlett_factor",
    "gibbs_sweeps",
    "goe_noise",
    "rbm_ar1_step",
    "rbm_gibbs_step",
    "rbm_update",
    "rbm_wishart_step",
    "teacher_student_step",
    "two_layer_student_step",
    "wishart_covariance",
]


def rbm_update(
    weights: Tensor, model_covariance: Tensor, target: Tensor, learning_rate: float, sigma_h: float
) -> Tensor:
    """W + a sigma_h^2 W (target - C): one step up the log-likelihood.

    Parameters
    ----------
    weights : Tensor of shape (M, N)
        W.
    model_covariance : Tensor of shape (N, N)
        C, the covariance of model samples.
    target : Tensor of shape (N, N)
        Covariance of the data.
    learning_rate, sigma_h : float
        a and the hidden width.

    Returns
    -------
    Tensor of shape (M, N)
    """
    return weights + learning_rate * sigma_h**2 * weights @ (target - model_covariance)


def gibbs_sweeps(
    weights: Tensor,
    visible: Tensor,
    hidden_noise: Tensor,
    visible_noise: Tensor,
    mu_squared: float,
    sigma_h: float,
) -> Tensor:
    """Sweeps of h ~ N(sigma_h^2 W v, sigma_h^2), then v ~ N(W^T h / mu^2, 1 / mu^2).

    Parameters
    ----------
    weights : Tensor of shape (M, N)
        W.
    visible : Tensor of shape (B, N)
        Chains before.
    hidden_noise, visible_noise : Tensor of shape (sweeps, B, M) and (sweeps, B, N)
        Standard normal numbers.
    mu_squared, sigma_h : float
        Parameters of the model.

    Returns
    -------
    Tensor of shape (B, N)
        Chains after.
    """
    for xi, eta in zip(hidden_noise, visible_noise, strict=True):
        hidden = sigma_h**2 * visible @ weights.T + sigma_h * xi
        visible = hidden @ weights / mu_squared + eta / mu_squared**0.5
    return visible


def ar1_sweeps(
    weights: Tensor, visible: Tensor, noise: Tensor, sweeps: int, mu_squared: float, sigma_h: float
) -> Tensor:
    """Draw from the law of `gibbs_sweeps` with the hidden layer integrated out.

    One sweep is v' = A v + noise of covariance (1 + A)/mu^2, A = sigma_h^2 W^T W / mu^2; k of them
    are v' = A^k v + L xi, L L^T = (1 + A + .. + A^{2k-1}) / mu^2.

    Parameters
    ----------
    weights : Tensor of shape (M, N)
        W.
    visible : Tensor of shape (B, N)
        Chains before.
    noise : Tensor of shape (B, N)
        Standard normal numbers xi.
    sweeps : int
        k.
    mu_squared, sigma_h : float
        Parameters of the model.

    Returns
    -------
    Tensor of shape (B, N)
        Chains after.
    """
    a = sigma_h**2 * weights.T @ weights / mu_squared
    power = torch.eye(a.shape[0], dtype=a.dtype)
    total = torch.zeros_like(a)
    for i in range(2 * sweeps):
        total = total + power
        power = power @ a
        if i == sweeps - 1:
            mean = visible @ power.T
    factor = torch.linalg.cholesky(total / mu_squared)
    return mean + noise @ factor.T


def wishart_covariance(
    weights: Tensor, factor: Tensor, batch_size: int, mu_squared: float, sigma_h: float
) -> Tensor:
    """Covariance of B independent samples of N(0, K^{-1}), K = mu^2 - sigma_h^2 W^T W.

    With K = Q^T Q, Q lower triangular, a sample is Q^{-1} z, z standard normal, and the covariance
    Q^{-1} T T^T Q^{-T} / B.

    Parameters
    ----------
    weights : Tensor of shape (M, N)
        W.
    factor : Tensor of shape (N, N) or (N, B)
        T: Bartlett's factor, or the matrix whose columns are the z.
    batch_size : int
        B.
    mu_squared, sigma_h : float
        Parameters of the model.

    Returns
    -------
    Tensor of shape (N, N)

    Raises
    ------
    torch.linalg.LinAlgError
        If K is not positive definite.
    """
    n = weights.shape[1]
    k = mu_squared * torch.eye(n, dtype=weights.dtype) - sigma_h**2 * weights.T @ weights
    # The Cholesky factor of the matrix with rows and columns reversed, reversed again, is upper.
    q = torch.linalg.cholesky(k.flip(0, 1)).flip(0, 1).T
    y = torch.linalg.solve_triangular(q, factor, upper=False)
    return y @ y.T / batch_size


def bartlett_factor(normals: Tensor, chi: Tensor) -> Tensor:
    """Lower triangular T with T T^T a Wishart matrix of the identity, by Bartlett's decomposition.

    Parameters
    ----------
    normals : Tensor of shape (n (n - 1) / 2,)
        Standard normal numbers for the strict lower triangle, row by row.
    chi : Tensor of shape (n,)
        Chi variables with B, B - 1, .. B - n + 1 degrees of freedom.

    Returns
    -------
    Tensor of shape (n, n)
    """
    n = chi.shape[0]
    factor = torch.diag(chi)
    rows, columns = torch.tril_indices(n, n, offset=-1)
    factor[rows, columns] = normals
    return factor


def rbm_gibbs_step(
    weights: Tensor,
    visible: Tensor,
    hidden_noise: Tensor,
    visible_noise: Tensor,
    *,
    target: Tensor,
    learning_rate: float,
    mu_squared: float,
    sigma_h: float,
) -> tuple[Tensor, Tensor]:
    """One step with persistent Gibbs chains: `gibbs_sweeps`, then `rbm_update`.

    Returns
    -------
    tuple of Tensor
        Weights (M, N) and chains (B, N) after the step.
    """
    visible = gibbs_sweeps(weights, visible, hidden_noise, visible_noise, mu_squared, sigma_h)
    covariance = visible.T @ visible / visible.shape[0]
    return rbm_update(weights, covariance, target, learning_rate, sigma_h), visible


def rbm_ar1_step(
    weights: Tensor,
    visible: Tensor,
    noise: Tensor,
    *,
    sweeps: int,
    target: Tensor,
    learning_rate: float,
    mu_squared: float,
    sigma_h: float,
) -> tuple[Tensor, Tensor]:
    """One step with the hidden layer integrated out: `ar1_sweeps`, then `rbm_update`.

    Returns
    -------
    tuple of Tensor
        Weights (M, N) and chains (B, N) after the step.
    """
    visible = ar1_sweeps(weights, visible, noise, sweeps, mu_squared, sigma_h)
    covariance = visible.T @ visible / visible.shape[0]
    return rbm_update(weights, covariance, target, learning_rate, sigma_h), visible


def rbm_wishart_step(
    weights: Tensor,
    factor: Tensor,
    *,
    batch_size: int,
    target: Tensor,
    learning_rate: float,
    mu_squared: float,
    sigma_h: float,
) -> Tensor:
    """One step with independent samples: `wishart_covariance`, then `rbm_update`.

    Returns
    -------
    Tensor of shape (M, N)
        Weights after the step.
    """
    covariance = wishart_covariance(weights, factor, batch_size, mu_squared, sigma_h)
    return rbm_update(weights, covariance, target, learning_rate, sigma_h)


def goe_noise(normals: Tensor, size: int) -> Tensor:
    """Symmetric matrix of normal entries, of variance 1 off the diagonal and 2 on it.

    Parameters
    ----------
    normals : Tensor of shape (size (size + 1) / 2,)
        Standard normal numbers for the lower triangle, row by row.
    size : int
        Rows of the matrix.

    Returns
    -------
    Tensor of shape (size, size)
    """
    rows, columns = torch.tril_indices(size, size)
    lower = torch.zeros(size, size, dtype=normals.dtype)
    lower[rows, columns] = normals
    strict = torch.tril(lower, -1)
    return strict + strict.T + 2**0.5 * torch.diag(torch.diag(lower))


def teacher_student_step(
    weights: Tensor,
    inputs: Tensor,
    label_noise: Tensor,
    *,
    teacher: Tensor,
    learning_rate: float,
    noise_scale: float,
) -> Tensor:
    """W + a [(teacher - W) C + A], C = x^T x / B, A = eps / sqrt(B) times a GOE matrix.

    Parameters
    ----------
    weights, teacher : Tensor of shape (n, n)
        W and the teacher's weights.
    inputs : Tensor of shape (B, n)
        x, one sample per row.
    label_noise : Tensor of shape (n, n)
        From `goe_noise`: the noise of B samples averaged, in units of eps / sqrt(B).
    learning_rate, noise_scale : float
        a and eps.

    Returns
    -------
    Tensor of shape (n, n)
        Weights after the step.
    """
    batch = inputs.shape[0]
    covariance = inputs.T @ inputs / batch
    noise = noise_scale / batch**0.5 * label_noise
    return weights + learning_rate * ((teacher - weights) @ covariance + noise)


def two_layer_student_step(
    weights: np.ndarray,
    inputs: np.ndarray,
    *,
    first: np.ndarray,
    teacher: np.ndarray,
    readout: np.ndarray,
    activation: Callable[[np.ndarray], np.ndarray],
    derivative: Callable[[np.ndarray], np.ndarray],
    learning_rate: float,
) -> np.ndarray:
    """W - a times the gradient of sum_b |y_b - y_t,b|^2 / (2 B), y = Z f(W f(M x)).

    Parameters
    ----------
    weights, teacher : array of shape (K, L)
        W and the teacher's W_t.
    inputs : array of shape (B, n_in)
        x, one sample per row.
    first, readout : array of shape (L, n_in), (n_out, K)
        M and Z, of student and teacher.
    activation, derivative : callable
        f and f', entry by entry.
    learning_rate : float
        a.

    Returns
    -------
    array of shape (K, L)
        Weights after the step.
    """
    features = activation(np.einsum("li,bi->bl", first, inputs))
    hidden = np.einsum("kl,bl->bk", weights, features)
    output = np.einsum("ok,bk->bo", readout, activation(hidden))
    learnt = activation(np.einsum("kl,bl->bk", teacher, features))
    error = output - np.einsum("ok,bk->bo", readout, learnt)
    delta = np.einsum("ok,bo->bk", readout, error) * derivative(hidden)
    gradient = np.einsum("bk,bl->kl", delta, features) / len(inputs)
    return weights - learning_rate * gradient
