"""Coulomb gas of a block of n levels: sampler, likelihood, estimators, goodness of fit.

The gas of Dyson index beta, centre c and width sigma is

    P(x_1 .. x_n) = 1/Z prod_{i<j} |x_i - x_j|^beta exp(-sum_i (x_i - c)^2 / (2 sigma^2)).

Levels come as arrays of shape (replica, snapshot, n), ascending in the last axis. Snapshots of a
replica may be correlated, replicas are independent: errors and tests rest on replicas alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from scipy.linalg import lapack

from dysonflow.statistics.laws import BlockDensity, WignerSurmise, invert_increasing

FloatArray = NDArray[np.float64]

OUTLIER_FALSE_ALARM = 1e-3
"""Probability, at most, that a block without an outlier is flagged as having one."""
OUTLIER_INFLUENCE = 0.2
"""Share of the variance of an estimate that one replica must hold to be flagged."""
NEGLIGIBLE_CORRELATION = 0.02
"""Correlation of neighbouring snapshots below which the tests take them as independent."""
RIGID_DYSON_INDEX = 1e6
"""Beyond this the levels hardly fluctuate against each other and beta cannot be resolved."""
LARGEST_LEVEL = 1e100
"""Levels beyond are as good as infinite."""
LARGEST_HISTOGRAM = 10_000
"""Bins that no distribution without outliers needs."""
NULL_SEED = 20240723
"""Seed of the simulated null laws: the same data always get the same p-value."""


class InsufficientData(ValueError):
    """The levels cannot bear the estimate or the test; the message says why."""


def sample(
    levels: int,
    dyson_index: float,
    size: int,
    rng: np.random.Generator,
    centre: float = 0.0,
    sigma: float = 1.0,
) -> FloatArray:
    r"""Draw independent blocks from the Coulomb gas, exactly, at any Dyson index.

    Eigenvalues of the tridiagonal matrix with diagonal :math:`N(c, \sigma^2)` and k-th squared
    off-diagonal entry :math:`\sigma^2 \chi^2_{k \beta} / 2` (I. Dumitriu and A. Edelman, J. Math.
    Phys. 43, 5830 (2002)).

    Parameters
    ----------
    levels : int
        Number n of levels in a block.
    dyson_index : float
        Repulsion beta, positive.
    size : int
        Number of blocks.
    rng : numpy.random.Generator
        All randomness comes from here.
    centre, sigma : float
        Centre and width of the gas.

    Returns
    -------
    numpy.ndarray
        Shape (size, levels), ascending in each row.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    _check_gas(levels, dyson_index, sigma)
    if levels == 1:
        return centre + sigma * rng.standard_normal((size, 1))
    if levels == 2:
        # Mean and gap of two levels are independent: normal and chi with beta + 1 degrees.
        mean = centre + sigma * np.sqrt(0.5) * rng.standard_normal(size)
        gap = sigma * np.sqrt(2.0 * rng.chisquare(dyson_index + 1.0, size))
        return np.stack([mean - 0.5 * gap, mean + 0.5 * gap], axis=-1)
    diagonal = rng.standard_normal((size, levels))
    below = np.sqrt(0.5 * rng.chisquare(dyson_index * np.arange(1, levels), (size, levels - 1)))
    blocks = np.empty((size, levels))
    if levels > 16:
        # The tridiagonal solver wins once its cost exceeds that of the loop around it.
        for row in range(size):
            blocks[row], failed = lapack.dsterf(diagonal[row], below[row])
            if failed:
                raise np.linalg.LinAlgError("eigenvalues of a block did not converge")
        return centre + sigma * blocks
    index = np.arange(levels)
    # The dense matrices of a part stay in the cache; what is drawn does not depend on it.
    part = max(1, 2**18 // levels**2)
    for first in range(0, size, part):
        rows = slice(first, first + part)
        matrix = np.zeros((diagonal[rows].shape[0], levels, levels))
        matrix[:, index, index] = diagonal[rows]
        # eigvalsh reads the lower triangle only.
        matrix[:, index[1:], index[:-1]] = below[rows]
        blocks[rows] = np.linalg.eigvalsh(matrix)
    return centre + sigma * blocks


def log_partition(levels: int, dyson_index: float, sigma: float) -> float:
    """Logarithm of the partition function Z of the gas, by Mehta's integral.

    Parameters
    ----------
    levels : int
        Number n of levels.
    dyson_index : float
        Repulsion beta, above -2/n, where the integral ends to converge.
    sigma : float
        Width of the gas.

    Returns
    -------
    float
        log Z for levels in any order; M. L. Mehta, *Random Matrices*, equation 17.6.7.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    _check_gas(levels, dyson_index, sigma, lowest_index=-2.0 / levels)
    half = 0.5 * dyson_index
    return float(
        0.5 * levels * np.log(2 * np.pi)
        + _freedom(levels, dyson_index) * np.log(sigma)
        + special.gammaln(1 + half * np.arange(1, levels + 1)).sum()
        - levels * special.gammaln(1 + half)
    )


def log_likelihood(
    levels: ArrayLike, *, centre: float, sigma: float, dyson_index: float = 1.0
) -> FloatArray:
    """Logarithm of the density of each block.

    Parameters
    ----------
    levels : array_like
        Shape (..., n); the order within a block does not matter, and is not counted: for
        sorted blocks add log n!.
    centre, sigma, dyson_index : float
        Parameters of the gas.

    Returns
    -------
    numpy.ndarray
        Shape (...); minus infinity for a block with a tie.
    """
    x = np.asarray(levels, dtype=float)
    normalisation = log_partition(x.shape[-1], dyson_index, sigma)
    confinement = np.sum((x - centre) ** 2, axis=-1) / (2 * sigma**2)
    repulsion = dyson_index * _log_vandermonde(x) if x.shape[-1] > 1 else 0.0
    return repulsion - confinement - normalisation


def cramer_rao_errors(
    levels: int, dyson_index: float, sigma: float, blocks: int, *, index_known: bool
) -> dict[str, float]:
    """Smallest standard errors that an unbiased estimator can reach.

    From the Fisher information, the second derivatives of log Z: sigma and beta are the natural
    parameters of an exponential family, and the centre is orthogonal to both.

    Parameters
    ----------
    levels : int
        Number n of levels.
    dyson_index, sigma : float
        Parameters of the gas.
    blocks : int
        Independent blocks observed.
    index_known : bool
        Whether beta is given; if not, sigma pays for it.

    Returns
    -------
    dict of str to float
        Keys centre, sigma, dyson_index; the last is NaN if it is known or n = 1.
    """
    centre = sigma / np.sqrt(levels * blocks)
    width = 2 * _freedom(levels, dyson_index) / sigma**2
    if index_known or levels == 1:
        return {
            "centre": float(centre),
            "sigma": float(1 / np.sqrt(width * blocks)),
            "dyson_index": float("nan"),
        }
    cross = 0.5 * levels * (levels - 1) / sigma
    j = np.arange(1, levels + 1)
    half = 0.5 * dyson_index
    index = float(
        np.sum(0.25 * j**2 * special.polygamma(1, 1 + half * j))
        - 0.25 * levels * special.polygamma(1, 1 + half)
    )
    determinant = width * index - cross**2
    return {
        "centre": float(centre),
        "sigma": float(np.sqrt(index / (determinant * blocks))),
        "dyson_index": float(np.sqrt(width / (determinant * blocks))),
    }


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
    method: str = "likelihood",
    minimum_replicas: int = 30,
) -> BlockFit:
    """Fit the Coulomb gas to a block of levels.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending in the last axis.
    dyson_index : float or None
        Repulsion beta; None to estimate it, which may then come out negative down to -2/n where
        levels attract.
    centre : float or None
        Centre of the gas; None to estimate it.
    method : {'likelihood', 'histogram'}
        Joint maximum likelihood, or the least-squares fit of the exact block density to a
        histogram of all levels, as in arXiv:2407.16427, for comparison. The latter needs a
        Dyson index.
    minimum_replicas : int
        Fewest replicas that are accepted.

    Returns
    -------
    BlockFit
        Maximum-likelihood estimates carry the jackknife's correction of their bias of order
        1/replicas, which for sigma is the number of degrees of freedom taken by the centre.
        `flag` tells of a replica that is improbably far off (false alarms in at most one of
        1000 blocks) and dominates the error of an estimate.

    Raises
    ------
    InsufficientData
        If there are too few replicas, a value is not finite or exactly zero (a rank-deficient
        matrix), two levels of a block are tied, or nothing fluctuates.
    ValueError
        If an argument is out of range or levels are not ascending.
    """
    x = _checked(levels, minimum_replicas)
    replicas, snapshots, n = x.shape
    if dyson_index is not None:
        _check_gas(n, dyson_index, 1.0)
    if method == "histogram":
        if dyson_index is None:
            raise ValueError("the histogram fit needs a dyson_index")
        estimate, left_out = _fit_histogram(x, dyson_index, centre)
    elif method == "likelihood":
        estimate, left_out = _fit_likelihood(x, dyson_index, centre)
    else:
        raise ValueError(f"method must be 'likelihood' or 'histogram', not {method!r}")

    error = np.sqrt((replicas - 1) / replicas * np.sum(_deviation(left_out) ** 2, axis=0))
    if method == "likelihood":
        estimate = replicas * estimate - (replicas - 1) * left_out.mean(axis=0)
    else:
        # A histogram hardly notices an outlier: what is suspicious is told by the likelihood.
        _, left_out = _fit_likelihood(x, dyson_index, centre)
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
        flag=_outlier_flag(x, _deviation(left_out), beta),
    )


def surmise_p_value(
    levels: ArrayLike,
    rng: np.random.Generator,
    *,
    dyson_index: int = 1,
    mean_gap: float | None = None,
) -> float:
    """Test the gaps of a doubly degenerate block against the Wigner surmise.

    Anderson-Darling distance of the gaps in units of their mean. Its null law does not depend on
    sigma, so that it is simulated once, with a fixed seed and the mean fitted in the same way.
    Correlated snapshots are thinned to independent ones first (`independent_blocks`).

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, 2), ascending.
    rng : numpy.random.Generator
        Picks the first snapshot of the thinned series of each replica.
    dyson_index : int
        Index of the surmise: 1, 2 or 4.
    mean_gap : float, optional
        Mean gap that theory predicts, if that is to be tested as well.

    Returns
    -------
    float
        p-value, uniform on (0, 1) if the gaps follow the surmise.

    Raises
    ------
    InsufficientData
        If a value is not finite, zero or tied, nothing fluctuates or replicas are too few.
    ValueError
        If the block does not have two levels: of larger blocks the surmise is no exact law.
    """
    x = _checked(levels, 2)
    if x.shape[-1] != 2:
        raise ValueError(
            f"the Wigner surmise is the law of the gap of two levels, not of {x.shape[-1]}"
        )
    surmise = WignerSurmise(dyson_index)
    blocks = independent_blocks(x, rng)
    gap = blocks[:, 1] - blocks[:, 0]
    distance = _anderson_darling(surmise.cdf(gap / (gap.mean() if mean_gap is None else mean_gap)))
    null = _surmise_null(min(len(blocks), _null_size(2)[0]), int(dyson_index), mean_gap is None)
    return _upper_tail(float(distance), null)


def density_p_value(
    levels: ArrayLike,
    rng: np.random.Generator,
    *,
    dyson_index: float = 1.0,
    centre: float | None = None,
    sigma: float | None = None,
) -> float:
    """Test the levels against the exact one-level density of their block.

    Anderson-Darling distance of all levels, centred and scaled by maximum likelihood. The levels
    of a block depend on each other, hence the null law comes from whole simulated blocks, fitted
    in the same way; it does not depend on centre and sigma, so that it is simulated once, with a
    fixed seed. Correlated snapshots are thinned to independent ones first (`independent_blocks`).

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending.
    rng : numpy.random.Generator
        Picks the first snapshot of the thinned series of each replica.
    dyson_index : float
        Repulsion beta; see `laws.BlockDensity` for which n and beta are supported.
    centre, sigma : float, optional
        Values that theory predicts, if these are to be tested as well.

    Returns
    -------
    float
        p-value, uniform on (0, 1) if the blocks come from the gas.

    Raises
    ------
    InsufficientData
        If a value is not finite, zero or tied, nothing fluctuates or replicas are too few.
    ValueError
        If the density is not supported.
    """
    x = _checked(levels, 2)
    n = x.shape[-1]
    density = BlockDensity(n, dyson_index=float(dyson_index))
    blocks = independent_blocks(x, rng)
    standard = _standardised(blocks[None], float(dyson_index), centre, sigma)
    distance = _anderson_darling(density.cdf(standard))
    null = _density_null(
        min(len(blocks), _null_size(n)[0]), n, float(dyson_index), centre is None, sigma is None
    )
    return _upper_tail(float(distance[0]), null)


def angle_p_value(angles: ArrayLike) -> float:
    """Test whether the eigenvectors of a 2 x 2 block point everywhere alike.

    Watson's U^2, which does not depend on the axis that angles are counted from.

    Parameters
    ----------
    angles : array_like
        Angle of one eigenvector of each block, in radians, taken modulo pi: shape (replica,) or
        (replica, snapshot). Correlated snapshots are thinned to independent ones, counted back
        from the last.

    Returns
    -------
    float
        p-value, uniform on (0, 1) if the angle is uniform on [0, pi).

    Raises
    ------
    InsufficientData
        If there are fewer than eight independent angles or one is not finite.
    ValueError
        If the array has another number of axes.

    Notes
    -----
    G. S. Watson, Biometrika 48, 109 (1961); M. A. Stephens, J. R. Stat. Soc. B 32, 115 (1970)
    for the correction for few angles, which leaves an error below 1e-3 in p from eight on.
    """
    theta = np.asarray(angles, dtype=float)
    if theta.ndim not in (1, 2):
        raise ValueError(f"angles have shape (replica,) or (replica, snapshot), not {theta.shape}")
    if not np.all(np.isfinite(theta)):
        raise InsufficientData("an angle is not finite")
    theta = theta.reshape(theta.shape[0], -1)
    stride = _stride([np.cos(2 * theta), np.sin(2 * theta)])
    turn = np.sort(np.mod(theta[:, ::-1][:, ::stride].ravel() / np.pi, 1.0))
    count = turn.size
    if count < 8:
        raise InsufficientData(f"{count} independent angles are too few for the test: 8 are needed")
    expected = (2 * np.arange(1, count + 1) - 1) / (2 * count)
    deviation = turn - expected
    watson = np.sum((deviation - deviation.mean()) ** 2) + 1 / (12 * count)
    modified = (watson - 0.1 / count + 0.1 / count**2) * (1 + 0.8 / count)
    if modified < 0.005:
        # The alternating series converges slowly here, where p is 1 to ten digits.
        return 1.0
    k = np.arange(1, 21)
    terms = (-1.0) ** (k - 1) * np.exp(-2 * k**2 * np.pi**2 * modified)
    return float(np.clip(2 * terms.sum(), 0.0, 1.0))


def benjamini_hochberg(
    p_values: ArrayLike, false_discovery_rate: float = 0.01
) -> tuple[NDArray[np.bool_], FloatArray]:
    """Decide on many tests at once.

    Parameters
    ----------
    p_values : array_like
        One p-value a test; NaN stands for a test that was not made.
    false_discovery_rate : float
        Expected share of false rejections among all rejections, between 0 and 1.

    Returns
    -------
    rejected : numpy.ndarray of bool
        Which null hypotheses are rejected; False where no test was made.
    adjusted : numpy.ndarray
        Smallest false discovery rate at which each would be; NaN where no test was made.

    Raises
    ------
    ValueError
        If the rate or a p-value is not within [0, 1].

    Notes
    -----
    Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57, 289 (1995).
    """
    if not 0.0 <= false_discovery_rate <= 1.0:
        raise ValueError(f"false_discovery_rate must be within [0, 1], not {false_discovery_rate}")
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    made = ~np.isnan(p)
    if made.any():
        adjusted[made] = stats.false_discovery_control(p[made], method="bh")
    return np.where(made, adjusted <= false_discovery_rate, False), adjusted


def autocorrelation_time(levels: ArrayLike) -> tuple[float, float]:
    """Integrated autocorrelation time of the slowest motion of a block.

    Of the mean of its levels and, for more than one, of the logarithm of their spread: the
    longer of the two. The mean is taken over all replicas, so that replicas which never leave
    their own place count as correlated.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending.

    Returns
    -------
    time, error : float
        In units of snapshots: 1/2 for independent snapshots, about the exponential decay time if
        that is long. Sums up to five times itself (N. Madras and A. D. Sokal, J. Stat. Phys. 50,
        109 (1988)), or to the end of the series, whose length it then rather tells; the error is
        a jackknife over replicas. NaN for a single snapshot.

    Raises
    ------
    InsufficientData
        If a value is not finite, zero or tied, or nothing fluctuates.
    """
    x = _checked(levels, 2)
    times = [_integrated_time(series) for series in _slow_motions(x)]
    return max(times, key=lambda pair: pair[0])


def independent_blocks(levels: ArrayLike, rng: np.random.Generator) -> FloatArray:
    """Thin correlated snapshots until they count as independent.

    Snapshots of a replica are taken at the stride after which an exponential decay with the
    measured integrated time falls below 2 %, from a random first one; if the series is shorter
    than that, one random snapshot of each replica is left.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending.
    rng : numpy.random.Generator
        Picks the first snapshot of each replica.

    Returns
    -------
    numpy.ndarray
        Shape (block, n).
    """
    x = np.asarray(levels, dtype=float)
    replicas, snapshots, n = x.shape
    stride = _stride(_slow_motions(x))
    if stride == 1:
        return x.reshape(-1, n)
    kept = max(1, snapshots // stride)
    first = rng.integers(0, snapshots - stride * (kept - 1), replicas)
    return x[np.arange(replicas)[:, None], first[:, None] + stride * np.arange(kept)].reshape(-1, n)


# --- data ---------------------------------------------------------------------------------------


def _check_gas(levels: int, dyson_index: float, sigma: float, lowest_index: float = 0.0) -> None:
    if levels < 1:
        raise ValueError(f"levels must be at least 1, not {levels}")
    if not (np.isfinite(dyson_index) and dyson_index > lowest_index):
        raise ValueError(f"dyson_index must be above {lowest_index:g}, not {dyson_index}")
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be a positive number, not {sigma}")


def _checked(levels: ArrayLike, minimum_replicas: int) -> FloatArray:
    x = np.asarray(levels, dtype=float)
    if x.ndim != 3 or 0 in x.shape[1:]:
        raise ValueError(f"levels have shape (replica, snapshot, n), not {x.shape}")
    replicas = x.shape[0]
    if replicas < max(minimum_replicas, 2):
        raise InsufficientData(
            f"{replicas} replicas are too few: at least {max(minimum_replicas, 2)} are needed"
        )
    # Squares of levels must not overflow either.
    _refuse(~(np.abs(x) < LARGEST_LEVEL), "is not finite")
    _refuse(x == 0.0, "is exactly zero, as of a rank-deficient matrix")
    if np.ptp(x) <= 1e-13 * np.abs(x).max():
        raise InsufficientData(f"all levels are equal ({x.flat[0]:.6g}): nothing fluctuates")
    gap = np.diff(x, axis=-1)
    if np.any(gap < 0):
        raise ValueError("levels must be ascending within a block")
    _refuse(gap == 0.0, "is tied with its neighbour, which has probability zero in the gas")
    spread = np.ptp(x.reshape(-1, x.shape[-1]), axis=0)
    if np.any(spread <= 1e-13 * np.abs(x).max()):
        raise InsufficientData("a level is the same in all blocks: it does not fluctuate")
    return x


def _refuse(bad: NDArray[np.bool_], what: str) -> None:
    count = np.count_nonzero(bad)
    if count:
        replica, snapshot, level = np.argwhere(bad)[0]
        raise InsufficientData(
            f"level {level} of replica {replica}, snapshot {snapshot} {what} "
            f"({count} of {bad.size} such values)"
        )


def _log_vandermonde(x: FloatArray) -> FloatArray:
    """Sum of log |x_i - x_j| over pairs i < j of the last axis."""
    total = np.zeros(x.shape[:-1])
    with np.errstate(divide="ignore"):
        for distance in range(1, x.shape[-1]):
            total += np.log(np.abs(x[..., distance:] - x[..., :-distance])).sum(axis=-1)
    return total


def _freedom(levels: int, dyson_index: ArrayLike) -> FloatArray:
    """Degrees of freedom of the chi-squared variable sum (x - c)^2 / sigma^2."""
    return levels + 0.5 * np.asarray(dyson_index) * levels * (levels - 1)


# --- estimators ---------------------------------------------------------------------------------

_ESTIMATES = ("centre", "sigma", "dyson_index", "mean_gap")


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
            _log_vandermonde(x).mean(axis=1),
            _neighbour_gap(x).mean(axis=1),
        ],
        axis=-1,
    )
    means = _with_left_out(statistics)
    square = means[:, 1] - (n * means[:, 0] ** 2 if centre is None else 0.0)
    if dyson_index is not None or n == 1:
        beta = np.full(square.shape, 1.0 if dyson_index is None else dyson_index)
    else:
        beta = _solve_dyson_index(n, means[:, 2] - 0.25 * n * (n - 1) * np.log(square))
    sigma = np.sqrt(square / _freedom(n, beta))
    estimates = np.stack([origin + means[:, 0], sigma, beta, means[:, 3]], axis=-1)
    return estimates[0], estimates[1:]


def _with_left_out(statistics: FloatArray) -> FloatArray:
    """Mean over replicas, then the mean without each; shape (1 + replica, ...)."""
    replicas = statistics.shape[0]
    mean = statistics.mean(axis=0, keepdims=True)
    return np.concatenate([mean, (replicas * mean - statistics) / (replicas - 1)])


def _deviation(left_out: FloatArray) -> FloatArray:
    return left_out - left_out.mean(axis=0)


def _neighbour_gap(x: FloatArray) -> FloatArray:
    """Mean of the gaps of a block, NaN for a single level; shape (replica, snapshot)."""
    n = x.shape[-1]
    if n == 1:
        return np.full(x.shape[:-1], np.nan)
    return (x[..., -1] - x[..., 0]) / (n - 1)


def _solve_dyson_index(levels: int, repulsion: FloatArray) -> FloatArray:
    """Maximum-likelihood Dyson index from <sum log |x_i - x_j|> with sigma eliminated.

    `repulsion` is that mean less n(n-1)/4 log <sum (x - c)^2>; its expectation rises with beta
    from minus infinity at -2/n to a finite limit for rigid levels.
    """
    j = np.arange(1, levels + 1)
    pairs = 0.25 * levels * (levels - 1)
    lowest = -2.0 / levels

    # In t = log(beta + 2/n) the equation is nearly linear over many decades.
    def expectation(t: FloatArray) -> FloatArray:
        half = 0.5 * (lowest + np.exp(t))[..., None]
        gamma = 0.5 * (j * special.digamma(1 + half * j) - special.digamma(1 + half)).sum(axis=-1)
        return gamma - pairs * np.log(_freedom(levels, 2 * half[..., 0]))

    def slope(t: FloatArray) -> FloatArray:
        half = 0.5 * (lowest + np.exp(t))[..., None]
        trigamma = 0.25 * (
            j**2 * special.polygamma(1, 1 + half * j) - special.polygamma(1, 1 + half)
        ).sum(axis=-1)
        freedom = _freedom(levels, 2 * half[..., 0])
        return np.exp(t) * (trigamma - pairs * 0.5 * levels * (levels - 1) / freedom)

    low, high = np.log(1e-9), np.log(RIGID_DYSON_INDEX)
    if np.any(repulsion >= expectation(np.array(high))):
        raise InsufficientData(
            "the levels of a block hardly fluctuate against each other: their dyson_index is "
            f"beyond {RIGID_DYSON_INDEX:g}"
        )
    if np.any(repulsion <= expectation(np.array(low))):
        raise InsufficientData("the levels of a block cling together: no gas fits them")
    first = invert_increasing(expectation, slope, repulsion[:1], low, high, absolute=1e-12)
    t = invert_increasing(expectation, slope, repulsion, low, high, 1e-12, start=first)
    return lowest + np.exp(t)


def _fit_histogram(
    x: FloatArray, dyson_index: float, centre: float | None
) -> tuple[FloatArray, FloatArray]:
    """Least-squares fit of the block density to a histogram; same answer as `_fit_likelihood`."""
    replicas, snapshots, n = x.shape
    # The rule of Freedman and Diaconis.
    quartiles = np.quantile(x, [0.25, 0.75])
    wanted = np.ptp(x) * np.cbrt(x.size) / (2 * (quartiles[1] - quartiles[0]))
    if not wanted < LARGEST_HISTOGRAM:
        raise InsufficientData(
            f"some levels are so far off that a histogram of all would need {wanted:.3g} bins"
        )
    bins = max(5, int(np.ceil(wanted)))
    edges = np.linspace(x.min(), x.max(), bins + 1)
    width = np.diff(edges)
    cell = np.clip(np.searchsorted(edges, x.reshape(replicas, -1), side="right") - 1, 0, bins - 1)
    counts = np.zeros((replicas, bins))
    np.add.at(counts, (np.arange(replicas)[:, None], cell), 1.0)
    heights = _with_left_out(counts / (snapshots * n * width))

    standard = BlockDensity(n, dyson_index=float(dyson_index)).standard_table()
    mean = float(x.mean()) if centre is None else centre
    spread = np.sqrt(np.sum((x - mean) ** 2, axis=-1).mean() / float(_freedom(n, dyson_index)))

    def least_squares(target: FloatArray, start: FloatArray, iterations: int) -> FloatArray:
        parameters = start.copy()
        for _ in range(iterations):
            c, s = parameters[:, :1], parameters[:, 1:]
            z = (edges - c) / s
            density = standard.pdf(z)
            residual = target - np.diff(standard.cdf(z), axis=-1) / width
            by_centre = -np.diff(density, axis=-1) / (s * width)
            by_sigma = -np.diff(z * density, axis=-1) / (s * width)
            aa = np.sum(by_centre**2, axis=-1) if centre is None else np.ones(len(target))
            ab = np.sum(by_centre * by_sigma, axis=-1) if centre is None else np.zeros(len(target))
            bb = np.sum(by_sigma**2, axis=-1)
            a = np.sum(by_centre * residual, axis=-1) if centre is None else np.zeros(len(target))
            b = np.sum(by_sigma * residual, axis=-1)
            determinant = aa * bb - ab**2
            if not np.all(determinant > 0):
                raise InsufficientData("the block density does not fit the histogram of the levels")
            step = np.stack([bb * a - ab * b, aa * b - ab * a], axis=-1) / determinant[:, None]
            # A step of at most a fifth of the width keeps sigma positive and the fit in its basin.
            limit = 0.2 * parameters[:, 1:]
            parameters = parameters + np.clip(step, -limit, limit)
            if np.all(np.abs(step) <= 1e-10 * parameters[:, 1:]):
                break
        return parameters

    full = least_squares(heights[:1], np.array([[mean, spread]]), 100)
    fitted = least_squares(heights, np.repeat(full, replicas + 1, axis=0), 30)
    gap = _with_left_out(_neighbour_gap(x).mean(axis=1))
    estimates = np.stack([*fitted.T, np.full(replicas + 1, dyson_index), gap], axis=-1)
    return estimates[0], estimates[1:]


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
    gap, repulsion = _neighbour_gap(x).ravel(), _log_vandermonde(x).ravel()
    by_index = float(np.mean((gap - gap.mean()) * (repulsion - repulsion.mean())))
    beta = max(values["dyson_index"], 0.0)
    n = x.shape[-1]
    width = 2 * float(_freedom(n, beta)) / values["sigma"] ** 2
    cross = 0.5 * n * (n - 1) / values["sigma"]
    covariance = -(bound["dyson_index"] ** 2) * cross / width
    variance = (
        by_sigma**2 * bound["sigma"] ** 2
        + 2 * by_sigma * by_index * covariance
        + by_index**2 * bound["dyson_index"] ** 2
    )
    return float(np.sqrt(variance))


def _outlier_flag(x: FloatArray, deviation: FloatArray, dyson_index: float) -> str:
    """Name the replica that is improbably far off and dominates an error, if there is one.

    Two exact tests, each replica against all others: Student's t for its mean, and Fisher's F
    for the spread of its levels about the mean of their block. Correlated snapshots are counted
    as one, which can only make alarms rarer.
    """
    replicas, _, n = x.shape
    freedom = float(_freedom(n, dyson_index)) - 1.0
    mean = x.mean(axis=(1, 2))
    rest_mean = (mean.sum() - mean) / (replicas - 1)
    rest_square = (np.sum((mean - mean.mean()) ** 2)) - (mean - mean.mean()) ** 2 * replicas / (
        replicas - 1
    )
    rest_variance = np.maximum(rest_square, 0.0) / (replicas - 2)
    # Equal means of all others: infinitely far off, or no statement if this one is equal too.
    with np.errstate(divide="ignore", invalid="ignore"):
        student = np.abs(mean - rest_mean) / np.sqrt(rest_variance * replicas / (replicas - 1))
    p_values = [2 * stats.t.sf(student, replicas - 2)]
    if n > 1:
        inner = np.sum((x - x.mean(axis=-1, keepdims=True)) ** 2, axis=-1).mean(axis=1)
        ratio = inner / ((inner.sum() - inner) / (replicas - 1))
        low = stats.f.cdf(ratio, freedom, freedom * (replicas - 1))
        high = stats.f.sf(ratio, freedom, freedom * (replicas - 1))
        p_values.append(2 * np.minimum(low, high))
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


# --- null laws ----------------------------------------------------------------------------------


def _null_size(levels: int) -> tuple[int, int]:
    """Blocks in a simulated data set, at most, and number of data sets.

    The law of the distance has converged at these many blocks: more data need no more. The cost
    is one to a few seconds for each law, once a process.
    """
    if levels <= 2:
        return 200, 19_999
    if levels <= 4:
        return 100, 9_999
    if levels <= 8:
        return 100, 5_999
    return (100, 1_999) if levels <= 16 else (50, 499)


@lru_cache(maxsize=64)
def _surmise_null(blocks: int, dyson_index: int, scale_fitted: bool) -> FloatArray:
    rng = np.random.default_rng([NULL_SEED, blocks, dyson_index, scale_fitted])
    surmise = WignerSurmise(dyson_index)
    null = np.empty(_null_size(2)[1])
    for part in np.array_split(np.arange(null.size), max(1, null.size * blocks // 500_000)):
        if scale_fitted:
            gap = np.sqrt(rng.chisquare(dyson_index + 1.0, (part.size, blocks)))
            probability = surmise.cdf(gap / gap.mean(axis=1, keepdims=True))
        else:
            # Nothing is fitted: the gaps' probabilities are uniform themselves.
            probability = rng.random((part.size, blocks))
        null[part] = _anderson_darling(probability)
    return np.sort(null)


@lru_cache(maxsize=64)
def _density_null(
    blocks: int, levels: int, dyson_index: float, centre_fitted: bool, sigma_fitted: bool
) -> FloatArray:
    rng = np.random.default_rng([NULL_SEED, blocks, levels, centre_fitted, sigma_fitted])
    density = BlockDensity(levels, dyson_index=dyson_index)
    null = np.empty(_null_size(levels)[1])
    parts = max(1, null.size * blocks * levels // 500_000)
    for part in np.array_split(np.arange(null.size), parts):
        x = sample(levels, dyson_index, part.size * blocks, rng)
        standard = _standardised(
            x.reshape(part.size, blocks, levels),
            dyson_index,
            None if centre_fitted else 0.0,
            None if sigma_fitted else 1.0,
        )
        null[part] = _anderson_darling(density.cdf(standard))
    return np.sort(null)


def _standardised(
    x: FloatArray, dyson_index: float, centre: float | None, sigma: float | None
) -> FloatArray:
    """Levels of each data set in its own fitted units; (set, block, n) to (set, block * n)."""
    sets, blocks, n = x.shape
    moved = x - (x.mean(axis=(1, 2), keepdims=True) if centre is None else centre)
    if sigma is None:
        square = np.sum(moved**2, axis=(1, 2), keepdims=True)
        return (moved / np.sqrt(square / (blocks * _freedom(n, dyson_index)))).reshape(sets, -1)
    return (moved / sigma).reshape(sets, -1)


def _anderson_darling(probability: FloatArray) -> FloatArray:
    """Anderson-Darling distance of probabilities from the uniform law, along the last axis."""
    p = np.clip(np.sort(probability, axis=-1), 1e-15, 1 - 1e-15)
    count = p.shape[-1]
    odd = 2 * np.arange(1, count + 1) - 1
    return -count - np.sum(odd * (np.log(p) + np.log1p(-p[..., ::-1])), axis=-1) / count


def _upper_tail(value: float, null: FloatArray) -> float:
    """p-value from a simulated null law, its last percent continued by an exponential.

    The distance is a weighted sum of chi-squared variables, whose tail is exponential: small
    p-values neither end at one over the number of draws nor jump.
    """
    tail = null[int(0.99 * null.size) :]
    start = float(tail[0])
    if value <= start:
        above = null.size - int(np.searchsorted(null, value))
        return (above + 1) / (null.size + 1)
    weight = tail.size / (null.size + 1)
    decay = float(tail.mean()) - start
    return max(weight * float(np.exp(-(value - start) / decay)), float(np.finfo(float).tiny))


# --- correlation in time ------------------------------------------------------------------------


def _slow_motions(x: FloatArray) -> list[FloatArray]:
    """Observables whose memory is measured; shape (replica, snapshot) each."""
    mean = x.mean(axis=-1)
    if x.shape[-1] == 1:
        return [mean]
    spread = np.sum((x - mean[..., None]) ** 2, axis=-1)
    return [mean, np.log(spread)]


def _integrated_time(series: FloatArray) -> tuple[float, float]:
    replicas, snapshots = series.shape
    if snapshots == 1:
        return float("nan"), float("nan")
    centred = series - series.mean()
    covariance = np.empty((replicas, snapshots))
    pairs = np.arange(snapshots, 0, -1)
    for first in range(0, replicas, 512):
        rows = slice(first, first + 512)
        # Padded to twice the length the cyclic correlation is the open one.
        power = np.abs(np.fft.rfft(centred[rows], 2 * snapshots, axis=1)) ** 2
        covariance[rows] = np.fft.irfft(power, 2 * snapshots, axis=1)[:, :snapshots] / pairs
    means = _with_left_out(covariance)
    if np.any(means[:, 0] <= 0.0):
        return 0.5, float("nan")
    time = 0.5 + np.cumsum(means[:, 1:] / means[:, :1], axis=1)
    closed = np.arange(1, snapshots) >= 5 * time[0]
    window = int(np.argmax(closed)) if closed.any() else snapshots - 2
    left_out = time[1:, window]
    error = np.sqrt((replicas - 1) / replicas * np.sum((left_out - left_out.mean()) ** 2))
    return float(time[0, window]), float(error)


def _stride(motions: list[FloatArray]) -> int:
    """Snapshots between two that count as independent."""
    if motions[0].shape[1] == 1:
        return 1
    stride = 1
    for series in motions:
        time, error = _integrated_time(series)
        # A time within two errors of 1/2 is no sign of memory.
        if not time - 2 * error > 0.5:
            continue
        neighbour = (2 * time - 1) / (2 * time + 1)
        stride = max(stride, int(np.ceil(np.log(NEGLIGIBLE_CORRELATION) / np.log(neighbour))))
    return min(stride, motions[0].shape[1])
