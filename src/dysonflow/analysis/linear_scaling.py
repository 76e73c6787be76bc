"""Does only a/B count, without a theory: exponents, runs of equal noise, where that ends.

The linear scaling rule says that a learning rate a and a batch size B act through a/B alone at
equal training time, a times steps (P. Goyal et al., arXiv:1706.02677; S. L. Smith et al.,
arXiv:1711.00489); with a momentum m through a / ((1 - m) B). For Adam a square root is expected,
a / sqrt(B) (S. Malladi et al., arXiv:2205.10287). Both are put to the test for every quantity of
`dysonflow.analysis.noise_response`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dysonflow.analysis.laws import AGREES
from dysonflow.analysis.noise_response import DIFFUSION, FLUCTUATION, MEAN, WIDTH
from dysonflow.analysis.scaling_tests import ENSEMBLE, same_stochasticity_row
from dysonflow.statistics.lines import chi2_p_value, least_squares

PLAIN = ("sgd", "momentum", "nesterov")
"""Optimisers that differ in the effective learning rate alone, to leading order."""
ADAPTIVE = ("adam", "adamw")
"""Optimisers of which a square root rule is expected."""
EXPONENT_A, EXPONENT_B = "exponent_learning_rate", "exponent_batch_size"
EXCHANGE = "exchange"
EQUAL_NOISE, EQUAL_ROOT_NOISE = "equal_noise", "equal_root_noise"
TEXTS = {
    EXPONENT_A: "Exponent in the learning rate at fixed batch size: one for all batch sizes.",
    EXPONENT_B: "Exponent in the batch size at fixed learning rate: one for all learning rates.",
    EXCHANGE: (
        "Exponent q such that the quantity stays where a grows as B^q, from one power of each "
        "through all runs: 1 is the linear rule, 1/2 the square root rule."
    ),
    EQUAL_NOISE: (
        "Ratio to the run of the smallest effective learning rate at equal a / ((1 - m) B), "
        "averaged over all others; chi2 of all ratios against 1."
    ),
    EQUAL_ROOT_NOISE: "The same at equal a / ((1 - m) sqrt(B)).",
}
"""The laws, in the order of the rows, and what each says."""
LINEAR = {
    WIDTH: 0.5,
    FLUCTUATION: 0.5,
    DIFFUSION: 1.0,
    MEAN: 0.0,
}
"""Exponent in a/B that a quantity has at small noise; of the loss it depends on its floor."""
LINEAR_SCALING_SCHEMA = pa.schema(
    [
        pa.field("study", pa.string(), False),
        pa.field("layer", pa.string(), False),
        pa.field("quantity", pa.string(), False),
        pa.field("level", pa.int64(), False),
        pa.field("law", pa.string(), False),
        pa.field("family", pa.string(), False),
        pa.field("points", pa.int64(), False),
        *[pa.field(name, pa.float64()) for name in ("value", "error", "expected", "pull", "chi2")],
        pa.field("dof", pa.int64()),
        pa.field("p_value", pa.float64()),
        pa.field("holds_up_to", pa.float64()),
        pa.field("fails_from", pa.float64()),
    ]
)


def linear_scaling_laws(
    study: str, points: pd.DataFrame, hyperparameters: Sequence[str]
) -> list[dict[str, Any]]:
    """All laws of a study, as rows of `linear_scaling.parquet`.

    Parameters
    ----------
    study : str
        Its name.
    points : pandas.DataFrame
        Rows of `dysonflow.analysis.noise_response.run_points` of all its runs.
    hyperparameters : sequence of str
        Columns that hold hyperparameters.

    Returns
    -------
    list of dict
        One row for each quantity, law and family, runs that differ in a and B alone; those that
        the study has no runs for are left out.
    """
    rows: list[dict[str, Any]] = []
    table = points.assign(**families(points, hyperparameters))
    for (layer, quantity, level), same in table.groupby(["layer", "quantity", "level"], sort=False):
        about = {"study": study, "layer": layer, "quantity": quantity, "level": level}
        for family, runs in same.groupby("family", sort=False):
            rows += [{**about, "family": family, **row} for row in _exponents(runs, str(quantity))]
        for family, runs in same.groupby(equal_family(str(quantity)), sort=False):
            rows += [{**about, "family": family, **row} for row in _equal(runs)]
    order = {law: number for number, law in enumerate(TEXTS)}
    return sorted(rows, key=lambda row: order[row["law"]])


def families(points: pd.DataFrame, hyperparameters: Sequence[str]) -> dict[str, pd.Series]:
    """Which runs belong together, in words for each row; parameters as of `linear_scaling_laws`.

    Returns
    -------
    dict of pandas.Series
        `family`: runs that differ in a and B alone; `merged`: those whose momentum may differ, too,
        which is part of the noise.
    """
    varying = _varying(points, hyperparameters)
    free = {"learning_rate", "batch_size"}
    family = _labels(points, [name for name in varying if name not in free])
    if "optimiser" not in points:
        return {"family": family, "merged": family}
    names = [name for name in varying if name not in free | {"optimiser", "momentum"}]
    is_plain = points["optimiser"].isin(PLAIN)
    return {"family": family, "merged": _labels(points, names).where(is_plain, family)}


def equal_family(quantity: str) -> str:
    """Which of the `families` are compared at equal noise.

    One step with momentum goes the way of all steps within its memory: increments that are shorter
    than this are those of the velocity.
    """
    return "family" if quantity == DIFFUSION else "merged"


def _varying(points: pd.DataFrame, hyperparameters: Sequence[str]) -> list[str]:
    """Hyperparameters in which the runs differ, the size and the times of the ensemble aside."""
    names = [name for name in hyperparameters if name not in ENSEMBLE]
    return [name for name in names if points[name].astype(str).nunique() > 1]


def _labels(points: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Values of some hyperparameters in words, for each row."""
    texts = [name + " = " + points[name].astype(str) for name in names]
    if not texts:
        return pd.Series("", index=points.index)
    return pd.concat(texts, axis=1).agg(", ".join, axis=1)


@dataclass(frozen=True)
class _Logarithms:
    """Points of positive value on logarithmic axes."""

    rate: np.ndarray
    batch: np.ndarray
    value: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, runs: pd.DataFrame) -> _Logarithms:
        kept = runs[(runs["value"] > 0) & (runs["error"] > 0)]
        value = kept["value"].to_numpy()
        return cls(
            np.log(kept["learning_rate"].to_numpy(dtype=float)),
            np.log(kept["batch_size"].to_numpy(dtype=float)),
            np.log(value),
            kept["error"].to_numpy() / value,
        )


def _exponents(runs: pd.DataFrame, quantity: str) -> Iterator[dict[str, Any]]:
    """Exponent in a at fixed B, in B at fixed a, and their ratio over all runs."""
    points = _Logarithms.of(runs)
    power = LINEAR.get(quantity)
    for law, x, fixed, sign in (
        (EXPONENT_A, points.rate, points.batch, 1.0),
        (EXPONENT_B, points.batch, points.rate, -1.0),
    ):
        found = _one_power(x, fixed, points)
        if found is not None:
            yield _with_pull({"law": law} | found, None if power is None else sign * power)
    found = _exchange(points)
    if found is not None and power != 0.0:
        yield _with_pull({"law": EXCHANGE} | found, 1.0)


def _with_pull(row: dict[str, Any], expected: float | None) -> dict[str, Any]:
    if expected is None:
        return row
    return row | {"expected": expected, "pull": (row["value"] - expected) / row["error"]}


def _goodness(chi2: float, dof: int) -> dict[str, Any]:
    return {"chi2": chi2, "dof": dof, "p_value": chi2_p_value(chi2, dof) if dof else None}


def _one_power(x: np.ndarray, fixed: np.ndarray, points: _Logarithms) -> dict[str, Any] | None:
    """Common exponent of x, each value of `fixed` with its own factor; None without two points."""
    groups, group = np.unique(fixed.round(10), return_inverse=True)
    varies = np.array([len(np.unique(x[group == k].round(10))) > 1 for k in range(len(groups))])
    here = varies[group] if len(groups) else np.zeros(0, dtype=bool)
    if not here.any():
        return None
    factors = (group[here][:, None] == np.flatnonzero(varies)).astype(float)
    design = np.column_stack([x[here], factors])
    parameters, covariance, chi2, dof = least_squares(
        design, points.value[here], points.error[here], np.ones(int(here.sum()))
    )
    error = math.sqrt(covariance[0, 0])
    row = {"points": int(here.sum()), "value": float(parameters[0]), "error": error}
    return row | _goodness(chi2, dof)


def _exchange(points: _Logarithms) -> dict[str, Any] | None:
    """Exponent q of a ~ B^q at equal value; None where a and B do not vary apart."""
    design = np.column_stack([points.rate, points.batch, np.ones(len(points.rate))])
    if len(design) < 3 or np.linalg.matrix_rank(design) < 3:
        return None
    ones = np.ones(len(design))
    (rate, batch, _), covariance, chi2, dof = least_squares(
        design, points.value, points.error, ones
    )
    # Where neither exponent is clear of zero, their ratio says nothing.
    if abs(rate) < AGREES * math.sqrt(covariance[0, 0]):
        return None
    gradient = np.array([batch / rate**2, -1.0 / rate])
    error = math.sqrt(gradient @ covariance[:2, :2] @ gradient)
    row = {"points": len(design), "value": float(-batch / rate), "error": error}
    return row | _goodness(chi2, dof)


def equal_pairs(runs: pd.DataFrame, root: bool = False) -> pd.DataFrame:
    """Pairs of runs of equal noise, and the ratio of their values.

    Parameters
    ----------
    runs : pandas.DataFrame
        Points of one quantity.
    root : bool
        Whether the noise goes with the inverse root of the batch size.

    Returns
    -------
    pandas.DataFrame
        `effective_rate` of the run that is compared; `ratio` to the run of the smallest effective
        rate of equal noise, and what `same_stochasticity_row` wants to know. One row for each pair.
    """
    kept = runs[(runs["value"] > 0) & (runs["error"] > 0)]
    noise = kept["effective_rate"] / kept["batch_size"] ** (0.5 if root else 1.0)
    kept = kept.assign(at=noise.map("{:.9g}".format)).sort_values("effective_rate", kind="stable")
    rows = []
    for number, (_, members) in enumerate(kept.groupby("at")):
        low = members.iloc[0]
        for _, high in members.iloc[1:].iterrows():
            rows.append(
                {
                    "run": high["run"],
                    "reference_run": low["run"],
                    "effective_rate": high["effective_rate"],
                    "noise": high["noise"],
                    "ratio": high["value"] / low["value"],
                    "own_error": high["error"] / high["value"],
                    "reference_error": low["error"] / low["value"],
                    "reference": number,
                    "weight": 1.0 / (1.0 / high["replicas"] + 1.0 / low["replicas"]),
                }
            )
    names = ["run", "reference_run", "effective_rate", "noise", "ratio"]
    names += ["own_error", "reference_error", "reference", "weight"]
    return pd.DataFrame(rows, columns=names)


def _equal(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Whether runs of equal noise agree, and up to which learning rate."""
    for law, root in ((EQUAL_NOISE, False), (EQUAL_ROOT_NOISE, True)):
        pairs = equal_pairs(runs, root)
        if pairs.empty:
            continue
        found = same_stochasticity_row(pairs)
        yield {
            "law": law,
            "points": found["points"],
            "value": found["slope"],
            "error": found["slope_error"],
            "expected": 1.0,
            **{name: found[name] for name in ("pull", "chi2", "dof", "p_value")},
            **_range(pairs),
        }


def _range(pairs: pd.DataFrame) -> dict[str, Any]:
    """Largest effective rate up to which all ratios are 1, and the smallest where one is not."""
    error = pairs["ratio"] * np.hypot(pairs["own_error"], pairs["reference_error"])
    differs = ((pairs["ratio"] - 1.0).abs() > AGREES * error).to_numpy()
    # Of equal rates with and without momentum the last digits may differ.
    rate = np.array([float(f"{rate:.9g}") for rate in pairs["effective_rate"]])
    fails = float(rate[differs].min()) if differs.any() else None
    below = rate if fails is None else rate[rate < fails]
    return {
        "holds_up_to": float(below.max()) if len(below) else None,
        "fails_from": fails,
    }
