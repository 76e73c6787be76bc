"""Mean gap of degenerate pairs against the variable of the scaling law."""

from dysonflow.analysis import laws
from dysonflow.report.figures._law import draw_law
from dysonflow.report.figures._study import Drawing, StudyData


def draw(data: StudyData) -> Drawing:
    """Draw against the paper's variable, and against it with the finite-step factors."""
    panels = [
        (laws.MEAN_GAP, data.physics.variable),
        (laws.MEAN_GAP_FINITE_STEP, data.physics.finite_step_variable),
    ]
    return draw_law(data, "mean_gap", "mean_gap_error", panels, r"mean gap $\langle S\rangle$")
