"""Width of degenerate pairs against the variable of the scaling law."""

import math

from dysonflow.analysis import laws
from dysonflow.report.figures._law import draw_law
from dysonflow.report.figures._study import Drawing, StudyData


def draw(data: StudyData) -> Drawing:
    """Draw against the paper's variable, and against it with the finite-step factors."""
    panels = [
        (laws.SIGMA, data.physics.variable),
        (laws.SIGMA_FINITE_STEP, data.physics.finite_step_variable),
    ]
    label = r"$\sqrt{\pi}\,\sigma$"
    return draw_law(data, "sigma", "sigma_error", panels, label, math.sqrt(math.pi))
