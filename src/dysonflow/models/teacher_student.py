r"""Linear student that learns a linear teacher from noisy gradients.

The student W (n x n) learns the symmetric teacher W_t = O diag(kappa) O^T from inputs x ~ N(0, 1),
with one GOE matrix A of scale epsilon added to the gradient of every sample (Aarts, Lucini, Park,
arXiv:2407.16427, section 6):

    W <- W + a [(W_t - W) C + A_bar],    C = (1/B) sum_b x_b x_b^T,    A_bar = (1/B) sum_b A_b.

The diagonal of A has standard deviation sqrt(2) epsilon, the rest epsilon.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import Cost, Hyperparameters, planning_only, quantity
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.simulation.base import Block
from dysonflow.simulation.compiled import CompiledSimulation, kernel_arguments
from dysonflow.simulation.kernel.library import KernelEnsemble
from dysonflow.simulation.kernel.teacher_student import TeacherStudentKernel
from dysonflow.simulation.torch_simulation import TorchSimulation

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

BURNT_IN = 1e-3
"""Memory of the start that is left after the automatic burn-in, in units of the fluctuations."""
SHARED_INPUTS, TEACHER_BASIS = 1, 2
"""Streams, beside those of the replicas, for what all replicas of a run share."""


class TeacherStudentHyperparameters(Hyperparameters):
    """Hyperparameters of the linear teacher-student model."""

    MODEL = "teacher_student"

    learning_rate: float = quantity(0.1, label="lr", symbol=r"\alpha", gt=0)
    """Step size of stochastic gradient descent."""
    batch_size: int = quantity(16, label="B", symbol="B", ge=1, le=1_000_000_000)
    """Samples per SGD step."""
    noise_scale: float = quantity(0.1, label="eps", symbol=r"\epsilon", ge=0)
    """Scale epsilon of the GOE matrix added to the gradient of each sample; 0 is no noise."""
    size: int = quantity(2, ge=1, le=4096)
    """Rows and columns n of student and teacher."""
    teacher_spectrum: float | list[float] = quantity(2.0)
    """Eigenvalues kappa of the teacher, all > 0: one number for all of them, or a list of n. In a
    sweep a list is one of values: `[[1, 2, 3.5]]` is one teacher, `[1, 2, 3.5]` are three, each
    with equal eigenvalues."""
    initial_width: float = quantity(0.1, ge=0)
    """Standard deviation of the independent normal weights at the start."""
    data: Literal["fresh", "shared"] = quantity("fresh")
    """`fresh`: new inputs for every replica and step; `shared`: one training set for all."""
    training_batches: int = quantity(500, unit="batches", ge=1)
    """Batches in the training set, gone through in order; without effect for `data: fresh`."""

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """The student W is square."""
        return [("W", self.size, self.size)]

    @planning_only
    def cost(self) -> Cost:
        """What one SGD step of one replica costs: its inputs, their covariance, the update."""
        n, batch = self.size, self.batch_size
        return Cost(
            draws=2 * batch * n,
            operations=6 * batch * n**2 + 4 * n**3,
            numbers=10 * n**2 + 8 * batch * n,
        )

    def second_moment_map(self) -> np.ndarray:
        """Map of the second moments of D = W - W_t over one SGD step, noise aside, shape (3, 3).

        Fresh inputs and the GOE noise are invariant under rotation, so is the stationary law:

            E[D_ia D_jb] = p delta_ij delta_ab + q delta_ib delta_ja + r delta_ia delta_jb,

        and averaging D' = D (1 - a C) + a A_bar over normal inputs,

            E[D'_ia D'_jb] = (1 - a)^2 E[D_ia D_jb] + a^2 E[A_bar_ia A_bar_jb]
                           + (a^2 / B) (delta_ab sum_c E[D_ic D_jc] + E[D_ib D_ja]),

        sends (p, q, r) to this matrix times (p, q, r), plus a^2 epsilon^2 / B (1, 1, 0).
        """
        n, quotient = self.size, self.learning_rate**2 / self.batch_size
        kicks = np.array([[n + 1, 1, 1], [0, 0, 1], [0, 1, 0]])
        return (1.0 - self.learning_rate) ** 2 * np.eye(3) + quotient * kicks

    def contraction(self) -> float:
        """Factor by which the memory of the start shrinks per SGD step, root mean square."""
        return float(np.sqrt(np.abs(np.linalg.eigvals(self.second_moment_map())).max()))

    def auto_burn_in(self) -> int:
        """SGD steps until the start is forgotten to 1e-3 of the fluctuations."""
        width = self.noise_scale * math.sqrt(self.learning_rate / self.batch_size)
        start = max(self.spectrum()) + self.initial_width * math.sqrt(self.size)
        smallest = BURNT_IN * max(width, 1e-6 * start)
        return self.bounded_time(self._steps_to(smallest / start))

    def auto_spacing(self) -> int:
        """Three relaxation times."""
        return self.bounded_time(self._steps_to(math.exp(-3.0)))

    def _steps_to(self, factor: float) -> float:
        self.check()
        return max(math.log(factor) / math.log(max(self.contraction(), 1e-6)), 1.0)

    def spectrum(self) -> list[float]:
        """Eigenvalues of the teacher, one for each of the n levels, ascending."""
        if isinstance(self.teacher_spectrum, list):
            return sorted(self.teacher_spectrum)
        return [self.teacher_spectrum] * self.size

    def check(self) -> None:
        """Refuse a spectrum that does not fit, and learning rates without a stationary state."""
        spectrum = self.spectrum()
        if len(spectrum) != self.size:
            raise ConfigError(
                f"teacher_spectrum = {self.teacher_spectrum}: {len(spectrum)} eigenvalues for "
                f"size = {self.size}; give one number, or a list of {self.size}"
            )
        if min(spectrum) <= 0:
            raise ConfigError(
                f"teacher_spectrum = {self.teacher_spectrum}: every eigenvalue must be > 0"
            )
        if self.contraction() >= 1.0:
            raise ConfigError(
                f"learning_rate = {self.learning_rate:g}: the fluctuations grow without bound; "
                f"allowed at batch_size = {self.batch_size}: > 0 and < "
                f"{2 / (1 + (self.size + 1) / self.batch_size):.3g}"
            )


def _shared_stream(h: TeacherStudentHyperparameters, stream: int) -> np.random.Generator:
    # spawn_key of length two: never that of a block of replicas.
    return np.random.default_rng(
        np.random.SeedSequence([h.seed, int(h.key, 16)], spawn_key=(0, stream))
    )


def shared_inputs(h: TeacherStudentHyperparameters) -> np.ndarray:
    """Inputs of the training set that all replicas share, shape (training_batches, B, n)."""
    shape = (h.training_batches, h.batch_size, h.size)
    return _shared_stream(h, SHARED_INPUTS).standard_normal(shape)


def shared_covariances(h: TeacherStudentHyperparameters) -> np.ndarray:
    """Sample covariance C of every batch of the training set, shape (training_batches, n, n)."""
    inputs = shared_inputs(h)
    return inputs.transpose(0, 2, 1) @ inputs / h.batch_size


def teacher(h: TeacherStudentHyperparameters) -> np.ndarray:
    """Teacher W_t = O diag(kappa) O^T with a random orthogonal O, shape (n, n)."""
    if h.size == 1:
        return np.diag(h.spectrum())
    basis = random_rotation(h.size, _shared_stream(h, TEACHER_BASIS))
    return basis @ np.diag(h.spectrum()) @ basis.T


def random_rotation(size: int, rng: np.random.Generator) -> np.ndarray:
    """Orthogonal matrix from the Haar measure, shape (size, size).

    Columns of a normal matrix made orthonormal, the signs such that R has a positive diagonal
    (F. Mezzadri, Notices of the AMS 54, 592 (2007)). The numbers are those of
    `scipy.stats.ortho_group`, whose import takes longer than the training of a small student.
    """
    q, r = np.linalg.qr(rng.normal(size=(1, size, size)))
    diagonal = r.diagonal(offset=0, axis1=-2, axis2=-1)
    q *= (diagonal / np.abs(diagonal))[..., np.newaxis, :]
    return q[0]


def mean_squared_error(h: TeacherStudentHyperparameters, weights: np.ndarray) -> np.ndarray:
    """Mean squared error over all inputs, |W - W_t|^2 / 2.

    Parameters
    ----------
    h : TeacherStudentHyperparameters
        Of the run.
    weights : np.ndarray
        Shape (replica, n, n).

    Returns
    -------
    np.ndarray
        Shape (replica,).
    """
    return 0.5 * np.square(weights.astype(np.float64) - teacher(h)).sum(axis=(1, 2))


class TeacherStudentSimulation(TorchSimulation):
    """A block of students, trained side by side; weights (replica, n, n)."""

    def __init__(
        self, hyperparameters: TeacherStudentHyperparameters, replicas: int, noise: NoiseStream
    ):
        super().__init__(hyperparameters, replicas, noise)
        self.h = hyperparameters
        n = self.h.size
        self.weights = self.h.initial_width * noise.normal(replicas, n, n)
        self.teacher = self._tensor(teacher(self.h)).expand(replicas, n, n)
        if self.h.data == "shared":
            self.covariances = self._tensor(shared_covariances(self.h))

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps.

        Raises
        ------
        DivergedError
            If a weight is no longer finite.
        """
        replicas, n, _ = self.weights.shape
        # The mean of B GOE matrices of scale epsilon is one of scale epsilon / sqrt(B).
        goe_scale = self.h.noise_scale / math.sqrt(2.0 * self.h.batch_size)
        for _ in range(steps):
            covariance = self._covariance()
            self.step += 1
            update = torch.bmm(self.teacher - self.weights, covariance)
            if self.h.noise_scale > 0:
                normal = self.noise.normal(replicas, n, n)
                update = update + goe_scale * (normal + normal.transpose(1, 2))
            self.weights = self.weights + self.h.learning_rate * update
        broken = ~torch.isfinite(self.weights).all(dim=2).all(dim=1)
        if bool(broken.any()):
            reason = "a weight is not finite; lower learning_rate or raise batch_size"
            raise DivergedError(int(broken.int().argmax()), self.step, reason)

    def loss(self) -> np.ndarray:
        """Mean squared error of each replica, shape (replica,)."""
        return mean_squared_error(self.h, self.layers()["W"])

    def _covariance(self) -> torch.Tensor:
        """Sample covariance of this step's batch, shape (replica, n, n)."""
        replicas, n, _ = self.weights.shape
        if self.h.data == "shared":
            batch = self.covariances[self.step % self.h.training_batches]
            return batch.expand(replicas, n, n)
        inputs = self.noise.normal(replicas, self.h.batch_size, n)
        return torch.bmm(inputs.transpose(1, 2), inputs) / self.h.batch_size

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=self.noise.device, dtype=self.noise.dtype)


class CompiledTeacherStudent(CompiledSimulation):
    """The same block of students, advanced by the compiled kernel."""

    def __init__(self, hyperparameters: TeacherStudentHyperparameters, kernel: KernelEnsemble):
        super().__init__(hyperparameters, kernel)
        if self.h.data == "shared":
            self.inputs = shared_inputs(self.h)

    @classmethod
    def start(cls, hyperparameters: TeacherStudentHyperparameters, block: Block) -> Self:
        """A block of students at step 0."""
        h = hyperparameters
        kernel = TeacherStudentKernel(
            teacher=teacher(h),
            learning_rate=h.learning_rate,
            batch_size=h.batch_size,
            noise_scale=h.noise_scale,
            initial_std=h.initial_width,
            **kernel_arguments(h, block),
        )
        return cls(h, kernel)

    def kernel_inputs(self, steps: int) -> dict[str, Any]:
        """Batches of the shared training set for the next steps, shape (steps, B, n)."""
        if self.h.data == "fresh":
            return {}
        return {"inputs": self.inputs[(self.step + np.arange(steps)) % self.h.training_batches]}

    def loss(self) -> np.ndarray:
        """Mean squared error of each replica, shape (replica,)."""
        return mean_squared_error(self.h, self.kernel.weights)


SYSTEM = System(TeacherStudentHyperparameters, TeacherStudentSimulation, CompiledTeacherStudent)
