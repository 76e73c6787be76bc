"""Predictions for every block of equal teacher eigenvalues."""

import math

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters, teacher
from dysonflow.theory.base import Block
from dysonflow.theory.blocks import integrate, multiplets, unit_mean_gap
from dysonflow.theory.teacher_student.moments import conditional_moments, stationary_moments
from dysonflow.theory.teacher_student.tails import fourth_moment_ratio

LARGEST_SHARED = 12
"""Size up to which the moments given the inputs are worked out, n^4 of them at every step."""
SHARED_DRAWS = 200_000
"""Blocks drawn for a mean gap given the inputs, over all snapshots."""
HEAVIEST = 1.5
"""Ratio of fourth moments up to which the first term for the tails is taken."""


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
