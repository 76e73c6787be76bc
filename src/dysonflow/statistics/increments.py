r"""Drift, diffusion and repulsion of levels, from how far they move in a given number of steps.

A change dX of a symmetric matrix X, with the mean M, and variances V_ij of its entries in the
eigenbasis of X, moves the levels on average by

    E[dx_i] = M_ii + sum_{j != i} (M_ij^2 + V_ij) / (x_i - x_j)

and close ones by the exact two-level problem (`two_levels`). The term with V_ij is the repulsion of
Dyson Brownian motion: its coefficient over half of the diffusion V_ii is the Dyson index.

Coefficients are fitted by weighted least squares, weights 1 / Var[dx_i]; their errors come from
whole replicas (the sandwich of the scores summed over a replica), so that what the increments of
one replica have in common is in the error.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dysonflow.statistics import two_levels
from dysonflow.statistics.kick import Kick

FloatArray = NDArray[np.float64]

ROUNDS, CONVERGED = 8, 2e-4
"""Largest number of Gauss-Newton steps, and the change of the coefficients that ends them."""
CLOSEST = 0.02
"""Share of the pairs of levels, the closest ones, over which the expected coefficients are averaged
that make a Dyson index of the repulsion."""
SMALLEST_VARIANCE = 0.2
"""Of a level over V_ii: between two close ones it is small, and the second order ends."""
STEP = 0.02
"""Difference of Dyson index over which the derivative of the push is taken."""
FREE_REACH = 4
"""Neighbours on either side whose push is told from the drift where no theory says it; that of the
others is as smooth as the drift."""
DEGREE = 2
"""Of the polynomial in x_i that stands for the drift of level i where no theory says it."""


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of the motion, in units of what was expected.

    Attributes
    ----------
    drift, diffusion, repulsion : float
        1 where drift, variances and repulsion are the expected ones. NaN for the drift where it was
        free.
    drift_error, diffusion_error, repulsion_error : float
        Standard errors from whole replicas.
    half_diffusion, off_diagonal : float
        Expected V_ii / 2 and V_ij, each averaged over the `CLOSEST` pairs with the weight that they
        have in the repulsion.
    pairs : int
        Pairs of levels that went into the repulsion.
    smallest_gap, largest_gap : float
        Of these, in the unit of the levels.
    """

    drift: float
    drift_error: float
    diffusion: float
    diffusion_error: float
    repulsion: float
    repulsion_error: float
    half_diffusion: float
    off_diagonal: float
    pairs: int
    smallest_gap: float
    largest_gap: float

    @property
    def dyson_index(self) -> float:
        """Repulsion over half of the diffusion."""
        return self.repulsion * self.off_diagonal / (self.diffusion * self.half_diffusion)

    @property
    def dyson_index_error(self) -> float:
        """Standard error: one comes from means and one from variances, which are unrelated."""
        relative = np.hypot(
            self.repulsion_error / self.repulsion if self.repulsion else np.inf,
            self.diffusion_error / self.diffusion,
        )
        if not self.repulsion:
            return self.repulsion_error * self.off_diagonal / self.half_diffusion
        return float(abs(self.dyson_index) * relative)


class _Pairs:
    """All pairs i > j of levels within reach of each other, and what pushes them apart."""

    def __init__(self, levels: FloatArray, kick: Kick, reach: int):
        size = levels.shape[1]
        pairs = [(i, j) for i in range(size) for j in range(i) if i - j <= reach]
        self.upper = np.array([i for i, _ in pairs], dtype=np.int64)
        self.lower = np.array([j for _, j in pairs], dtype=np.int64)
        up, low = self.upper, self.lower
        self.gap = levels[:, up] - levels[:, low]
        own = np.einsum("sii->si", kick.mean)
        self.drift = own[:, up] - own[:, low]
        width = np.einsum("sii->si", kick.variance)
        self.spread = width[:, up] + width[:, low] - 2.0 * kick.covariance[:, up, low]
        self.variance = kick.variance[:, up, low]
        self.mean_square = kick.mean[:, up, low] ** 2
        noise = np.sqrt(np.maximum(self.spread, 4.0 * self.variance))
        self.close = self.gap < two_levels.CLOSE * noise
        # Half of the kicks of either: a variance that is 1 on average and varies by excess / 3.
        varies = math.sqrt(min(kick.excess / 3.0, 1.0))
        self.scales = (1.0 - varies, 1.0 + varies) if varies else (1.0,)

    def push(self, repulsion: float) -> tuple[FloatArray, FloatArray]:
        """Push of every pair and mean distance, shape (sample, pair), at a repulsion coefficient.

        A squared mean of the off-diagonal entry counts as further variance: exact to second order.
        Noise that is no Gaussian is taken as one of two scales, which have its kurtosis.
        """
        far, close = ~self.close, self.close
        share = 1.0 / len(self.scales)
        found = np.zeros_like(self.gap)
        found[far] = self.mean_square[far] / self.gap[far]
        between = np.zeros(int(close.sum()))
        for scale in self.scales:
            found[far] += share * two_levels.push_from_afar(
                self.gap[far],
                self.drift[far],
                scale * self.spread[far],
                scale * self.variance[far],
                repulsion,
            )
            if close.any():
                exact, distance = self._close_push(repulsion, scale)
                found[close] += share * exact
                between += share * distance
        found[close] += self.mean_square[close] / between
        return found, self.gap + self.drift + 2.0 * found

    def _close_push(self, repulsion: float, scale: float) -> tuple[FloatArray, FloatArray]:
        """Push and mean distance of the close pairs, for noise of so many times the variance."""
        close = self.close
        arguments = (
            self.gap[close],
            self.drift[close],
            scale * self.spread[close],
            scale * self.variance[close],
        )
        # One real component of noise whose number of components is the coefficient.
        exact, between = two_levels.push(*arguments, max(repulsion, 0.0))
        if repulsion < 0:
            # A straight line below 0, where no noise has that many components.
            slope, _ = two_levels.push(*arguments, STEP)
            exact = exact + (slope - exact) * repulsion / STEP
        return exact, between

    def on_levels(self, push: FloatArray, size: int) -> FloatArray:
        """Sum of the pushes on every level, shape (sample, N)."""
        total = np.zeros((len(push), size))
        for number, (i, j) in enumerate(zip(self.upper, self.lower, strict=True)):
            total[:, i] += push[:, number]
            total[:, j] -= push[:, number]
        return total

    def level_variance(self, kick: Kick, distance: FloatArray, repulsion: float) -> FloatArray:
        """Var[dx_i], shape (sample, N): V_ii, and what each pair's two-level problem changes of it.

        What several neighbours change is added, as it does to second order in the kick.
        """
        own = np.einsum("sii->si", kick.variance)
        found = own.copy()
        middle = self.gap + self.drift
        components = max(repulsion, 0.0)
        square = middle**2 + self.spread + 4.0 * (components * self.variance + self.mean_square)
        for number, (i, j) in enumerate(zip(self.upper, self.lower, strict=True)):
            s = distance[:, number]
            of_distance = np.maximum(square[:, number] - s**2, 0.0)
            total = own[:, i] + own[:, j] + 2.0 * kick.covariance[:, i, j]
            # How far the distance follows the difference of the diagonal entries.
            follows = np.clip(middle[:, number] / s, -1.0, 1.0) * (own[:, i] - own[:, j])
            for level, sign in ((i, 1.0), (j, -1.0)):
                found[:, level] += (
                    0.25 * (total + of_distance + 2.0 * sign * follows) - own[:, level]
                )
        return np.maximum(found, SMALLEST_VARIANCE * own)


def _replica_sums(values: FloatArray, replica: NDArray[np.int64]) -> FloatArray:
    """Sums over the samples of each replica; `values` has the shape (sample, ...)."""
    total = np.zeros((int(replica.max()) + 1, *values.shape[1:]))
    np.add.at(total, replica, values)
    return total


def _sandwich(curvature: FloatArray, scores: FloatArray) -> FloatArray:
    """Covariance of coefficients from the scores of whole replicas, both (parameter, parameter)."""
    inverse = np.linalg.inv(curvature)
    scores = scores - scores.mean(axis=0)
    found: FloatArray = inverse @ (scores.T @ scores) @ inverse * len(scores) / (len(scores) - 1)
    return found


def _ratio(top: FloatArray, bottom: FloatArray) -> tuple[float, float]:
    """Sum over sum, and its error; one entry of each per replica."""
    ratio = top.sum() / bottom.sum()
    parts = top - ratio * bottom
    error = np.sqrt((parts**2).sum() * len(parts) / (len(parts) - 1)) / abs(bottom.sum())
    return float(ratio), float(error)


def fit_with_moments(
    before: FloatArray, after: FloatArray, replica: NDArray[np.int64], kick: Kick
) -> Coefficients:
    """Coefficients in units of the exact conditional moments of the machine: no free parameter.

    Parameters
    ----------
    before, after : np.ndarray
        Levels, ascending, shape (sample, N).
    replica : np.ndarray
        Replica of each sample, counted from 0; shape (sample,).
    kick : Kick
        Moments of the change of the matrix.
    """
    size = before.shape[1]
    pairs = _Pairs(before, kick, size)
    moved = after - before
    own = np.einsum("sii->si", kick.mean)
    value = np.ones(2)
    push, distance = pairs.push(1.0)
    slope = pairs.on_levels((pairs.push(1.0 + STEP)[0] - push) / STEP, size)
    design = np.stack([own, slope], axis=-1)
    for _ in range(ROUNDS):
        variance = pairs.level_variance(kick, distance, value[1])
        weighted = design / variance[..., None]
        curvature = np.einsum("sip,siq->pq", weighted, design)
        residual = moved - value[0] * own - pairs.on_levels(push, size)
        change = np.linalg.solve(curvature, np.einsum("sip,si->p", weighted, residual))
        if np.abs(change).max() < CONVERGED:
            break
        value = value + change
        push, distance = pairs.push(value[1])
    scores = _replica_sums(np.einsum("sip,si->sp", weighted, residual), replica)
    errors = np.sqrt(np.diagonal(_sandwich(curvature, scores)))
    diffusion, diffusion_error = _diffusion(residual, variance, replica)
    half, off_diagonal = _expected(pairs, kick, variance)
    return Coefficients(
        drift=float(value[0]),
        drift_error=float(errors[0]),
        diffusion=diffusion,
        diffusion_error=diffusion_error,
        repulsion=float(value[1]),
        repulsion_error=float(errors[1]),
        half_diffusion=half,
        off_diagonal=off_diagonal,
        pairs=pairs.gap.size,
        smallest_gap=float(pairs.gap.min()),
        largest_gap=float(pairs.gap.max()),
    )


def _diffusion(
    residual: FloatArray, variance: FloatArray, replica: NDArray[np.int64]
) -> tuple[float, float]:
    """Measured over expected variance, and its error."""
    ratio = _replica_sums((residual**2 / variance).mean(axis=1), replica)
    return _ratio(ratio, _replica_sums(np.ones(len(residual)), replica))


def _expected(pairs: _Pairs, kick: Kick, variance: FloatArray) -> tuple[float, float]:
    """Half of V_ii, and V_ij, averaged over the closest pairs with their weight in the repulsion.

    Far apart, V_ij over half of the diffusion is another number than between degenerate levels, for
    which Dyson Brownian motion is meant.
    """
    own = np.einsum("sii->si", kick.variance)
    up, low = pairs.upper, pairs.lower
    weight = (1.0 / variance[:, up] + 1.0 / variance[:, low]) / (pairs.gap**2 + pairs.spread)
    weight = np.where(pairs.gap <= np.quantile(pairs.gap, CLOSEST), weight, 0.0)
    total = weight.sum()
    half = 0.25 * (own[:, up] + own[:, low])
    return float((weight * half).sum() / total), float((weight * pairs.variance).sum() / total)


@dataclass(frozen=True)
class FreeMotion:
    """The motion without any knowledge of the machine.

    Attributes
    ----------
    coefficients : Coefficients
        Repulsion and diffusion in units of the measured diffusion and GOE structure: the repulsion
        is the Dyson index itself.
    rate, rate_error : float
        -log(1 + slope of the drift) over the lag, averaged over the levels, and its standard error
        from whole replicas.
    variance : np.ndarray
        Measured variance of each level over the lag, shape (N,).
    kick : Kick
        The fitted drift and the measured variances, with the structure of the GOE.
    """

    coefficients: Coefficients
    rate: float
    rate_error: float
    variance: FloatArray
    kick: Kick


def fit_free(before: FloatArray, after: FloatArray, replica: NDArray[np.int64]) -> FreeMotion:
    """Coefficients from the levels alone: drift a polynomial of x_i for each level, all else free.

    The kick is taken to have GOE structure, V_ij = (V_ii + V_jj) / 4 and no covariance, so that the
    repulsion in units of V_ij is the Dyson index. Of the other levels the nearest `FREE_REACH` on
    either side count.

    Parameters
    ----------
    before, after, replica : np.ndarray
        As of `fit_with_moments`.

    Raises
    ------
    FloatingPointError
        If the fit runs away, as for steps that are large against the distance of levels.
    """
    samples, size = before.shape
    moved = after - before
    middle, width = before.mean(axis=0), before.std(axis=0)
    # Levels that do not spread have no drift to fit.
    scaled = (before - middle) / np.where(width > 0, width, 1.0)
    powers = np.stack([scaled**k for k in range(DEGREE + 1)], axis=-1)
    drift, index = np.zeros_like(moved), 1.0
    width_of = moved.var(axis=0)
    for number in range(ROUNDS):
        kick = _goe_kick(drift, width_of)
        pairs = _Pairs(before, kick, FREE_REACH)
        push, distance = pairs.push(index)
        variance = pairs.level_variance(kick, distance, index)
        onto = pairs.on_levels(push, size)
        if not (np.isfinite(variance).all() and np.isfinite(onto).all() and (variance > 0).all()):
            raise FloatingPointError("the fit of the motion runs away")
        if number < 2:
            # It changes little once drift and diffusion are known.
            slope = pairs.on_levels((pairs.push(index + STEP)[0] - push) / STEP, size)
        # Both freed of what the drift of their own level can describe.
        left = np.empty_like(slope)
        rest = np.empty_like(slope)
        fitted = np.empty((size, DEGREE + 1))
        gains = np.empty_like(slope)
        for i in range(size):
            weighted = powers[:, i] / variance[:, i, None]
            inner = np.linalg.pinv(weighted.T @ powers[:, i])
            # Derivative of the slope of the drift by what is left unexplained.
            gains[:, i] = weighted @ inner[1]
            left[:, i] = slope[:, i] - powers[:, i] @ (inner @ (weighted.T @ slope[:, i]))
            fitted[i] = inner @ (weighted.T @ (moved[:, i] - onto[:, i]))
            rest[:, i] = moved[:, i] - onto[:, i] - powers[:, i] @ fitted[i]
        curvature = (left**2 / variance).sum()
        change = float((left * rest / variance).sum() / curvature)
        index += change
        drift = np.einsum("sik,ik->si", powers, fitted)
        residual = rest - change * left
        ratio = (residual**2 / variance).mean(axis=0)
        width_of = width_of * ratio
        if abs(change) < CONVERGED and np.abs(ratio - 1.0).max() < CONVERGED:
            break
    scores = _replica_sums((left * residual / variance).sum(axis=1)[:, None], replica)
    error = float(np.sqrt(_sandwich(np.array([[curvature]]), scores)[0, 0]))
    _, diffusion_error = _diffusion(residual, variance, replica)
    half, off_diagonal = _expected(pairs, kick, variance)
    coefficients = Coefficients(
        drift=np.nan,
        drift_error=np.nan,
        diffusion=1.0,
        diffusion_error=diffusion_error,
        repulsion=index,
        repulsion_error=error,
        half_diffusion=half,
        off_diagonal=off_diagonal,
        pairs=pairs.gap.size,
        smallest_gap=float(pairs.gap.min()),
        largest_gap=float(pairs.gap.max()),
    )
    spread = np.where(width > 0, width, 1.0)
    factor = np.clip(1.0 + fitted[:, 1] / spread, 1e-12, None)
    influence = _replica_sums((gains * residual / (spread * factor)).mean(axis=1), replica)
    rate_error = float(np.sqrt((influence**2).sum() * len(influence) / (len(influence) - 1)))
    rate = float(-np.log(factor).mean())
    return FreeMotion(coefficients, rate, rate_error, width_of, _goe_kick(drift, width_of))


def _goe_kick(drift: FloatArray, width_of: FloatArray) -> Kick:
    """A kick of the given drift and variances of the levels, with the structure of the GOE."""
    samples, size = drift.shape
    mean = np.zeros((samples, size, size))
    index = np.arange(size)
    mean[:, index, index] = drift
    variance = 0.25 * (width_of[:, None] + width_of[None, :])
    variance[index, index] = width_of
    shape = (samples, size, size)
    diagonal = np.broadcast_to(np.diag(width_of), shape)
    return Kick(mean, np.broadcast_to(variance, shape), diagonal)


@dataclass(frozen=True)
class Profile:
    """What increments do in bins of a variable, in units of the kick: sqrt(V) for means.

    Attributes
    ----------
    place : np.ndarray
        Mean of the variable in each bin, shape (bin,).
    value, error : np.ndarray
        Mean of what was measured, and its standard error from whole replicas; same shape.
    expected : np.ndarray
        Mean of what theory expects; same shape.
    """

    place: FloatArray
    value: FloatArray
    error: FloatArray
    expected: FloatArray


@dataclass(frozen=True)
class Profiles:
    """Push and variance of neighbouring levels against their gap, drift against the expected one.

    Attributes
    ----------
    push, variance, drift : Profile
        The push away from each other over sqrt(V_ij), against the gap over sqrt(V_ij); the variance
        of a level over V_ii, against the gap to its nearest neighbour in the same unit; the mean
        step, pushes taken away, over sqrt(V_ii), against the expected one.
    """

    push: Profile
    variance: Profile
    drift: Profile


def profiles(
    before: FloatArray,
    after: FloatArray,
    replica: NDArray[np.int64],
    kick: Kick,
    bins: int = 14,
) -> Profiles:
    """Means of the increments in bins that hold about as many pairs each.

    Parameters
    ----------
    before, after, replica, kick
        As of `fit_with_moments`.
    bins : int
        Bins, evenly spaced in the logarithm of the gap.
    """
    size = before.shape[1]
    pairs = _Pairs(before, kick, size)
    push, distance = pairs.push(1.0)
    onto = pairs.on_levels(push, size)
    own = np.einsum("sii->si", kick.mean)
    width = np.einsum("sii->si", kick.variance)
    variance = pairs.level_variance(kick, distance, 1.0)
    moved = after - before
    left = moved - own - onto
    near = np.flatnonzero(pairs.upper - pairs.lower == 1)
    up, low = pairs.upper[near], pairs.lower[near]
    unit = np.sqrt(pairs.variance[:, near])
    gap = pairs.gap[:, near] / unit
    measured = push[:, near] + 0.5 * (left[:, up] - left[:, low])
    edges = np.geomspace(np.quantile(gap, 2e-3), gap.max() * (1 + 1e-9), bins + 1)
    whose = np.broadcast_to(replica[:, None], gap.shape)
    nearest = np.full(before.shape, np.inf)
    for number, (i, j) in enumerate(zip(up, low, strict=True)):
        nearest[:, i] = np.minimum(nearest[:, i], gap[:, number])
        nearest[:, j] = np.minimum(nearest[:, j], gap[:, number])
    of_level = np.broadcast_to(replica[:, None], before.shape)
    scale = np.sqrt(width)
    expected = own / scale
    reach = np.quantile(np.abs(expected), 0.995)
    return Profiles(
        push=_profile(gap, measured / unit, push[:, near] / unit, whose, edges),
        variance=_profile(nearest, left**2 / width, variance / width, of_level, edges),
        drift=_profile(
            expected,
            (moved - onto) / scale,
            expected,
            of_level,
            np.linspace(-reach, reach, bins + 1),
        ),
    )


def _profile(
    place: FloatArray,
    value: FloatArray,
    expected: FloatArray,
    replica: NDArray[np.int64],
    edges: FloatArray,
) -> Profile:
    bins = len(edges) - 1
    index = np.digitize(place, edges) - 1
    inside = (index >= 0) & (index < bins)
    count = int(replica.max()) + 1
    flat = replica[inside] * bins + index[inside]

    def sums(values: FloatArray) -> FloatArray:
        found: FloatArray = np.bincount(flat, values[inside], count * bins).astype(float)
        return found.reshape(count, bins)

    numbers = sums(np.ones_like(place))
    total = numbers.sum(axis=0)
    # A bin that few replicas reach has no error to speak of.
    kept = (numbers > 0).sum(axis=0) >= 10
    total = np.where(kept, total, 1.0)
    means = [sums(values) for values in (place, value, expected)]
    mean = means[1].sum(axis=0) / total
    parts = means[1] - mean * numbers
    error = np.sqrt((parts**2).sum(axis=0) * count / (count - 1)) / total
    place_of, expected_of = (part.sum(axis=0) / total for part in (means[0], means[2]))
    return Profile(place_of[kept], mean[kept], error[kept], expected_of[kept])
