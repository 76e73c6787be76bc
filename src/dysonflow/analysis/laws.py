"""The laws that are tested over the runs of a study, as data: names, axes, and what should hold."""

from dataclasses import dataclass
from typing import Literal

AGREES, DIFFERS = 3.0, 5.0
"""Standard errors up to which a number agrees with theory, and from which it differs."""

Kind = Literal["line", "zero noise", "exponent", "equal stochasticity"]


@dataclass(frozen=True)
class Law:
    """One law, a row of `scaling.parquet` for each study and layer.

    Attributes
    ----------
    name : str
        In the column `law`.
    quantity : str
        What is on the y axis: `mean_gap`; `sigma`, that is sqrt(pi) sigma; or `gap_over_sigma`, the
        mean gap against sqrt(pi) sigma.
    kind : str
        `line`: slope through the origin; `zero noise`: slope extrapolated to a/B = 0; `exponent`:
        power of the variable; `equal stochasticity`: ratio of runs of equal a/B.
    variable : str
        What is on the x axis: a column of the fits.
    text : str
        What is fitted, and where it should hold.
    slope : float, optional
        Slope or ratio that should hold; None where it is that of the model's theory, and for an
        exponent.
    free : tuple of str
        Of an exponent: the hyperparameters that vary.
    small_noise : bool
        Whether only the runs of small noise enter, where the study says which.
    """

    name: str
    quantity: str
    kind: Kind
    variable: str
    text: str
    slope: float | None = None
    free: tuple[str, ...] = ()
    small_noise: bool = False


MEAN_GAP = Law(
    *("mean_gap", "mean_gap", "line", "variable"),
    text=(
        "Mean gap of a pair against the paper's variable, all points. Holds at weak noise and "
        "small steps; beyond, the slope is an average over points that differ."
    ),
)
MEAN_GAP_FINITE_STEP = Law(
    *("mean_gap_finite_step", "mean_gap", "line", "finite_step_variable"),
    text=(
        "The same against the variable with the corrections that are known exactly: finite step "
        "and persistent chains. Holds where only the pair itself matters."
    ),
)
MEAN_GAP_SMALL_NOISE = Law(
    *("mean_gap_small_noise", "mean_gap", "line", "variable"),
    text=(
        "Mean gap against the paper's variable over the runs with a/B up to the study's "
        "small_noise, where it should hold."
    ),
    small_noise=True,
)
SIGMA = Law(
    *("sigma", "sigma", "line", "variable"),
    text=(
        "sqrt(pi) sigma of a pair against the paper's variable, all points. Holds as for the mean"
        " gap."
    ),
)
SIGMA_FINITE_STEP = Law(
    *("sigma_finite_step", "sigma", "line", "finite_step_variable"),
    text="The same against the variable with the corrections that are known exactly.",
)
SIGMA_SMALL_NOISE = Law(
    *("sigma_small_noise", "sigma", "line", "variable"),
    text=(
        "sqrt(pi) sigma against the paper's variable over the runs of small noise, where it "
        "should hold."
    ),
    small_noise=True,
)
GAP_OVER_SIGMA = Law(
    *("gap_over_sigma", "gap_over_sigma", "line", "sigma"),
    text="Mean gap against sqrt(pi) sigma; the slope is 1 for the Wigner surmise.",
    slope=1.0,
)
MEAN_GAP_ZERO_NOISE = Law(
    *("mean_gap_zero_noise", "mean_gap", "zero noise", "finite_step_variable"),
    text=(
        "Slope of the mean gap extrapolated to a/B = 0: one intercept for all points, for each "
        "centre a polynomial of second order in a/B. Should hold at any strength of noise of the "
        "points."
    ),
)
SIGMA_ZERO_NOISE = Law(
    *("sigma_zero_noise", "sigma", "zero noise", "finite_step_variable"),
    text="The same for sqrt(pi) sigma.",
)
SIGMA_IN_LEARNING_RATE = Law(
    *("sigma_in_learning_rate", "sigma", "exponent", "learning_rate"),
    text="Power of a in sigma at fixed B, a factor for each block and B. 1/2 at weak noise.",
    free=("learning_rate",),
)
SIGMA_IN_BATCH_SIZE = Law(
    *("sigma_in_batch_size", "sigma", "exponent", "1/batch_size"),
    text="Power of 1/B in sigma at fixed a, a factor for each block and a. 1/2 at weak noise.",
    free=("batch_size",),
)
SIGMA_IN_STOCHASTICITY = Law(
    *("sigma_in_stochasticity", "sigma", "exponent", "stochasticity"),
    text="Power of a/B in sigma, a factor for each block. 1/2 at weak noise.",
    free=("learning_rate", "batch_size"),
)
EQUAL_STOCHASTICITY = Law(
    *("equal_stochasticity", "sigma", "equal stochasticity", "variable"),
    text=(
        "Ratio of the sigmas of runs with equal a/B and different a. 1 where only a/B counts, "
        "that is at small steps."
    ),
    slope=1.0,
)
EQUAL_STOCHASTICITY_FINITE_STEP = Law(
    *("equal_stochasticity_finite_step", "sigma", "equal stochasticity", "finite_step_variable"),
    text="The same, each sigma over the variable with the finite-step corrections. 1 at any step.",
    slope=1.0,
)

LAWS = (
    *(MEAN_GAP, MEAN_GAP_FINITE_STEP, MEAN_GAP_SMALL_NOISE),
    *(SIGMA, SIGMA_FINITE_STEP, SIGMA_SMALL_NOISE, GAP_OVER_SIGMA),
    *(MEAN_GAP_ZERO_NOISE, SIGMA_ZERO_NOISE),
    *(SIGMA_IN_LEARNING_RATE, SIGMA_IN_BATCH_SIZE, SIGMA_IN_STOCHASTICITY),
    *(EQUAL_STOCHASTICITY, EQUAL_STOCHASTICITY_FINITE_STEP),
)
"""All laws, in the order of the rows of `scaling.parquet`."""


def at_small_noise(law: Law) -> Law | None:
    """The same law over the runs of small noise, if it is tested."""
    for other in LAWS:
        same = (other.quantity, other.kind, other.variable) == (
            law.quantity,
            law.kind,
            law.variable,
        )
        if same and other.small_noise:
            return other
    return None


def agreement(distance: float) -> str:
    """Agreement with theory in words, from the distance in errors.

    Returns
    -------
    str
        `agrees` within `AGREES` errors, `in tension` within `DIFFERS`, else `differs`.
    """
    if abs(distance) < AGREES:
        return "agrees"
    return "in tension" if abs(distance) < DIFFERS else "differs"


def verdict(distance: float, full_theory: float | None = None) -> str:
    """Agreement with a law in words, which may be expected to fail.

    Parameters
    ----------
    distance : float
        From what the law says, in errors.
    full_theory : float, optional
        From what the full theory lets the law find at these points, if there is one.

    Returns
    -------
    str
        As of `agreement`; `, as expected` is added to what does not agree with the law, but does
        with the full theory.
    """
    found = agreement(distance)
    if found == "agrees" or full_theory is None or not abs(full_theory) < AGREES:
        return found
    return f"{found}, as expected"
