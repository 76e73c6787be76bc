"""Calibration of the statistics of a bulk: p-values, false outliers, power, and hard cases.

Random matrices of several laws of their entries, aspect ratios and sizes go through `describe`, as
layers of a run do, and the p-values of the largest and the smallest level and of the bulk are
tested for uniformity (Kolmogorov-Smirnov); then signals are planted around the threshold, and
spectra that are no plain noise.

    python benchmarks/bulk_calibration.py --matrices 1000 --keep spectra --csv results/bulk

Prints three tables, writes them beside each other if a prefix is given, and the first one as it
stands in docs/bulk.md. Spectra are drawn by parts, which --keep keeps: a run that was stopped goes
on, --time stops one, and what is there is described.
"""

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import blas, eigh, eigvalsh_tridiagonal
from scipy.stats import kstest

from dysonflow.analysis.bulk import Moments, describe, describe_levels, moments
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
SHORT = dict(zip(ENTRIES, ("gaussian", "uniform", "sparse", "t5"), strict=True))
"""Names of their files."""
ASPECTS = (0.1, 0.5, 1.0)
SIZES = (32, 128, 512, 1024)
PART = 50
"""Matrices that are drawn with one stream, and kept in one file."""
SMALL = 64
"""Shorter side up to which singular values are taken; above, eigenvalues of W^T W: they cost less,
and lose 1e-9 of the smallest one of a square matrix of side 1024."""
BIDIAGONAL = 2**17
"""Entries of a Gaussian matrix beyond which its spectrum is drawn without it."""
P_VALUES = {"largest": "largest_p_value", "smallest": "smallest_p_value", "bulk": "bulk_p_value"}
HEAVY = "heavy-tailed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--matrices", type=int, default=1000, help="a row, of the smallest size")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="shorter sides")
    parser.add_argument("--entries", nargs="+", default=list(ENTRIES), choices=list(ENTRIES))
    parser.add_argument("--most", type=float, default=2e8, help="entries drawn for a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder of the spectra that are drawn")
    parser.add_argument("--time", type=float, default=math.inf, help="seconds that may be drawn")
    parser.add_argument("--csv", type=Path, help="prefix of the tables to write")
    options = parser.parse_args()
    found = {
        "uniformity": uniformity(
            options.matrices,
            options.entries,
            options.sizes,
            options.seed,
            options.most,
            keep=options.keep,
            until=time.monotonic() + options.time,
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
        if name == "uniformity":
            print("\n".join(markdown(pd.DataFrame(table))))


def described(matrix: np.ndarray) -> dict[str, Any]:
    """All columns about a matrix."""
    return describe(matrix, eigenvalues(matrix))


def spectra(name: str, n: int, p: int, seed: int, part: int, count: int) -> dict[str, np.ndarray]:
    """Eigenvalues of W^T W of some matrices, shape (count, p), and the moments of their entries.

    A large Gaussian matrix has the spectrum of a bidiagonal one (Dumitriu and Edelman, J. Math.
    Phys. 43, 5830 (2002)), exactly; its kurtosis is drawn as the normal number that it nearly is.
    """
    rng = np.random.default_rng([seed, list(ENTRIES).index(name), n, p, part])
    levels, found = [], []
    for _ in range(count):
        if name == "gaussian" and n * p > BIDIAGONAL:
            levels.append(_bidiagonal(rng, n, p))
            found.append([1.0, rng.standard_normal() * math.sqrt(24.0 / (n * p)), 0.0])
            continue
        matrix = ENTRIES[name](rng, n, p)
        one = moments(matrix)
        found.append([one.variance, one.excess_kurtosis, one.largest])
        if p <= SMALL:
            levels.append(eigenvalues(matrix))
        else:
            gram = blas.dsyrk(1.0, matrix.T, lower=1)
            levels.append(eigh(gram, eigvals_only=True, driver="ev", check_finite=False))
    return {"levels": np.array(levels), "moments": np.array(found)}


def _bidiagonal(rng: np.random.Generator, n: int, p: int) -> np.ndarray:
    diagonal = rng.chisquare(np.arange(n, n - p, -1))
    below = rng.chisquare(np.arange(p - 1, 0, -1))
    squares = diagonal.copy()
    squares[1:] += below
    found: np.ndarray = eigvalsh_tridiagonal(
        squares, np.sqrt(diagonal[:-1] * below), lapack_driver="sterf"
    )
    return found


def kept_spectra(
    name: str, n: int, p: int, seed: int, part: int, count: int, keep: Path | None, until: float
) -> dict[str, np.ndarray] | None:
    """A part of the spectra, from its file if it is there; None where the time is over."""
    short = SHORT[name]
    file = keep / f"{short}_{n}x{p}" / f"{seed}_{part:03d}.npz" if keep else None
    if file is not None and count == PART and file.exists():
        with np.load(file) as arrays:
            return {key: arrays[key] for key in ("levels", "moments")}
    if time.monotonic() > until:
        return None
    found = spectra(name, n, p, seed, part, count)
    if file is not None and count == PART:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}.part")
        with open(unfinished, "wb") as stream:
            np.savez(stream, **found)
        unfinished.rename(file)
    return found


def uniformity(
    matrices: int,
    entries: list[str],
    sizes: tuple[int, ...] = SIZES,
    seed: int = 1,
    most: float = 2e8,
    aspects: tuple[float, ...] = ASPECTS,
    keep: Path | None = None,
    until: float = math.inf,
) -> Iterator[dict[str, Any]]:
    """A row for each law of entries, aspect ratio and size.

    Yields
    ------
    dict
        `ks_...`: p-value of the uniformity of a p-value; `above_1`, `below_1`: part of the matrices
        with an outlier, expected 0.01; `scale_sd`: scatter of the scale over its error;
        `one_entry`: part with an entry that makes an outlier, `above_without`: as `above_1`, of the
        matrices without one; `over_bound`: over the Cramer-Rao bound of Gaussian entries;
        `flagged`: part that carries the flag for heavy tails; `unflagged`: part without any flag,
        and `above_unflagged`, `below_unflagged`: as `above_1` and `below_1`, of these.
    """
    for name in entries:
        for size in sizes:
            for aspect in aspects:
                longer = round(size / aspect)
                wanted = int(min(matrices, max(most // (longer * size), 5)))
                found = []
                for part in range(-(-wanted // PART)):
                    some = min(PART, wanted - part * PART)
                    drawn = kept_spectra(name, longer, size, seed, part, some, keep, until)
                    if drawn is None:
                        break
                    for x, m in zip(drawn["levels"], drawn["moments"], strict=True):
                        own = Moments(*map(float, np.nan_to_num(m)))
                        found.append(describe_levels(x, (longer, size), own)[0])
                if len(found) < 2:
                    continue
                table, count = pd.DataFrame(found), len(found)
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
                    "unflagged": float((table["flag"] == "").mean()),
                    "above_unflagged": float(
                        (table["outliers_above"] > 0)[table["flag"] == ""].mean()
                    ),
                    "below_unflagged": float(
                        (table["outliers_below"] > 0)[table["flag"] == ""].mean()
                    ),
                    "above_without": float(
                        (table["outliers_above"] > 0)[table["largest_entry"] <= 1.0].mean()
                    ),
                }


def markdown(table: pd.DataFrame) -> Iterator[str]:
    """The table of uniformity as in docs/bulk.md, aspect ratios together."""

    def number(x: float) -> str:
        return f"{x:.2g}" if x >= 1e-3 else f"{x:.0e}".replace("e-0", "e-") if x > 1e-99 else "0"

    def percent(x: float) -> str:
        return f"{100 * x:.1f} %" if x < 0.1 else f"{100 * x:.0f} %"

    yield (
        "| entries | p | matrices | KS largest | KS smallest | KS bulk | above, 1 % | below, 1 % | "
        "bulk, 1 % | flagged |"
    )
    yield f"|{' --- |' * 10}"
    for (name, size), rows in table.groupby(["entries", "size"], sort=False):
        part = rows["matrices"] / rows["matrices"].sum()
        smallest = [number(rows[f"ks_{short}"].min()) for short in P_VALUES]
        rates = [
            percent((rows[column] * part).sum())
            for column in ("above_1", "below_1", "bulk_1", "flagged")
        ]
        cells = [name, size, rows["matrices"].sum(), *smallest, *rates]
        yield f"| {' | '.join(map(str, cells))} |"


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
