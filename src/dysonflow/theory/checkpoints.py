"""Theory of weights that others trained, from what the user knows of them."""

import math

import numpy as np

from dysonflow.models.checkpoints import CheckpointHyperparameters
from dysonflow.theory.base import Block, Theory
from dysonflow.theory.blocks import crowding, multiplets, why_crowded
from dysonflow.theory.tails import unit_mean_gap
from dysonflow.theory.teacher_student import predictions


def blocks(h: CheckpointHyperparameters) -> list[Block]:
    """Prediction for every block of equal centres, ascending; none without centres.

    To leading order in a small step a block is a GOE of width sigma = s sqrt(a/B) about its centre,
    s the scale of the noise. `theory: teacher_student` has the stationary moments of the linear
    student instead.
    """
    if not h.centres or h.noise_scale is None or h.learning_rate is None or h.batch_size is None:
        return []
    if h.theory == "teacher_student":
        return predictions.blocks(h.student())
    ratio = h.learning_rate / h.batch_size
    sigma = h.noise_scale * math.sqrt(ratio)
    centres = np.array(h.centres)
    places = multiplets(centres)
    near = crowding(np.full(len(places), sigma), centres, places)
    found = []
    for (first, count), crowded in zip(places, near.tolist(), strict=True):
        centre, gap = float(h.centres[first]), sigma * unit_mean_gap(count)
        found.append(
            Block(
                first=first,
                multiplicity=count,
                centre=centre,
                sigma=sigma,
                mean_gap=gap,
                centre_block=centre,
                sigma_block=sigma,
                mean_gap_block=gap,
                variable=sigma,
                finite_step_variable=sigma,
                stochasticity=ratio,
                dyson_index=1.0 if count > 1 else math.nan,
                beyond=why_crowded(crowded),
            )
        )
    return found


class CheckpointTheory(Theory[CheckpointHyperparameters]):
    """Blocks about the centres that the user gives; directions and drift are not known."""

    variable = r"$\sqrt{\alpha/B}\,\epsilon$"
    finite_step_variable = r"$\sqrt{\alpha/B}\,\epsilon$ $\times$ finite-step factor"
    slope = math.sqrt(math.pi)
    scope = "centres: give centres and noise_scale"

    def level_name(self, h: CheckpointHyperparameters, layer: str) -> str:
        """What a level is, in words."""
        return "singular value of W" if h.level == "singular_value" else "eigenvalue of W^T W"

    def level_label(self, h: CheckpointHyperparameters, layer: str) -> str:
        """Label of an axis of levels."""
        return r"singular value $\sqrt{x}$" if h.level == "singular_value" else "eigenvalue $x$"

    def levels(
        self, h: CheckpointHyperparameters, layer: str, eigenvalues: np.ndarray
    ) -> np.ndarray:
        """Ascending levels from ascending eigenvalues of W^T W, shape (..., N)."""
        return np.sqrt(eigenvalues) if h.level == "singular_value" else eigenvalues

    def eigenvalues(
        self, h: CheckpointHyperparameters, layer: str, levels: np.ndarray
    ) -> np.ndarray:
        """Eigenvalues of W^T W that belong to levels, shape as given."""
        return np.asarray(levels) ** 2 if h.level == "singular_value" else np.asarray(levels)

    def blocks(self, h: CheckpointHyperparameters, layer: str) -> list[Block]:
        """Prediction for every block of equal centres, ascending; none without centres."""
        return blocks(h)


THEORY = CheckpointTheory()
