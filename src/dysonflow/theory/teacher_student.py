"""Predictions for the linear teacher-student model."""

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from dysonflow.models.teacher_student import (
    TeacherStudentHyperparameters,
    shared_covariances,
    teacher,
)
from dysonflow.theory import (
    Block,
    integrate,
    levels_of_blocks,
    multiplets,
    unit_mean_gap,
)

VARIABLE = r"$\sqrt{(\alpha/B)\,\epsilon^2}$"
FINITE_STEP_VARIABLE = r"$\sqrt{(\alpha/B)\,\epsilon^2}$ $\times$ finite-step factor"
SLOPE = math.sqrt(math.pi)

FORGOTTEN = 1e-6
"""Share of a deviation that is left of steps which the sum over the past leaves out."""
LARGEST_SHARED = 12
"""Size up to which the moments given the inputs are worked out, n^4 of them at every step."""
SHARED_DRAWS = 200_000
"""Blocks drawn for a mean gap given the inputs, over all snapshots."""
HEAVIEST = 1.5
"""Ratio of fourth moments up to which the first term for the tails is taken."""


def level_name(h: TeacherStudentHyperparameters) -> str:
    """What a level is, in words."""
    return "singular value of W"


def level_label(h: TeacherStudentHyperparameters) -> str:
    """Label of an axis of levels."""
    return r"singular value $\sqrt{x}$"


def levels(h: TeacherStudentHyperparameters, eigenvalues: np.ndarray) -> np.ndarray:
    """Singular values of W, ascending, from ascending eigenvalues of W^T W, shape (..., n)."""
    return np.sqrt(eigenvalues)


def eigenvalues(h: TeacherStudentHyperparameters, levels: np.ndarray) -> np.ndarray:
    """Eigenvalues of W^T W that belong to singular values of W, shape as given."""
    return np.asarray(levels) ** 2


def expected_levels(h: TeacherStudentHyperparameters, edges: np.ndarray) -> np.ndarray:
    """Mean number of levels of a student in each bin, each block on its own, shape (bins,)."""
    return levels_of_blocks(blocks(h), edges)


def pair_plane(h: TeacherStudentHyperparameters, first: int) -> tuple[np.ndarray, int]:
    """Plane of a pair of equal teacher eigenvalues, and where its lower level is.

    Parameters
    ----------
    h : TeacherStudentHyperparameters
        Of the run.
    first : int
        Position of the pair's lower level.

    Returns
    -------
    basis : np.ndarray
        Two orthonormal vectors, shape (n, 2).
    position : int
        Position of the lower level's singular value, counted from the largest.
    """
    vectors = np.linalg.eigh(teacher(h))[1]
    return vectors[:, first : first + 2], h.size - 1 - first


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


def fourth_moment_ratio(h: TeacherStudentHyperparameters) -> float:
    """E[S^4] / (2 E[S^2]^2) of the gap S of a pair, 1 if D is Gaussian; for n = 2, fresh inputs.

    Of the symmetric part of D, S^2 = (H_11 - H_22)^2 + 4 H_12^2. The fourth moments of D obey a
    closed linear equation, D' = D (1 - a C) + a A_bar with independent factors, which needs the
    moments of C up to the fourth: sums over the pairings of normal variables. Infinite where the
    fourth moment does not exist.
    """
    n, a, batch = 2, h.learning_rate, h.batch_size
    if h.size != n:
        raise ValueError("size: the fourth moments are worked out for n = 2")
    # X = (D_11, D_12, D_21, D_22): X' = (1 x M) X + noise.
    second = _mean_power(n, a, batch, 2)
    fourth = _mean_power(n, a, batch, 4)
    kick = (a * h.noise_scale) ** 2 / batch
    unit = np.eye(n)
    goe = np.einsum("ij,ab->iajb", unit, unit) + np.einsum("ib,ja->iajb", unit, unit)
    noise = kick * goe
    p, q, r = stationary_moments(h)
    pairs = p * np.einsum("ij,ab->iajb", unit, unit) + q * np.einsum("ib,ja->iajb", unit, unit)
    pairs = pairs + r * np.einsum("ia,jb->iajb", unit, unit)
    carried = np.einsum("acbd,icjd->iajb", second, pairs)
    source = np.zeros((n,) * 8)
    for left, right in (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))):
        axes = [2 * k + part for k in (*left, *right) for part in (0, 1)]
        back = np.argsort(axes)
        for first, other in ((carried, noise), (noise, carried), (noise, noise)):
            source += np.multiply.outer(first, other).transpose(back)
    # The rows of D go along unchanged: one system of size n^4 for the columns.
    columns = source.transpose(1, 3, 5, 7, 0, 2, 4, 6).reshape(n**4, n**4)
    step = fourth.transpose(0, 2, 4, 6, 1, 3, 5, 7).reshape(n**4, n**4)
    if np.abs(np.linalg.eigvals(step)).max() >= 1.0:
        return math.inf
    solved = np.linalg.solve(np.eye(n**4) - step, columns).reshape((n,) * 8)
    moments = solved.transpose(4, 0, 5, 1, 6, 2, 7, 3).reshape((n * n,) * 4)
    form = np.zeros((n * n, n * n))
    difference, sum_off = np.array([1.0, 0.0, 0.0, -1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    form += np.outer(difference, difference) + np.outer(sum_off, sum_off)
    square = float((pairs.reshape(n * n, n * n) * form).sum())
    return float(np.einsum("abcd,ab,cd->", moments, form, form)) / (2.0 * square**2)


def _mean_power(n: int, a: float, batch: int, power: int) -> np.ndarray:
    """E of the tensor power of M = 1 - a C, as [row, column, row, column, ..], two per factor."""
    unit = np.eye(n)
    total = np.zeros((n,) * (2 * power))
    for kicked in range(power + 1):
        for chosen in itertools.combinations(range(power), kicked):
            rest = [k for k in range(power) if k not in chosen]
            axes = [2 * k + part for k in (*chosen, *rest) for part in (0, 1)]
            term = _wishart_moment(n, batch, kicked)
            for _ in rest:
                term = np.multiply.outer(term, unit)
            total += (-a) ** kicked * np.transpose(term, np.argsort(axes))
    return total


@lru_cache
def _wishart_moment(n: int, batch: int, power: int) -> np.ndarray:
    """E[C_ab C_cd ..]: each pairing of the normal variables counts B^(cycles - power)."""
    unit = np.eye(n)
    total = np.zeros((n,) * (2 * power))
    for pairing in _pairings(list(range(2 * power))):
        leader = list(range(power))

        def root(k: int, leader: list[int] = leader) -> int:
            while leader[k] != k:
                k = leader[k]
            return k

        term = np.ones(())
        for one, other in pairing:
            leader[root(one // 2)] = root(other // 2)
            term = np.multiply.outer(term, unit)
        cycles = sum(leader[k] == k for k in range(power))
        order = [index for pair in pairing for index in pair]
        total += float(batch) ** (cycles - power) * np.transpose(term, np.argsort(order))
    return total


def _pairings(items: list[int]) -> Iterator[list[tuple[int, int]]]:
    if not items:
        yield []
        return
    first, *rest = items
    for k, other in enumerate(rest):
        for more in _pairings(rest[:k] + rest[k + 1 :]):
            yield [(first, other), *more]


def blocks(h: TeacherStudentHyperparameters) -> list[Block]:
    """Prediction for every block of equal teacher eigenvalues, ascending.

    The singular values of W = W_t + D follow the symmetric part H of D, whose moments for fresh
    inputs are those of a GOE with sigma^2 = p + q (E[H_ij^2] = (p + q) / 2) and a common shift of
    variance r. For a small step sigma^2 = a epsilon^2 / B, and the mean gap of a pair is sqrt(pi)
    times the paper's variable sqrt(a/B epsilon^2): the block formula. `sigma` is what the
    likelihood of the gas estimates: the shift moves all n levels together and adds n r / d,
    d = n + n (n - 1) / 2. At a large step D has heavier tails than a Gaussian matrix; for n = 2
    the mean gap contains this through its fourth moment, E[S] = sqrt(pi) sigma (1 - (K - 1) / 8),
    K = E[S^4] / (2 E[S^2]^2), the first term of an expansion in Laguerre polynomials.

    For shared inputs the moments are those given the training set, averaged over the snapshots, and
    the gap that of the Gaussian block with these moments.

    The centre has the mean shift of second order in D: repulsion between blocks and curvature,

        s_i = kappa_i + H_ii + sum_j [H_ij^2 / (kappa_i - kappa_j) + A_ij^2 / (kappa_i + kappa_j)],

    H and A the symmetric and antisymmetric part of D in the teacher's basis, the first sum over
    other blocks. What the same terms do to the widths is of next order in epsilon^2 a/B, and not
    contained.
    """
    spectrum = np.array(h.spectrum())
    ratio = h.learning_rate / h.batch_size
    variable = math.sqrt(ratio) * h.noise_scale
    p, q, r = stationary_moments(h)
    flag = "" if h.noise_scale > 0 else "noise_scale = 0: the levels do not fluctuate"
    shared = h.data == "shared" and not flag and h.size <= LARGEST_SHARED
    if shared:
        moments = _shared_second_moments(h)
        widths = _shared_widths(h, moments)
        symmetric, antisymmetric = _squares_of_parts(moments.mean(axis=0))
    else:
        symmetric, antisymmetric = np.full((2, h.size, h.size), [[[(p + q) / 2]], [[(p - q) / 2]]])
    shift = _mean_shift(spectrum, symmetric, antisymmetric)
    heavy = 1.0
    if h.data == "fresh" and h.size == 2 and not flag:
        ratio_of_moments = fourth_moment_ratio(h)
        if ratio_of_moments < HEAVIEST:
            heavy = 1.0 - (ratio_of_moments - 1.0) / 8.0
    found = []
    for number, (first, count) in enumerate(multiplets(spectrum)):
        degrees = count + count * (count - 1) / 2
        finite = math.sqrt(p + q)
        unit = unit_mean_gap(count)
        sigma = math.sqrt(p + q + count * r / degrees)
        gap, gap_error = finite * unit * (heavy if count == 2 else 1.0), 0.0
        if shared:
            sigma, gap, gap_error = widths[number]
        found.append(
            Block(
                first=first,
                multiplicity=count,
                centre=float(spectrum[first] + shift[first : first + count].mean()),
                sigma=sigma,
                mean_gap=gap,
                centre_block=float(spectrum[first]),
                sigma_block=variable,
                mean_gap_block=variable * unit,
                variable=variable,
                finite_step_variable=finite,
                stochasticity=ratio,
                mean_gap_uncertainty=gap_error,
                flag=flag,
            )
        )
    return found


def _mean_shift(spectrum: np.ndarray, symmetric: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Second-order mean shift of each singular value, from E[H_ij^2] and E[A_ij^2]."""
    size = len(spectrum)
    distance = spectrum[:, None] - spectrum[None, :]
    far = np.ones((size, size), dtype=bool)
    for first, count in multiplets(spectrum):
        far[first : first + count, first : first + count] = False
    repulsion = np.where(far, symmetric / np.where(far, distance, 1.0), 0.0)
    curvature = (1.0 - np.eye(size)) * other / (spectrum[:, None] + spectrum[None, :])
    return (repulsion + curvature).sum(axis=1)


def _shared_second_moments(h: TeacherStudentHyperparameters) -> np.ndarray:
    """E[D_ia D_jb] given the training set, in the teacher's basis, shape (snapshot, n, n, n, n)."""
    _, basis = np.linalg.eigh(teacher(h))
    u, v = conditional_moments(h)
    moments = np.einsum("ij,sab->siajb", np.eye(h.size), u) + v.transpose(0, 3, 2, 1, 4)
    for _ in range(4):
        # Turns one index at a time, and brings the next to its place.
        moments = np.moveaxis(moments @ basis, -1, 1)
    return moments


def over_training_sets(h: TeacherStudentHyperparameters, count: int) -> tuple[float, float]:
    """Mean gap of a pair of levels, given the inputs, over training sets drawn anew.

    Parameters
    ----------
    h : TeacherStudentHyperparameters
        Of a run with `data: shared` and one pair of equal teacher eigenvalues.
    count : int
        Number of training sets, those of the seeds 0, 1, ..

    Returns
    -------
    mean, standard_deviation : float
        Over the training sets.
    """
    sets = [h.from_config(h.canonical() | {"seed": seed}) for seed in range(count)]
    gaps = [block.mean_gap for each in sets for block in blocks(each) if block.multiplicity == 2]
    return float(np.mean(gaps)), float(np.std(gaps, ddof=1))


def _squares_of_parts(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[H_ij^2] and E[A_ij^2] of the symmetric and antisymmetric part."""
    straight = np.einsum("ijij->ij", moments)
    crossed = np.einsum("ijji->ij", moments)
    common = straight + straight.T
    return (common + 2.0 * crossed) / 4.0, (common - 2.0 * crossed) / 4.0


def _shared_widths(
    h: TeacherStudentHyperparameters, moments: np.ndarray
) -> list[tuple[float, float, float]]:
    """Sigma, mean gap and its Monte Carlo error for each block, given the training set."""
    widths = []
    for first, count in multiplets(np.array(h.spectrum())):
        axes = np.eye(h.size)[:, first : first + count]
        # Entries of H within the block are linear in D.
        entries = [(k, m) for k in range(count) for m in range(k, count)]
        forms = np.stack(
            [
                (np.outer(axes[:, k], axes[:, m]) + np.outer(axes[:, m], axes[:, k])) / 2
                for k, m in entries
            ]
        )
        covariance = np.einsum("eia,siajb,fjb->sef", forms, moments, forms, optimize=True)
        weight = np.array([1.0 if k == m else 2.0 for k, m in entries])
        square = float((np.diagonal(covariance, axis1=1, axis2=2) * weight).sum(axis=1).mean())
        sigma = math.sqrt(square / len(entries))
        if count == 1:
            widths.append((sigma, math.nan, 0.0))
            continue
        rng = np.random.default_rng(count)
        draws = max(SHARED_DRAWS // len(covariance), 1)
        normal = rng.standard_normal((draws, len(entries)))
        gaps = np.zeros(draws)
        for each in covariance:
            scale, vectors = np.linalg.eigh(each)
            drawn = normal @ (np.sqrt(np.maximum(scale, 0.0))[:, None] * vectors.T)
            block = np.empty((draws, count, count))
            for (k, m), column in zip(entries, drawn.T, strict=True):
                block[:, k, m] = block[:, m, k] = column
            found = np.linalg.eigvalsh(block)
            gaps += (found[:, -1] - found[:, 0]) / (count - 1) / len(covariance)
        mean, error = integrate(gaps[:, None], normal**2 - 1.0)
        widths.append((sigma, float(mean[0]), float(error[0])))
    return widths


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
