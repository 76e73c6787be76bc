"""Least-squares fit of the block density to a histogram of the levels, as in arXiv:2407.16427.

For comparison with maximum likelihood, which the package uses.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from dysonflow.statistics.arrays import FloatArray
from dysonflow.statistics.coulomb_gas import degrees_of_freedom
from dysonflow.statistics.estimators import BlockFit, fit_block
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means
from dysonflow.statistics.laws import BlockDensity
from dysonflow.statistics.levels import InsufficientData, checked_levels

LARGEST_HISTOGRAM = 10_000
"""Bins that no distribution without outliers needs."""
MINIMUM_REPLICAS = 30
"""Fewest replicas that are accepted."""


def fit_histogram(
    levels: ArrayLike, *, dyson_index: float = 1.0, centre: float | None = None
) -> BlockFit:
    """Fit centre and sigma to a histogram of all levels.

    Parameters
    ----------
    levels : array_like
        Shape (replica, snapshot, n), ascending in the last axis.
    dyson_index : float
        Repulsion beta.
    centre : float or None
        Centre of the gas; None to estimate it.

    Returns
    -------
    BlockFit
        Centre, sigma and their errors from the histogram, the rest from `fit_block`: the mean gap
        needs no fit, and a histogram hardly notices an outlier.

    Raises
    ------
    InsufficientData
        If `fit_block` refuses the levels, or the density does not fit a histogram of them.
    """
    x = checked_levels(levels, MINIMUM_REPLICAS)
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
    heights = leave_one_out_means(counts / (snapshots * n * width))

    standard = BlockDensity(n, dyson_index=float(dyson_index)).standard_table()
    mean = float(x.mean()) if centre is None else centre
    spread = np.sqrt(
        np.sum((x - mean) ** 2, axis=-1).mean() / float(degrees_of_freedom(n, dyson_index))
    )

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
    error = jackknife_error(fitted[1:])
    likelihood = fit_block(
        x, dyson_index=dyson_index, centre=centre, minimum_replicas=MINIMUM_REPLICAS
    )
    return replace(
        likelihood,
        centre=float(fitted[0, 0]) if centre is None else likelihood.centre,
        centre_error=float(error[0]) if centre is None else float("nan"),
        sigma=float(fitted[0, 1]),
        sigma_error=float(error[1]),
    )
