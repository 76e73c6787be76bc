"""Numbers of docs/gas_or_matrix.md: levels of the Gaussian RBM against gas and random matrix.

Trains the study `gaussian_rbm` of a configuration and four longer runs (about seven minutes on one
core), and prints as Markdown: the distance of every run from each law; how much of the gas's
repulsion the shifts of the centres show; the Dyson index from blocks on their own and from the
whole spectrum, at weak and strong noise; and the same of levels drawn from gases of known index.

    python benchmarks/gas_or_matrix.py --keep eigenvalues
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

import dysonflow
from dysonflow import theory
from dysonflow.analysis.gas_or_matrix import LAWS, MeasuredSpectrum
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.models import hyperparameters_of
from dysonflow.planning.studies import load_studies
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.gas_of_blocks import sample_gas
from dysonflow.statistics.joint_index import fit_joint_index
from dysonflow.statistics.lines import weighted_mean
from dysonflow.statistics.ordered_levels import STATISTICS
from dysonflow.theory.gaussian_rbm import matrix, predictions

ROOT = Path(__file__).parents[1]
LONG = [
    {"batch_size": 320, "sampler": "wishart"},
    {"batch_size": 64, "sampler": "wishart"},
    {"batch_size": 16},
    {"batch_size": 4},
]
"""Longer runs, at a = 0.1."""
INDEPENDENT = 1e-9
"""Dyson index of levels that do not repel each other, for a sampler that wants a positive one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "config.yaml")
    parser.add_argument("--replicas", type=int, default=2048, help="of the longer runs")
    parser.add_argument("--snapshots", type=int, default=16, help="of the longer runs")
    parser.add_argument("--keep", type=Path, help="folder where eigenvalues are kept and found")
    options = parser.parse_args()
    study = load_studies(yaml.safe_load(options.config.read_text()))["gaussian_rbm"]
    short = sorted(study.runs, key=stochasticity)
    size = {"replicas": options.replicas, "snapshots": options.snapshots}
    rbm = hyperparameters_of("gaussian_rbm")
    long = [rbm.from_config({"learning_rate": 0.1} | point | size) for point in LONG]
    table("Distance from each law", distances(short, options.keep))
    table("Distance of the longer runs", distances(long, options.keep))
    table(
        "Shifts of the centres over those of each law, to first order",
        repulsion(long, options.keep),
    )
    table("Repulsion between modes, centres and widths free", exponents(long, options.keep))
    table("Dyson index", indices(long, options.keep))
    table("Dyson index of known gases", controls(long))
    table("Dyson index of the study", [study_index(short, options.keep)])


def stochasticity(run: Hyperparameters) -> float:
    return run.learning_rate / run.batch_size


def table(title: str, rows: Iterator[dict[str, str]] | Sequence[dict[str, str]]) -> None:
    print(f"\n{title}\n")
    for number, row in enumerate(rows):
        if number == 0:
            print(f"| {' | '.join(row)} |\n|{' --- |' * len(row)}")
        print(f"| {' | '.join(row.values())} |", flush=True)


def measured(run: Hyperparameters, keep: Path | None) -> MeasuredSpectrum:
    """A run, trained unless its eigenvalues are kept."""
    path = keep / f"{run.name}.npy" if keep else None
    if path and path.exists():
        return MeasuredSpectrum(run, "W", np.load(path))
    found = eigenvalues(dysonflow.train(run.MODEL, run.canonical()).weights["W"])
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
    return MeasuredSpectrum(run, "W", found)


def point(run: Hyperparameters) -> dict[str, str]:
    return {
        "a/B": f"{stochasticity(run):.3g}",
        "run": f"{run.sampler}, a = {run.learning_rate:g}, B = {run.batch_size}",
    }


def distances(runs: Sequence[Hyperparameters], keep: Path | None) -> Iterator[dict[str, str]]:
    """Chi2, p-value and root mean square pulls of means, widths and correlations."""
    for run in runs:
        found = measured(run, keep).compare(LAWS)
        statistic = np.array(found.columns["statistic"])
        row = point(run)
        for law in LAWS:
            pull = np.array(found.columns[f"{law}_pull"])
            size = [np.sqrt((pull[statistic == name] ** 2).mean()) for name in STATISTICS]
            all_levels = found.distances[law]
            row[law] = f"{all_levels.chi2:.0f}, {all_levels.p_value:.1g}; " + " ".join(
                f"{value:.1f}" for value in size
            )
        yield row


def repulsion(runs: Sequence[Hyperparameters], keep: Path | None) -> Iterator[dict[str, str]]:
    """Coefficient of the shift that each law predicts to first order, from the block means."""
    for run in runs:
        spectrum = measured(run, keep)
        place, gas = predictions.machine(run), spectrum.laws.gases["gas"]
        count = np.array(gas.multiplicities)
        variance = matrix.moments(place).variance
        first = [own.start for own in gas.positions]
        centre, width = np.array(gas.centres), np.array(gas.sigmas)
        gap = centre[:, None] - centre[None, :] + np.diag(np.full(len(count), np.inf))
        shifts = {
            "gas": (width[:, None] ** 2 * count / gap).sum(axis=1),
            "matrix": (variance[np.ix_(first, first)] * count / gap).sum(axis=1),
        }
        means = np.stack(
            [spectrum.levels[..., own].mean(axis=(1, 2)) for own in gas.positions], axis=-1
        )
        shift = means.mean(axis=0) - centre
        inverse = np.linalg.inv(np.cov(means.T) / len(means))
        row = point(run)
        for law, first_order in shifts.items():
            weight = first_order @ inverse @ first_order
            coefficient = first_order @ inverse @ shift / weight
            rest = shift - coefficient * first_order
            row[law] = f"{coefficient:.3f} ± {weight**-0.5:.3f}"
            row[f"chi2 {law}"] = f"{rest @ inverse @ rest:.0f}/{len(count) - 1}"
        row["lowest level / gas"] = f"{shift[0] / shifts['gas'][0]:.3f}"
        yield row


def exponents(runs: Sequence[Hyperparameters], keep: Path | None) -> Iterator[dict[str, str]]:
    """Exponent of |x_i - x_j| for different modes: measured, and of levels drawn from the laws."""
    for run in runs:
        spectrum = measured(run, keep)
        row = point(run)
        for name, law in (("measured", None), ("matrix", "matrix"), ("gas", "gas")):
            found = spectrum.repulsion_between(law)
            row[name] = value(found.dyson_index, found.error)
        yield row


def indices(runs: Sequence[Hyperparameters], keep: Path | None) -> Iterator[dict[str, str]]:
    """Blocks on their own, measured and in levels drawn from the matrix, and all blocks jointly."""
    for run in runs:
        spectrum = measured(run, keep)
        row = point(run)
        drawn = spectrum.drawn("matrix")
        for number, own in enumerate(spectrum.degenerate):
            fit = fit_block(spectrum.levels[..., own], dyson_index=None)
            expected = fit_block(drawn[..., own], dyson_index=None)
            one = fit_joint_index(spectrum.levels, drawn, [own])
            row[f"pair {number + 1} alone"] = value(fit.dyson_index, fit.dyson_index_error)
            row[f"pair {number + 1} alone, matrix"] = value(
                expected.dyson_index, expected.dyson_index_error
            )
            row[f"pair {number + 1} in the matrix"] = value(one.dyson_index, one.error)
        joint = spectrum.dyson_index()
        given = spectrum.dyson_index(free_blocks=False)
        row["all in the matrix"] = value(joint.dyson_index, joint.error)
        row["widths of theory"] = value(given.dyson_index, given.error)
        yield row


def controls(runs: Sequence[Hyperparameters]) -> Iterator[dict[str, str]]:
    """Levels from gases of known index inside pairs, half the repulsion between them."""
    rng = np.random.default_rng(1)
    for run in runs:
        laws = theory.load(run.MODEL).spectrum_laws(run, "W")
        drawn = laws.matrices["matrix"](50_000, rng)
        blocks = [own for own in laws.gases["gas"].positions if own.stop - own.start > 1]
        row = point(run)
        for index in (INDEPENDENT, 1.0, 2.0):
            gas = replace(laws.gases["gas"], dyson_index=index, between=0.5)
            levels = sample_gas(gas, 128, 64, rng, thin=3).levels
            found = fit_joint_index(levels, drawn, blocks)
            row[f"beta = {index:.0f}"] = value(found.dyson_index, found.error)
        yield row


def study_index(runs: Sequence[Hyperparameters], keep: Path | None) -> dict[str, str]:
    """Means over the runs of a study, with the spread of the runs about 1 in errors."""
    found: dict[str, list[tuple[float, float]]] = {"joint": [], "widths of theory": [], "alone": []}
    for run in runs:
        spectrum = measured(run, keep)
        for name, free in (("joint", True), ("widths of theory", False)):
            index = spectrum.dyson_index(free_blocks=free)
            found[name].append((index.dyson_index, index.error))
        for own in spectrum.degenerate:
            fit = fit_block(spectrum.levels[..., own], dyson_index=None)
            found["alone"].append((fit.dyson_index, fit.dyson_index_error))
    row = {}
    for name, pairs in found.items():
        values, errors = np.array(pairs).T
        square = float((((values - 1.0) / errors) ** 2).sum())
        # All have the same number of samples, so that one error is as good as another.
        mean = weighted_mean(values, errors, np.ones(len(values)))
        row[name] = f"{value(*mean)}, chi2 {square:.0f}/{len(values)}"
    return row


def value(estimate: float, error: float) -> str:
    return f"{estimate:.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
