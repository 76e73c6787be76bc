r"""Stationary law of the Gaussian machine's whole matrix, to second order in the noise 1/B.

All in units of sigma_h = 1: Y = sigma_h^2 X and a sigma_h^2 in place of a obey the same equations.
In the eigenbasis of the field's precision matrix Y fluctuates about Y_s = diag(x_i), y = Y - Y_s:

    Y' = (1 + a G) Y (1 + a G),    G = K_phi^-1 - C,

C being the covariance of the B samples. For independent samples it is R(Y) = 1 / (mu^2 - Y) and
noise; for persistent chains it goes through k sweeps,

    C' = A C A + (1 + A) / mu^2 + noise,    A = Y / mu^2,

so (Y, C) is a Markov process whose moments close order by order in 1/B at any learning rate
(system-size expansion: N. G. van Kampen, Stochastic Processes in Physics and Chemistry, chapter X).
All maps are polynomials; `cumulants` sends cumulants through them. Left out is what is of
order 1/B^3, with it the fourth cumulant.
"""

from dataclasses import dataclass, replace

import numpy as np

from dysonflow.theory.gaussian_rbm.cumulants import Noise, Step, Word, stationary

Array = np.ndarray

MATRIX, SAMPLES = 0, 1
"""Numbers of the fields y = Y - Y_s and s = C - R(Y_s)."""
FREE = 1e-9
"""Relaxation rate, relative to 1/kappa, below which an entry counts as free."""
LEAST = 0.1
"""Share of a variance that the Gaussian part of `draw` keeps, however strong the noise."""


@dataclass(frozen=True)
class Machine:
    """What the law of the matrix depends on, in units of sigma_h = 1.

    Attributes
    ----------
    kappa : np.ndarray
        Eigenvalues of the field's precision matrix, ascending, shape (N,).
    fixed : np.ndarray
        Eigenvalue x_i of Y at which each mode settles, 0 where it is not learnt, shape (N,).
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
    def covariance(self) -> Array:
        """R_i = 1 / (mu^2 - x_i), of the visible layer at the fixed point."""
        return 1.0 / (self.mass - self.fixed)

    @property
    def gain(self) -> Array:
        """1 + a (1/kappa_i - R_i): 1 for a mode that is learnt."""
        return 1.0 + self.rate * (1.0 / self.kappa - self.covariance)

    @property
    def memory(self) -> Array:
        """(x_i / mu^2)^k: what is left of a sample of mode i after one SGD step, shape (N,)."""
        if not self.sweeps:
            return np.zeros(len(self.fixed))
        found: Array = (self.fixed / self.mass) ** self.sweeps
        return found

    def free(self) -> Array:
        """Pairs of equal modes one of which was cut for want of a hidden unit, shape (N, N).

        Nothing pulls such a pair back, it turns freely.
        """
        r, field = self.covariance, 1.0 / self.kappa
        pull = 2.0 * self.mass * np.outer(r, r) - field[:, None] - field[None, :]
        return np.abs(pull) < FREE * field[0]


@dataclass(frozen=True)
class Moments:
    """Cumulants of y in the eigenbasis of the field, as in `cumulants`.

    Attributes
    ----------
    mean : np.ndarray
        E[y_ii], shape (N,); the other entries have none.
    variance : np.ndarray
        v_ij, shape (N, N): Var(y_ij) off the diagonal, half of the variance on it but for `cross`.
    cross : np.ndarray
        w_ik, shape (N, N), further part of Cov(y_ii, y_kk).
    third : np.ndarray
        t_pqr, shape (N, N, N), symmetric.
    second_order : bool
        Whether the corrections of order 1/B^2 are contained.
    correction : float
        Largest of them to a variance of two learnt modes, relative to its first order.
    """

    mean: Array
    variance: Array
    cross: Array
    third: Array
    second_order: bool = False
    correction: float = 0.0


def moments(machine: Machine) -> Moments:
    """Cumulants to second order in 1/B, or to first order where modes are cut."""
    if (machine.free() & (machine.fixed == 0)).any() or (machine.gain > 1.0 + FREE).any():
        learnt = machine.fixed > 0
        alone = replace(machine, kappa=machine.kappa[learnt], fixed=machine.fixed[learnt])
        return replace(linear_noise(machine), correction=_second_order(alone).correction)
    return _second_order(machine)


def _second_order(machine: Machine) -> Moments:
    samples = _gibbs_sweep(machine) if machine.sweeps else _independent_samples(machine)
    found = stationary([*[samples] * max(machine.sweeps, 1), _learning_step(machine)])
    y = MATRIX
    first = found.pair[y, y]
    # The variance of a diagonal entry is 2 v_ii + w_ii.
    more = found.pair_next[y, y] + np.diag(np.diagonal(found.cross[y, y])) / 2.0
    learnt = machine.fixed > 0
    both = np.outer(learnt, learnt)
    return Moments(
        found.mean[y] + found.mean_next[y],
        first + found.pair_next[y, y],
        found.cross[y, y],
        found.third[y, y, y],
        second_order=True,
        correction=float(np.abs(more[both] / first[both]).max()),
    )


def _learning_step(machine: Machine) -> Step:
    """Y' = (g - a s) (Y_s + y) (g - a s), g = 1 + a (K_phi^-1 - R(Y_s))."""
    x, a, g = machine.fixed, machine.rate, machine.gain
    one = np.ones_like(x)
    y, s = MATRIX, SAMPLES
    matrix = [
        Word((y,), (g, g)),
        Word((s,), (-a * one, x * g)),
        Word((s,), (-a * x * g, one)),
        Word((s, y), (-a * one, one, g)),
        Word((y, s), (-a * g, one, one)),
        Word((s, s), (a * a * one, x, one)),
        Word((s, y, s), (a * a * one, one, one, one)),
    ]
    return Step([matrix, [Word((s,), (one, one))]])


def _independent_samples(machine: Machine) -> Step:
    """C = R(Y) + noise, R(Y) = R + R y R + R y R y R + ..

    The noise is that of a Wishart matrix: covariance (R_ik R_jl + R_il R_jk) / B.
    """
    r = machine.covariance
    one = np.ones_like(r)
    series = [Word((MATRIX,) * k, (r,) * (k + 1)) for k in range(1, 5)]
    noise = Noise(SAMPLES, [(1.0 / machine.batch, r, series[:2])], _cube(r) / machine.batch**2)
    return Step([[Word((MATRIX,), (one, one))], series], noise)


def _gibbs_sweep(machine: Machine) -> Step:
    """One sweep of all chains, v' = A v + xi with Cov(xi) = (1 + A) / mu^2.

    Given the chains, the noise of C has the covariance (E_ik E_jl - M_ik M_jl + (k <-> l)) / B with
    M = A C A and E = M + Cov(xi), and a third cumulant that joins xi to xi and at most once M to M.
    """
    r = machine.covariance
    one = np.ones_like(r)
    a, scale = machine.fixed / machine.mass, one / machine.mass
    y, s = MATRIX, SAMPLES
    carried = [
        Word((s,), (a, a)),
        Word((y,), (scale, r * a)),
        Word((y,), (r * a, scale)),
        Word((y, s), (scale, one, a)),
        Word((s, y), (a, one, scale)),
        Word((y, y), (scale, r, scale)),
    ]
    fresh = Word((y,), (scale, scale))
    # The words of E are those of C' up to the second order.
    words = [*carried, fresh, Word((y, s, y), (scale, one, one, scale))]
    kept, new = a * r * a, (1.0 + a) / machine.mass
    mixed = new[:, None, None] * new[None, :, None] * kept[None, None, :]
    third = _cube(new) + mixed + mixed.transpose(0, 2, 1) + mixed.transpose(2, 1, 0)
    share = 1.0 / machine.batch
    noise = Noise(
        SAMPLES,
        [(share, r, [*carried, fresh]), (-share, kept, carried)],
        third / machine.batch**2,
    )
    return Step([[Word((y,), (one, one))], words], noise)


def _cube(r: Array) -> Array:
    return r[:, None, None] * r[None, :, None] * r[None, None, :]


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
    response, memory = machine.covariance, machine.memory
    one = 1.0 + np.eye(size)
    r, rho = np.outer(response, response), np.outer(memory, memory)
    free = machine.free()
    covariance = linear_covariance(machine)
    variance = covariance[..., 0, 0]
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
    # Turning the pair adds the square of what kicks y_ij to the learnt one's eigenvalue.
    kicks = a * (x[:, None] ** 2) * r * (1.0 + rho) / (1.0 - rho) / batch
    known = known + (turning * kicks).sum(axis=1) / np.where(learnt, x, 1.0)
    rates = np.where(learnt, 2.0 * x * response**2, 1.0)
    mean = np.where(learnt, known / rates, 0.0)
    none = np.zeros((size, size))
    return Moments(mean, variance, none, np.zeros((size, size, size)))


def linear_covariance(machine: Machine) -> Array:
    """Stationary covariance of (y_ij, s_ij) of `linear_noise`, shape (N, N, 2, 2).

    That of entries off the diagonal; half of it on the diagonal.
    """
    batch, size = machine.batch, len(machine.fixed)
    response, memory = machine.covariance, machine.memory
    r, rho = np.outer(response, response), np.outer(memory, memory)
    step, kick = linear_step(machine)
    push = np.stack([-kick, np.ones_like(kick)], axis=-1)
    source = ((1.0 - rho**2) * r / batch)[..., None, None] * push[..., :, None] * push[..., None, :]
    both = np.einsum("ijab,ijcd->ijacbd", step, step).reshape(size, size, 4, 4)
    solved = np.linalg.solve(np.eye(4) - both, source.reshape(size, size, 4, 1))
    found: Array = solved.reshape(size, size, 2, 2)
    found[machine.free(), 0, 0] = 0.0
    return found


def linear_step(machine: Machine) -> tuple[Array, Array]:
    """One SGD step of (y_ij, s_ij) of `linear_noise`, noise aside.

    Returns
    -------
    step : np.ndarray
        Map of the two variables, shape (N, N, 2, 2).
    kick : np.ndarray
        What the new samples' noise is multiplied with on its way to y, less its sign; (N, N).
    """
    x, a, size = machine.fixed, machine.rate, len(machine.fixed)
    response, memory = machine.covariance, machine.memory
    r, rho = np.outer(response, response), np.outer(memory, memory)
    gain = machine.gain
    keep = np.outer(gain, gain)
    kick = a * ((x * gain)[:, None] + (x * gain)[None, :])
    free = machine.free()
    # Entries that nothing drives: any contraction will do.
    keep = np.where(free | (kick == 0), 0.0, keep)
    kick = np.where(free, 0.0, kick)
    step = np.empty((size, size, 2, 2))
    step[..., 0, 0] = keep - kick * (1.0 - rho) * r
    step[..., 0, 1] = -kick * rho
    step[..., 1, 0] = (1.0 - rho) * r
    step[..., 1, 1] = rho
    return step, kick


PART = 2**14
"""Entries of matrices that are worked on at once."""


def draw(
    machine: Machine, moments: Moments, size: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw matrices Y whose first three cumulants are the given ones, in antithetic pairs.

    y = mean + g + Q(g) - E[Q], g Gaussian and Q_ij = sum_c beta_ijc g_ic g_cj the quadratic map
    that gives the third cumulant, shared equally by the three entries of a triangle (a
    Cornish-Fisher expansion of a matrix). The covariance of g is the given one less that of Q.
    Where only some modes are learnt, the rest follows from the rank: Y_UU = Y_UL Y_LL^-1 Y_LU.

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
        # A few matrices at a time, which stay in the cache while all c go over them.
        part = max(1, PART // count**2)
        for first in range(0, size, part):
            some, kicks = bend[first : first + part], g[first : first + part]
            for c in range(count):
                some += beta[:, :, c] * kicks[:, :, None, c] * kicks[:, None, :, c]
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
    # Where an edge of the triangle does not fluctuate of its own, the rank gives it.
    product = full[:, :, None] * full[:, None, :]
    alive = (product > 0) & (full[None, :, :] > 0)
    beta = np.where(alive, moments.third / np.where(alive, 3.0 * product, 1.0), 0.0)
    beta = beta.transpose(1, 2, 0)
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
