r"""Random matrices in place of a linear network: its product, and each of two layers.

The product is T + m + D with independent entries (`linear`) and their skewness (`skewness`). To
first order the layers of a network of two follow it, W_1 = W_1* + W_2*^T e and W_2 = W_2* + e
W_1*^T with e_ij = D_ij / h_ij, and the imbalance Q fluctuates beside it (`flat`), so that in the
hidden basis

    W_1 W_1^T = X + sqrt(s_i s_j) (e_ij + e_ji) + alpha / (alpha + beta) Q,
    W_2^T W_2 = Y + sqrt(s_i s_j) (e_ij + e_ji) - beta / (alpha + beta) Q.

Their means X and Y follow from E[P] and E[Q],

    X_i = w_1^2 + beta s_i sum_j Var(e_ij),      Y_i = w_2^2 + alpha s_i sum_j Var(e_ji),
    w_1 w_2 = s_i + m_i - s_i Var(e_ii),         X_i - Y_i = E[Q_ii].
"""

from dataclasses import dataclass

import numpy as np

from dysonflow.theory.mlp.flat import imbalance, imbalance_variance
from dysonflow.theory.mlp.linear import Array, LinearNetwork, around
from dysonflow.theory.mlp.skewness import quadratic_map

PART = 1000
"""Matrices that are drawn at once."""


@dataclass(frozen=True)
class SymmetricLaw:
    """Law of a symmetric Gaussian matrix in whose eigenbasis levels are found.

    Attributes
    ----------
    mean : np.ndarray
        Its mean is diagonal, shape (r,).
    squares : np.ndarray
        E[g_ij^2] of its fluctuations, shape (r, r).
    """

    mean: Array
    squares: Array


def product_law(network: LinearNetwork) -> SymmetricLaw:
    """Symmetric part of the product in the modes of the teacher.

    The mean contains the antisymmetric part, which bends singular values upwards:
    sum_j Var(A_ij) / (s_i + s_j), over all rows and columns.
    """
    modes = len(network.singular_values)
    variance = network.variance
    own = variance[:modes, :modes]
    common = (own + own.T) / 4.0
    squares = common.copy()
    np.fill_diagonal(squares, np.diagonal(own))
    s = network.values
    bend = (common * (1.0 - np.eye(modes)) / (s[:, None] + s[None, :])).sum(axis=1)
    outside = variance[:modes, modes:].sum(axis=1) + variance[modes:, :modes].sum(axis=0)
    bend = bend + outside / (2.0 * s)
    return SymmetricLaw(s + network.shift + bend, squares)


def draw_product(
    network: LinearNetwork, size: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Singular values of the product, those of the teacher's modes.

    Parameters
    ----------
    network : LinearNetwork
        The network.
    size : int
        Pairs of matrices, with D and with -D.
    rng : numpy.random.Generator
        All randomness comes from here.

    Returns
    -------
    levels : np.ndarray
        Ascending, shape (2, size, r).
    gaussian : np.ndarray
        Symmetric part of D in the modes, shape (size, r, r).
    """
    modes = len(network.singular_values)
    product, d = _products(network, size, rng)
    own = d[:, :modes, :modes]
    return _singular_values(product, modes), (own + own.swapaxes(-1, -2)) / 2.0


def _products(network: LinearNetwork, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """P with the Gaussian part and with its negative, (2, size, n_out, n_in), and that part."""
    shape = (size, network.outputs, network.inputs)
    curved = quadratic_map(network)
    if curved is None:
        d, bend = rng.standard_normal(shape) * np.sqrt(network.variance), np.zeros(())
    else:
        bends, variance = curved
        flat = rng.standard_normal((size, len(variance))) * np.sqrt(variance)
        bend = np.empty_like(flat)
        kinds = bends.reshape(len(variance), -1).T
        for part in range(0, size, PART):
            some = flat[part : part + PART]
            squares = some[:, :, None] * some[:, None, :]
            bend[part : part + PART] = squares.reshape(len(some), -1) @ kinds
        bend = (bend - np.einsum("ijj,j->i", bends, variance)).reshape(shape)
        d = flat.reshape(shape)
    middle = _diagonal(network, network.values + network.shift) + bend
    return np.stack([middle + d, middle - d]), d


def draw_linear_noise(network: LinearNetwork, size: int, rng: np.random.Generator) -> Array:
    """Levels of T + D with Var(D_ij) = t h_ij, to leading order in a, as `draw_product`."""
    variance = network.temperature * network.curvature
    d = rng.standard_normal((size, network.outputs, network.inputs)) * np.sqrt(variance)
    fixed = _diagonal(network, network.values)
    return _singular_values(np.stack([fixed + d, fixed - d]), len(network.values))


def _diagonal(network: LinearNetwork, values: Array) -> Array:
    fixed = np.zeros((network.outputs, network.inputs))
    fixed[np.arange(len(values)), np.arange(len(values))] = values
    return fixed


def _singular_values(product: Array, modes: int) -> Array:
    """The largest ones, as many as there are modes, ascending."""
    if product.shape[-2] > product.shape[-1]:
        product = product.swapaxes(-1, -2)
    squares = np.linalg.eigvalsh(product @ product.swapaxes(-1, -2))[..., -modes:]
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def layer_law(network: LinearNetwork, layer: int) -> SymmetricLaw:
    """W_1 W_1^T or W_2^T W_2 of a network of two layers, in the hidden basis.

    Parameters
    ----------
    network : LinearNetwork
        Of two layers.
    layer : int
        1 or 2.
    """
    s, modes = network.values, slice(0, len(network.singular_values))
    alpha, beta = network.split
    # Zero where neither layer reaches: there nothing moves.
    alive = network.curvature > 0
    of_e = np.where(alive, network.variance / np.where(alive, network.curvature, 1.0) ** 2, 0.0)
    own = of_e[modes, modes]
    # w_1 w_2 = p, w_1^2 + u - w_2^2 - v = Q: a quadratic equation for w_1^2.
    p = s + network.shift - s * np.diagonal(own)
    u, v = beta * s * of_e[modes].sum(axis=1), alpha * s * of_e[:, modes].sum(axis=0)
    half = (imbalance(network) + v - u) / 2.0
    square = half + np.sqrt(half**2 + p**2)
    mean = square + u if layer == 1 else p**2 / square + v
    share = (alpha if layer == 1 else beta) / (alpha + beta)
    squares = np.outer(s, s) * (own + own.T)
    np.fill_diagonal(squares, 4.0 * s**2 * np.diagonal(own))
    return SymmetricLaw(mean, squares + share**2 * imbalance_variance(network))


def draw_layer(
    network: LinearNetwork, layer: int, size: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Singular values of a layer of two, as `draw_product`, and the Gaussian part of W W^T.

    Of a square network the layers follow the product exactly: but for the imbalance W W^T has the
    eigenvalues of (P P^T)^(1/2), and the skewness of the product. Of others the Gaussian law.
    """
    law, modes = layer_law(network, layer), len(network.singular_values)
    sign = 1.0 if layer == 1 else -1.0
    if not _is_square(network):
        g = _symmetric(law.squares, size, rng)
        matrices = np.diag(law.mean) + np.stack([g, -g])
    else:
        product, d = _products(network, size, rng)
        own = product @ product.swapaxes(-1, -2)
        values, vectors = np.linalg.eigh(own)
        roots = np.sqrt(np.maximum(values, 0.0))[..., None, :] * vectors
        half = _symmetric(imbalance_variance(network), size, rng) / 2.0
        tilt = np.diag(imbalance(network)) / 2.0
        matrices = roots @ vectors.swapaxes(-1, -2) + sign * (tilt + np.stack([half, -half]))
        g = (d + d.swapaxes(-1, -2)) / 2.0 + sign * half
    squares = np.linalg.eigvalsh(matrices)[..., -modes:]
    return np.sqrt(np.maximum(squares, 0.0)), g


def deep_layer_law(network: LinearNetwork, layer: int) -> SymmetricLaw:
    """Symmetric part of a layer of more than two in the modes, to leading order in a.

    The layer follows the product alone, W_l = W_l* + B_l^T e A_l^T: neither the fluctuations of the
    imbalances, a share of order a h of these, nor a mean shift of order t are contained.
    """
    _, spread = _deep_layer(network, layer)
    modes = len(network.singular_values)
    own = spread[:modes, :modes]
    squares = (own + own.T) / 4.0
    np.fill_diagonal(squares, np.diagonal(own))
    return SymmetricLaw(network.layer_values[layer - 1], squares)


def draw_deep_layer(
    network: LinearNetwork, layer: int, size: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Singular values by `deep_layer_law`, as `draw_product`, and the symmetric Gaussian part."""
    fixed, spread = _deep_layer(network, layer)
    modes = len(network.singular_values)
    d = rng.standard_normal((size, *spread.shape)) * np.sqrt(spread)
    own = d[:, :modes, :modes]
    return (
        _singular_values(np.stack([fixed + d, fixed - d]), modes),
        (own + own.swapaxes(-1, -2)) / 2.0,
    )


def _deep_layer(network: LinearNetwork, layer: int) -> tuple[Array, Array]:
    """The layer at rest, and the variances of its entries, one hidden unit for each mode."""
    fixed = network.layers_at_rest()[layer - 1][0]
    before, after = list(around(network.layer_values**2))[layer - 1]
    alive = network.curvature > 0
    of_e = np.where(alive, network.variance / np.where(alive, network.curvature, 1.0) ** 2, 0.0)
    rows, columns = fixed.shape
    left = np.ones(rows) if after is None else after
    right = np.ones(columns) if before is None else before
    return fixed, left[:, None] * of_e[:rows, :columns] * right[None, :]


def _is_square(network: LinearNetwork) -> bool:
    """Whether every mode of inputs and outputs is one of the teacher's."""
    return network.inputs == network.outputs == len(network.singular_values)


def _symmetric(squares: Array, size: int, rng: np.random.Generator) -> Array:
    g = np.tril(rng.standard_normal((size, *squares.shape)) * np.sqrt(squares))
    return np.asarray(g + np.tril(g, -1).swapaxes(-1, -2))
