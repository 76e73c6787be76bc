r"""Moments of the change of the machine's matrix over some SGD steps, given its weights.

In units of sigma_h = 1 and in the eigenbasis of Y = sigma_h^2 X the mean follows the update with
the mean of the samples' covariance C, and what is quadratic in the noise to first order in 1/B:

    m' = (1 + a G) m (1 + a G) + (a^2 / B) [R m R + R tr(m R)] - curvature of R,
    G = K_phi^-1 - E[C],    R = 1 / (mu^2 - m).

Independent samples have E[C] = R. Persistent chains remember: E[C'] = R + A^k (E[C] - R) A^k,
A = m / mu^2. What the weights say of the chains, E[C - R | X], is that of the stationary linear
theory (`matrix.linear_covariance`): an average over the chains, exact to leading order in 1/B.

The fluctuations about the mean are followed to first order in 1/B: entry by entry, y_ij and the
chains' s_ij obey the linear recursion of `matrix.linear_noise` with the machine's present values in
the place of those of the fixed point. So lags are exact in the learning rate and of any length, up
to terms of relative order 1/B, and to how far the eigenbasis turns within a lag. The noise of B
samples is no Gaussian: its kurtosis is that of a product of two normals over B, and over the steps
of the lag, as if they were independent and weighed the same.
"""

import math

import numpy as np

from dysonflow.models.gaussian_rbm import GaussianRBMHyperparameters, precision_matrix
from dysonflow.statistics.kick import Kick
from dysonflow.theory.gaussian_rbm import matrix
from dysonflow.theory.gaussian_rbm.predictions import machine

SAMPLE_EXCESS = 6.0
"""Excess kurtosis of v_i v_j, and of (v_i^2 - v_j^2) / 2, for Gaussian v of equal variances."""


def kick(h: GaussianRBMHyperparameters, weights: np.ndarray, lag: int) -> Kick | None:
    """Moments of X(t + lag) - X(t) given W(t); None where some modes are not learnt.

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run.
    weights : np.ndarray
        Shape (sample, M, N).
    lag : int
        SGD steps.
    """
    place = machine(h)
    if (place.fixed <= 0).any():
        return None
    size, rate, batch, mass = h.sites, place.rate, place.batch, place.mass
    gram = h.hidden_width**2 * weights.swapaxes(-1, -2) @ weights.astype(np.float64)
    start, basis = np.linalg.eigh(gram)
    inverse = np.linalg.inv(precision_matrix(h))
    target = basis.swapaxes(-1, -2) @ inverse @ basis
    index, one = np.arange(size), 1.0 + np.eye(size)
    identity = np.eye(size)

    mean = np.zeros_like(gram)
    mean[:, index, index] = start
    # What the chains' mean is off that of the machine, and the covariance of (y, s).
    off, unknown = _chains_given_matrix(place, gram, basis, inverse)
    spread = np.zeros((2, 2, *gram.shape))
    spread[1, 1] = unknown
    for _ in range(lag):
        response = np.linalg.inv(mass * identity - mean)
        power = np.linalg.matrix_power(mean / mass, place.sweeps) if place.sweeps else None
        carried = power @ off @ power if power is not None else np.zeros_like(mean)
        gradient = target - response - carried
        x, r = np.einsum("sii->si", mean), np.einsum("sii->si", response)
        g = 1.0 + rate * np.einsum("sii->si", gradient)
        # Fluctuations, in the eigenbasis at the start.
        pairs = r[:, :, None] * r[:, None, :]
        memory = (x / mass) ** place.sweeps if place.sweeps else np.zeros_like(x)
        rho = memory[:, :, None] * memory[:, None, :]
        push = x * g
        push = rate * (push[:, :, None] + push[:, None, :])
        keep = g[:, :, None] * g[:, None, :] - push * (1.0 - rho) * pairs
        yy, ys, ss = spread[0, 0], spread[0, 1], spread[1, 1]
        fresh = (1.0 - rho**2) * pairs / batch
        there = (1.0 - rho) * pairs
        before = yy
        spread = np.empty_like(spread)
        spread[0, 0] = keep**2 * yy - 2.0 * keep * push * rho * ys + push**2 * (rho**2 * ss + fresh)
        spread[0, 1] = (
            keep * there * yy
            + (keep * rho - push * rho * there) * ys
            - push * (rho**2 * ss + fresh)
        )
        spread[1, 1] = there**2 * yy + 2.0 * there * rho * ys + rho**2 * ss + fresh
        # The mean: noise of the samples squared, and the curvature of the samples' covariance.
        trace = np.einsum("sij,sji->s", mean, response)[:, None, None]
        noise = (response @ mean @ response + response * trace) * (rate**2 / batch)
        bend = (before * one * pairs).sum(axis=2) * (x * r + 1.0)
        step = identity + rate * gradient
        following = step @ mean @ step + noise
        following[:, index, index] -= 2.0 * rate * bend
        off = response + carried - np.linalg.inv(mass * identity - following)
        mean = following
    scale = h.hidden_width**2
    change = mean
    change[:, index, index] -= start
    variance = spread[0, 0] * one / scale**2
    diagonal = np.zeros_like(variance)
    diagonal[:, index, index] = variance[:, index, index]
    return Kick(change / scale, variance, diagonal, SAMPLE_EXCESS / (batch * lag))


def relaxation_rate(h: GaussianRBMHyperparameters, mode: int) -> float | None:
    """Rate per SGD step at which the matrix entries of a learnt mode relax; None for others.

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run.
    mode : int
        By ascending kappa.
    """
    place = machine(h)
    if place.fixed[mode] <= 0:
        return None
    step, _ = matrix.linear_step(place)
    slowest = float(np.abs(np.linalg.eigvals(step[mode, mode])).max())
    return -math.log(slowest)


def _chains_given_matrix(
    place: matrix.Machine, gram: np.ndarray, basis: np.ndarray, inverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E[C - R(Y) | Y] and the variance of an entry of C given Y, in the eigenbasis of Y.

    Half of the variance on the diagonal, as everywhere; shapes (sample, N, N). Zero for independent
    samples.
    """
    nothing = np.zeros_like(gram)
    if not place.sweeps:
        return nothing, nothing
    # Eigenbasis of the field, kappa ascending, in which Y_s is diagonal.
    field = np.linalg.eigh(inverse)[1][:, ::-1]
    covariance = matrix.linear_covariance(place)
    variance = covariance[..., 0, 0]
    response = np.outer(place.covariance, place.covariance)
    slope = covariance[..., 0, 1] / variance
    y = field.T @ gram @ field - np.diag(place.fixed)
    off = field @ ((slope - response) * y) @ field.T
    left = covariance[..., 1, 1] - slope * covariance[..., 0, 1]
    # Eigenvalues of Y fall with kappa.
    unknown = np.broadcast_to(left[::-1, ::-1], gram.shape)
    return basis.swapaxes(-1, -2) @ off @ basis, unknown
