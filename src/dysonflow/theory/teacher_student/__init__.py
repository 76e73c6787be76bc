"""Theory of the linear teacher-student model."""

import math

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters, teacher
from dysonflow.statistics.kick import Kick
from dysonflow.theory.base import Block, Theory
from dysonflow.theory.teacher_student import motion, predictions


class TeacherStudentTheory(Theory[TeacherStudentHyperparameters]):
    """Exact second moments of W - W_t; the levels are the singular values of W."""

    variable = r"$\sqrt{(\alpha/B)\,\epsilon^2}$"
    finite_step_variable = r"$\sqrt{(\alpha/B)\,\epsilon^2}$ $\times$ finite-step factor"
    slope = math.sqrt(math.pi)

    def level_name(self, h: TeacherStudentHyperparameters, layer: str) -> str:
        """What a level is, in words."""
        return "singular value of W"

    def level_label(self, h: TeacherStudentHyperparameters, layer: str) -> str:
        """Label of an axis of levels."""
        return r"singular value $\sqrt{x}$"

    def levels(
        self, h: TeacherStudentHyperparameters, layer: str, eigenvalues: np.ndarray
    ) -> np.ndarray:
        """Singular values of W, ascending."""
        return np.sqrt(eigenvalues)

    def eigenvalues(
        self, h: TeacherStudentHyperparameters, layer: str, levels: np.ndarray
    ) -> np.ndarray:
        """Eigenvalues of W^T W that belong to singular values of W, shape as given."""
        return np.asarray(levels) ** 2

    def blocks(self, h: TeacherStudentHyperparameters, layer: str) -> list[Block]:
        """Prediction for every block of equal teacher eigenvalues, ascending."""
        return predictions.blocks(h)

    def pair_plane(
        self, h: TeacherStudentHyperparameters, layer: str, first: int
    ) -> tuple[np.ndarray, int]:
        """Plane of a pair of equal teacher eigenvalues, and where its lower level is."""
        vectors = np.linalg.eigh(teacher(h))[1]
        return vectors[:, first : first + 2], h.size - 1 - first

    def relaxation_rate(
        self, h: TeacherStudentHyperparameters, layer: str, block: Block
    ) -> float | None:
        """-log(1 - a): D' = D (1 - a C) + noise, and C is 1 on average."""
        return -math.log1p(-h.learning_rate) if h.learning_rate < 1 else None

    def kick(
        self,
        h: TeacherStudentHyperparameters,
        layer: str,
        weights: np.ndarray,
        steps: np.ndarray,
        lag: int,
    ) -> Kick | None:
        """Moments of the change of X, exact in mean; None for large students."""
        return motion.kick(h, weights, steps, lag)

    def noise_free(
        self, h: TeacherStudentHyperparameters, layer: str, weights: np.ndarray, steps: np.ndarray
    ) -> np.ndarray:
        """Levels of students trained on the exact gradient, W_t + (1 - a)^t (W(0) - W_t)."""
        target = teacher(h)
        memory = (1.0 - h.learning_rate) ** np.asarray(steps, dtype=float)
        weights = target + memory[None, :, None, None] * (weights - target)[:, None]
        return np.linalg.svd(weights, compute_uv=False)[..., ::-1]


THEORY = TeacherStudentTheory()
