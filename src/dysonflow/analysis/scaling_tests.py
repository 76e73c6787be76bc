"""Sharper tests of a scaling law: its exponents, its zero-noise limit, whether a/B is all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dysonflow.analysis.columns import INCIDENTAL
from dysonflow.statistics.lines import chi2_p_value, least_squares

ENSEMBLE = ("replicas", "snapshots", "seed", *INCIDENTAL)
"""Hyperparameters that do not enter the stationary law."""
POLYNOMIAL_ORDER = 2
"""Order in a/B of the extrapolation to zero noise."""


def groups(fits: pd.DataFrame, hyperparameters: Sequence[str], free: Sequence[str]) -> pd.Series:
    """Label of all that a fit depends on, apart from the hyperparameters `free`.

    Parameters
    ----------
    fits : pandas.DataFrame
        Fits of the runs of one model.
    hyperparameters : sequence of str
        Columns that hold hyperparameters.
    free : sequence of str
        Those that may differ within a group.
    """
    fixed = [name for name in hyperparameters if name not in (*free, *ENSEMBLE)]
    # What was not given, as the heads of weights that are no network's, has no text either.
    texts = fits[[*fixed, "block"]].astype(str).fillna("")
    return texts.apply("|".join, axis=1, result_type="reduce")


def exponent_row(
    x: np.ndarray, value: np.ndarray, error: np.ndarray, weight: np.ndarray, group: np.ndarray
) -> dict[str, Any]:
    """Common exponent p of value ~ x^p, each group with its own factor.

    `weight` are the expected inverse squares of the relative errors, up to a factor. Only groups in
    which x varies enter. The theory, sigma ~ (a/B)^(1/2), is the limit of small noise: chi2 tells
    whether one power describes the points at all.
    """
    varies = pd.Series(x).groupby(group).transform("nunique").to_numpy() > 1
    row: dict[str, Any] = {"points": int(varies.sum()), "exponent_theory": 0.5}
    if not varies.any():
        return row
    names = np.unique(group[varies])
    design = np.column_stack(
        [np.log(x[varies]), *[(group[varies] == name).astype(float) for name in names]]
    )
    relative = error[varies] / value[varies]
    parameters, covariance, chi2, dof = least_squares(
        design, np.log(value[varies]), relative, weight[varies]
    )
    row |= {"exponent": parameters[0], "exponent_error": float(np.sqrt(covariance[0, 0]))}
    row["pull"] = (row["exponent"] - 0.5) / row["exponent_error"]
    return row | _goodness(chi2, dof)


def zero_noise_row(
    variable: np.ndarray,
    value: np.ndarray,
    error: np.ndarray,
    weight: np.ndarray,
    stochasticity: np.ndarray,
    centre: np.ndarray,
    slope_theory: float,
) -> dict[str, Any]:
    """Slope value / variable extrapolated to a/B = 0.

    `weight` are the expected inverse squares of the relative errors, up to a factor. One intercept
    for all points; each centre has its own polynomial in a/B, of second order, for
    the repulsion between modes that sets in with the noise.
    """
    row: dict[str, Any] = {"points": len(value), "slope_theory": slope_theory}
    centres = np.unique(centre)
    columns = [np.ones(len(value))]
    scale = stochasticity.max(initial=0.0)
    for one in centres:
        here = (centre == one).astype(float)
        columns += [here * (stochasticity / scale) ** k for k in range(1, POLYNOMIAL_ORDER + 1)]
    design = np.column_stack(columns)
    if len(value) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return row
    ratio = value / variable
    parameters, covariance, chi2, dof = least_squares(design, ratio, error / variable, weight)
    row |= {"slope": parameters[0], "slope_error": float(np.sqrt(covariance[0, 0]))}
    row["pull"] = (row["slope"] - slope_theory) / row["slope_error"]
    return row | _goodness(chi2, dof)


def same_stochasticity_pairs(
    fits: pd.DataFrame, hyperparameters: Sequence[str], variable: str
) -> pd.DataFrame:
    """Pairs of runs at equal a/B and different a, and the ratio of their sigmas.

    Parameters
    ----------
    fits : pandas.DataFrame
        Fits of the runs of one model.
    hyperparameters : sequence of str
        Columns that hold hyperparameters.
    variable : str
        Sigma is divided by this column first: "variable" asks whether only a/B counts,
        "finite_step_variable" whether the finite-step theory accounts for the rest.

    Returns
    -------
    pandas.DataFrame
        `learning_rate` of the run with the larger one, `smaller_learning_rate`, `stochasticity`,
        `block`, `ratio` (larger over smaller); `own_error`, `reference_error`, relative ones of the
        two sigmas; `reference`, a number for each run that others are compared with; `weight`, the
        expected inverse square of the error up to a factor. One row per pair.
    """
    table = fits[fits["sigma"].notna()].copy()
    table["group"] = groups(table, hyperparameters, ("learning_rate", "batch_size"))
    table["at"] = table["stochasticity"].map("{:.10g}".format)
    table = table.sort_values("learning_rate")
    rows = []
    for number, (_, members) in enumerate(table.groupby(["group", "at"])):
        # Each run is compared with the one of the smallest step, whose own correction is least.
        low = members.iloc[0]
        for _, high in members.iloc[1:].iterrows():
            ratio = (high["sigma"] / high[variable]) / (low["sigma"] / low[variable])
            rows.append(
                {
                    "learning_rate": high["learning_rate"],
                    "smaller_learning_rate": low["learning_rate"],
                    "stochasticity": high["stochasticity"],
                    "block": high["block"],
                    "ratio": ratio,
                    "own_error": high["sigma_error"] / high["sigma"],
                    "reference_error": low["sigma_error"] / low["sigma"],
                    "reference": number,
                    "weight": 1.0 / (1.0 / high["samples"] + 1.0 / low["samples"]),
                }
            )
    names = ["learning_rate", "smaller_learning_rate", "stochasticity", "block", "ratio"]
    names += ["own_error", "reference_error", "reference", "weight"]
    return pd.DataFrame(rows, columns=names)


def same_stochasticity_row(pairs: pd.DataFrame) -> dict[str, Any]:
    """Whether runs of equal a/B and different a have equal sigma: chi2 of all ratios against 1.

    Ratios to the same run share its error.
    """
    row: dict[str, Any] = {"points": len(pairs), "slope_theory": 1.0}
    if pairs.empty:
        return row
    ratio, reference = pairs["ratio"].to_numpy(), pairs["reference"].to_numpy()
    shared = np.equal.outer(reference, reference) * pairs["reference_error"].to_numpy() ** 2
    covariance = np.outer(ratio, ratio) * (np.diag(pairs["own_error"] ** 2) + shared)
    share = pairs["weight"].to_numpy() / pairs["weight"].sum()
    row |= {
        "slope": float(share @ ratio),
        "slope_error": float(np.sqrt(share @ covariance @ share)),
    }
    row["pull"] = (row["slope"] - 1.0) / row["slope_error"]
    chi2 = (ratio - 1.0) @ np.linalg.solve(covariance, ratio - 1.0)
    return row | _goodness(float(chi2), len(pairs))


def _goodness(chi2: float, dof: int) -> dict[str, Any]:
    p_value = chi2_p_value(chi2, dof) if dof else None
    return {"chi2": chi2, "dof": dof, "p_value": p_value}
