"""Mean gap of degenerate pairs against the gap that their width implies."""

from dysonflow.analysis import laws
from dysonflow.report.figures._law import draw_law
from dysonflow.report.figures._study import Drawing, StudyData


def draw(data: StudyData) -> Drawing:
    """Draw <S> against sqrt(pi) sigma; the Wigner surmise makes them equal."""
    fits = data.fit_table
    # Both axes come from the same levels: the error of their ratio is the one that counts.
    joint = fits["mean_gap"] * fits["gap_ratio_error"] / fits["gap_ratio"]
    fits["joint_error"] = joint
    panels = [(laws.GAP_OVER_SIGMA, r"$\sqrt{\pi}\,\sigma$")]
    return draw_law(data, "mean_gap", "joint_error", panels, r"mean gap $\langle S\rangle$")
