"""Width of degenerate pairs against the variable of the scaling law."""

import math

from dysonflow.report.figures._law import draw_law
from dysonflow.report.figures._study import Drawing, StudyData


def draw(data: StudyData) -> Drawing:
    """Draw against the paper's variable, and against it with the finite-step factors."""
    panels = [
        ("variable", "", data.physics.VARIABLE),
        ("finite_step_variable", "_finite_step", data.physics.FINITE_STEP_VARIABLE),
    ]
    label = r"$\sqrt{\pi}\,\sigma$"
    return draw_law(data, "sigma", "sigma", "sigma_error", panels, label, math.sqrt(math.pi))
