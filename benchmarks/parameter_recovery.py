"""Parameter recovery of the Coulomb gas, against its bounds, and uniformity of its p-values.

Simulates data sets from the gas itself and prints, for each number of levels and Dyson index,
bias, scatter over the Cramer-Rao bound and coverage of the quoted intervals; then the uniformity
of every p-value under its null hypothesis, and its power against wrong spectra.

    python benchmarks/parameter_recovery.py --datasets 1000 --csv parameter_recovery
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from histogram_fit import fit_histogram
from numpy.typing import NDArray
from scipy import stats

from dysonflow.statistics.coulomb_gas import cramer_rao_errors, sample
from dysonflow.statistics.estimators import BlockFit, fit_block
from dysonflow.statistics.goodness import angle_p_value, density_p_value, surmise_p_value

CENTRE, SIGMA = 3.0, 0.2
LEVELS = (1, 2, 4, 8)
DYSON_INDICES = (1.0, 2.0, 4.0)
NAMES = ("centre", "sigma", "dyson_index", "mean_gap")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=1000, help="data sets a row")
    parser.add_argument("--blocks", type=int, default=200, help="blocks a data set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path, help="prefix of the three tables to write")
    options = parser.parse_args()

    start = time.perf_counter()
    tables = {
        "recovery": pd.DataFrame(recovery(options.datasets, options.blocks, options.seed)),
        "uniformity": pd.DataFrame(uniformity(options.datasets, options.blocks, options.seed)),
        "power": pd.DataFrame(power(options.datasets, options.blocks, options.seed)),
    }
    for name, table in tables.items():
        print(f"\n{name}: {options.datasets} data sets of {options.blocks} blocks")
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        if options.csv:
            table.to_csv(options.csv.with_name(f"{options.csv.name}_{name}.csv"), index=False)
    table = tables["recovery"]
    efficient = table[
        (table.method == "likelihood")
        & (table.parameter != "mean_gap")
        & table.fit.str.startswith("beta")
    ].se_over_bound
    scatter = 1 / np.sqrt(2 * options.datasets)
    print(
        f"\nse_over_bound of centre, sigma and dyson_index by maximum likelihood: "
        f"mean {efficient.mean():.3f}, largest {efficient.max():.3f} of {efficient.size}, "
        f"statistical error of each {scatter:.3f}"
    )
    print(f"{time.perf_counter() - start:.0f} s")


def recovery(datasets: int, blocks: int, seed: int) -> Iterator[dict[str, object]]:
    """Bias, scatter and coverage of each estimate; one row a parameter."""
    fits = (
        ("likelihood", "beta given"),
        ("likelihood", "beta fitted"),
        ("histogram", "beta given"),
    )
    for n in LEVELS:
        for beta in DYSON_INDICES[: 1 if n == 1 else None]:
            rng = np.random.default_rng([seed, 0, n, int(beta)])
            data = gas(n, beta, datasets, blocks, rng)
            mean_gap = exact_mean_gap(n, beta, rng)
            truth = dict(zip(NAMES, (CENTRE, SIGMA, beta, mean_gap), strict=True))
            for method, what in fits:
                if (method == "histogram" and n > 2) or (what == "beta fitted" and n == 1):
                    continue
                index = None if what == "beta fitted" else beta
                fit = fit_histogram if method == "histogram" else fit_block
                results = [fit(x, dyson_index=index) for x in data]
                for name in NAMES:
                    row = recovery_row(results, name, truth[name], n, beta, blocks, index)
                    if row and not (method == "histogram" and name == "mean_gap"):
                        yield {"method": method, "fit": what, "n": n, "beta": beta, **row}
    # Correlated snapshots: wider than the bound of independent ones, and the errors know.
    rng = np.random.default_rng([seed, 6])
    data, _ = correlated_blocks(datasets, blocks, 10, 0.9, rng)
    results = [fit_block(x, dyson_index=None) for x in data]
    truth = dict(zip(NAMES, (CENTRE, SIGMA, 1.0, exact_mean_gap(2, 1.0, rng)), strict=True))
    for name in NAMES:
        row = recovery_row(results, name, truth[name], 2, 1.0, 10 * blocks, None)
        yield {"method": "likelihood", "fit": "memory 0.9 x 10", "n": 2, "beta": 1.0, **row}


def recovery_row(
    results: list[BlockFit],
    name: str,
    truth: float,
    n: int,
    beta: float,
    blocks: int,
    index: float | None,
) -> dict[str, object]:
    estimate = np.array([getattr(fit, name) for fit in results])
    error = np.array([getattr(fit, f"{name}_error") for fit in results])
    if not np.all(np.isfinite(error)):
        return {}
    if name == "mean_gap":
        # Its bound is in the fits themselves, to the noise of a fitted sigma.
        bound = float(np.median([fit.cramer_rao[name] for fit in results]))
    else:
        bound = cramer_rao_errors(n, beta, SIGMA, blocks, index_known=index is not None)[name]
    pull = (estimate - truth) / error
    return {
        "parameter": name,
        "bias_over_bound": (estimate.mean() - truth) / bound,
        "se_over_bound": estimate.std(ddof=1) / bound,
        "error_over_se": np.sqrt(np.mean(error**2)) / estimate.std(ddof=1),
        "coverage_68": np.mean(np.abs(pull) < stats.norm.ppf(0.84)),
        "coverage_95": np.mean(np.abs(pull) < stats.norm.ppf(0.975)),
        "flagged": np.mean([fit.flag != "" for fit in results]),
    }


def uniformity(datasets: int, blocks: int, seed: int) -> Iterator[dict[str, object]]:
    """Kolmogorov-Smirnov test of each p-value under its null; one row a test."""
    for beta in DYSON_INDICES:
        rng = np.random.default_rng([seed, 1, int(beta)])
        data = gas(2, beta, datasets, blocks, rng)
        for given, mean_gap in (("", None), (" mean gap given", exact_mean_gap(2, beta, rng))):
            p = [surmise_p_value(x, rng, dyson_index=int(beta), mean_gap=mean_gap) for x in data]
            yield uniformity_row(f"surmise{given}", 2, beta, p)
    for n in LEVELS:
        for beta in DYSON_INDICES[: 1 if n == 1 else None]:
            rng = np.random.default_rng([seed, 2, n, int(beta)])
            data = gas(n, beta, datasets, blocks, rng)
            p = [density_p_value(x, rng, dyson_index=beta) for x in data]
            yield uniformity_row("density", n, beta, p)
            if beta == 1.0:
                p = [density_p_value(x, rng, centre=CENTRE, sigma=SIGMA) for x in data]
                yield uniformity_row("density centre sigma given", n, beta, p)
    rng = np.random.default_rng([seed, 3])
    angle = rng.uniform(0, np.pi, (datasets, blocks))
    yield uniformity_row("angle", 2, 1.0, [angle_p_value(x) for x in angle])
    for memory in (0.5, 0.9):
        rng = np.random.default_rng([seed, 4, int(10 * memory)])
        levels, angles = correlated_blocks(datasets, blocks, 10, memory, rng)
        what = f", 10 snapshots correlated {memory:g}"
        p = [surmise_p_value(x, rng) for x in levels]
        yield uniformity_row("surmise" + what, 2, 1.0, p)
        p = [density_p_value(x, rng) for x in levels]
        yield uniformity_row("density" + what, 2, 1.0, p)
        p = [angle_p_value(x) for x in angles]
        yield uniformity_row("angle" + what, 2, 1.0, p)


def uniformity_row(test: str, n: int, beta: float, p_values: list[float]) -> dict[str, object]:
    p = np.array(p_values)
    return {
        "test": test,
        "n": n,
        "beta": beta,
        "ks_p_value": stats.kstest(p, "uniform").pvalue,
        "below_0.10": np.mean(p < 0.10),
        "below_0.05": np.mean(p < 0.05),
        "below_0.01": np.mean(p < 0.01),
    }


def power(datasets: int, blocks: int, seed: int) -> Iterator[dict[str, object]]:
    """Share of data sets rejected at 5 % when the spectrum is another; one row a test."""
    gap = exact_mean_gap(2, 1.0, np.random.default_rng(0))
    tests: dict[str, Callable[[NDArray[np.float64], np.random.Generator], float]] = {
        "surmise": lambda x, rng: surmise_p_value(x, rng),
        "surmise mean gap given": lambda x, rng: surmise_p_value(x, rng, mean_gap=gap),
        "density": lambda x, rng: density_p_value(x, rng),
        "density centre sigma given": lambda x, rng: density_p_value(
            x, rng, centre=CENTRE, sigma=SIGMA
        ),
        "pull of sigma": lambda x, rng: sigma_pull(x),
        "pull of beta": lambda x, rng: index_pull(x),
    }
    for size in (blocks, 5 * blocks):
        alternatives = {
            "Poisson": lambda rng, size=size: np.sort(
                rng.normal(CENTRE, SIGMA, (datasets, size, 1, 2))
            ),
            "GUE": lambda rng, size=size: gas(2, 2.0, datasets, size, rng),
            "GOE, sigma 5 % larger": lambda rng, size=size: (
                CENTRE + 1.05 * (gas(2, 1.0, datasets, size, rng) - CENTRE)
            ),
            "GOE": lambda rng, size=size: gas(2, 1.0, datasets, size, rng),
        }
        for number, (spectrum, draw) in enumerate(alternatives.items()):
            rng = np.random.default_rng([seed, 5, size, number])
            data = draw(rng)
            row: dict[str, object] = {"spectrum": spectrum, "blocks": size}
            for name, test in tests.items():
                row[name] = np.mean([test(x, rng) < 0.05 for x in data])
            yield row


def sigma_pull(levels: NDArray[np.float64]) -> float:
    fit = fit_block(levels)
    return float(2 * stats.norm.sf(abs(fit.sigma - SIGMA) / fit.sigma_error))


def index_pull(levels: NDArray[np.float64]) -> float:
    fit = fit_block(levels, dyson_index=None)
    return float(2 * stats.norm.sf(abs(fit.dyson_index - 1.0) / fit.dyson_index_error))


def gas(
    n: int, beta: float, datasets: int, blocks: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    x = sample(n, beta, datasets * blocks, rng, CENTRE, SIGMA)
    return x.reshape(datasets, blocks, 1, n)


def exact_mean_gap(n: int, beta: float, rng: np.random.Generator) -> float:
    """Mean gap of neighbours: in closed form up to two levels, beyond from a long simulation."""
    if n == 1:
        return float("nan")
    if n == 2:
        return float(np.sqrt(2) * SIGMA * stats.chi.mean(beta + 1))
    x = sample(n, beta, 400_000, rng, CENTRE, SIGMA)
    return float(np.mean(x[:, -1] - x[:, 0]) / (n - 1))


def correlated_blocks(
    datasets: int, replicas: int, snapshots: int, memory: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Levels and eigenvector angles of 2 x 2 matrices in an Ornstein-Uhlenbeck process.

    The mean of the levels forgets by the factor `memory` from one snapshot to the next.
    """
    noise = rng.standard_normal((snapshots, 3, datasets, replicas))
    state = np.empty_like(noise)
    state[0] = noise[0]
    for t in range(1, snapshots):
        state[t] = memory * state[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    # Sum, difference and twice the off-diagonal entry of a GOE block, over sqrt(2) sigma.
    total, difference, twice_off = state.transpose(1, 2, 3, 0)
    gap = np.sqrt(2) * SIGMA * np.hypot(difference, twice_off)
    mean = CENTRE + SIGMA * total / np.sqrt(2)
    angle = np.mod(0.5 * np.arctan2(twice_off, difference), np.pi)
    return np.stack([mean - 0.5 * gap, mean + 0.5 * gap], axis=-1), angle


if __name__ == "__main__":
    main()
