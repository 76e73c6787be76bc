r"""Stationary law of the Gaussian machine's whole matrix, to next order in the noise T = a/B.

All in units in which sigma_h = 1: Y = sigma_h^2 X and a sigma_h^2 in place of a obey the same
equations. In the eigenbasis of the field's precision matrix the matrix fluctuates about
Y_s = diag(x_i), Y = Y_s + y, under

    Y' = (1 + a G) Y (1 + a G),   G = K_phi^-1 - C,   E[C | Y] = R(Y),   R(x) = 1 / (mu^2 - x).

The law of C is invariant under rotations that leave Y unchanged, so every conditional moment is a
function of the matrix Y and is expanded in y by divided differences, written f[i, j, ..] for those
of f at the nodes x_i, x_j, .. (R[i, j, k] = R_i R_j R_k). Per unit of time a t:

    drift   b(Y) = K_phi^-1 Y + Y K_phi^-1 + 2 - 2 mu^2 R(Y) + T I(Y)
    noise   Cov(dY_ij, dY_kl) = T [F(i,j) delta_ik delta_jl + F(i,j) delta_il delta_jk], Y diagonal
            F(x, y) = (x + y)^2 R(x) R(y),   I_i = sum_j (1 + delta_ij) J(x_i, x_j),  J = x_j R_i R_j
            third cumulant of C: connected pairings of three pairs of normal variables, / B^2

The moments of y that are of order T^2 at most are, with a pairing structure each (a symmetric
Gaussian ensemble has the first),

    Cov(y_ij, y_kl)       = c_ij (delta_ik delta_jl + delta_il delta_jk) + d_ik delta_ij delta_kl
    cum(y_ij, y_kl, y_mn) = sum over the 8 connected pairings of the six indices of t_pqr,

and they solve linear equations that close order by order (system-size expansion: N. G. van Kampen,
Stochastic Processes in Physics and Chemistry, chapter X). Of order T^3 and left out: the fourth
cumulant, and everything beyond. The terms of order T^2 are taken for a small step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

LEAST = 0.1
"""Share of a variance that the Gaussian part of `draw` keeps, however strong the noise."""

FREE = 1e-9
"""Relaxation rate, relative to 1/kappa, below which an entry counts as free."""


@dataclass(frozen=True)
class Machine:
    """What the law of the matrix depends on, in units of sigma_h = 1.

    Attributes
    ----------
    kappa : np.ndarray
        Eigenvalues of the field's precision matrix, ascending, shape (N,).
    fixed : np.ndarray
        Eigenvalue of Y at which each mode settles, 0 where it is not learnt, shape (N,).
    mass : float
        mu^2.
    rate : float
        Learning rate times sigma_h^2.
    batch : int
        Samples per step.
    sweeps : int
        Gibbs sweeps per step; 0 for independent samples.
    """

    kappa: Array
    fixed: Array
    mass: float
    rate: float
    batch: int
    sweeps: int

    @property
    def noise(self) -> float:
        """T = a sigma_h^2 / B."""
        return self.rate / self.batch

    def relaxation(self) -> Array:
        """Rate at which y_ij decays per unit of a t, shape (N, N).

        (x_i + x_j) / (kappa_i kappa_j) where both modes are learnt, 1/kappa_i - 1/kappa_j where
        only i is.
        """
        r = self.response(self.fixed)
        field = 1.0 / self.kappa
        return 2.0 * self.mass * np.outer(r, r) - field[:, None] - field[None, :]

    def response(self, x: Array) -> Array:
        """R(x), the machine's covariance."""
        return 1.0 / (self.mass - x)

    def memory(self, x: Array) -> Array:
        """Factor by which a mode of a Markov chain remembers its value over one step."""
        return (x / self.mass) ** self.sweeps if self.sweeps else np.zeros_like(x)

    def diffusion(self, x: Array, y: Array) -> Array:
        """F(x, y); persistent chains add up over their memory to (1 + rho) / (1 - rho)."""
        rho = self.memory(x) * self.memory(y)
        return (x + y) ** 2 * self.response(x) * self.response(y) * (1.0 + rho) / (1.0 - rho)

    def induced(self, x: Array, y: Array) -> Array:
        """J(x, y), the drift that noise induces.

        With persistent chains the noise of a step is correlated with the Y that the earlier steps
        made of it, and the chains' own law follows Y: two terms more, from averaging over the fast
        chains (the last is that of delta(A^k) in C' = A^k C A^k + .., A = Y / mu^2).
        """
        qx, qy = self.memory(x), self.memory(y)
        common = self.response(x) * self.response(y)
        value = y * common
        if self.sweeps:
            rho = qx * qy
            # q[x, y] of a power, without a quotient.
            k = self.sweeps
            slope = sum(x**m * y ** (k - 1 - m) for m in range(k)) / self.mass**k
            chain = 2.0 * rho + 4.0 * x * qx * slope / (1.0 - qx**2)
            value = value + (x + y) * common * chain / (1.0 - rho)
        return value


def _slope(function: Callable[[Array], Array], x: Array, y: Array) -> Array:
    """First divided difference f[x, y], with a derivative where the nodes meet."""
    x, y = np.broadcast_arrays(x, y)
    step = 1e-4 * (1.0 + np.abs(x))
    near = np.abs(x - y) < step
    middle = 0.5 * (x + y)
    left = np.where(near, middle - step, x)
    right = np.where(near, middle + step, y)
    return (function(right) - function(left)) / (right - left)


def _mixed(function: Callable[[Array, Array], Array], x: Array, y: Array) -> Array:
    """Divided difference f[x, y; x, y] of a function of two variables."""
    x, y = np.broadcast_arrays(x, y)
    step = 1e-3 * (1.0 + np.abs(x))
    near = np.abs(x - y) < step
    middle = 0.5 * (x + y)
    left = np.where(near, middle - step, x)
    right = np.where(near, middle + step, y)
    corners = function(left, left) - function(left, right)
    corners = corners - function(right, left) + function(right, right)
    return corners / (right - left) ** 2


def _curvature(function: Callable[[Array], Array], x: Array, y: Array) -> Array:
    """Second divided difference f[x, y, x]."""
    x, y = np.broadcast_arrays(x, y)
    step = 1e-3 * (1.0 + np.abs(x))
    near = np.abs(x - y) < step
    apart = np.where(near, x + 1.0, y)
    far_value = (_slope(function, x, apart) - _slope(function, x, x)) / (apart - x)
    at = (2.0 * x + y) / 3.0
    near_value = (function(at + step) - 2.0 * function(at) + function(at - step)) / (2 * step**2)
    return np.where(near, near_value, far_value)


@dataclass(frozen=True)
class Moments:
    """Moments of y = Y - Y_s in the eigenbasis of the field.

    Attributes
    ----------
    mean : np.ndarray
        E[y_ii], shape (N,); the other entries have none.
    variance : np.ndarray
        c_ij, shape (N, N): Var(y_ij) off the diagonal, half of the variance on it.
    cross : np.ndarray
        d_ik, shape (N, N), of Cov(y_ii, y_kk).
    third : np.ndarray
        t_pqr, shape (N, N, N), symmetric.
    """

    mean: Array
    variance: Array
    cross: Array
    third: Array


def linear_noise(machine: Machine) -> Moments:
    """Moments to first order in 1/B, exact in the learning rate.

    Each y_ij and the matching entry s_ij of the chains' C - R(Y_s) obey a linear recursion in two
    variables, rho = q_i q_j, r = R_i R_j:

        s' = rho s + (1 - rho) r y + eta,    Var(eta) = (1 - rho^2) r / B
        y' = (1 + a g_i)(1 + a g_j) y - a (x_i (1 + a g_i) + x_j (1 + a g_j)) s',

    g_i = 1/kappa_i - R_i being 0 for a mode that is learnt. Their stationary covariance solves a
    discrete Lyapunov equation. Between a learnt mode and one of the same kappa that was cut for
    want of a hidden unit nothing pulls back: the pair turns freely, which its eigenvalues do not
    feel, so the entry is taken as 0 in the turning frame.
    """
    x, a, batch = machine.fixed, machine.rate, machine.batch
    size = len(x)
    response, memory = machine.response(x), machine.memory(x)
    one = 1.0 + np.eye(size)
    r, rho = np.outer(response, response), np.outer(memory, memory)
    gain = 1.0 + a * (1.0 / machine.kappa - response)
    keep = np.outer(gain, gain)
    kick = a * ((x * gain)[:, None] + (x * gain)[None, :])
    free = np.abs(machine.relaxation()) < FREE * (1.0 / machine.kappa[0])
    # Entries that nothing drives: any contraction will do.
    keep = np.where(free | (kick == 0), 0.0, keep)
    kick = np.where(free, 0.0, kick)
    step = np.empty((size, size, 2, 2))
    step[..., 0, 0] = keep - kick * (1.0 - rho) * r
    step[..., 0, 1] = -kick * rho
    step[..., 1, 0] = (1.0 - rho) * r
    step[..., 1, 1] = rho
    push = np.stack([-kick, np.ones_like(kick)], axis=-1)
    source = ((1.0 - rho**2) * r / batch)[..., None, None] * push[..., :, None] * push[..., None, :]
    both = np.einsum("ijab,ijcd->ijacbd", step, step).reshape(size, size, 4, 4)
    solved = np.linalg.solve(np.eye(4) - both, source.reshape(size, size, 4, 1))
    covariance = solved.reshape(size, size, 2, 2)
    variance = np.where(free, 0.0, covariance[..., 0, 0])
    samples = covariance[..., 1, 1]
    # d = C - R(Y): what the chains do not yet know of Y.
    lag = np.where(free, 0.0, covariance[..., 0, 1] - r * variance)

    loop = response**2 * ((variance * one) @ response)
    known = -2.0 * machine.mass * loop - 2.0 * (rho * lag * one).sum(axis=1)
    known = known + a * (samples * one) @ x
    if machine.sweeps:
        k = machine.sweeps
        powers = x[:, None] ** np.arange(k)
        slope = powers @ powers[:, ::-1].T / machine.mass**k
        delay = 2.0 * memory * (slope * lag * one).sum(axis=1) / (1.0 - memory**2)
        known = known - 2.0 * x * delay
    learnt = x > 0
    turning = np.where(free & learnt[:, None] & ~learnt[None, :], 1.0, 0.0)
    kicks = machine.noise * machine.diffusion(x[:, None], x[None, :])
    known = known + (turning * kicks).sum(axis=1) / np.where(learnt, x, 1.0)
    rates = np.where(learnt, np.diagonal(machine.relaxation()), 1.0)
    mean = np.where(learnt, known / rates, 0.0)
    none = np.zeros((size, size))
    return Moments(mean, variance, none, np.zeros((size, size, size)))


def next_order(machine: Machine) -> Moments:
    """Moments to second order in T; for machines that learn all their modes.

    Letters at the terms refer to the derivation in docs/physics.md.
    """
    first = linear_noise(machine)
    x, t, mass = machine.fixed, machine.noise, machine.mass
    r, rate = machine.response(x), machine.relaxation()
    v, m = first.variance, first.mean
    size = len(x)
    unit = np.eye(size)
    n = 1.0 + unit
    rr = np.outer(r, r)
    loop = r**2 * ((v * n) @ r)
    xi, xj, xk = x[:, None, None], x[None, :, None], x[None, None, :]
    diffusion, induced = machine.diffusion, machine.induced

    # Third cumulant of y. slope[s, p, q] = F[s; p, q].
    slope = _slope(lambda z: diffusion(xi, z), xj, xk)
    noise = _sample_third(machine)
    widths = (x[:, None, None] + x[None, :, None]) * (xj + xk) * (xi + xk)
    chains = v[:, :, None] * v[:, None, :]  # the two edges that meet at the first index
    bend = chains + chains.transpose(1, 0, 2) + chains.transpose(1, 2, 0)
    rrr = r[:, None, None] * r[None, :, None] * r[None, None, :]
    spread = slope * v[None, :, :]
    spread = spread + spread.transpose(1, 0, 2) + spread.transpose(1, 2, 0)
    total = rate[:, :, None] + rate[None, :, :] + rate[:, None, :]
    third = (-2.0 * mass * rrr * bend + t * spread - t**2 * widths * noise) / total

    # Covariance at order T^2: `pair` multiplies the pairing structure, `cross` the other one.
    diagonal = np.einsum("ijj->ij", third)  # t_ijj
    pair = -2.0 * mass * rr * (third @ r + r[None, :] * diagonal + r[:, None] * diagonal.T)  # a
    cross = -4.0 * mass * np.outer(r**2, r) * diagonal
    pair += -2.0 * mass * rr * ((m * r)[:, None] + (m * r)[None, :]) * v  # b
    pair += -2.0 * mass * (v * (np.outer(loop, r) + np.outer(r, loop)) + rr**2 * v**2)  # c
    own = np.diagonal(v)
    cross += -4.0 * mass * np.outer(r**2, r**2) * v * own[None, :]
    by_first = _slope(lambda z: induced(z, xk), xi, xj)  # J[i, j; c]
    by_second = _slope(lambda z: induced(x[:, None], z), x[None, :], x[None, :])  # J[i; c, c]
    alone = _slope(lambda z: induced(z, z), x[:, None], x[None, :])
    lean = alone + by_first.sum(axis=2)
    pair += t * lean * v  # d
    cross += 2.0 * t * by_second * own[None, :]
    pair, cross = 2.0 * pair, cross + cross.T

    turn = np.einsum("ijj->ij", slope)  # F[i; j, j]
    pair += t * (turn * m[None, :] + turn.T * m[:, None])  # e
    bent = _curvature(lambda z: diffusion(z, xk), xi, xj)  # F[i, c, i; j]
    bent = np.einsum("icj,ic->ij", bent, v * n)
    twist = _mixed(diffusion, x[:, None], x[None, :])
    pair += t * (bent + bent.T + twist * v)  # f
    cross += 2.0 * t * twist * v
    weight = noise * x[None, None, :]
    jolt = weight.sum(axis=2) + np.einsum("ijj->ij", weight) + np.einsum("iji->ij", weight)
    pair += -2.0 * t**2 * (x[:, None] + x[None, :]) * jolt  # g
    corner = 4.0 * (x**2)[:, None] * np.einsum("iki->ik", noise)
    cross += -(t**2) * (corner + corner.T)
    own_rate = np.diagonal(rate)
    second = pair / (2.0 * rate)
    cross = cross / (own_rate[:, None] + own_rate[None, :])

    # Mean at order T^2.
    sum_third = np.einsum("ixy,x,y->i", third, r, r)
    sum_third = sum_third + r * (np.einsum("iiy->iy", third) @ r) * 1.0
    sum_third = sum_third + diagonal @ r**2 + r * (np.einsum("iix->ix", third) @ r)
    sum_third = sum_third + 4.0 * r**2 * np.einsum("iii->i", third)
    known = r**2 * ((second * n) @ r) + r**3 * (np.diagonal(cross) + m**2)
    known = known + r**2 * sum_third + 2.0 * m * r * loop + r**2 * ((v * n) @ (r**2 * m))
    known = known + loop**2 / r + r**2 * ((v * n) @ loop)
    known = known + r**3 * (v**2 @ r**2) + 3.0 * own**2 * r**5
    known = -2.0 * mass * known
    curved_alone = _curvature(lambda z: induced(z, z), x[:, None], x[None, :])
    curved_first = _curvature(lambda z: induced(z, xk), xi, xj).sum(axis=2)
    curved_second = _curvature(lambda z: induced(xi, z), xj, xk)
    both = _mixed(induced, x, x)
    drift = np.diagonal(lean) * m + by_second @ m
    drift = drift + ((v * n) * (curved_alone + curved_first)).sum(axis=1)
    drift = drift + np.einsum("ice,ce->i", curved_second, v * n) + 2.0 * own * both
    known = known + t * drift
    mean = m + known / own_rate
    return Moments(mean, v + second, cross, third)


def _sample_third(machine: Machine) -> Array:
    """Third cumulant of B times the noise, times 1/B^2 T^-2: R_p R_q R_r with the chains' memory.

    Three entries of C at times t_1, t_2, t_3 share the modes p, q, r pairwise, each with the factor
    q^|t - t'|; summed over two of the times.
    """
    r = machine.response(machine.fixed)
    memory = machine.memory(machine.fixed)
    rho = np.outer(memory, memory)
    lags = rho / (1.0 - rho)
    pq, qr, pr = lags[:, :, None], lags[None, :, :], lags[:, None, :]
    total = 1.0 + 2.0 * (pq + qr + pr) + 2.0 * (pq * pr + pq * qr + qr * pr)
    return r[:, None, None] * r[None, :, None] * r[None, None, :] * total


def draw(
    machine: Machine, moments: Moments, size: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw matrices Y whose first three cumulants are the given ones, in antithetic pairs.

    y = mean + g + Q(g) - E[Q], g Gaussian and Q_ij = sum_c beta_ijc g_ic g_cj the quadratic map that
    gives the third cumulant, shared equally by the three entries of a pairing (a Cornish-Fisher
    expansion of a matrix). The covariance of g is the given one less that of Q. Where only some
    modes are learnt, the rest follows from the rank: Y_UU = Y_UL Y_LL^-1 Y_LU.

    Parameters
    ----------
    machine : Machine
        Where the matrix fluctuates.
    moments : Moments
        Its moments.
    size : int
        Number of pairs.
    rng : numpy.random.Generator
        All randomness comes from here.

    Returns
    -------
    matrices : np.ndarray
        Shape (2, size, N, N), of g and of -g.
    gaussian : np.ndarray
        g, shape (size, N, N).
    squares : np.ndarray
        E[g_ij^2], shape (N, N).
    """
    count = len(machine.fixed)
    index = np.arange(count)
    off = 1.0 - np.eye(count)
    beta, variance, cross = _quadratic_map(moments)
    joint = 2.0 * np.diag(np.diagonal(variance)) + cross
    squares = variance * off + np.diag(np.diagonal(joint))
    scale, axes = np.linalg.eigh(joint)
    g = rng.standard_normal((size, count, count)) * np.sqrt(variance)
    g = np.tril(g, -1)
    g = g + g.transpose(0, 2, 1)
    normal = rng.standard_normal((size, count))
    g[:, index, index] = normal @ (np.sqrt(np.maximum(scale, 0.0)) * axes).T
    bend = np.zeros_like(g)
    if beta.any():
        for c in range(count):
            bend += beta[:, :, c] * g[:, :, None, c] * g[:, None, :, c]
        bend[:, index, index] -= (np.einsum("iic->ic", beta) * squares).sum(axis=1)
    bend += np.diag(machine.fixed + moments.mean)
    matrices = np.stack([bend + g, bend - g])
    learnt = machine.fixed > 0
    if not learnt.all():
        rest = np.flatnonzero(~learnt)
        lower = matrices[..., learnt, :][..., ~learnt]
        solved = np.linalg.solve(matrices[..., learnt, :][..., learnt], lower)
        matrices[..., rest[:, None], rest[None, :]] = lower.swapaxes(-1, -2) @ solved
    return matrices, g, squares


def _quadratic_map(moments: Moments) -> tuple[Array, Array, Array]:
    """beta[i, j, c] of the quadratic map, and c_ij, d_ik of the Gaussian part that goes with it."""
    if not moments.third.any():
        return moments.third, moments.variance, moments.cross
    full = moments.variance
    beta = (moments.third / (3.0 * full[:, :, None] * full[:, None, :])).transpose(1, 2, 0)
    square = beta**2
    ends = np.einsum("ijj->ij", square)
    variance = full
    # The covariance of Q depends on that of g: a contraction while Q is the smaller part.
    for _ in range(20):
        own = np.diagonal(variance)
        loops = np.einsum("ijc,ic,jc->ij", square, variance, variance)
        loops = loops + variance * (ends * own[None, :] + ends.T * own[:, None])
        variance = np.maximum(full - loops, LEAST * full)
    straight = np.einsum("iik->ik", beta)
    return beta, variance, moments.cross - 2.0 * straight * straight.T * variance**2
