r"""What happens along the flat directions W_1 -> A W_1, W_2 -> W_2 A^-1 of a linear network.

Gradient flow has no force there: it conserves the imbalance Q = W_1 W_1^T - W_2^T W_2, and the
noise of a step does not push along them to first order. To second order a step of SGD, with the
gradient G of `linear`, changes Q by

    Q' - Q = a^2 (W_2^T G G^T W_2 - W_1 G^T G W_1^T),

exactly. Two motions follow, here of two layers.

**Symmetric A: the imbalance relaxes.** The mean of the right-hand side, with E[G G^T] = epsilon^2
n_in / B and E[G^T G] = epsilon^2 n_out / B to leading order, drives Q to n_out W_1 W_1^T = n_in
W_2^T W_2, at the rate 2 c n_in n_out / (n_in + n_out) per step, c = a^2 epsilon^2 / B; to Q = 0 in
square networks. What is left of order a in E[G G^T] comes from D and the inputs of the batch. The
noise of the right-hand side keeps Q fluctuating by about a epsilon s / sqrt(B), a share of order
a s of the variance of the levels.

**Antisymmetric A: the hidden basis turns.** Spectra do not see W_1 -> O W_1, W_2 -> W_2 O^T, and
nothing holds O. As the product fluctuates, the hidden basis is carried along, and comes back turned
by an angle that is the area of the loop: a random walk with a diffusion of order a^3 epsilon^4 /
B^2. The layers' entries have no stationary law but the one that is uniform over O.
"""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from dysonflow.theory.mlp.linear import Array, LinearNetwork, around, entry_variance

STRIDE = 0.02
"""Times between which the mean imbalance is integrated, in units of its relaxation time."""
FORGOTTEN = 1e-5
"""Share of the start at which the imbalance counts as at rest."""


def imbalance_rate(network: LinearNetwork) -> float:
    """Rate per SGD step at which the slowest flat direction that spectra see relaxes.

    Two layers: in closed form, the same for all entries of Q. More: from the trace of the Hessian
    as a function of the layers' singular values at a fixed product. Infinite for one layer.
    """
    noise = network.speed**2 * network.noise**2 / network.batch
    if network.layers == 1:
        return math.inf
    if network.layers == 2:
        return 2.0 * noise * network.inputs * network.outputs / (network.inputs + network.outputs)
    return 0.5 * noise * float(_least_curvature(network))


def _least_curvature(network: LinearNetwork) -> float:
    """Smallest eigenvalue of half the Hessian of half the trace along the flat directions.

    The singular values w_li = exp(z_li) are varied at fixed sum of z_li over l. In the metric of
    the weights, sum (w dz)^2.
    """
    depth, modes = network.layers, len(network.singular_values)
    values = replace(network, balanced_by="noise").layer_values
    z = np.log(values)

    def trace(move: Array) -> float:
        total = 0.0
        for before, after in around(np.exp(2.0 * (z + move))):
            left = network.outputs if after is None else after.sum()
            total += float((network.inputs if before is None else before.sum()) * left)
        return total

    # Directions of constant product: dz of one layer against the next, for each mode.
    moves = np.zeros((modes * (depth - 1), depth, modes))
    for number, (layer, mode) in enumerate(np.ndindex(depth - 1, modes)):
        moves[number, layer, mode], moves[number, layer + 1, mode] = 1.0, -1.0
    metric = np.einsum("alm,lm,blm->ab", moves, values**2, moves)
    step = 1e-3
    count = len(moves)
    hessian = np.empty((count, count))
    for i in range(count):
        for j in range(i + 1):
            plus, minus = moves[i] + moves[j], moves[i] - moves[j]
            bent = trace(step * plus) + trace(-step * plus)
            bent -= trace(step * minus) + trace(-step * minus)
            hessian[i, j] = hessian[j, i] = bent / (4.0 * step**2)
    return float(np.linalg.eigvals(np.linalg.solve(metric, hessian)).real.min()) / 2.0


def gradient_squares(network: LinearNetwork, variance: Array) -> tuple[Array, Array]:
    """E[(G G^T)_ii] and E[(G^T G)_jj] for given variances of D, shapes (n_out,) and (n_in,).

    For momentum, where Q is not conserved to first order alone, the leading order.
    """
    batch, of_noise = network.batch, network.noise**2 / network.batch
    rows = np.full(network.outputs, of_noise * network.inputs)
    columns = np.full(network.inputs, of_noise * network.outputs)
    if network.momentum == 0:
        # E[C X C] = X + (X + tr X) / B for normal inputs.
        rows += (1.0 + (network.inputs + 1.0) / batch) * variance.sum(axis=1)
        columns += (1.0 + 1.0 / batch) * variance.sum(axis=0) + variance.sum() / batch
    return rows, columns


def mean_imbalance(network: LinearNetwork, start: Array, steps: Array) -> Array:
    """Mean of Q after some steps, for layers that are diagonal in the teacher's basis at the start.

    Parameters
    ----------
    network : LinearNetwork
        Of two layers.
    start : np.ndarray
        Q_ii at step 0, where W_2 W_1 = T, shape (r,).
    steps : np.ndarray
        Ascending SGD steps, shape (T,).

    Returns
    -------
    np.ndarray
        Q_ii, shape (T, r). The mean of Q obeys the exact equation with the variances that D has at
        the present Q; what is left out is of relative order t / s.
    """
    now, at, kept = np.array(start, dtype=float), 0, []
    # The variances follow within 1 / (a s) steps, in which Q moves by a share of t / s.
    longest = max(1, int(STRIDE / imbalance_rate(network)))
    for step in steps:
        while at < step:
            stride = min(int(step) - at, longest)
            # Heun's method.
            drift = _imbalance_drift(network, now)
            ahead = _imbalance_drift(network, now + stride * drift)
            now, at = now + stride * (drift + ahead) / 2.0, at + stride
        kept.append(now.copy())
    return np.stack(kept)


def _imbalance_drift(network: LinearNetwork, now: Array) -> Array:
    """Mean change of Q_ii in a step, shape (r,)."""
    modes = slice(0, len(network.singular_values))
    first, second = split(network, now)
    left, right = np.zeros(network.outputs), np.zeros(network.inputs)
    left[modes], right[modes] = second, first
    variance = entry_variance(network, left[:, None] + right[None, :])
    rows, columns = gradient_squares(network, variance)
    return network.speed**2 * (rows[modes] * second - columns[modes] * first)


@lru_cache(maxsize=64)
def imbalance(network: LinearNetwork) -> Array:
    """Mean of Q_ii of two layers that began with small weights, shape (r,).

    Zero where the gradient flow has balanced them.
    """
    if network.balanced_by == "flow":
        return np.zeros(len(network.values))
    rate = imbalance_rate(network)
    past = -math.log(max(network.imbalance_memory, FORGOTTEN)) / rate
    return mean_imbalance(network, np.zeros(len(network.values)), np.array([math.ceil(past)]))[0]


def split(network: LinearNetwork, imbalance: Array) -> tuple[Array, Array]:
    """Squares w_1^2 and w_2^2 of the layers' singular values at Q_ii, where W_2 W_1 = T."""
    first = (imbalance + np.sqrt(imbalance**2 + 4.0 * network.values**2)) / 2.0
    return first, first - imbalance


def imbalance_variance(network: LinearNetwork) -> Array:
    """Variances of the entries of Q of two layers, shape (r, r).

    To leading order in a: the noise of one step over twice the rate, as far as it has built up. E
    over normal inputs and label noise of products of four entries of N.
    """
    s, batch = network.values, float(network.batch)
    inputs, outputs = network.inputs, network.outputs
    alpha, beta = network.split
    own = 2.0 / batch**2 + 6.0 / batch**3
    shared = 2.0 / batch**3
    # Variances of (N N^T)_ii and (N^T N)_ii, and their covariance.
    rows = inputs * own + inputs * (inputs - 1) * shared
    columns = outputs * own + outputs * (outputs - 1) * shared
    both = own + (inputs + outputs - 2) * shared
    diagonal = beta**2 * rows + alpha**2 * columns - 2.0 * alpha * beta * both
    pair, chain = 1.0 / batch**2 + 2.0 / batch**3, 1.0 / batch**3
    off = beta**2 * (inputs * pair + inputs * (inputs - 1) * chain)
    off += alpha**2 * (outputs * pair + outputs * (outputs - 1) * chain)
    unit = np.full((len(s), len(s)), off)
    np.fill_diagonal(unit, diagonal)
    step = network.speed**4 * network.noise**4 * np.outer(s, s) * unit
    built_up = 1.0 - network.imbalance_memory**2
    return built_up * step / (2.0 * imbalance_rate(network))


def turning_rate(network: LinearNetwork) -> Array:
    """Growth per SGD step of the variance of the angles by which the hidden basis turns.

    Returns
    -------
    np.ndarray
        Of the angle Omega_ij, for two layers with one hidden unit for each mode, shape (r, r);
        zero on the diagonal. With e_ij = D_ij / h_ij,

            dOmega_ij = sqrt(s_i s_j) / ((alpha + beta) (s_i + s_j))
                        [alpha (e^T de - de^T e) + beta (e de^T - de e^T)]_ij,

        a sum of Levy areas of independent Ornstein-Uhlenbeck processes of rates a h and noise
        a epsilon / sqrt(B), each of which grows in variance by 4 t c / (h + h') per step, c = a^2
        epsilon^2 / B.
    """
    s, h = network.values, network.curvature
    alpha, beta = network.split
    noise = network.speed**2 * network.noise**2 / network.batch
    modes = len(s)
    by_columns = (1.0 / (h[:, :modes, None] + h[:, None, :modes])).sum(axis=0)
    by_rows = (1.0 / (h[:modes, None, :] + h[None, :modes, :])).sum(axis=2)
    size = np.outer(s, s) / ((alpha + beta) * (s[:, None] + s[None, :])) ** 2
    found = 4.0 * network.temperature * noise * size
    found = found * (alpha**2 * by_columns + beta**2 * by_rows)
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)
