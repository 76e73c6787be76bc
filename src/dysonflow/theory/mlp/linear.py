r"""Stationary law of a deep linear network that learns a linear teacher, for weak noise.

The network y = P x, P = W_L .. W_1, learns y = T x + epsilon eta from fresh normal inputs x and
labels with normal noise eta. One step of SGD is

    W_l <- W_l - a B_l^T G A_l^T,    A_l = W_{l-1} .. W_1,    B_l = W_L .. W_{l+1},
    G = (P - T) C - epsilon N,    C = (1/B) sum x x^T,    N = (1/B) sum eta x^T.

**Fixed points** are all W with P = T, here diagonal in the singular bases of T, s_i = prod_l w_li.
Where SGD is among them depends on the time.

- `flow`: from small weights the gradient flow leads to equal layers, w_li^2 = s_i^(2/L) (A. Saxe
  et al., arXiv:1312.6120).
- `noise`: later, the noise of SGD minimises the trace of the Hessian, F = sum_l |A_l|^2 |B_l|^2
  (G. Blanc et al., arXiv:1904.09080; for linear networks K. Gatmiry et al., arXiv:2306.13239;
  `flat`). With S = sum s_i the minimum has

      w_1^2 = n_in S s_i / k,  w_L^2 = n_out S s_i / k,  w_l^2 = S^2 / k between,
      k^L = n_in n_out S^(2 (L - 1)).

  For two layers of a square network both are the same.

**Noise.** D = P - E[P] relaxes entry by entry at the rate a h_ij and is driven by
a epsilon h_ij N_ij, h_ij = sum_l (B_l B_l^T)_ii (A_l^T A_l)_jj, for L = 2 w_2i^2 + w_1j^2. Its
entries are independent and

    Var(D_ij) = t h_ij,    t = a epsilon^2 / (2 B),

to leading order in a; `LinearNetwork.variance` is exact in a and B as long as W stays where it is.

**Mean.** The fluctuations push the weights down F, which moves the mean of the product to

    E[P] = T + m,    m_i = - (t / 2) sum_l (dF / dw_li) (s_i / w_li) / h_ii,

at the minimum - t (L - 1) k / S on every mode: SGD penalises the nuclear norm of P.

Momentum mu replaces a by a / (1 - mu) in all of this, to leading order in a.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class LinearNetwork:
    """What the stationary law depends on.

    Attributes
    ----------
    singular_values : tuple of float
        Of the teacher, without zeros, ascending, positive.
    inputs, outputs : int
        n_in and n_out.
    layers : int
        Number L of weight matrices.
    rate : float
        Learning rate a, times the factor that the gradient has over that of half the squared error.
    batch : int
        Samples per step.
    noise : float
        Standard deviation epsilon of the label noise.
    momentum : float
        Momentum mu.
    balanced_by : str
        `flow` or `noise`: at which of the fixed points the layers are.
    imbalance_memory : float
        Share of the start that is left in the imbalance of two layers at the snapshots.
    """

    singular_values: tuple[float, ...]
    inputs: int
    outputs: int
    layers: int
    rate: float
    batch: int
    noise: float
    momentum: float = 0.0
    balanced_by: Literal["flow", "noise"] = "noise"
    imbalance_memory: float = 0.0

    @property
    def values(self) -> Array:
        """Singular values of the teacher, shape (r,)."""
        return np.array(self.singular_values)

    @property
    def speed(self) -> float:
        """Distance that a constant gradient moves the weights per step, over it: a / (1 - mu)."""
        return self.rate / (1.0 - self.momentum)

    @property
    def temperature(self) -> float:
        """The factor t = a epsilon^2 / (2 B (1 - mu)) of all variances."""
        return self.speed * self.noise**2 / (2.0 * self.batch)

    @cached_property
    def layer_values(self) -> Array:
        """Singular values w_li of the layers, shape (L, r); the layer that inputs meet is first."""
        s, depth = self.values, self.layers
        if self.balanced_by == "flow" or depth == 1:
            return np.tile(s ** (1.0 / depth), (depth, 1))
        nuclear = float(s.sum())
        share = (self.inputs * self.outputs * nuclear ** (2 * (depth - 1))) ** (1.0 / depth)
        squares = np.full((depth, len(s)), nuclear**2 / share)
        squares[0] = self.inputs * nuclear * s / share
        squares[-1] = self.outputs * nuclear * s / share
        return np.sqrt(squares)

    def layers_at_rest(self, replicas: int = 1) -> list[Array]:
        """Weights of layers with one hidden unit for each mode, shape (replica, rows, columns)."""
        modes = len(self.values)
        widths = [self.inputs, *[modes] * (self.layers - 1), self.outputs]
        found = []
        for values, columns, rows in zip(self.layer_values, widths[:-1], widths[1:], strict=True):
            weights = np.zeros((replicas, rows, columns))
            weights[:, np.arange(modes), np.arange(modes)] = values
            found.append(weights)
        return found

    @property
    def split(self) -> tuple[float, float]:
        """Factors alpha and beta of two layers, w_1^2 = alpha s and w_2^2 = beta s."""
        first, last = self.layer_values[[0, -1], 0] ** 2 / self.singular_values[0]
        return float(first), float(last)

    @cached_property
    def curvature(self) -> Array:
        """Curvature h_ij in the singular bases of the teacher, shape (n_out, n_in)."""
        total = np.zeros((self.outputs, self.inputs))
        for before, after in around(self.layer_values**2):
            total += np.outer(_padded(after, self.outputs), _padded(before, self.inputs))
        return total

    @cached_property
    def variance(self) -> Array:
        """Var(D_ij), shape (n_out, n_in); the lowest singular values first, as in `curvature`.

        The weights are taken to stay where they are. Then D' = D - a (linear map of D C - epsilon
        N) is linear in D, and the noise of a step has the variance
        (epsilon^2 + sum_c Var(D_ic) + Var(D_ij)) / B in G_ij.
        """
        return entry_variance(self, self.curvature)

    @cached_property
    def shift(self) -> Array:
        """Mean m_i of the diagonal entries of P - T in the modes, shape (r,).

        With Var(D_jk) / h_jk in the place of t, as the mean gradient is zero for any step.
        """
        if self.layers == 1:
            return np.zeros(len(self.values))
        squares, modes = self.layer_values**2, len(self.values)
        alive = self.curvature > 0
        share = np.where(alive, self.variance / np.where(alive, self.curvature, 1.0), 0.0)
        # sum_jk share_jk d h_jk / d log w_li: layer l is before those above, after those below.
        force = np.zeros_like(squares)
        for layer, (before, after) in enumerate(around(squares)):
            if before is not None:
                force[:layer] += 2.0 * before * (_padded(after, self.outputs) @ share)[:modes]
            if after is not None:
                force[layer + 1 :] += 2.0 * after * (share @ _padded(before, self.inputs))[:modes]
        stiffness = np.diagonal(self.curvature)[:modes]
        push = (force / squares).sum(axis=0) * self.values
        return np.asarray(-0.5 * push / stiffness)

    @property
    def nonlinearity(self) -> float:
        """What the theory leaves out, relative to a variance of the smallest level.

        The weights, hence the curvature, fluctuate by t n_max / s relative to themselves.
        """
        size = max(self.inputs, self.outputs)
        return (self.layers - 1) * self.temperature * size / float(self.values.min())

    def learning_time(self, start: float) -> float:
        """SGD steps within which the slowest mode is learnt, from weights of a given size.

        Parameters
        ----------
        start : float
            Singular value of P along the mode, at the start: of the gradient flow du/dt = a L
            u^(2 - 2/L) (s - u) to 1 % of s, and ten relaxation times thereafter.
        """
        s, depth = float(self.values.min()), self.layers
        u = np.geomspace(min(max(start, 1e-9 * s), 0.5 * s), 0.99 * s, 2000)
        slowness = 1.0 / (depth * u ** (2.0 - 2.0 / depth) * (s - u))
        growth = float(np.sum((slowness[1:] + slowness[:-1]) / 2.0 * np.diff(u)))
        modes = len(self.values)
        slowest = float(self.curvature[:modes, :modes].min())
        return growth / self.speed + 10.0 / self.relaxation_rate(slowest)

    def relaxation_rate(self, curvature: float) -> float:
        """Rate per SGD step at which an entry of D relaxes."""
        return -math.log(contraction(self.rate * curvature, self.momentum))


def around(squares: Array) -> Iterator[tuple[Array | None, Array | None]]:
    """Products of the squares of the layers before and after each layer; None where there is none.

    Parameters
    ----------
    squares : np.ndarray
        Shape (L, r).
    """
    for layer in range(len(squares)):
        before = np.prod(squares[:layer], axis=0) if layer else None
        after = np.prod(squares[layer + 1 :], axis=0) if layer + 1 < len(squares) else None
        yield before, after


def _padded(values: Array | None, size: int) -> Array:
    """Eigenvalues of a product of layers; those of the identity where there are no layers."""
    if values is None:
        return np.ones(size)
    return np.concatenate([values, np.zeros(size - len(values))])


def contraction(strength: float, momentum: float) -> float:
    """Factor per step by which x shrinks under x'' = x' + mu (x' - x) - strength x'.

    Parameters
    ----------
    strength : float
        Learning rate times curvature.
    momentum : float
        mu.
    """
    return float(np.abs(np.roots([1.0, strength - 1.0 - momentum, momentum])).max())


def entry_variance(network: LinearNetwork, curvature: Array) -> Array:
    """Stationary variances of the entries of D at given curvatures, shape (n_out, n_in).

    Parameters
    ----------
    network : LinearNetwork
        The network.
    curvature : np.ndarray
        h_ij, shape (n_out, n_in).

    Raises
    ------
    ValueError
        If the step is so large that there is no stationary state.
    """
    strength, mu, size = network.rate * curvature, network.momentum, network.inputs
    limit = 2.0 * (1.0 + mu)
    if not (strength < limit).all():
        raise ValueError(f"learning rate times curvature is {strength.max():.3g}, not < {limit:g}")
    # Stationary variance of an autoregressive process (mu = 0: of first order) over that of G_ij.
    factor = strength * (1.0 + mu) / ((1.0 - mu) * (limit - strength))
    factor = factor / network.batch
    found = np.empty_like(factor)
    coupling = np.ones((size, size)) + np.eye(size)
    for row, of_row in enumerate(factor):
        system = np.eye(size) - of_row[:, None] * coupling
        found[row] = np.linalg.solve(system, of_row * network.noise**2)
    if not (found >= 0).all() or not np.isfinite(found).all():
        raise ValueError("the noise of the batches grows without bound")
    return found
