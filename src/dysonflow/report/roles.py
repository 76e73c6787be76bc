"""What a study can stand for in the document that compares results with the paper."""

from typing import NamedTuple


class Role(NamedTuple):
    """Model that the study must have, and what it stands for."""

    model: str
    text: str
    moves: bool = False
    """Whether its increments are compared, not its fits."""


ROLES = {
    "gaussian_rbm": Role("gaussian_rbm", "Gaussian RBM at the parameters of the paper"),
    "gaussian_rbm_weak_noise": Role(
        "gaussian_rbm", "Gaussian RBM at weak noise, independent samples"
    ),
    "teacher_student": Role(
        "teacher_student", "teacher-student model, fresh inputs for every replica"
    ),
    "shared_data": Role(
        "teacher_student", "teacher-student model, one training set for all replicas of a run"
    ),
    "semicircle": Role("teacher_student", "teacher-student model with many equal levels"),
    "gaussian_rbm_motion": Role("gaussian_rbm", "motion of the Gaussian RBM's levels", True),
    "teacher_student_motion": Role("teacher_student", "motion of the student's levels", True),
    "released": Role(
        "checkpoints", "weights released by the authors (Zenodo 10.5281/zenodo.13294081)"
    ),
}
