"""What a study can stand for in the document that compares results with the papers."""

from typing import Literal, NamedTuple

WEIGHT_MATRIX_DYNAMICS = "Aarts, Lucini, Park, arXiv:2407.16427"
LINEAR_NETWORK = "Park, Favoni, Lucini, Aarts, arXiv:2412.20496"
PHASE_DIAGRAM = "Park, Lucini, Aarts, arXiv:2509.01349"
"""The papers."""


class Role(NamedTuple):
    """Model that the study must have, what it stands for, what is compared, and in which paper."""

    model: str
    text: str
    compares: Literal["fits", "increments", "phases"] = "fits"
    paper: str = WEIGHT_MATRIX_DYNAMICS


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
    "gaussian_rbm_motion": Role(
        "gaussian_rbm", "motion of the Gaussian RBM's levels", "increments"
    ),
    "teacher_student_motion": Role(
        "teacher_student", "motion of the student's levels", "increments"
    ),
    "released": Role(
        "checkpoints", "weights released by the authors (Zenodo 10.5281/zenodo.13294081)"
    ),
    "linear_network": Role(
        "mlp", "linear network with one hidden layer, label noise", paper=LINEAR_NETWORK
    ),
    "phase_diagram": Role(
        "two_layer_student",
        "nonlinear student over learning rate and width of its start",
        "phases",
        PHASE_DIAGRAM,
    ),
}
"""In the order of the document."""
