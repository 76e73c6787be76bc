"""Predictions for every block of equal teacher eigenvalues."""

import math
from dataclasses import dataclass

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters, teacher
from dysonflow.statistics.coulomb_gas import log_vandermonde
from dysonflow.statistics.estimators import expected_repulsion
from dysonflow.theory.base import Block
from dysonflow.theory.blocks import crowding, dyson_index_of, integrate, multiplets, why_crowded
from dysonflow.theory.tails import gap_factor, repulsion_shift, traceless_quartic, unit_mean_gap
from dysonflow.theory.teacher_student.moments import conditional_moments, stationary_moments
from dysonflow.theory.teacher_student.tails import excess_of_tails

LARGEST_SHARED = 12
"""Size up to which the moments given the inputs are worked out, n^4 of them at every step."""
SHARED_DRAWS = 100_000
"""Blocks drawn for the gaps given the inputs, over all snapshots."""
HEAVIEST = 0.1
"""Excess of fourth moments, relative to those of a GOE matrix, up to which the first order in it is
taken; for a pair it is K - 1."""


LOWEST = 0.03
"""Largest sum of (sigma / (kappa_i + kappa_j))^2 over all j: a pair at four sigma from zero."""


@dataclass(frozen=True)
class _Width:
    """What a block's own entries of H say.

    Attributes
    ----------
    sigma, mean_gap : float
        As in `Block`.
    shift : float
        As in `dyson_index_of`.
    excess : float
        `Block.gap_excess`.
    gap_error, shift_error : float
        Monte Carlo errors.
    beyond : str
        Why this is not to be taken at its word.
    """

    sigma: float
    mean_gap: float
    shift: float
    excess: float = 0.0
    gap_error: float = 0.0
    shift_error: float = 0.0
    beyond: str = ""


def blocks(h: TeacherStudentHyperparameters) -> list[Block]:
    """Prediction for every block of equal teacher eigenvalues, ascending.

    The singular values of W = W_t + D follow the symmetric part H of D, whose moments for fresh
    inputs are those of a GOE with sigma^2 = p + q (E[H_ij^2] = (p + q) / 2) and a common shift of
    variance r. For a small step sigma^2 = a epsilon^2 / B, and the mean gap of a pair is sqrt(pi)
    times the paper's variable sqrt(a/B epsilon^2): the block formula. `sigma` is what the
    likelihood of the gas estimates: the shift moves all n levels together and adds n r / d,
    d = n + n (n - 1) / 2. At a large step D has heavier tails than a Gaussian matrix; mean gap and
    Dyson index contain them to first order in the fourth cumulants, `dysonflow.theory.tails`. For a
    pair, K = E[S^4] / (2 E[S^2]^2),

        E[S] = sqrt(pi (p + q)) (1 - (K - 1) / 8),
        beta - 1 = - [(K - 1) / 4 + r / (3 (p + q))] / (pi^2 / 24 - 1/6)    to first order.

    For shared inputs the moments are those given the training set, averaged over the snapshots, and
    the gaps those of the Gaussian block with these moments.

    The centre has the mean shift of second order in D: repulsion between blocks and curvature,

        s_i = kappa_i + H_ii + sum_j [H_ij^2 / (kappa_i - kappa_j) + A_ij^2 / (kappa_i + kappa_j)],

    H and A the symmetric and antisymmetric part of D in the teacher's basis, the first sum over
    other blocks. What the same terms do to the widths is of next order in epsilon^2 a/B, and not
    contained: `beyond` says where it counts.
    """
    spectrum = np.array(h.spectrum())
    ratio = h.learning_rate / h.batch_size
    variable = math.sqrt(ratio) * h.noise_scale
    p, q, r = stationary_moments(h)
    flag = "" if h.noise_scale > 0 else "noise_scale = 0: the levels do not fluctuate"
    if flag:
        widths = [_Width(0.0, 0.0, 0.0) for _ in multiplets(spectrum)]
    elif h.data == "shared" and h.size <= LARGEST_SHARED:
        moments = _shared_second_moments(h)
        widths = _shared_widths(h, moments)
        symmetric, antisymmetric = _squares_of_parts(moments.mean(axis=0))
    else:
        widths = [_fresh_width(h, count) for _, count in multiplets(spectrum)]
    if flag or h.data == "fresh" or h.size > LARGEST_SHARED:
        symmetric, antisymmetric = np.full((2, h.size, h.size), [[[(p + q) / 2]], [[(p - q) / 2]]])
    shift = _mean_shift(spectrum, symmetric, antisymmetric)
    finite = math.sqrt(p + q)
    near = crowding(np.array([width.sigma for width in widths]), spectrum, multiplets(spectrum))
    found = []
    for number, (first, count) in enumerate(multiplets(spectrum)):
        width = widths[number]
        # The mirror images - kappa_j of all levels repel as well.
        mirrored = float((width.sigma**2 / (spectrum + spectrum[first]) ** 2).sum())
        index, index_error = dyson_index_of(count, width.shift, width.shift_error)
        found.append(
            Block(
                first=first,
                multiplicity=count,
                centre=float(spectrum[first] + shift[first : first + count].mean()),
                sigma=width.sigma,
                mean_gap=width.mean_gap,
                centre_block=float(spectrum[first]),
                sigma_block=variable,
                mean_gap_block=variable * unit_mean_gap(count),
                variable=variable,
                finite_step_variable=finite,
                stochasticity=ratio,
                dyson_index=index,
                gap_excess=width.excess,
                mean_gap_uncertainty=width.gap_error,
                dyson_index_uncertainty=index_error,
                gap_ratio_uncertainty=_ratio_error(width) if count == 2 else 0.0,
                flag=flag,
                beyond=width.beyond or why_crowded(float(near[number])) or _low(mirrored),
            )
        )
    return found


def _ratio_error(width: _Width) -> float:
    return width.gap_error / (math.sqrt(math.pi) * width.sigma) if width.sigma else 0.0


def _low(mirrored: float) -> str:
    if mirrored <= LOWEST:
        return ""
    return (
        "the levels are too near zero, where singular values turn back: the sum of (sigma / "
        f"(kappa_i + kappa_j))^2 is {mirrored:.2g}, more than {LOWEST:g}"
    )


def _fresh_width(h: TeacherStudentHyperparameters, count: int) -> _Width:
    """Of a block of `count` equal teacher eigenvalues, for fresh inputs."""
    p, q, r = stationary_moments(h)
    degrees = count + count * (count - 1) / 2
    common = count * r / degrees
    sigma, finite = math.sqrt(p + q + common), math.sqrt(p + q)
    beyond = ""
    if h.data == "shared":
        beyond = f"data: shared with size > {LARGEST_SHARED}: theory for fresh inputs stands in"
    if count == 1:
        return _Width(sigma, math.nan, 0.0, beyond=beyond)
    excess = excess_of_tails(h, count)
    relative = max(excess[0] / (degrees**2 - 1), excess[1] / traceless_quartic(count))
    if relative > HEAVIEST:
        beyond = (
            f"the fourth moments are {1 + relative:.3g} times those of a Gaussian matrix, more "
            f"than {1 + HEAVIEST:g}: lower learning_rate or raise batch_size"
        )
        excess = (0.0, 0.0)
    shift = repulsion_shift(count, excess)
    shift -= count * (count - 1) / 4 * math.log1p(common / (p + q))
    gap = finite * unit_mean_gap(count) * gap_factor(count, excess)
    # (tr M^2)^2 of a pair is S^4 / 4, in the mean 8 for a Gaussian.
    return _Width(sigma, gap, shift, excess[0] / 8.0 if count == 2 else 0.0, beyond=beyond)


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


def _eigenvalues(drawn: np.ndarray, entries: list[tuple[int, int]], count: int) -> np.ndarray:
    """Ascending eigenvalues of symmetric matrices from their entries, shape (draws, count)."""
    if count == 2:
        # In closed form, ten times as fast.
        mean, half = (drawn[:, 0] + drawn[:, 2]) / 2, (drawn[:, 0] - drawn[:, 2]) / 2
        radius = np.hypot(half, drawn[:, 1])
        return np.stack([mean - radius, mean + radius], axis=-1)
    block = np.empty((len(drawn), count, count))
    for (k, m), column in zip(entries, drawn.T, strict=True):
        block[:, k, m] = block[:, m, k] = column
    return np.linalg.eigvalsh(block)


def _squares_of_parts(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[H_ij^2] and E[A_ij^2] of the symmetric and antisymmetric part."""
    straight = np.einsum("ijij->ij", moments)
    crossed = np.einsum("ijji->ij", moments)
    common = straight + straight.T
    return (common + 2.0 * crossed) / 4.0, (common - 2.0 * crossed) / 4.0


def _shared_widths(h: TeacherStudentHyperparameters, moments: np.ndarray) -> list[_Width]:
    """Of each block, given the training set."""
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
            widths.append(_Width(sigma, math.nan, 0.0))
            continue
        rng = np.random.default_rng(count)
        draws = max(SHARED_DRAWS // len(covariance), 1)
        normal = rng.standard_normal((draws, len(entries)))
        means = np.zeros((draws, 4))
        for each in covariance:
            scale, vectors = np.linalg.eigh(each)
            drawn = normal @ (np.sqrt(np.maximum(scale, 0.0))[:, None] * vectors.T)
            found = _eigenvalues(drawn, entries, count)
            gap = (found[:, -1] - found[:, 0]) / (count - 1)
            values = np.stack([gap, log_vandermonde(found), gap**2, gap**4], axis=-1)
            means += values / len(covariance)
        mean, covariance_of_means = integrate(means, normal**2 - 1.0)
        gap_error, shift_error, _, _ = np.sqrt(np.diagonal(covariance_of_means)).tolist()
        of_a_gas = count * (count - 1) / 4 * math.log(square) + expected_repulsion(count, 1.0)
        shift = float(mean[1] - of_a_gas)
        excess = float(mean[3] / (2.0 * mean[2] ** 2)) - 1.0 if count == 2 else 0.0
        widths.append(_Width(sigma, float(mean[0]), shift, excess, gap_error, shift_error))
    return widths
