r"""Stationary law of a deep linear network that learns a linear teacher, for weak noise.

The network y = P x, P = W_L .. W_1, learns y = T x + epsilon eta from fresh normal inputs x and
labels with normal noise eta. One step of SGD is

    W_l <- W_l - a B_l^T G A_l^T,    A_l = W_{l-1} .. W_1,    B_l = W_L .. W_{l+1},
    G = (P - T) C - epsilon N,    C = (1/B) sum x x^T,    N = (1/B) sum eta x^T.

**Fixed points** are all W with P = T. Where SGD stays among them is decided by its noise: it
minimises the trace of the Hessian, sum_l |A_l|^2 |B_l|^2 (G. Blanc et al., arXiv:1904.09080; for
linear networks K. Gatmiry et al., arXiv:2306.13239). With the singular values s_i of T, S = sum s_i,
the minimum has, mode by mode,

    w_1^2 = alpha s_i,   w_L^2 = beta s_i,   w_l^2 = g^2 between,
    alpha = n_in S / k,  beta = n_out S / k, g^2 = S^2 / k,   k^L = n_in n_out S^(2 (L - 1)).

**Noise.** In the singular basis of T, D = P - T - m relaxes entry by entry at the rate a h_ij and is
driven by a epsilon h_ij N_ij with h_ij = sum_l (B_l B_l^T)_ii (A_l^T A_l)_jj, for L = 2 beta s_i +
alpha s_j. Its entries are independent and

    Var(D_ij) = t h_ij,    t = a epsilon^2 / (2 B),

to leading order in a; `LinearNetwork.variance` is exact in a and B as long as W stays where it is.

**Mean.** E[P] = T + m, m = -(t/2) d(trace of the Hessian)/dP = - t (L - 1) k / S on every mode: SGD
penalises the nuclear norm of P.

Momentum mu replaces a by a / (1 - mu) in all of this, to leading order in a.
"""

import math
from dataclasses import dataclass
from functools import cached_property

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
    """

    singular_values: tuple[float, ...]
    inputs: int
    outputs: int
    layers: int
    rate: float
    batch: int
    noise: float
    momentum: float = 0.0

    @property
    def values(self) -> Array:
        """Singular values of the teacher, shape (r,)."""
        return np.array(self.singular_values)

    @property
    def speed(self) -> float:
        """a / (1 - mu): distance that a constant gradient moves the weights per step, over it."""
        return self.rate / (1.0 - self.momentum)

    @property
    def temperature(self) -> float:
        """t = a epsilon^2 / (2 B (1 - mu))."""
        return self.speed * self.noise**2 / (2.0 * self.batch)

    @property
    def balance(self) -> float:
        """k: each layer's share of the trace of the Hessian at its minimum."""
        nuclear = float(self.values.sum())
        product = self.inputs * self.outputs * nuclear ** (2 * (self.layers - 1))
        return float(product ** (1.0 / self.layers))

    @property
    def first(self) -> float:
        """alpha: w_1^2 = alpha s."""
        return float(self.inputs * self.values.sum() / self.balance)

    @property
    def last(self) -> float:
        """beta: w_L^2 = beta s."""
        return float(self.outputs * self.values.sum() / self.balance)

    @property
    def middle(self) -> float:
        """g^2: w_l^2 of the layers between."""
        return float(self.values.sum() ** 2 / self.balance)

    def layer_values(self, layer: int) -> Array:
        """Singular values of a layer where the trace of the Hessian is least, shape (r,).

        Parameters
        ----------
        layer : int
            From 1, the layer that the inputs meet.
        """
        if self.layers == 1:
            return self.values
        if layer == 1:
            return np.sqrt(self.first * self.values)
        if layer == self.layers:
            return np.sqrt(self.last * self.values)
        return np.full(len(self.values), math.sqrt(self.middle))

    @cached_property
    def curvature(self) -> Array:
        """h_ij, in the singular basis of the teacher, shape (n_out, n_in)."""
        squares = [self.layer_values(layer) ** 2 for layer in range(1, self.layers + 1)]
        total = np.zeros((self.outputs, self.inputs))
        for layer in range(self.layers):
            before = np.prod(squares[:layer], axis=0) if layer else None
            after = np.prod(squares[layer + 1 :], axis=0) if layer + 1 < self.layers else None
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

    @property
    def shift(self) -> float:
        """m: mean of the diagonal entries of P - T."""
        return -self.temperature * (self.layers - 1) * self.balance / float(self.values.sum())

    @property
    def nonlinearity(self) -> float:
        """What the theory leaves out, relative to a variance of the smallest level.

        The weights, hence the curvature, fluctuate by t n_max / s relative to themselves.
        """
        size = max(self.inputs, self.outputs)
        return (self.layers - 1) * self.temperature * size / float(self.values.min())

    def relaxation_rate(self, curvature: float) -> float:
        """Rate per SGD step at which an entry of D relaxes."""
        return -math.log(contraction(self.rate * curvature, self.momentum))


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
