r"""Third cumulants of the product of a linear network, to leading order.

The curvature A = J J^T, J the derivative of P by the weights, grows along with the fluctuations of
P, and both the restoring force - a A D and the noise, of covariance 2 a t A^2 per step, with it.
With A = diag(h) + sum_k A1_k D_k, D along the horizontal displacement of the weights, a balance of
the third cumulants gives

    cum(D_i, D_j, D_k) = t^2 sum over (ij|k) of (h_i + h_j) h_k (A1_k)_ij / (h_i + h_j + h_k),

i, j, k entries of the product. For one mode, h = 2 s and A1 = 2, it is 8 t^2 s: P then has a gamma
law of mean s - t and scale 2 t.
"""

from functools import lru_cache

import numpy as np

from dysonflow.theory.mlp.linear import Array, LinearNetwork

LARGEST = 64
"""Entries of the product up to which third cumulants are worked out."""
STEP = 1e-4
"""Of the finite differences, relative to the weights."""


@lru_cache(maxsize=64)
def third_cumulants(network: LinearNetwork) -> Array:
    """cum(D_i, D_j, D_k), entries row by row, shape (N, N, N) with N = n_out n_in."""
    h = network.curvature.ravel()
    along = _curvature_along(network)
    source = (h[:, None, None] + h[None, :, None]) * h[None, None, :] * along
    total = source + source.transpose(2, 0, 1) + source.transpose(0, 2, 1)
    sums = h[:, None, None] + h[None, :, None] + h[None, None, :]
    return np.asarray(network.temperature**2 * total / np.where(sums > 0, sums, 1.0))


def _curvature_along(network: LinearNetwork) -> Array:
    """(A1_k)_ij, shape (N, N, N), by central differences, which are exact for two layers."""
    weights = [layer[0] for layer in network.layers_at_rest()]
    count = network.outputs * network.inputs
    h = network.curvature
    found = np.zeros((count, count, count))
    pairs = list(_matrices_around(weights))
    for number, (row, column) in enumerate(np.ndindex(h.shape)):
        if h[row, column] <= 0:
            # Nothing moves there to first order.
            continue
        e = np.zeros(h.shape)
        e[row, column] = 1.0 / h[row, column]
        moves = [after.T @ e @ before.T for before, after in pairs]
        both = [
            _curvature([w + sign * STEP * move for w, move in zip(weights, moves, strict=True)])
            for sign in (1.0, -1.0)
        ]
        found[:, :, number] = (both[0] - both[1]) / (2.0 * STEP)
    return found


def _matrices_around(weights: list[Array]) -> list[tuple[Array, Array]]:
    """Products of the layers before and after each layer."""
    before = [np.eye(weights[0].shape[1])]
    for layer in weights[:-1]:
        before.append(layer @ before[-1])
    after = [np.eye(weights[-1].shape[0])]
    for layer in weights[:0:-1]:
        after.append(after[-1] @ layer)
    return list(zip(before, after[::-1], strict=True))


def _curvature(weights: list[Array]) -> Array:
    """J J^T, entries row by row."""
    total = np.zeros(())
    for before, after in _matrices_around(weights):
        total = total + np.kron(after @ after.T, before.T @ before)
    return total


def quadratic_map(network: LinearNetwork) -> tuple[Array, Array] | None:
    """Matrix and variances that make D = g + b(g, g) - E[b] of independent normal g.

    Returns
    -------
    bend : np.ndarray
        b_i(g, g) = sum_jk bend[i, j, k] g_j g_k, shape (N, N, N), such that the third cumulants are
        those of `third_cumulants` to leading order.
    variance : np.ndarray
        Of g, shape (N,): with that of b it is `LinearNetwork.variance`.

    None for one layer, whose curvature does not change, and beyond `LARGEST` entries.
    """
    if network.layers == 1 or network.outputs * network.inputs > LARGEST:
        return None
    leading = network.temperature * network.curvature.ravel()
    product = leading[:, None] * leading[None, :]
    alive = product > 0
    bend = np.where(alive, third_cumulants(network) / np.where(alive, 6.0 * product, 1.0), 0.0)
    variance = network.variance.ravel()
    of_bend = 2.0 * np.einsum("ijk,j,k->i", bend**2, variance, variance)
    return bend, np.maximum(variance - of_bend, 0.5 * variance)
