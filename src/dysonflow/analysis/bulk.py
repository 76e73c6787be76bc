"""The bulk of the spectra of a run and what lies outside: one row per layer, snapshot and replica.

All comes from the eigenvalues that the spectra hold, and one look at the weights for their moments.
Singular vectors, the bend of a power law and the shuffled matrix cost as much again or more, and
are for those who ask for them.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from dysonflow.analysis.bulk_scope import SHUFFLED, TRUNCATED, VECTORS, layers_with_bulk
from dysonflow.analysis.columns import (
    RUN_FIELDS,
    hyperparameter_fields,
    null_if_nan,
    run_columns,
)
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.artifacts.arrow import arrow_array
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.statistics import noise_bulk, power_law_tail, spacings, spiked, tracy_widom
from dysonflow.statistics.matrix_norms import matrix_norms
from dysonflow.statistics.noise_bulk import NoiseBulk, fit_bulk
from dysonflow.statistics.singular_vectors import delocalisation

log = logging.getLogger(__name__)

WEIGHTS = "weights"
ONE, OVER_REPLICAS = "one matrix", "replicas"

COUNTS = ("zeros", "bulk_levels")
SIDES = ("above", "below")
VECTOR_COLUMNS = tuple(
    f"{name}_{where}_{side}"
    for where in ("inside", "outside")
    for side in ("left", "right")
    for name in ("participation", "porter_thomas_p_value")
)
FLOATS = (
    *("excess_kurtosis", "largest_entry"),
    *("scale", "scale_error", "lower_edge", "upper_edge"),
    *("bulk_p_value", "largest_p_value", "smallest_p_value"),
    *("threshold", "strength", "strength_error"),
    *("gap_ratio", "gap_ratio_error", "gap_ratio_goe", "gap_ratio_poisson"),
    *("pull_goe", "pull_poisson"),
    *("unfolding_error", "spacing_p_value"),
    *("number_variance", "number_variance_error", "number_variance_goe"),
    *("tail_exponent", "tail_exponent_error", "tail_start", "tail_distance"),
    *("truncated_exponent", "truncated_exponent_error", "truncated_rate"),
    *("truncated_rate_error", "truncation_p_value"),
    *VECTOR_COLUMNS,
    *("frobenius_norm", "spectral_norm", "stable_rank", "entropy", "effective_rank"),
)
"""Numbers of one matrix each; of their replicas the mean is taken, and of p-values Fisher's sum."""
LISTS = (
    *("outlier_eigenvalues", "outlier_p_values", "signal_strengths", "signal_strength_errors"),
)
BULK_FIELDS = [
    *RUN_FIELDS,
    pa.field("matrix", pa.string(), False),
    pa.field("pooled", pa.string(), False),
    pa.field("matrices", pa.int64(), False),
    pa.field("replica", pa.int64()),
    pa.field("snapshot", pa.int64(), False),
    pa.field("step", pa.int64(), False),
    *[
        pa.field(name, pa.int64(), False)
        for name in ("matrix_rows", "matrix_columns", "zero_rows", "zero_columns")
    ],
    pa.field("aspect_ratio", pa.float64(), False),
    *[pa.field(name, pa.int64()) for name in COUNTS],
    pa.field("is_scale_known", pa.bool_(), False),
    pa.field("bulk_chi2", pa.float64()),
    pa.field("bulk_dof", pa.int64()),
    *[
        pa.field(f"outliers_{side}{corrected}", pa.int64())
        for side in SIDES
        for corrected in ("", "_corrected")
    ],
    pa.field("tail_levels", pa.int64()),
    *[pa.field(name, pa.float64()) for name in FLOATS],
    *[pa.field(name, pa.list_(pa.float64()), False) for name in LISTS],
    pa.field("flag", pa.string(), False),
]
BULK_LEVEL = 1e-3
"""p-value below which a bulk is said to be none of Marchenko and Pastur."""
MOST_OUTSIDE = 0.25
"""Part of the levels outside from which on there is said to be no bulk."""
EDGE_FLAGS = {
    "kurtosis": "heavy-tailed entries (excess kurtosis {:.3g}): p-values of the outermost levels "
    "and of the bulk are too small",
    "entry": "a single entry is large enough to make an outlier",
}
"""Why levels at the edges are not to be taken at their word."""
LEAST_NOISE = 0.5
"""Part of the variance of the entries that must be noise for their kurtosis to be that of noise."""
CHUNK = 2**16
"""Entries of a matrix that are looked at together, so that they stay in the cache."""
SHUFFLE = 1
"""Last part of the key of the stream that shuffles, unlike any key of a simulation."""


class WeightsInTime(Protocol):
    """Weights of a run, read part by part."""

    step: np.ndarray

    def read(
        self, layer: str, replicas: slice = slice(None), snapshots: slice = slice(None)
    ) -> np.ndarray:
        """Weights of a layer, shape (replica, snapshot, M, N)."""
        ...

    def parts(self, layer: str) -> Iterable[slice]:
        """Replicas that are read at once."""
        ...


def bulk_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the bulk of a model."""
    return pa.schema([*BULK_FIELDS, *hyperparameter_fields(hyperparameters)])


def bulk_columns(
    hyperparameters: Hyperparameters,
    spectrum_of: Callable[[str], np.ndarray],
    weights: WeightsInTime,
    extras: Sequence[str] = (),
    scales: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Columns of the bulk of all large layers of a run.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run; one of its `layers_with_bulk` at least.
    spectrum_of : callable
        Eigenvalues of W^T W of a layer, ascending, shape (replica, snapshot, N).
    weights : WeightsInTime
        The matrices they are of.
    extras : sequence of str
        Some of `EXTRAS`.
    scales : mapping, optional
        Layer to the standard deviation of an entry of its noise, where it is known.

    Returns
    -------
    dict
        Columns of `bulk_schema`. What cannot be had is missing, and `flag` says why.
    """
    rows: list[dict[str, Any]] = []
    layers = layers_with_bulk(hyperparameters)
    numbers = {layer: number for number, layer in enumerate(hyperparameters.layers())}
    for layer in layers:
        spectrum = spectrum_of(layer)
        tested = spectrum.shape[0] * spectrum.shape[1] * len(layers)
        for snapshot in range(spectrum.shape[1]):
            found = list(
                _rows(
                    hyperparameters,
                    (layer, numbers[layer]),
                    spectrum,
                    weights,
                    snapshot,
                    extras,
                    tested,
                    (scales or {}).get(layer),
                )
            )
            rows += found
            if spectrum.shape[0] > 1:
                for matrix in dict.fromkeys(row["matrix"] for row in found):
                    rows.append(_pooled([row for row in found if row["matrix"] == matrix]))
        log.info("run %s, layer %s: %d snapshots", hyperparameters.name, layer, spectrum.shape[1])
    # All layers at once: a network has many, with a row or two each.
    constant = run_columns(hyperparameters, "", len(rows))
    del constant["layer"]
    columns = {
        field.name: arrow_array([null_if_nan(row.get(field.name)) for row in rows], field.type)
        for field in BULK_FIELDS
        if field.name not in constant
    }
    return columns | constant


def _rows(
    h: Hyperparameters,
    named: tuple[str, int],
    spectrum: np.ndarray,
    weights: WeightsInTime,
    snapshot: int,
    extras: Sequence[str],
    tested: int,
    scale: float | None,
) -> Iterator[dict[str, Any]]:
    """Rows of one snapshot of a layer, which is given by its name and number."""
    layer, number = named
    for part in weights.parts(layer):
        for replica, matrix in enumerate(
            weights.read(layer, part, slice(snapshot, snapshot + 1))[:, 0], part.start
        ):
            place = {
                "layer": layer,
                "pooled": ONE,
                "matrices": 1,
                "replica": replica,
                "snapshot": snapshot,
                "step": int(weights.step[snapshot]),
            }
            own = spectrum[replica, snapshot]
            yield {**place, "matrix": WEIGHTS, **describe(matrix, own, extras, tested, scale)}
            if SHUFFLED in extras:
                key = (number, replica, snapshot, SHUFFLE)
                seed = np.random.SeedSequence([h.seed, int(h.key, 16)], spawn_key=key)
                other = np.random.default_rng(seed).permutation(matrix.ravel())
                other = other.reshape(matrix.shape)
                values = eigenvalues(other)
                # What was signal is noise now, so that its scale is not the known one.
                yield {**place, "matrix": SHUFFLED, **describe(other, values, extras, tested)}


@dataclass(frozen=True)
class Moments:
    """What the entries of a matrix are like, the means of rows and columns taken away.

    Attributes
    ----------
    variance : float
        Mean square.
    excess_kurtosis : float
        Mean of the fourth powers over the square of the variance, minus 3.
    largest : float
        Largest size of one.
    precision : float
        Relative precision of their type.
    """

    variance: float
    excess_kurtosis: float
    largest: float
    precision: float = noise_bulk.DOUBLE


def describe(
    matrix: np.ndarray,
    spectrum: np.ndarray,
    extras: Sequence[str] = (),
    tested: int = 1,
    scale: float | None = None,
) -> dict[str, Any]:
    """All columns about one matrix.

    Parameters
    ----------
    matrix : np.ndarray
        Shape (M, N).
    spectrum : np.ndarray
        Eigenvalues of W^T W, ascending, shape (N,).
    extras : sequence of str
        Some of `EXTRAS`.
    tested : int
        Matrices among which this one is, for the corrected number of outliers.
    scale : float, optional
        Standard deviation of an entry of the noise, where it is known.
    """
    rows, columns = matrix.shape
    levels = spectrum[max(columns - rows, 0) :]
    kept_rows, kept_columns = matrix.any(axis=1), matrix.any(axis=0)
    zero_rows, zero_columns = rows - int(kept_rows.sum()), columns - int(kept_columns.sum())
    row: dict[str, Any] = {
        "matrix_rows": rows,
        "matrix_columns": columns,
        "aspect_ratio": min(rows, columns) / max(rows, columns),
        "zero_rows": zero_rows,
        "zero_columns": zero_columns,
        "is_scale_known": scale is not None,
        "flag": "",
        **{name: [] for name in LISTS},
        **vars(matrix_norms(np.sqrt(levels))),
    }
    if zero_rows == rows:
        return row | {"flag": "all weights are zero"}
    sides = rows - zero_rows, columns - zero_columns
    entries = matrix if sides == matrix.shape else matrix[kept_rows][:, kept_columns]
    row |= _of_tail(levels, TRUNCATED in extras)
    # Of zeros only those count here that rows and columns of zeros do not make.
    own, found = describe_levels(levels[-min(sides) :], sides, moments(entries), tested, scale)
    if found is not None and VECTORS in extras:
        own |= _of_vectors(matrix, found)
    return row | own


def describe_levels(
    levels: np.ndarray,
    sides: tuple[int, int],
    entries: Moments,
    tested: int = 1,
    scale: float | None = None,
) -> tuple[dict[str, Any], NoiseBulk | None]:
    """Columns that follow from the eigenvalues and the moments of the entries, and the bulk.

    Parameters
    ----------
    levels : np.ndarray
        Eigenvalues of W^T W or W W^T, ascending, as many as the shorter side.
    sides : tuple of int
        Of W without its rows and columns of zeros.
    entries : Moments
        Of W without them.
    tested, scale
        As of `describe`.
    """
    row: dict[str, Any] = {"excess_kurtosis": entries.excess_kurtosis}
    (shorter, longer), eps = sorted(sides), entries.precision
    try:
        found = fit_bulk(levels, longer, shorter, entries.excess_kurtosis, scale, precision=eps)
        if found.law.scale**2 < LEAST_NOISE * entries.variance:
            # The entries are mostly signal, and their kurtosis is not that of the noise.
            found = fit_bulk(levels, longer, shorter, scale=scale, precision=eps)
    except ValueError as error:
        return row | {"flag": str(error)}, None
    row["largest_entry"] = entries.largest / spiked.threshold(longer, shorter, found.law.scale)
    row |= _of_fit(found, tested) | _of_spacings(found)
    row["flag"] = "; ".join(_doubts(row, found))
    return row, found


def moments(matrix: np.ndarray) -> Moments:
    """Moments of the entries of a matrix.

    Of what is left when the means of its rows and columns are taken away, which are no noise.
    """
    in_rows = matrix.mean(axis=1, dtype=np.float64)
    in_columns = matrix.mean(axis=0, dtype=np.float64) - in_rows.mean()
    second = fourth = largest = 0.0
    height = max(CHUNK // matrix.shape[1], 1)
    for first in range(0, len(matrix), height):
        part = slice(first, first + height)
        square = np.square(matrix[part] - in_rows[part, None] - in_columns)
        largest = max(largest, float(square.max()))
        second += float(square.sum())
        fourth += float(np.vdot(square, square))
    variance, precision = second / matrix.size, float(np.finfo(matrix.dtype).eps)
    kurtosis = fourth / matrix.size / variance**2 - 3.0 if variance > 0 else 0.0
    return Moments(variance, kurtosis, math.sqrt(largest), precision)


def _of_tail(levels: np.ndarray, with_truncated: bool) -> dict[str, Any]:
    """Columns on the power law of the largest levels."""
    tail = power_law_tail.fit_tail(levels)
    if tail is None:
        return {}
    row: dict[str, Any] = {
        "tail_exponent": tail.exponent,
        "tail_exponent_error": tail.error,
        "tail_start": tail.start,
        "tail_levels": tail.count,
        "tail_distance": tail.distance,
    }
    if with_truncated:
        bent = power_law_tail.fit_truncated(levels, tail.start)
        row |= {
            "truncated_exponent": bent.exponent,
            "truncated_exponent_error": bent.exponent_error,
            "truncated_rate": bent.rate,
            "truncated_rate_error": bent.rate_error,
            "truncation_p_value": bent.p_value,
        }
    return row


def _of_fit(found: NoiseBulk, tested: int) -> dict[str, Any]:
    signals = found.signals()
    corrected = found.significant(noise_bulk.LEVEL / tested)
    counts = len(found.above), len(found.below)
    strongest = len(found.above) > 0
    return {
        "zeros": found.zeros,
        "bulk_levels": len(found.bulk),
        "scale": found.law.scale,
        "scale_error": found.scale_error,
        "lower_edge": found.edges[0],
        "upper_edge": found.edges[1],
        "bulk_chi2": found.fit.chi2,
        "bulk_dof": found.fit.dof,
        "bulk_p_value": found.fit.p_value,
        **{f"outliers_{side}": n for side, n in zip(SIDES, counts, strict=True)},
        **{f"outliers_{side}_corrected": n for side, n in zip(SIDES, corrected, strict=True)},
        "largest_p_value": float(found.p_above[0]) if strongest else found.next_above,
        "smallest_p_value": float(found.p_below[0]) if len(found.below) else found.next_below,
        "threshold": spiked.threshold(found.law.longer, found.law.shorter, found.law.scale),
        "strength": float(signals.strength[0]) if strongest else math.nan,
        "strength_error": float(signals.error[0]) if strongest else math.nan,
        "outlier_eigenvalues": found.above.tolist(),
        "outlier_p_values": found.p_above.tolist(),
        "signal_strengths": signals.strength.tolist(),
        "signal_strength_errors": signals.error.tolist(),
    }


def _of_spacings(found: NoiseBulk) -> dict[str, Any]:
    ratio = spacings.mean_gap_ratio(found.bulk)
    unfolded = spacings.unfold(found.bulk, found.law.cdf)
    variance = spacings.number_variance(unfolded)
    return {
        "gap_ratio": ratio.value,
        "gap_ratio_error": ratio.error,
        "gap_ratio_goe": spacings.GOE,
        "gap_ratio_poisson": spacings.POISSON,
        "pull_goe": (ratio.value - spacings.GOE) / ratio.error,
        "pull_poisson": (ratio.value - spacings.POISSON) / ratio.error,
        "unfolding_error": spacings.unfolding_error(unfolded),
        "spacing_p_value": spacings.surmise_p_value(unfolded),
        "number_variance": variance.value,
        "number_variance_error": variance.error,
        "number_variance_goe": float(spacings.number_variance_goe(spacings.LENGTH)),
    }


def _of_vectors(matrix: np.ndarray, found: NoiseBulk) -> dict[str, float]:
    """Delocalisation of the singular vectors, of rows and columns that are not zero."""
    kept = matrix[np.any(matrix != 0, axis=1)][:, np.any(matrix != 0, axis=0)]
    left, _, right = np.linalg.svd(kept.astype(np.float64), full_matrices=False)
    outside = slice(0, len(found.above))
    inside = slice(len(found.above), len(found.above) + len(found.bulk))
    row = {}
    for side, vectors in (("left", left), ("right", right.T)):
        for where, part in (("inside", inside), ("outside", outside)):
            one = delocalisation(vectors[:, part])
            row[f"participation_{where}_{side}"] = one.participation
            row[f"porter_thomas_p_value_{where}_{side}"] = one.p_value
    return row


def _doubts(row: dict[str, Any], found: NoiseBulk) -> Iterator[str]:
    """Why the numbers of a matrix are not to be taken at their word."""
    law = found.law
    outside = len(found.above) + len(found.below)
    if outside > MOST_OUTSIDE * (outside + len(found.bulk)):
        yield f"{outside} of {outside + len(found.bulk)} levels lie outside: hardly a bulk"
    if found.fit.p_value < BULK_LEVEL:
        yield (
            f"no Marchenko-Pastur bulk: chi2/dof {found.fit.chi2:.3g}/{found.fit.dof}, p-value "
            f"{found.fit.p_value:.2g}"
        )
    shift = row["excess_kurtosis"] / math.sqrt(law.longer * law.shorter)
    if shift > tracy_widom.relative_width(law.longer, law.shorter):
        yield EDGE_FLAGS["kurtosis"].format(row["excess_kurtosis"])
    if row["largest_entry"] > 1.0:
        yield EDGE_FLAGS["entry"]


def _pooled(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row for the same layer and snapshot of all replicas.

    Counts, chi-squared and its degrees of freedom are sums, p-values Fisher's combination, all
    else is a mean, with the standard error over replicas where there is an error.
    """
    first = rows[0]
    names = ("layer", "matrix", "snapshot", "step", "matrix_rows", "matrix_columns", "aspect_ratio")
    row: dict[str, Any] = {name: first[name] for name in (*names, "is_scale_known")}
    row |= {"pooled": OVER_REPLICAS, "matrices": len(rows), **{name: [] for name in LISTS}}
    sums = ("zero_rows", "zero_columns", "tail_levels", "bulk_chi2", "bulk_dof", *COUNTS)
    outliers = [f"outliers_{side}{end}" for side in SIDES for end in ("", "_corrected")]
    for name in (*sums, *outliers):
        row[name] = sum(one.get(name) or 0 for one in rows)
    for name in FLOATS:
        values = np.array([one.get(name, math.nan) for one in rows], dtype=float)
        values = values[np.isfinite(values)]
        if not len(values) or name.endswith("_error"):
            continue
        if "p_value" in name:
            row[name] = _fisher(values)
            continue
        row[name] = float(values.mean())
        if f"{name}_error" in FLOATS and len(values) > 1:
            row[f"{name}_error"] = float(values.std(ddof=1)) / math.sqrt(len(values))
    if row.get("gap_ratio_error"):
        for law in ("goe", "poisson"):
            row[f"pull_{law}"] = (row["gap_ratio"] - row[f"gap_ratio_{law}"]) / row[
                "gap_ratio_error"
            ]
    if row["bulk_dof"]:
        row["bulk_p_value"] = _chi2_sf(row["bulk_chi2"], row["bulk_dof"])
    flagged = sum(bool(one["flag"]) for one in rows)
    row["flag"] = f"{flagged} of {len(rows)} replicas are flagged" if flagged else ""
    return row


def _fisher(p_values: np.ndarray) -> float:
    """Fisher's combination of independent p-values."""
    return _chi2_sf(-2.0 * float(np.log(np.maximum(p_values, 1e-300)).sum()), 2 * len(p_values))


def _chi2_sf(chi2: float, dof: int) -> float:
    from scipy.special import gammaincc

    return float(gammaincc(0.5 * dof, 0.5 * chi2))
