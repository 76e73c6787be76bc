"""Second moments of D = W - W_t, for fresh inputs and given the training set."""

import math

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters, shared_covariances

FORGOTTEN = 1e-6
"""Share of a deviation that is left of steps which the sum over the past leaves out."""


def stationary_moments(h: TeacherStudentHyperparameters) -> tuple[float, float, float]:
    """Stationary (p, q, r) of E[D_ia D_jb] = p d_ij d_ab + q d_ib d_ja + r d_ia d_jb.

    D = W - W_t. Exact at any learning rate for fresh inputs: the fixed point of the map in
    `TeacherStudentHyperparameters.second_moment_map`.
    """
    kick = (h.learning_rate * h.noise_scale) ** 2 / h.batch_size
    source = kick * np.array([1.0, 1.0, 0.0])
    p, q, r = np.linalg.solve(np.eye(3) - h.second_moment_map(), source)
    return float(p), float(q), float(r)


def conditional_moments(h: TeacherStudentHyperparameters) -> tuple[np.ndarray, np.ndarray]:
    """Second moments of D = W - W_t given the training set, at every snapshot of the run.

    D_t = sum_s a A_bar_s Phi_s, Phi_s the product of (1 - a C) over the steps after s, is exactly
    Gaussian given the inputs, with

        E[D_ia D_jb] = delta_ij U_ab + V_jaib,
        U' = M U M + k 1,   V'_jaib = M_ac M_bd V_jcid + k delta_ja delta_ib,

    M = 1 - a C and k = a^2 epsilon^2 / B. Its mean and what the start adds are forgotten after the
    burn-in; steps long before the first snapshot are left out.

    Returns
    -------
    u : np.ndarray
        U_ab, shape (snapshot, n, n).
    v : np.ndarray
        V_jaib as [j, a, i, b], shape (snapshot, n, n, n, n).
    """
    n, a = h.size, h.learning_rate
    kick = (a * h.noise_scale) ** 2 / h.batch_size
    propagators = np.eye(n) - a * shared_covariances(h)
    times = h.snapshot_steps
    # Judged by the slower of the drawn inputs and fresh ones.
    growth = np.log([np.linalg.norm(m, 2) for m in propagators]).mean()
    rate = min(-math.log(h.contraction()), max(-float(growth), 1e-12))
    start = max(0, times[0] - math.ceil(-math.log(FORGOTTEN) / rate))
    u, v = np.zeros((n, n)), np.zeros((n, n, n, n))
    unit = np.eye(n)
    swap = np.einsum("ja,ib->jaib", unit, unit)
    kept_u, kept_v = [], []
    now = start
    for time in times:
        while now < time:
            m = propagators[now % h.training_batches]
            u = m @ u @ m + kick * unit
            # Contracts the second index, then the last; m is symmetric.
            v = np.tensordot(v, m, axes=(1, 0)).transpose(0, 3, 1, 2) @ m + kick * swap
            now += 1
        kept_u.append(u)
        kept_v.append(v)
    return np.array(kept_u), np.array(kept_v)
