r"""Dyson index of all levels of a spectrum together, each block among its neighbours.

The gas of one block does not know the other levels, which at strong noise bend its law. Here the
law p(x) of the whole spectrum is given by draws from it, at known indices, and another index enters
as

    p_beta(x) ~ p(x) exp( (beta - beta_p) D(x) - sum_b [ eta_b Q_b(x) - zeta_b M_b(x) ] ),
    D   = sum of log |x_i - x_j| over pairs of levels,
    Q_b = sum of x_i^2,  M_b = sum of x_i  over block b.

With the pairs inside blocks (`fit_joint_index`) equal levels repel each other with
|x_i - x_j|^beta; of one block on its own that is the Coulomb gas. With the pairs of levels of
different blocks (`fit_between`) it is the repulsion of different modes. Centre and width of each
block are free.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.coulomb_gas import log_vandermonde
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means
from dysonflow.statistics.levels import InsufficientData, checked_levels

LEAST_EFFECTIVE = 200.0
"""Draws, after weighting, below which the reference does not reach the data."""
STEPS = 100
"""Newton steps at most; a handful are needed."""


@dataclass(frozen=True)
class JointIndex:
    """An index of a spectrum.

    Attributes
    ----------
    dyson_index : float
        Maximum-likelihood estimate, jointly with centres and widths of all blocks where these are
        free.
    error : float
        Standard error, of data and draws together.
    data_error : float
        From leaving out one replica at a time, to first order.
    monte_carlo_error : float
        From the finite number of draws.
    effective : float
        Effective number of draws, (sum of weights)^2 / sum of weights^2 at the estimate.
    """

    dyson_index: float
    error: float
    data_error: float
    monte_carlo_error: float
    effective: float


def fit_joint_index(
    levels: FloatArray, reference: FloatArray, blocks: Sequence[slice], *, free_blocks: bool = True
) -> JointIndex:
    """Maximum-likelihood Dyson index of the blocks of a spectrum.

    The likelihood is largest where the means of D and of all Q_b and M_b over the data are those of
    p_beta, which are averages over the draws with weights p_beta / p: an exponential family, with
    one maximum, found by Newton's method.

    Parameters
    ----------
    levels : numpy.ndarray
        Measured spectra, shape (replica, snapshot, N), ascending.
    reference : numpy.ndarray
        Draws from the law of the spectrum at index 1, shape (group, member, N), ascending; groups
        are independent of each other.
    blocks : sequence of slice
        Positions of the degenerate blocks, of at least two levels each.
    free_blocks : bool
        Whether centre and width of each block are estimated too; if not, they are those of the
        reference, and a width that is 1 % too small there makes the index of a pair 0.024 too
        large.

    Returns
    -------
    JointIndex
        Index and errors.

    Raises
    ------
    InsufficientData
        If there is no degenerate block, the levels can bear no estimate, or the draws do not reach
        them.
    """
    if not blocks:
        raise InsufficientData("no two levels are degenerate: there is no Dyson index to estimate")
    for block in blocks:
        checked_levels(levels[..., block], 2)
    return _fit(levels, reference, blocks, _repulsion_inside, 1.0, free_blocks)


def fit_between(
    levels: FloatArray, reference: FloatArray, blocks: Sequence[slice], reference_index: float
) -> JointIndex:
    """Maximum-likelihood repulsion of levels of different blocks.

    Parameters
    ----------
    levels : numpy.ndarray
        Measured spectra, shape (replica, snapshot, N), ascending.
    reference : numpy.ndarray
        Draws from a gas, shape (group, member, N), ascending; groups are independent of each other.
    blocks : sequence of slice
        Positions of all blocks, at least two.
    reference_index : float
        Repulsion between blocks in this gas.

    Returns
    -------
    JointIndex
        In `dyson_index` the exponent of |x_i - x_j| for levels of different blocks, at the
        repulsion inside blocks of the reference, and with free centres and widths of all blocks.

    Raises
    ------
    InsufficientData
        If there is only one block, the levels can bear no estimate, or the draws do not reach them.
    """
    if len(blocks) < 2:
        raise InsufficientData("there is one block of levels only, and none that it could repel")
    checked_levels(levels, 2)
    return _fit(levels, reference, blocks, _repulsion_between, reference_index, True)


Repulsion: TypeAlias = Callable[[FloatArray, Sequence[slice]], FloatArray]


def _repulsion_inside(levels: FloatArray, blocks: Sequence[slice]) -> FloatArray:
    return np.sum([log_vandermonde(levels[..., block]) for block in blocks], axis=0)


def _repulsion_between(levels: FloatArray, blocks: Sequence[slice]) -> FloatArray:
    return log_vandermonde(levels) - _repulsion_inside(levels, blocks)


def _fit(
    levels: FloatArray,
    reference: FloatArray,
    blocks: Sequence[slice],
    repulsion: Repulsion,
    reference_index: float,
    free_blocks: bool,
) -> JointIndex:
    """Estimate the index that multiplies `repulsion`, from draws at `reference_index`."""
    centres = reference.mean(axis=(0, 1))

    def statistics(x: FloatArray) -> FloatArray:
        """D, and Q_b and M_b of all blocks where these are wanted; shape (..., 1 + 2 blocks)."""
        found = [repulsion(x, blocks)]
        if free_blocks:
            # About a nearby origin, or Q and M would be nearly the same.
            parts = [x[..., block] - centres[block].mean() for block in blocks]
            found += [(part**2).sum(axis=-1) for part in parts]
            found += [part.sum(axis=-1) for part in parts]
        return np.stack(found, axis=-1)

    data, drawn = statistics(levels), statistics(reference)
    groups, members, _ = drawn.shape
    flat = drawn.reshape(groups * members, -1)
    # In units in which Newton's method sees numbers of order one.
    origin, scale = flat.mean(axis=0), flat.std(axis=0)
    flat = (flat - origin) / scale
    means = leave_one_out_means((data.mean(axis=1) - origin) / scale)
    parameters, weights = _solve(flat, means[0])
    effective = float(1.0 / (weights**2).sum())
    if effective < LEAST_EFFECTIVE:
        raise InsufficientData(
            f"the draws from the reference are worth {effective:.0f} at the index of the data, "
            f"and {LEAST_EFFECTIVE:.0f} are needed: draw more, or the law is another"
        )
    away = flat - means[0]
    inverse = np.linalg.inv((weights[:, None] * away).T @ away)
    # How the index answers to the means, to first order.
    response = inverse[0] / scale[0]
    data_error = float(jackknife_error(means[1:] @ response))
    pull = (weights * (away @ response)).reshape(groups, members).sum(axis=1)
    drawn_error = float(np.sqrt((pull**2).sum()))
    return JointIndex(
        dyson_index=reference_index + float(parameters[0] / scale[0]),
        error=float(np.hypot(data_error, drawn_error)),
        data_error=data_error,
        monte_carlo_error=drawn_error,
        effective=effective,
    )


def _solve(drawn: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Parameters at which the weighted mean of the draws is the target, and the weights."""
    parameters = np.zeros(drawn.shape[1])

    def weighted(at: FloatArray) -> tuple[float, FloatArray]:
        """Log-likelihood, and the weights of all draws."""
        exponent = drawn @ at
        top = exponent.max()
        weights = np.exp(exponent - top)
        total = weights.sum()
        return float(at @ target - top - np.log(total / len(drawn))), weights / total

    value, weights = weighted(parameters)
    for _ in range(STEPS):
        # Where few draws are left their covariance is singular.
        if (weights**2).sum() * 2.0 * drawn.shape[1] > 1.0:
            break
        mean = weights @ drawn
        away = drawn - mean
        covariance = (weights[:, None] * away).T @ away
        step = np.linalg.solve(covariance, target - mean)
        gain = float(step @ (target - mean))
        if gain < 1e-18:
            return parameters, weights
        length = 1.0
        trial = weighted(parameters + step)
        while trial[0] < value + 1e-4 * length * gain and length > 1e-6:
            length *= 0.5
            trial = weighted(parameters + length * step)
        parameters = parameters + length * step
        value, weights = trial
    raise InsufficientData("the levels lie beyond all draws from the reference")
