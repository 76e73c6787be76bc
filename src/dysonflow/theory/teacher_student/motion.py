r"""Moments of the change of X = W^T W over some SGD steps, given the student W.

D = W - W_t is linear in itself and in the noise, D' = D (1 - a C) + a A_bar, so its conditional
moments are exact at any step and lag. With m = E[W'] and delta = W' - m,

    X' = m^T m + m^T delta + delta^T m + delta^T delta:

the mean is exact, the variances are those of the part that is linear in delta, which leaves out
terms of relative order |delta|^2 / |m|^2.

Fresh inputs: E[D'] = (1 - a) E[D], and with T_iajb = Cov(D_ia, D_jb)

    T' = (1 - a)^2 T + (a^2 / B) [delta_ab sum_c E[D_ic D_jc] + E[D_ib D_ja]]
         + a^2 epsilon^2 / B (delta_ij delta_ab + delta_ib delta_ja).

A shared training set is known, so that only the GOE noise is random: D (1 - a C) step by step.
"""

import numpy as np

from dysonflow.models.teacher_student import (
    TeacherStudentHyperparameters,
    shared_covariances,
    teacher,
)
from dysonflow.statistics.kick import Kick

LARGEST = 8
"""Largest n; the covariance of D has n^4 entries for every replica."""


def kick(
    h: TeacherStudentHyperparameters, weights: np.ndarray, steps: np.ndarray, lag: int
) -> Kick | None:
    """Moments of X(t + lag) - X(t) given W(t); None beyond `LARGEST` levels.

    Parameters
    ----------
    h : TeacherStudentHyperparameters
        Of the run.
    weights : np.ndarray
        Shape (sample, n, n).
    steps : np.ndarray
        SGD step of each sample, shape (sample,); which batches of a shared set follow.
    lag : int
        SGD steps.
    """
    n, rate = h.size, h.learning_rate
    if n > LARGEST:
        return None
    target = teacher(h)
    weights = weights.astype(np.float64)
    gram = weights.swapaxes(-1, -2) @ weights
    start, basis = np.linalg.eigh(gram)
    identity = np.eye(n)
    goe = np.einsum("ij,ab->iajb", identity, identity) + np.einsum(
        "ib,ja->iajb", identity, identity
    )
    goe *= (rate * h.noise_scale) ** 2 / h.batch_size
    mean = weights - target
    spread = np.zeros((len(weights), n, n, n, n))
    batches = shared_covariances(h) if h.data == "shared" else None
    for step in range(lag):
        if batches is not None:
            keep = identity - rate * batches[(steps + step) % h.training_batches]
            spread = np.einsum("siajb,sac,sbd->sicjd", spread, keep, keep, optimize=True) + goe
            mean = mean @ keep
            continue
        second = spread + np.einsum("sia,sjb->siajb", mean, mean)
        kicks = np.einsum("sicjc,ab->siajb", second, identity)
        kicks += second.transpose(0, 1, 4, 3, 2)
        spread = (1.0 - rate) ** 2 * spread + rate**2 / h.batch_size * kicks + goe
        mean = (1.0 - rate) * mean
    there = mean + target
    change = there.swapaxes(-1, -2) @ there - gram + np.einsum("skakb->sab", spread)
    # (U^T (m^T delta + delta^T m) U)_ij, with p = m U and delta U.
    p = there @ basis
    turned = np.einsum("siajb,sac,sbd->sicjd", spread, basis, basis, optimize=True)
    # Cov(sum_k p_ki delta_kj, sum_l p_lm delta_ln) = half[i, j, m, n].
    half = np.einsum("ski,skjln,slm->sijmn", p, turned, p, optimize=True)
    both = half + half.transpose(0, 2, 1, 3, 4)
    both = both + both.transpose(0, 1, 2, 4, 3)
    index = np.arange(n)
    rows, columns = np.meshgrid(index, index, indexing="ij")
    variance = both[:, rows, columns, rows, columns]
    covariance = both[:, rows, rows, columns, columns]
    return Kick(basis.swapaxes(-1, -2) @ change @ basis, variance, covariance)
