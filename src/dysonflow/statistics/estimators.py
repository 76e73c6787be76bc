"""Maximum-likelihood estimates of the Coulomb gas of a block, with errors and a flag for outliers.

The gas is that of `dysonflow.statistics.coulomb_gas`; levels come as `dysonflow.statistics.levels`
says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.lazy import LazyModule
from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.coulomb_gas import (
    check_parameters,
    cramer_rao_errors,
    degrees_of_freedom,
    log_vandermonde,
)
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means
from dysonflow.statistics.laws import invert_increasing
from dysonflow.statistics.levels import MINIMUM_REPLICAS, InsufficientData, checked_levels

special = LazyModule("scipy.special")

OUTLIER_FALSE_ALARM = 1e-3
"""Probability, at most, that a block without an outlier is flagged as having one."""
OUTLIER_INFLUENCE = 0.2
"""Share of the variance of an estimate that one replica must hold to be flagged."""
RIGID_DYSON_INDEX = 1e6
"""Beyond this the levels hardly fluctuate against each other and beta cannot be resolved."""

_ESTIMATES = ("centre", "sigma", "dyson_index", "mean_gap")


@dataclass(frozen=True)
class BlockFit:
    """Estimates for one block of levels; errors are standard errors.

    Attributes
    ----------
    levels : int
        Number n of levels in the block.
    replicas : int
        Independent replicas.
    samples : int
        Observed blocks: replicas times snapshots.
    centre, sigma, dyson_index : float
        Parameters of the gas. The Dyson index is NaN where it cannot be told (n = 1).
    centre_error, sigma_error, dyson_index_error : float
        From leaving out whole replicas; NaN for a parameter that was given.
    mean_gap, mean_gap_error : float
        Mean gap of neighbours within the block; NaN for a single level.
    cramer_rao : mapping of str to float
        Smallest possible errors of `centre`, `sigma`, `dyson_index` and `mean_gap` if all
        `samples` were independent. Correlated snapshots make the errors above larger.
    flag : str
        What is suspicious about the data, empty if nothing is.
    """

    levels: int
    replicas: int
    samples: int
    centre: float
    centre_error: float
    sigma: float
    sigma_error: float
    dyson_index: float
    dyson_index_error: float
    mean_gap: float
    mean_gap_error: float
    cramer_rao: Mapping[str, float]
    flag: str


def fit_block(
    levels: ArrayLike,
    *,
    dyson_index: float | None = 1.0,
    centre: float | None = None,
    minimum_replicas: int = MINIMUM_REPLICAS,
) -> BlockFit:
    """Fit the Coulomb gas to a block of levels, by joint maximum likelihood.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending in the last axis.
    dyson_index : float or None
        Repulsion beta; None to estimate it, which may then come out negative down to -2/n where
        levels attract.
    centre : float or None
        Centre of the gas; None to estimate it.
    minimum_replicas : int
        Fewest replicas that are accepted.

    Returns
    -------
    BlockFit
        Estimates carry the jackknife's correction of their bias of order 1/replicas, which for
        sigma is the number of degrees of freedom taken by the centre. `flag` tells of a replica
        that is improbably far off (false alarms in at most one of 1000 blocks) and dominates the
        error of an estimate.

    Raises
    ------
    InsufficientData
        If there are too few replicas, a value is not finite or exactly zero (a rank-deficient
        matrix), two levels of a block are tied, or nothing fluctuates.
    ValueError
        If an argument is out of range or levels are not ascending.
    """
    x = checked_levels(levels, minimum_replicas)
    replicas, snapshots, n = x.shape
    if dyson_index is not None:
        check_parameters(n, dyson_index, 1.0)
    estimate, left_out = _fit_likelihood(x, dyson_index, centre)
    error = jackknife_error(left_out)
    estimate = replicas * estimate - (replicas - 1) * left_out.mean(axis=0)
    values = dict(zip(_ESTIMATES, estimate.tolist(), strict=True))
    errors = dict(zip(_ESTIMATES, error.tolist(), strict=True))

    index_known = dyson_index is not None
    if index_known or n == 1:
        errors["dyson_index"] = float("nan")
        values["dyson_index"] = float("nan") if n == 1 else float(dyson_index or 0.0)
    if centre is not None:
        values["centre"], errors["centre"] = float(centre), float("nan")
    # A repulsion below zero or beyond all measure still gets a bound, that of its limit.
    beta = 1.0 if n == 1 else min(max(values["dyson_index"], 0.0), RIGID_DYSON_INDEX)
    bound = cramer_rao_errors(
        n, beta, values["sigma"], replicas * snapshots, index_known=index_known
    )
    bound["mean_gap"] = _mean_gap_bound(x, values, bound, index_known)
    return BlockFit(
        levels=n,
        replicas=replicas,
        samples=replicas * snapshots,
        centre=values["centre"],
        centre_error=errors["centre"],
        sigma=values["sigma"],
        sigma_error=errors["sigma"],
        dyson_index=values["dyson_index"],
        dyson_index_error=errors["dyson_index"],
        mean_gap=values["mean_gap"],
        mean_gap_error=errors["mean_gap"],
        cramer_rao=bound,
        flag=_outlier_flag(x, left_out - left_out.mean(axis=0), beta),
    )


def _fit_likelihood(
    x: FloatArray, dyson_index: float | None, centre: float | None
) -> tuple[FloatArray, FloatArray]:
    """Estimates of all replicas and of all but each; shapes (4,) and (replica, 4).

    The likelihood depends on the data through three means over blocks, so that leaving out a
    replica costs a subtraction.
    """
    n = x.shape[-1]
    origin = float(x.mean()) if centre is None else centre
    moved = x - origin
    statistics = np.stack(
        [
            moved.mean(axis=(1, 2)),
            np.sum(moved**2, axis=-1).mean(axis=1),
            log_vandermonde(x).mean(axis=1),
            _neighbour_gap(x).mean(axis=1),
        ],
        axis=-1,
    )
    means = leave_one_out_means(statistics)
    square = means[:, 1] - (n * means[:, 0] ** 2 if centre is None else 0.0)
    if dyson_index is not None or n == 1:
        beta = np.full(square.shape, 1.0 if dyson_index is None else dyson_index)
    else:
        beta = likelihood_dyson_index(n, means[:, 2] - 0.25 * n * (n - 1) * np.log(square))
    sigma = np.sqrt(square / degrees_of_freedom(n, beta))
    estimates = np.stack([origin + means[:, 0], sigma, beta, means[:, 3]], axis=-1)
    return estimates[0], estimates[1:]


def _neighbour_gap(x: FloatArray) -> FloatArray:
    """Mean of the gaps of a block, NaN for a single level; shape (replica, snapshot)."""
    n = x.shape[-1]
    if n == 1:
        return np.full(x.shape[:-1], np.nan)
    return (x[..., -1] - x[..., 0]) / (n - 1)


def expected_repulsion(levels: int, dyson_index: ArrayLike) -> FloatArray:
    """What the Dyson index is estimated from, in the gas: E[log V] - n (n - 1)/4 log E[SS].

    V is the product of |x_i - x_j| over pairs and SS the sum of squares about the centre, so that
    sigma drops out. It rises with beta from minus infinity at -2/n to a finite limit for rigid
    levels.

    Parameters
    ----------
    levels : int
        Number n of levels in a block, at least 2.
    dyson_index : array_like
        Repulsion beta, above -2/n.

    Returns
    -------
    numpy.ndarray
        In the shape of `dyson_index`.
    """
    j = np.arange(1, levels + 1)
    half = 0.5 * np.asarray(dyson_index, dtype=float)[..., None]
    gamma = 0.5 * (j * special.digamma(1 + half * j) - special.digamma(1 + half)).sum(axis=-1)
    pairs = 0.25 * levels * (levels - 1)
    return gamma - pairs * np.log(degrees_of_freedom(levels, 2 * half[..., 0]))


def likelihood_dyson_index(levels: int, repulsion: ArrayLike) -> FloatArray:
    """Maximum-likelihood Dyson index of levels whose `expected_repulsion` is the given one.

    Parameters
    ----------
    levels : int
        Number n of levels in a block, at least 2.
    repulsion : array_like
        <log V> - n (n - 1)/4 log <SS>, means over the blocks of a data set, or of a law.

    Returns
    -------
    numpy.ndarray
        In the shape of `repulsion`.

    Raises
    ------
    InsufficientData
        If no Dyson index belongs to a value.
    """
    repulsion = np.asarray(repulsion, dtype=float)
    j = np.arange(1, levels + 1)
    pairs = 0.25 * levels * (levels - 1)
    lowest = -2.0 / levels

    # In t = log(beta + 2/n) the equation is nearly linear over many decades.
    def expectation(t: FloatArray) -> FloatArray:
        return expected_repulsion(levels, lowest + np.exp(t))

    def slope(t: FloatArray) -> FloatArray:
        half = 0.5 * (lowest + np.exp(t))[..., None]
        trigamma = 0.25 * (
            j**2 * special.polygamma(1, 1 + half * j) - special.polygamma(1, 1 + half)
        ).sum(axis=-1)
        freedom = degrees_of_freedom(levels, 2 * half[..., 0])
        return np.exp(t) * (trigamma - pairs * 0.5 * levels * (levels - 1) / freedom)

    low, high = np.log(1e-9), np.log(RIGID_DYSON_INDEX)
    if np.any(repulsion >= expectation(np.array(high))):
        raise InsufficientData(
            "the levels of a block hardly fluctuate against each other: their dyson_index is "
            f"beyond {RIGID_DYSON_INDEX:g}"
        )
    if np.any(repulsion <= expectation(np.array(low))):
        raise InsufficientData("the levels of a block cling together: no gas fits them")
    flat = repulsion.reshape(-1)
    first = invert_increasing(expectation, slope, flat[:1], low, high, absolute=1e-12)
    t = invert_increasing(expectation, slope, flat, low, high, 1e-12, start=first)
    return lowest + np.exp(t).reshape(repulsion.shape)


def _mean_gap_bound(
    x: FloatArray, values: Mapping[str, float], bound: Mapping[str, float], index_known: bool
) -> float:
    """Cramer-Rao bound of the mean gap, which is sigma times a function of beta."""
    if x.shape[-1] == 1:
        return float("nan")
    by_sigma = values["mean_gap"] / values["sigma"]
    if index_known:
        return by_sigma * bound["sigma"]
    # In an exponential family a derivative of a mean is a covariance, here with the repulsion
    # that beta multiplies, taken from the data.
    gap, repulsion = _neighbour_gap(x).ravel(), log_vandermonde(x).ravel()
    by_index = float(np.mean((gap - gap.mean()) * (repulsion - repulsion.mean())))
    beta = max(values["dyson_index"], 0.0)
    n = x.shape[-1]
    width = 2 * float(degrees_of_freedom(n, beta)) / values["sigma"] ** 2
    cross = 0.5 * n * (n - 1) / values["sigma"]
    covariance = -(bound["dyson_index"] ** 2) * cross / width
    variance = (
        by_sigma**2 * bound["sigma"] ** 2
        + 2 * by_sigma * by_index * covariance
        + by_index**2 * bound["dyson_index"] ** 2
    )
    return float(np.sqrt(variance))


def student_p_value(deviation: FloatArray, freedom: float) -> FloatArray:
    """Two-sided p-value of Student's t.

    Parameters
    ----------
    deviation : numpy.ndarray
        Absolute values of t, which may be infinite or NaN.
    freedom : float
        Degrees of freedom.

    Returns
    -------
    numpy.ndarray
        As of `scipy.stats.t`, which costs a second to import; NaN where there is no t.
    """
    return 2 * special.stdtr(freedom, -deviation)


def fisher_p_value(ratio: FloatArray, freedom: float, rest_freedom: float) -> FloatArray:
    """Two-sided p-value of Fisher's F.

    Parameters
    ----------
    ratio : numpy.ndarray
        Values of F, not negative, which may be infinite or NaN.
    freedom, rest_freedom : float
        Degrees of freedom of numerator and denominator.

    Returns
    -------
    numpy.ndarray
        As of `scipy.stats.f`, which costs a second to import; NaN where there is no ratio.
    """
    # At infinity fdtr is not defined.
    low = np.where(np.isposinf(ratio), 1.0, special.fdtr(freedom, rest_freedom, ratio))
    return 2 * np.minimum(low, special.fdtrc(freedom, rest_freedom, ratio))


def _outlier_flag(x: FloatArray, deviation: FloatArray, dyson_index: float) -> str:
    """Name the replica that is improbably far off and dominates an error, if there is one.

    Two exact tests, each replica against all others: Student's t for its mean, and Fisher's F
    for the spread of its levels about the mean of their block. Correlated snapshots are counted
    as one, which can only make alarms rarer.
    """
    replicas, _, n = x.shape
    freedom = float(degrees_of_freedom(n, dyson_index)) - 1.0
    mean = x.mean(axis=(1, 2))
    rest_mean = (mean.sum() - mean) / (replicas - 1)
    rest_square = (np.sum((mean - mean.mean()) ** 2)) - (mean - mean.mean()) ** 2 * replicas / (
        replicas - 1
    )
    rest_variance = np.maximum(rest_square, 0.0) / (replicas - 2)
    # Equal means of all others: infinitely far off, or no statement if this one is equal too.
    with np.errstate(divide="ignore", invalid="ignore"):
        student = np.abs(mean - rest_mean) / np.sqrt(rest_variance * replicas / (replicas - 1))
    p_values = [student_p_value(student, replicas - 2)]
    if n > 1:
        inner = np.sum((x - x.mean(axis=-1, keepdims=True)) ** 2, axis=-1).mean(axis=1)
        # Beside one that is wide enough all others are lost to rounding: infinitely wide.
        with np.errstate(divide="ignore"):
            ratio = inner / ((inner.sum() - inner) / (replicas - 1))
        p_values.append(fisher_p_value(ratio, freedom, freedom * (replicas - 1)))
    p = np.minimum(1.0, len(p_values) * replicas * np.min(p_values, axis=0))

    total = np.sum(deviation**2, axis=0)
    # A single level has no gap, and a given parameter no scatter.
    share = np.where(total > 0, deviation**2 / np.where(total > 0, total, 1.0), 0.0)
    far = (p < OUTLIER_FALSE_ALARM) & (np.max(share, axis=1) > OUTLIER_INFLUENCE)
    if not far.any():
        return ""
    worst = int(np.argmin(np.where(far, p, np.inf)))
    return (
        f"replica {worst} is far off (probability {p[worst]:.1e} by chance) and dominates the error"
    )
