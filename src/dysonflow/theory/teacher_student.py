"""Predictions for the linear teacher-student model."""

import math

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters, teacher
from dysonflow.theory import Block, multiplets, unit_mean_gap

QUANTITY = "singular value of W"
LEVEL = r"singular value $\sqrt{x}$"
VARIABLE = r"$\sqrt{(\alpha/B)\,\epsilon^2}$"
FINITE_STEP_VARIABLE = r"$\sqrt{(\alpha/B)\,\epsilon^2}$ $\times$ finite-step factor"
SLOPE = math.sqrt(math.pi)


def levels(h: TeacherStudentHyperparameters, eigenvalues: np.ndarray) -> np.ndarray:
    """Singular values of W, ascending, from ascending eigenvalues of W^T W, shape (..., n)."""
    return np.sqrt(eigenvalues)


def stationary_moments(h: TeacherStudentHyperparameters) -> tuple[float, float, float]:
    """Stationary (p, q, r) of E[D_ia D_jb] = p d_ij d_ab + q d_ib d_ja + r d_ia d_jb.

    D = W - W_t. Exact at any learning rate for fresh inputs: the fixed point of the map in
    `TeacherStudentHyperparameters.second_moment_map`.
    """
    kick = (h.learning_rate * h.noise_scale) ** 2 / h.batch_size
    source = kick * np.array([1.0, 1.0, 0.0])
    p, q, r = np.linalg.solve(np.eye(3) - h.second_moment_map(), source)
    return float(p), float(q), float(r)


def blocks(h: TeacherStudentHyperparameters) -> list[Block]:
    """Prediction for every block of equal teacher eigenvalues, ascending.

    The singular values of W = W_t + D follow the symmetric part H of D, whose moments are those of
    a GOE with sigma^2 = p + q (E[H_ij^2] = (p + q) / 2) and a common shift of variance r. For a
    small step sigma^2 = a epsilon^2 / B, and the mean gap of a pair is sqrt(pi) times the paper's
    variable sqrt(a/B epsilon^2). `sigma` is what the likelihood of the gas estimates: the shift
    moves all n levels together and adds n r / d, d = n + n (n - 1) / 2.

    Of next order in epsilon^2 a/B, and not contained: the repulsion between blocks, the curvature
    of the singular values, and the excess kurtosis of D. For `data: shared` the moments are those
    of fresh inputs, about which the runs scatter with the drawn inputs.
    """
    spectrum = np.array(h.spectrum())
    ratio = h.learning_rate / h.batch_size
    variable = math.sqrt(ratio) * h.noise_scale
    p, q, r = stationary_moments(h)
    flag = "" if h.noise_scale > 0 else "noise_scale = 0: the levels do not fluctuate"
    found = []
    for first, count in multiplets(spectrum):
        degrees = count + count * (count - 1) / 2
        sigma = math.sqrt(p + q + count * r / degrees)
        gap = math.sqrt(p + q) * unit_mean_gap(count)
        finite = math.sqrt(p + q)
        found.append(
            Block(
                *(first, count, float(spectrum[first])),
                *(sigma, gap, variable, finite, ratio),
                flag,
            )
        )
    return found


def noise_free(
    h: TeacherStudentHyperparameters, weights: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """Levels of students trained on the exact gradient, W_t + (1 - a)^t (W(0) - W_t).

    Parameters
    ----------
    h : TeacherStudentHyperparameters
        Of the run.
    weights : np.ndarray
        Weights at step 0, shape (replica, n, n).
    steps : np.ndarray
        Ascending SGD steps, shape (T,).

    Returns
    -------
    np.ndarray
        Levels, ascending, shape (replica, T, n).
    """
    target = teacher(h)
    memory = (1.0 - h.learning_rate) ** np.asarray(steps, dtype=float)
    weights = target + memory[None, :, None, None] * (weights - target)[:, None]
    return np.linalg.svd(weights, compute_uv=False)[..., ::-1]
