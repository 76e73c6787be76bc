"""Calibration of the statistics of a bulk: p-values, false outliers, power, and hard cases.

Random matrices of several laws of their entries, aspect ratios and sizes go through `describe`, as
layers of a run do, and the p-values of the largest and the smallest level and of the bulk are
tested for uniformity (Kolmogorov-Smirnov); then signals are planted around the threshold, and
spectra that are no plain noise.

    python benchmarks/bulk_calibration.py --matrices 1000 --csv results/bulk

Prints three tables, and writes them beside each other if a prefix is given.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kstest

from dysonflow.analysis.bulk import describe
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.statistics import spiked

Draw = Callable[[np.random.Generator, int, int], np.ndarray]
ENTRIES: dict[str, Draw] = {
    "gaussian": lambda rng, n, p: rng.standard_normal((n, p)),
    "uniform": lambda rng, n, p: rng.uniform(-math.sqrt(3), math.sqrt(3), (n, p)),
    "sparse 10 %": lambda rng, n, p: (
        rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.1) / math.sqrt(0.1)
    ),
    "Student t5": lambda rng, n, p: rng.standard_t(5, (n, p)) / math.sqrt(5 / 3),
}
ASPECTS = (0.1, 0.5, 1.0)
SIZES = (32, 64, 128, 256)
P_VALUES = {"largest": "largest_p_value", "smallest": "smallest_p_value", "bulk": "bulk_p_value"}
HEAVY = "heavy-tailed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--matrices", type=int, default=1000, help="a row, of the smallest size")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="shorter sides")
    parser.add_argument("--entries", nargs="+", default=list(ENTRIES), choices=list(ENTRIES))
    parser.add_argument("--most", type=float, default=2e8, help="entries drawn for a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="prefix of the tables to write")
    options = parser.parse_args()
    found = {
        "uniformity": uniformity(
            options.matrices, options.entries, options.sizes, options.seed, options.most
        ),
        "power": power(max(options.matrices // 5, 10), options.seed),
        "hard_cases": hard_cases(options.seed),
    }
    for name, rows in found.items():
        table = []
        for row in rows:
            table.append(row)
            print(name, row, flush=True)
            if options.csv:
                path = options.csv.with_name(f"{options.csv.name}_{name}.csv")
                pd.DataFrame(table).to_csv(path, index=False)
        print(pd.DataFrame(table).to_string(index=False, float_format=lambda x: f"{x:.3g}"))


def described(matrix: np.ndarray) -> dict[str, Any]:
    """All columns about a matrix."""
    return describe(matrix, eigenvalues(matrix))


def uniformity(
    matrices: int,
    entries: list[str],
    sizes: tuple[int, ...] = SIZES,
    seed: int = 1,
    most: float = 2e8,
    aspects: tuple[float, ...] = ASPECTS,
) -> Iterator[dict[str, Any]]:
    """A row for each law of entries, aspect ratio and size.

    Yields
    ------
    dict
        `ks_...`: p-value of the uniformity of a p-value; `above_1`, `below_1`: part of the matrices
        with an outlier, expected 0.01; `scale_sd`: scatter of the scale over its error;
        `one_entry`: part with an entry that makes an outlier, `above_without`: as `above_1`, of the
        matrices without one; `over_bound`: over the Cramer-Rao bound of Gaussian entries;
        `flagged`: part that carries the flag for heavy tails.
    """
    rng = np.random.default_rng(seed)
    for name in entries:
        for size in sizes:
            for aspect in aspects:
                longer = round(size / aspect)
                count = int(min(matrices, max(most // (longer * size), 5)))
                found = [described(ENTRIES[name](rng, longer, size)) for _ in range(count)]
                table = pd.DataFrame(found)
                away = table["scale"] - 1.0
                yield {
                    "entries": name,
                    "aspect": aspect,
                    "size": size,
                    "matrices": count,
                    **{
                        f"ks_{short}": float(kstest(table[column], "uniform").pvalue)
                        for short, column in P_VALUES.items()
                    },
                    "above_1": float((table["outliers_above"] > 0).mean()),
                    "below_1": float((table["outliers_below"] > 0).mean()),
                    "bulk_1": float((table["bulk_p_value"] < 0.01).mean()),
                    "scale_sd": float((away / table["scale_error"]).std()),
                    "over_bound": float(away.std() * math.sqrt(2.0 * longer * size)),
                    "gap_ratio": float(table["gap_ratio"].mean()),
                    "gap_ratio_sd": float(
                        (table["gap_ratio"] - table["gap_ratio"].mean()).std()
                        / table["gap_ratio_error"].mean()
                    ),
                    "ks_spacing": float(kstest(table["spacing_p_value"], "uniform").pvalue),
                    "spacing_1": float((table["spacing_p_value"] < 0.01).mean()),
                    "flagged": float(table["flag"].str.contains(HEAVY).mean()),
                    "one_entry": float((table["largest_entry"] > 1.0).mean()),
                    "above_without": float(
                        (table["outliers_above"] > 0)[table["largest_entry"] <= 1.0].mean()
                    ),
                }


def power(matrices: int, seed: int = 1, sizes: tuple[int, ...] = (64, 256)) -> Iterator[dict]:
    """How often a signal is seen, and its strength over the planted one, around the threshold."""
    rng = np.random.default_rng([seed, 1])
    for size in sizes:
        longer = 2 * size
        for times in (0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 3.0):
            strength = times * spiked.threshold(longer, size)
            found = []
            for _ in range(matrices):
                noise = rng.standard_normal((longer, size))
                found.append(described(noise + strength * direction(rng, longer, size)))
            table = pd.DataFrame(found)
            seen = table["outliers_above"] > 0
            pull = ((table["strength"] - strength) / table["strength_error"])[seen]
            yield {
                "size": size,
                "strength": times,
                "matrices": matrices,
                "seen": float(seen.mean()),
                "strength_ratio": float((table["strength"] / strength)[seen].mean()),
                "pull_mean": float(pull.mean()),
                "pull_sd": float(pull.std()),
            }


def direction(rng: np.random.Generator, longer: int, shorter: int) -> np.ndarray:
    """Outer product of two uniform unit vectors."""
    left, right = rng.standard_normal(longer), rng.standard_normal(shorter)
    return np.outer(left / np.linalg.norm(left), right / np.linalg.norm(right))


def cases(rng: np.random.Generator, n: int = 400, p: int = 200) -> Iterator[tuple[str, np.ndarray]]:
    """Spectra that are not plain noise of unit variance, by name."""
    noise = rng.standard_normal((n, p))
    edge = math.sqrt(n) + math.sqrt(p)
    yield "noise", noise
    yield "one value 1000 x the edge", noise + 1000 * edge * direction(rng, n, p)
    pruned = noise * (rng.random((n, p)) >= 0.3) / math.sqrt(0.7)
    yield "30 % of the entries zero", pruned
    dead = noise.copy()
    dead[:, rng.random(p) < 0.3] = 0.0
    yield "30 % of the columns zero", dead
    for rank in (20, 60, 100):
        low = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))
        yield f"rank {rank} and noise", noise + 0.6 * low
    for rho in (0.1, 0.3, 0.7):
        covariance = rho ** np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
        yield f"AR(1), rho {rho}", noise @ np.linalg.cholesky(covariance).T
    yield "product of rank 50", rng.standard_normal((n, 50)) @ rng.standard_normal((50, p))
    yield "Cauchy", rng.standard_cauchy((n, p))


def hard_cases(seed: int = 1) -> Iterator[dict[str, Any]]:
    """One row for each of the `cases`."""
    for name, matrix in cases(np.random.default_rng([seed, 2])):
        row = described(matrix)
        names = ("scale", "scale_error", "outliers_above", "outliers_below", "zeros")
        more = ("zero_columns", "bulk_chi2", "bulk_dof", "bulk_p_value", "flag")
        yield {"case": name, **{column: row.get(column) for column in (*names, *more)}}


if __name__ == "__main__":
    main()
