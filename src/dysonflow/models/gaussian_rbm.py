r"""Gaussian restricted Boltzmann machine that learns a scalar field on a ring.

The machine has N visible units v, M hidden units h and the energy

    S(v, h) = mu^2 v.v / 2 + |h|^2 / (2 sigma_h^2) - h^T W v,

so that v is Gaussian with precision K = mu^2 - sigma_h^2 W^T W. Its target is the free scalar field
of mass m on a periodic ring, whose precision K_phi = m^2 - Laplacian has the eigenvalues
kappa_k = m^2 + 2 - 2 cos(2 pi k / N). Gradient ascent on the log-likelihood reads (Aarts, Lucini,
Park, arXiv:2407.16427, section 5)

    W <- W + a sigma_h^2 W (K_phi^-1 - C),    C = (1/B) sum_b v_b v_b^T over samples of the model.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import (
    Auto,
    Cost,
    Count,
    Hyperparameters,
    planning_only,
    quantity,
)
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.simulation.base import Block
from dysonflow.simulation.compiled import CompiledSimulation, kernel_arguments
from dysonflow.simulation.kernel.gaussian_rbm import GaussianRBMKernel
from dysonflow.simulation.torch_simulation import TorchSimulation

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

SLOW_STARTERS = 1e-4
"""Share of replicas that may start the slowest mode lower than the automatic burn-in assumes."""
BURNT_IN = 1e-3
"""Relative distance from the fixed point at which such a replica counts as burnt in."""
CHECK_INTERVAL = 100
"""SGD steps between two checks of the precision matrix where sampling does not need its root."""


class GaussianRBMHyperparameters(Hyperparameters):
    """Hyperparameters of the Gaussian restricted Boltzmann machine."""

    MODEL = "gaussian_rbm"

    learning_rate: float = quantity(0.1, label="lr", symbol=r"\alpha", gt=0)
    """Step size of stochastic gradient descent."""
    batch_size: int = quantity(16, label="B", symbol="B", ge=1, le=1_000_000_000)
    """Samples of the model per SGD step, that is Markov chains for `sampler: gibbs`."""
    sites: int = quantity(10, unit="lattice sites", ge=2, le=4096)
    """Visible units: sites of the ring."""
    hidden_units: Count | Auto = quantity("auto")
    """Hidden units; `auto`: as many as sites. Fewer cannot learn the highest modes."""
    field_mass_squared: float = quantity(4.0, unit="1/lattice spacing^2", gt=0)
    """Mass squared of the scalar field that is learnt."""
    rbm_mass_squared: float = quantity(9.0, unit="1/lattice spacing^2", gt=0)
    """Mass parameter of the visible layer; modes of the field above it cannot be learnt."""
    hidden_width: float = quantity(1.0, gt=0)
    """Standard deviation of a hidden unit given the visible layer."""
    initial_width: float = quantity(0.1, gt=0)
    """Standard deviation of the independent normal weights at the start."""
    initial_spectrum: list[float] = quantity([], max_length=4096)
    """Eigenvalue of W^T W of every mode of the field at the start, kappa ascending, in the place of
    random weights; none by default."""
    sampler: Literal["gibbs", "ar1", "wishart"] = quantity("gibbs")
    """`gibbs`: block Gibbs sweeps on persistent chains; `ar1`: the same law with the hidden layer
    integrated out, faster; `wishart`: independent exact samples."""
    gibbs_sweeps: int = quantity(3, unit="sweeps per SGD step", ge=1)
    """Sweeps of every chain per SGD step; without effect for `sampler: wishart`."""

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """W couples hidden units (rows) and sites (columns)."""
        return [("W", int(self.hidden_units), self.sites)]

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs.

        Every sweep draws B (M + N) normal numbers and takes 4 B M N operations; the gradient
        2 B N^2 and the update 4 N^2 max(M, N). Of `wishart` one triangle stands for the batch.
        """
        rows, columns = int(self.hidden_units), self.sites
        batch, sweeps = self.batch_size, self.gibbs_sweeps
        if self.sampler == "wishart":
            batch, sweeps = min(batch, columns), 1
        largest = max(rows, columns)
        return Cost(
            draws=sweeps * batch * (rows + columns),
            operations=4 * sweeps * batch * rows * columns
            + 2 * batch * columns**2
            + 4 * columns**2 * largest,
            # W, gradient, covariance, precision and their factors; chains and hidden units.
            numbers=10 * largest**2 + 4 * self.batch_size * (rows + columns),
        )

    def auto_hidden_units(self) -> int:
        """As many hidden units as sites."""
        return self.sites

    def not_in_key(self) -> set[str]:
        """Also what a random start does not have: such a run keeps the name that it always had."""
        return super().not_in_key() | (set() if self.initial_spectrum else {"initial_spectrum"})

    def kappa(self) -> np.ndarray:
        """Eigenvalues of the field's precision matrix, ascending, shape (sites,)."""
        momenta = 2.0 * np.pi * np.arange(self.sites) / self.sites
        return np.sort(self.field_mass_squared + 2.0 - 2.0 * np.cos(momenta))

    def fixed_points(self) -> np.ndarray:
        """Eigenvalue of W^T W at which each mode of `kappa` settles, 0 where it is not learnt.

        The hidden layer is an ultraviolet regulator (arXiv:2309.15002): modes above
        `rbm_mass_squared`, and all but the lowest `hidden_units`, stay at zero.
        """
        fixed = np.maximum(self.rbm_mass_squared - self.kappa(), 0.0) / self.hidden_width**2
        fixed[int(self.hidden_units) :] = 0.0
        return fixed

    def relaxation_rates(self) -> np.ndarray:
        """Rate per SGD step at which the learnt modes return to their fixed points.

        2 a sigma_h^4 x_s / kappa^2, the slope of the drift 2 a sigma_h^2 x (1/kappa - 1/lambda);
        shape (number of learnt modes,).
        """
        fixed = self.fixed_points()
        learnt = fixed > 0
        rates = self.learning_rate * self.hidden_width**4 * fixed[learnt]
        return 2.0 * rates / self.kappa()[learnt] ** 2

    def growth_time(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """SGD steps in which the drift carries each learnt mode from `start` to `stop`.

        The drift dx/dt = 2 a sigma_h^2 x (1/kappa - 1/(mu^2 - sigma_h^2 x)) integrates to

            t = kappa / (2 a sigma_h^4 x_s) [mu^2 log(x / x_0) - kappa log((x_s - x) / (x_s - x_0))]

        for x between x_0 and x_s.
        """
        fixed = self.fixed_points()
        learnt = fixed > 0
        fixed, kappa = fixed[learnt], self.kappa()[learnt]
        scale = kappa / (2.0 * self.learning_rate * self.hidden_width**4 * fixed)
        climb = self.rbm_mass_squared * np.log(stop / start)
        approach = kappa * np.log((fixed - stop) / (fixed - start))
        return scale * (climb - approach)

    def auto_burn_in(self) -> int:
        """SGD steps until the slowest mode is stationary in all but few replicas.

        The component of a mode that is left when all faster modes are projected out starts as
        `initial_width`^2 chi^2 with M - N + 1 degrees of freedom (one at least), so a few replicas
        start far below the mean: the burn-in allows for the lowest 1e-4 of them.
        """
        if self.initial_spectrum:
            raise ConfigError(
                "burn_in and steps have no automatic value for a start by initial_spectrum, which "
                "may be left at any time; give numbers, such as burn_in: 0 and steps: 10000"
            )
        fixed = self.fixed_points()
        learnt = fixed > 0
        if not learnt.any():
            raise ConfigError(
                f"rbm_mass_squared = {self.rbm_mass_squared:g}: no mode of the field lies below "
                f"it, so nothing can be learnt; raise it above {self.kappa()[0]:g}"
            )
        freedom = max(int(self.hidden_units) - self.sites + 1, 1)
        lowest = self.initial_width**2 * _chi_squared_quantile(SLOW_STARTERS, freedom)
        start = np.minimum(lowest, fixed[learnt] / 2)
        time = self.growth_time(start, (1.0 - BURNT_IN) * fixed[learnt]).max()
        kappa = self.kappa()
        last, first = int(learnt.sum()) - 1, int(learnt.sum())
        if first < self.sites and kappa[first] < self.rbm_mass_squared:
            # Too few hidden units: the modes compete, and the loser decays against the winner at
            # the rate a sigma_h^2 (1/kappa_winner - 1/kappa_loser). A cut pair of equal modes turns
            # freely, which its eigenvalue does not feel.
            winner, loser = kappa[last], kappa[kappa > kappa[last] * (1 + 1e-9)].min(initial=np.inf)
            decay = self.learning_rate * self.hidden_width**2 * (1 / winner - 1 / loser)
            time += -math.log(SLOW_STARTERS * BURNT_IN) / decay
        return self.bounded_time(time)

    def auto_spacing(self) -> int:
        """Three relaxation times of the slowest mode."""
        return self.bounded_time(3.0 / self.relaxation_rates().min())

    def check(self) -> None:
        """Refuse learning rates at which the linearised dynamics does not settle."""
        rates = self.relaxation_rates()
        if rates.size and rates.max() >= 2.0:
            limit = 2.0 * self.learning_rate / rates.max()
            raise ConfigError(
                f"learning_rate = {self.learning_rate:g}: the lowest mode overshoots and diverges; "
                f"allowed for these masses: > 0 and < {limit:.3g}"
            )
        if self.initial_spectrum:
            self._check_start()

    def _check_start(self) -> None:
        """Refuse a start that is not one value for each mode, or that no machine has."""
        start, largest = np.array(self.initial_spectrum), self.rbm_mass_squared
        name = f"initial_spectrum = {self.initial_spectrum}"
        if len(start) != self.sites:
            raise ConfigError(
                f"{name}: give one eigenvalue for each of the {self.sites} modes of the field, "
                f"kappa ascending: {', '.join(f'{kappa:.4g}' for kappa in self.kappa())}"
            )
        if not (start >= 0).all() or not (start * self.hidden_width**2 < largest).all():
            raise ConfigError(
                f"{name}: allowed are values >= 0 and < rbm_mass_squared / hidden_width^2 = "
                f"{largest / self.hidden_width**2:.4g}"
            )
        if np.count_nonzero(start) > int(self.hidden_units):
            raise ConfigError(
                f"{name}: {np.count_nonzero(start)} modes are not 0, but there are "
                f"{self.hidden_units} hidden units"
            )


def _chi_squared_quantile(probability: float, freedom: int) -> float:
    """Quantile of chi-squared; SciPy takes longer to import than all else that plans a study."""
    if freedom == 1:
        return NormalDist().inv_cdf((1.0 + probability) / 2.0) ** 2
    import scipy.special

    return float(2.0 * scipy.special.gammaincinv(freedom / 2.0, probability))


def precision_matrix(hyperparameters: GaussianRBMHyperparameters) -> np.ndarray:
    """Precision matrix K_phi = m^2 - Laplacian of the field on the ring, shape (sites, sites)."""
    identity = np.eye(hyperparameters.sites)
    neighbours = np.roll(identity, 1, axis=0) + np.roll(identity, -1, axis=0)
    return (hyperparameters.field_mass_squared + 2.0) * identity - neighbours


def modes(hyperparameters: GaussianRBMHyperparameters) -> np.ndarray:
    """Modes of the field as columns, kappa ascending, shape (sites, sites)."""
    found: np.ndarray = np.linalg.eigh(precision_matrix(hyperparameters))[1]
    return found


def given_start(hyperparameters: GaussianRBMHyperparameters) -> np.ndarray | None:
    """Weights whose modes have the given `initial_spectrum`, shape (M, N); None if it is random.

    Every mode that is not zero has a hidden unit of its own. To turn the hidden layer changes
    nothing that is measured.
    """
    if not hyperparameters.initial_spectrum:
        return None
    start = np.array(hyperparameters.initial_spectrum)
    weights = np.zeros((int(hyperparameters.hidden_units), hyperparameters.sites))
    filled = np.flatnonzero(start)
    columns = modes(hyperparameters)[:, filled]
    weights[: len(filled)] = np.sqrt(start[filled])[:, None] * columns.T
    return weights


def divergence(h: GaussianRBMHyperparameters, weights: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of the machine from the field, in nats.

    (tr(K K_phi^-1) - N - log det(K K_phi^-1)) / 2, exact for two centred Gaussians.

    Parameters
    ----------
    h : GaussianRBMHyperparameters
        Of the run.
    weights : np.ndarray
        Shape (replica, M, N).

    Returns
    -------
    np.ndarray
        Shape (replica,).
    """
    w = weights.astype(np.float64)
    target = precision_matrix(h)
    model = h.rbm_mass_squared * np.eye(h.sites) - h.hidden_width**2 * w.transpose(0, 2, 1) @ w
    trace = (model * np.linalg.inv(target)).sum(axis=(1, 2))
    log_ratio = np.linalg.slogdet(model)[1] - np.linalg.slogdet(target)[1]
    return 0.5 * (trace - h.sites - log_ratio)


class GaussianRBMSimulation(TorchSimulation):
    """A block of replicas of the machine, trained side by side; weights (replica, M, N)."""

    STATE = ("weights", "chains", "failed_at")

    def __init__(
        self, hyperparameters: GaussianRBMHyperparameters, replicas: int, noise: NoiseStream
    ):
        super().__init__(hyperparameters, replicas, noise)
        self.h = hyperparameters
        precision = torch.as_tensor(precision_matrix(self.h), device=noise.device)
        self.precision = precision.to(noise.dtype)
        covariance = torch.linalg.inv(precision).to(noise.dtype)
        self.covariance = covariance.expand(replicas, -1, -1)
        hidden, sites = int(self.h.hidden_units), self.h.sites
        start = given_start(self.h)
        if start is None:
            self.weights = self.h.initial_width * noise.normal(replicas, hidden, sites)
        else:
            weights = torch.as_tensor(start, device=noise.device).to(noise.dtype)
            self.weights = weights.repeat(replicas, 1, 1)
        self.identity = torch.eye(sites, device=noise.device, dtype=noise.dtype)
        if self.h.sampler != "wishart":
            chains = noise.normal(replicas, self.h.batch_size, sites)
            self.chains = chains / math.sqrt(self.h.rbm_mass_squared)
        self.failed_at = torch.full((replicas,), -1, device=noise.device)

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps.

        Raises
        ------
        DivergedError
            If K = mu^2 - sigma_h^2 W^T W lost positive definiteness, or a weight is not finite.
        """
        draw = {
            "gibbs": self._gibbs_samples,
            "ar1": self._ar1_samples,
            "wishart": self._wishart_samples,
        }[self.h.sampler]
        rate = self.h.learning_rate * self.h.hidden_width**2
        for _ in range(steps):
            self.step += 1
            samples, count = draw()
            gradient = torch.baddbmm(
                self.covariance, samples.transpose(1, 2), samples, alpha=-1.0 / count
            )
            self.weights = torch.baddbmm(self.weights, self.weights, gradient, alpha=rate)
            if self.h.sampler != "wishart" and self.step % CHECK_INTERVAL == 0:
                self._note_failures(torch.linalg.cholesky_ex(self.model_precision()).info)
        self._note_failures(torch.linalg.cholesky_ex(self.model_precision()).info)
        self._raise_failures()

    def model_precision(self) -> torch.Tensor:
        """K = mu^2 - sigma_h^2 W^T W, shape (replicas, sites, sites)."""
        return torch.baddbmm(
            (self.h.rbm_mass_squared * self.identity).expand_as(self.covariance),
            self.weights.transpose(1, 2),
            self.weights,
            alpha=-(self.h.hidden_width**2),
        )

    def loss(self) -> np.ndarray:
        """Kullback-Leibler divergence of each replica from the field, shape (replica,)."""
        return divergence(self.h, self.layers()["W"])

    def _gibbs_samples(self) -> tuple[torch.Tensor, int]:
        """Visible layers (replica, B, N) after k sweeps of h | v and v | h."""
        replicas, batch, sites = self.chains.shape
        width, mass = self.h.hidden_width, self.h.rbm_mass_squared
        to_hidden = self.weights.transpose(1, 2)
        for _ in range(self.h.gibbs_sweeps):
            hidden = torch.baddbmm(
                self.noise.normal(replicas, batch, to_hidden.shape[2]),
                self.chains,
                to_hidden,
                beta=width,
                alpha=width**2,
            )
            self.chains = torch.baddbmm(
                self.noise.normal(replicas, batch, sites),
                hidden,
                self.weights,
                beta=1.0 / math.sqrt(mass),
                alpha=1.0 / mass,
            )
        return self.chains, batch

    def _ar1_samples(self) -> tuple[torch.Tensor, int]:
        """Visible layers (replica, B, N) after k sweeps, the hidden layer integrated out.

        One sweep is v' = A v + noise of covariance (1 + A) / mu^2 with A = sigma_h^2 W^T W / mu^2;
        k of them are v' = A^k v + L xi, L L^T = (1 + A + .. + A^(2k - 1)) / mu^2.
        """
        mass = self.h.rbm_mass_squared
        step = torch.bmm(self.weights.transpose(1, 2), self.weights)
        step = step * (self.h.hidden_width**2 / mass)
        power = self.identity.expand_as(step)
        total = torch.zeros_like(step)
        for sweep in range(2 * self.h.gibbs_sweeps):
            total = total + power
            power = torch.bmm(power, step)
            if sweep == self.h.gibbs_sweeps - 1:
                memory = power
        root = torch.linalg.cholesky_ex(total / mass).L
        fresh = self.noise.normal(*self.chains.shape)
        # All factors are polynomials of one symmetric matrix but the root, which is transposed.
        self.chains = torch.bmm(self.chains, memory) + torch.bmm(fresh, root.transpose(1, 2))
        return self.chains, self.h.batch_size

    def _wishart_samples(self) -> tuple[torch.Tensor, int]:
        """Rows whose sum of squares is that of B independent samples of the machine.

        With K = L L^T, a sample is v = L^-T z. For B >= N the sum of z z^T over the batch is a
        Wishart matrix T T^T, drawn at once through its Bartlett factor.
        """
        replicas, sites, batch = self.weights.shape[0], self.h.sites, self.h.batch_size
        factor, info = torch.linalg.cholesky_ex(self.model_precision())
        self._note_failures(info)
        if batch >= sites:
            normal = self.noise.bartlett(replicas, sites, batch)
        else:
            normal = self.noise.normal(replicas, sites, batch)
        columns = torch.linalg.solve_triangular(factor.transpose(1, 2), normal, upper=True)
        return columns.transpose(1, 2), batch

    def _note_failures(self, info: torch.Tensor) -> None:
        """Remember the first step at which a Cholesky factorisation failed, without waiting."""
        fresh = (info != 0) & (self.failed_at < 0)
        self.failed_at = torch.where(fresh, self.step, self.failed_at)

    def _raise_failures(self) -> None:
        broken = ~torch.isfinite(self.weights).all(dim=2).all(dim=1)
        if not bool((broken | (self.failed_at >= 0)).any()):
            return
        steps = torch.where(self.failed_at < 0, self.step, self.failed_at)
        steps = torch.where(broken | (self.failed_at >= 0), steps, self.step + 1)
        replica = int(steps.argmin())
        raise DivergedError(
            replica,
            int(steps[replica]),
            "K = mu^2 - sigma_h^2 W^T W is no longer positive definite; lower learning_rate or "
            "raise batch_size",
        )


class CompiledGaussianRBM(CompiledSimulation):
    """The same block of replicas, advanced by the compiled kernel."""

    largest_on_gpu = 16

    @classmethod
    def start(cls, hyperparameters: GaussianRBMHyperparameters, block: Block) -> Self:
        """A block of machines at step 0."""
        h = hyperparameters
        start = given_start(h)
        kernel = GaussianRBMKernel(
            target_covariance=np.linalg.inv(precision_matrix(h)),
            learning_rate=h.learning_rate,
            batch_size=h.batch_size,
            mu_squared=h.rbm_mass_squared,
            sigma_h=h.hidden_width,
            sweeps=h.gibbs_sweeps,
            sampler=h.sampler,
            hidden=int(h.hidden_units),
            initial_std=h.initial_width,
            weights=None
            if start is None
            else np.broadcast_to(start, (block.replicas, *start.shape)),
            **kernel_arguments(h, block),
        )
        return cls(h, kernel)

    def loss(self) -> np.ndarray:
        """Kullback-Leibler divergence of each replica from the field, shape (replica,)."""
        return divergence(self.h, self.kernel.weights)


SYSTEM = System(GaussianRBMHyperparameters, GaussianRBMSimulation, CompiledGaussianRBM)
