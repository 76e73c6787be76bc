r"""Dyson Brownian motion at any index beta in (0, infinity].

A symmetric matrix M (n x n) is kicked along and across its isospectral orbit, the set of matrices
with its eigenvalues (C. P. Huang, D. Inauen, G. Menon, arXiv:2210.11347):

    dM = -theta M dt + P_T dH + sqrt(2/beta) P_N dH,

P_T and P_N the parts of dH that are tangent and normal to the orbit: in the eigenbasis of M, what
is off the diagonal and what is on it. E[H_jk^2] = t for all j <= k. The eigenvalues move by

    dl_k = sqrt(2/beta) dB_k + sum_{j != k} dt / (l_k - l_j) - theta l_k dt,

to the law prod_{i<j} |l_i - l_j|^beta exp(-beta theta sum_i l_i^2 / 2). At beta = infinity only the
tangent noise is left, and the levels follow the motion by mean curvature of the orbit: the gradient
of the logarithm of its volume, that is of the Vandermonde determinant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
from pydantic import Field

from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import (
    Auto,
    Cost,
    Count,
    Hyperparameters,
    Time,
    planning_only,
    quantity,
)
from dysonflow.models.base import System
from dysonflow.simulation.base import Block, Simulation
from dysonflow.simulation.compiled import CompiledSimulation, kernel_arguments
from dysonflow.simulation.implicit_levels import ordered_levels
from dysonflow.simulation.kernel import library
from dysonflow.simulation.kernel.dyson import DysonKernel
from dysonflow.simulation.numpy_noise import NumPyNoise
from dysonflow.statistics.coulomb_gas import hermite_zeros, log_vandermonde, sample

INFINITY = "infinity"
"""How the configuration, and the key of a run, spell an infinite index."""
BURNT_IN = 1e-3
"""Memory of the start that is left after the automatic burn-in, in units of the fluctuations."""
AT_REST = 1e-10
"""The same where nothing fluctuates, in units of the distance from the start."""
LARGEST_TURN = 0.25
"""Turn of the eigenvectors by one step, sqrt(time_step) over the gap, up to which the noise has
parts tangent and normal to the orbit."""


class DysonHyperparameters(Hyperparameters):
    """Hyperparameters of Dyson Brownian motion."""

    MODEL = "dyson"

    burn_in: Time | Auto = quantity("auto", unit="time steps")
    """Time steps before the first snapshot; `auto`: until the start is forgotten."""
    steps: Count | Auto = quantity("auto", unit="time steps")
    """Time steps in all; `auto`: `burn_in` and three relaxation times between snapshots."""
    dtype: Literal["float64", "float32"] = quantity("float64")
    """Floating-point type in which M is kept; it moves in float64."""
    beta: Annotated[float, Field(gt=0)] | Literal["infinity"] = quantity(
        1.0, label="beta", symbol=r"\beta"
    )
    """Dyson index; `infinity`: no noise normal to the orbit."""
    dynamics: Literal["matrix", "levels", "stationary"] = quantity("levels", symbol="M")
    """`matrix`: the matrix itself; `levels`: its eigenvalues, by an implicit step that keeps their
    order; `stationary`: independent exact samples of the stationary law at every step."""
    size: int = quantity(4, symbol="n", ge=1, le=1024)
    """Rows and columns n of M, that is the number of levels."""
    time_step: float = quantity(0.01, gt=0, unit="time")
    """Time of one step; without effect for `dynamics: stationary`."""
    confinement: float = quantity(1.0, symbol=r"\theta", unit="1/time", ge=0)
    """Rate theta at which the centre of the levels relaxes; 0: they spread without end."""
    centres: list[float] = quantity([])
    """Centre c_i of each level, lowest level first; without it, 0 for all. Of `dynamics: levels`
    only."""
    widths: list[float] = quantity([])
    """Width sigma_i of each level, in place of `confinement`, which is then 1 / (beta sigma_i^2):
    the law is prod |l_i - l_j|^beta exp(-sum (l_i - c_i)^2 / (2 sigma_i^2)) over ordered levels. Of
    `dynamics: levels` only."""
    initial_levels: list[float] | Auto = quantity("auto")
    """Levels at the start, in any order, the same for all replicas; `auto`: equally spaced about
    the mean of the centres by the unit of length, 1 / sqrt(theta). Without effect for `dynamics:
    stationary`."""

    @classmethod
    def _normal(cls, name: str, value: Any) -> Any:
        value = super()._normal(name, value)
        spelt = str(value).lower().removeprefix("+")
        return INFINITY if name == "beta" and spelt in ("inf", "infinity") else value

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """M itself, or one row of its levels."""
        return [("M", self.size if self.dynamics == "matrix" else 1, self.size)]

    @property
    def eigenvalues_of(self) -> Literal["gram", "symmetric", "levels"]:
        """The layer is M, or its levels."""
        return "symmetric" if self.dynamics == "matrix" else "levels"

    @property
    def dyson_index(self) -> float:
        """Beta as a number, infinite where it is."""
        return float(self.beta)

    @property
    def fitted(self) -> bool:
        """Whether all levels have one centre and one width: a block that theory knows."""
        return not self.centres and not self.widths

    @planning_only
    def cost(self) -> Cost:
        """What one step of one replica costs: a few Newton steps, or one diagonalisation."""
        n = self.size
        # The small kernels of NumPy cost more than the arithmetic of a few levels.
        operations = 2e5 + 30 * n**3
        return Cost(draws=n**2, operations=operations, numbers=8 * n**2)

    def rates(self) -> np.ndarray:
        """Confinement theta_i of each level, shape (n,)."""
        if self.widths:
            return 1.0 / (self.dyson_index * np.square(self.widths))
        return np.full(self.size, self.confinement)

    def rest(self) -> np.ndarray:
        """Centre c_i of each level, shape (n,)."""
        return np.array(self.centres) if self.centres else np.zeros(self.size)

    def start(self) -> np.ndarray:
        """Ascending levels at the start, shape (n,)."""
        return np.sort(np.asarray(self.initial_levels, dtype=float))

    def auto_initial_levels(self) -> list[float]:
        """Levels one unit of length apart."""
        self._check_options()
        slowest = float(self.rates().min())
        unit = 1.0 / math.sqrt(slowest) if slowest > 0 else 1.0
        away = np.arange(self.size) - 0.5 * (self.size - 1)
        placed = self.rest().mean() + unit * away
        # Rounded like all that a key is made of.
        return [float(self._normal("initial_levels", float(x))) for x in placed]

    def auto_burn_in(self) -> int:
        """Steps until the start is forgotten."""
        if self.dynamics == "stationary":
            return 0
        rate = self._slowest("burn_in")
        distance = float(np.abs(self.start() - self.rest()).max())
        distance += math.sqrt(2 * self.size / rate)
        left = BURNT_IN / math.sqrt(self.dyson_index * self.rates().max() * self.size)
        if math.isinf(self.dyson_index):
            left = AT_REST * distance
        return self.bounded_time(math.log(distance / left) / (rate * self.time_step))

    def auto_spacing(self) -> int:
        """Three relaxation times; of independent samples, one step."""
        if self.dynamics == "stationary":
            return 1
        return self.bounded_time(3.0 / (self._slowest("steps") * self.time_step))

    def _slowest(self, name: str) -> float:
        self._check_options()
        rate = float(self.rates().min())
        if rate == 0:
            raise ConfigError(
                f"{name} = auto: at confinement = 0 the levels spread without end; give numbers "
                "for burn_in and steps, or confinement > 0"
            )
        return rate

    def check(self) -> None:
        """Refuse options that do not go together, and a step that is too large for the matrix."""
        self._check_options()
        if self.dynamics == "matrix" and self.size > 1:
            self._check_turn()

    def _check_options(self) -> None:
        """Refuse options that do not go together."""
        for name in ("centres", "widths", "initial_levels"):
            values = getattr(self, name)
            given = values != "auto" and (values or name == "initial_levels")
            if given and len(values) != self.size:
                raise ConfigError(
                    f"{name} = {values}: {len(values)} numbers for size = {self.size}; give "
                    f"{self.size}"
                )
        if self.widths and min(self.widths) <= 0:
            raise ConfigError(f"widths = {self.widths}: every width must be > 0")
        if self.widths and math.isinf(self.dyson_index):
            raise ConfigError(
                f"widths = {self.widths}: at beta = infinity all widths are 0; give confinement"
            )
        if self.dynamics != "levels" and not self.fitted:
            name = "centres" if self.centres else "widths"
            raise ConfigError(
                f"{name} = {getattr(self, name)}: dynamics = {self.dynamics} has one centre and "
                f"one width for all levels; set dynamics: levels, or leave {name} out"
            )
        if self.dynamics == "stationary" and self.confinement == 0:
            raise ConfigError(
                "confinement = 0: there is no stationary law to sample; give confinement > 0"
            )

    def _check_turn(self) -> None:
        where = {"initial_levels": self.start()}
        if self.confinement > 0:
            zeros = hermite_zeros(self.size) / math.sqrt(self.confinement)
            where["the levels at rest"] = zeros
        name, gap = min(
            ((name, float(np.diff(levels).min())) for name, levels in where.items()),
            key=lambda pair: pair[1],
        )
        largest = (LARGEST_TURN * gap) ** 2
        if self.time_step <= largest:
            return
        fix = f"give at most {largest:.2g}" if gap > 0 else "set initial_levels apart"
        raise ConfigError(
            f"time_step = {self.time_step:g}: too large for the smallest gap of {name}, {gap:.3g}: "
            "one step turns the eigenvectors so far that its noise has no parts tangent and normal "
            f"to the orbit; {fix}, or set dynamics: levels"
        )


def potential(h: DysonHyperparameters, levels: np.ndarray) -> np.ndarray:
    """Sum of theta_i (l_i - c_i)^2 / 2, less the logarithm of the Vandermonde determinant.

    At beta = infinity the levels descend it; without confinement it is, up to a constant, minus the
    logarithm of the volume of the isospectral orbit.

    Parameters
    ----------
    h : DysonHyperparameters
        Of the run.
    levels : np.ndarray
        Shape (..., n).

    Returns
    -------
    np.ndarray
        Shape (...); infinite where two levels are equal.
    """
    confined = 0.5 * (h.rates() * (levels - h.rest()) ** 2).sum(axis=-1)
    return confined - log_vandermonde(levels)


def step_coefficients(h: DysonHyperparameters) -> np.ndarray:
    """Coefficients of the implicit step of the levels, `LevelMotion`, divided by t_k.

        stiffness_k l'_k - sum_{j != k} 1 / (l'_k - l'_j) = memory_k l_k + pull_k + kick_k xi_k

    Parameters
    ----------
    h : DysonHyperparameters
        Of the run.

    Returns
    -------
    np.ndarray
        Rows stiffness, memory, pull and kick, shape (4, n); finite for any step.
    """
    rates, step = h.rates(), h.time_step
    moving = rates > 0
    theta = np.where(moving, rates, 1.0)
    gone = -np.expm1(-theta * step)
    stiffness = np.where(moving, theta / gone, 1 / step)
    memory = np.where(moving, theta * np.exp(-theta * step) / gone, 1 / step)
    squared = np.where(moving, theta * (2.0 - gone) / gone, 2 / step)
    return np.stack([stiffness, memory, rates * h.rest(), np.sqrt(squared / h.dyson_index)])


class DysonSimulation(Simulation):
    """A block of replicas of Dyson Brownian motion, in NumPy.

    Which of the three dynamics is a matter of `start`.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays that change from step to step."""

    def __init__(self, hyperparameters: DysonHyperparameters, block: Block):
        self.h = hyperparameters
        self.block = block
        self.noise = NumPyNoise(hyperparameters.seed, hyperparameters.key, block.number)
        self.replicas = block.replicas

    @classmethod
    def start(cls, hyperparameters: DysonHyperparameters, block: Block) -> Self:
        """A block of replicas at time 0."""
        return cast(Self, DYNAMICS[hyperparameters.dynamics](hyperparameters, block))

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        arrays = {name: getattr(self, name).copy() for name in self.STATE}
        return {**arrays, "step": np.array([self.step]), "noise": self.noise.state()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        for name in self.STATE:
            setattr(self, name, state[name].copy())
        self.step = int(state["step"][0])
        self.noise.load(state["noise"])

    def loss(self) -> np.ndarray:
        """The potential of each replica, shape (replica,)."""
        return potential(self.h, self.now())

    def now(self) -> np.ndarray:
        """Ascending levels, shape (replica, n)."""
        raise NotImplementedError

    def layers(self) -> dict[str, np.ndarray]:
        """Levels now, shape (replica, 1, n)."""
        return {"M": self.now()[:, None].astype(self.h.dtype)}

    def _diverged(self, levels: np.ndarray) -> DivergedError:
        bad = ~np.isfinite(levels).all(axis=1)
        reason = "a level is not finite; lower time_step or bring initial_levels together"
        return DivergedError(int(bad.argmax()), self.step, reason)


class MatrixMotion(DysonSimulation):
    """The matrix itself, kicked in its own eigenbasis.

    One step is the Ito-Euler step with the confinement solved exactly: M = U l U^T becomes

        U [e^{-theta h} l + s (tangent + sqrt(2/beta) normal)] U^T,

    s^2 = (1 - e^{-2 theta h}) / (2 theta), tangent a symmetric matrix of standard normal entries
    without a diagonal, normal a diagonal one. Trace and E[tr M^2] have no error of the step, nor
    has anything at beta = 1; the law of the rest is of first order in it, but for gaps below
    sqrt(h), where levels repel as at beta = 1.
    """

    STATE = ("matrix",)

    def __init__(self, hyperparameters: DysonHyperparameters, block: Block):
        super().__init__(hyperparameters, block)
        self.matrix = np.tile(np.diag(self.h.start()), (self.replicas, 1, 1))
        rate, step = self.h.confinement, self.h.time_step
        self.decay = math.exp(-rate * step)
        kick = math.sqrt(-math.expm1(-2 * rate * step) / (2 * rate) if rate > 0 else step)
        self.kick = np.full((self.h.size, self.h.size), kick)
        np.fill_diagonal(self.kick, kick * math.sqrt(2 / self.h.dyson_index))

    def advance(self, steps: int) -> None:
        """Take `steps` time steps.

        Raises
        ------
        DivergedError
            If a level is no longer finite.
        """
        n = self.h.size
        lower = np.tril_indices(n)
        index = np.arange(n)
        moved = np.zeros_like(self.matrix)
        for _ in range(steps):
            self.step += 1
            levels, basis = np.linalg.eigh(self.matrix)
            noise = self.noise.normal(self.replicas, len(lower[0]))
            moved[:, lower[0], lower[1]] = noise
            moved[:, lower[1], lower[0]] = noise
            moved *= self.kick
            moved[:, index, index] += self.decay * levels
            self.matrix = basis @ moved @ basis.transpose(0, 2, 1)
        if not np.isfinite(self.matrix).all():
            raise self._diverged(self.matrix.reshape(self.replicas, -1))

    def now(self) -> np.ndarray:
        """Eigenvalues of M, ascending."""
        return np.linalg.eigvalsh(self.matrix)

    def layers(self) -> dict[str, np.ndarray]:
        """M now, a copy of shape (replica, n, n), symmetric to the last bit."""
        both = 0.5 * (self.matrix + self.matrix.transpose(0, 2, 1))
        return {"M": both.astype(self.h.dtype)}


class LevelMotion(DysonSimulation):
    """The levels alone, by an implicit Euler step with the confinement solved exactly.

    Overdamped motion of mobility 1/beta in the potential of the law,

        dl_k = sqrt(2/beta) dB_k + sum_{j != k} dt / (l_k - l_j) - theta_k (l_k - c_k) dt,

    theta_k = 1 / (beta sigma_k^2), has the stationary law prod |l_i - l_j|^beta exp(-sum (l_i -
    c_i)^2 / (2 sigma_i^2)) over ordered levels: those that do not meet (beta >= 1) keep their
    order, those that do (beta < 1) are reflected. One step of time h solves

        e_k l'_k = l_k + (e_k - 1) c_k + s_k xi_k + t_k sum_{j != k} 1 / (l'_k - l'_j),

    t_k = (e_k - 1) / theta_k, e_k = e^{theta_k h}, s_k^2 = (e_k^2 - 1) / (beta theta_k), xi_k
    standard normal, for ordered l', of which there is one (`ordered_levels`). With equal widths the
    mean of the levels is exact at any h, and so is the state of rest at beta = infinity.
    """

    STATE = ("levels",)

    def __init__(self, hyperparameters: DysonHyperparameters, block: Block):
        super().__init__(hyperparameters, block)
        h = self.h
        self.levels = np.tile(h.start(), (self.replicas, 1))
        self.stiffness, self.memory, self.pull, self.kick = step_coefficients(h)

    def advance(self, steps: int) -> None:
        """Take `steps` time steps.

        Raises
        ------
        DivergedError
            If a level is no longer finite.
        """
        # Distance by which levels that begin as one are set apart for the first guess.
        apart = np.arange(self.h.size) / math.sqrt(self.stiffness.max())
        for _ in range(steps):
            self.step += 1
            force = self.memory * self.levels + self.pull
            if math.isfinite(self.h.dyson_index):
                force = force + self.kick * self.noise.normal(*self.levels.shape)
            tied = np.diff(self.levels, axis=1).min(axis=1, initial=np.inf) <= 0.0
            start = np.where(tied[:, None], self.levels + apart, self.levels)
            try:
                self.levels = ordered_levels(self.stiffness, force, start)
            except FloatingPointError:
                raise self._diverged(force) from None

    def now(self) -> np.ndarray:
        """The levels, ascending."""
        return self.levels


class StationarySamples(DysonSimulation):
    """Independent samples of the stationary law at every step, by the tridiagonal matrix model."""

    def advance(self, steps: int) -> None:
        """Go on by `steps` steps; what is drawn at a step depends on no step before it."""
        self.step += steps

    def now(self) -> np.ndarray:
        """The levels of this step, ascending."""
        h = self.h
        if math.isinf(h.dyson_index):
            zeros = hermite_zeros(h.size) / math.sqrt(h.confinement)
            return np.tile(zeros, (self.replicas, 1))
        sigma = 1 / math.sqrt(h.dyson_index * h.confinement)
        noise = NumPyNoise(h.seed, h.key, self.block.number, self.step)
        return sample(h.size, h.dyson_index, self.replicas, noise.generator, sigma=sigma)


DYNAMICS: dict[str, Callable[[DysonHyperparameters, Block], DysonSimulation]] = {
    "matrix": MatrixMotion,
    "levels": LevelMotion,
    "stationary": StationarySamples,
}
"""The three dynamics by the word for them."""


class CompiledLevels(CompiledSimulation):
    """The levels alone, `LevelMotion`, advanced by the compiled kernel."""

    @classmethod
    def why_not(cls, hyperparameters: DysonHyperparameters) -> str:
        """The kernel has the motion of the levels alone."""
        if hyperparameters.dynamics != "levels":
            return f"the compiled kernel has no dynamics: {hyperparameters.dynamics}"
        if not library.knows("dyson"):
            return "the compiled kernel is older than this model: install again"
        return ""

    @classmethod
    def start(cls, hyperparameters: DysonHyperparameters, block: Block) -> Self:
        """A block of replicas at time 0."""
        h = hyperparameters
        arguments = kernel_arguments(h, block)
        # It moves in float64 in any case.
        del arguments["dtype"]
        kernel = DysonKernel(coefficients=step_coefficients(h), levels=h.start(), **arguments)
        return cls(h, kernel)

    def layers(self) -> dict[str, np.ndarray]:
        """Levels now, shape (replica, 1, n)."""
        return {"M": self.kernel.weights.astype(self.h.dtype)}

    def loss(self) -> np.ndarray:
        """The potential of each replica, shape (replica,)."""
        return potential(self.h, self.kernel.weights[:, 0])


SYSTEM = System(DysonHyperparameters, DysonSimulation, CompiledLevels)
