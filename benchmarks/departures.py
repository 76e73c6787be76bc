"""Blocks that are not exactly a GOE: Dyson index, <S> / (sqrt(pi) sigma) and widths, simulated.

Trains students and machines with the compiled kernel, as many as are asked for, and prints what the
likelihood finds beside the theory; then the share of pulls beyond 3 and 5 errors for few replicas.

    python benchmarks/departures.py --blocks 400000 --machines 40000
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np

from dysonflow import theory
from dysonflow.analysis.fits import gap_ratio
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.models import hyperparameters_of
from dysonflow.models.gaussian_rbm import precision_matrix
from dysonflow.models.teacher_student import teacher
from dysonflow.report.quoting import quote
from dysonflow.simulation.kernel.gaussian_rbm import GaussianRBMKernel
from dysonflow.simulation.kernel.library import KernelEnsemble
from dysonflow.simulation.kernel.teacher_student import TeacherStudentKernel
from dysonflow.statistics.estimators import fit_block
from dysonflow.statistics.pulls import pull

REPLICAS = 4096
STUDENTS = [
    *({"learning_rate": a, "batch_size": b} for a, b in ((0.1, 4), (0.5, 4), (0.3, 2), (0.4, 2))),
    *({"size": 5, "learning_rate": a, "batch_size": 8} for a in (0.1, 0.3, 0.5)),
    # Neighbours at seven, ten and fourteen sigma, and a pair at three and four sigma from zero.
    *({"teacher_spectrum": [1.0, 1.0 + 0.00814 * d]} for d in (7, 10, 14)),
    *({"teacher_spectrum": 0.00814 * d} for d in (3, 4)),
]
MACHINES = [{"batch_size": b, "sampler": "wishart"} for b in (16, 8, 4)]


def student(h: Hyperparameters) -> KernelEnsemble:
    """Students that start at their teacher."""
    target = teacher(h)
    return TeacherStudentKernel(
        teacher=target,
        learning_rate=h.learning_rate,
        batch_size=h.batch_size,
        noise_scale=h.noise_scale,
        replicas=REPLICAS,
        weights=np.repeat(target[None], REPLICAS, axis=0),
    )


def machine(h: Hyperparameters) -> KernelEnsemble:
    """Machines at the start of their training."""
    return GaussianRBMKernel(
        target_covariance=np.linalg.inv(precision_matrix(h)),
        learning_rate=h.learning_rate,
        batch_size=h.batch_size,
        mu_squared=h.rbm_mass_squared,
        sigma_h=h.hidden_width,
        sweeps=h.gibbs_sweeps,
        sampler=h.sampler,
        initial_std=h.initial_width,
        replicas=REPLICAS,
    )


def rows(model: str, values: dict, blocks: int) -> Iterator[list[str]]:
    """One row of the table for each block."""
    h, physics = hyperparameters_of(model).from_config(values), theory.load(model)
    kernel = (student if model == "teacher_student" else machine)(h)
    kernel.advance(h.auto_burn_in())
    kept = []
    for _ in range(math.ceil(blocks / REPLICAS)):
        kernel.advance(h.auto_spacing())
        kept.append(np.linalg.svd(kernel.weights, compute_uv=False)[:, ::-1] ** 2)
    levels = physics.levels(h, "W", np.stack(kept, axis=1))
    for block in physics.blocks(h, "W"):
        own = levels[..., block.positions]
        fit = fit_block(own)
        cells = [f"{block.centre_block:.4g}", str(block.multiplicity)]
        cells.append(quote(fit.sigma / block.sigma, fit.sigma_error / block.sigma))
        cells += ["", ""] * 2
        if block.multiplicity > 1:
            free = fit_block(own, dyson_index=None)
            cells[3] = quote(free.dyson_index, free.dyson_index_error)
            cells[4] = quote(block.dyson_index, block.dyson_index_uncertainty)
        if block.multiplicity == 2:
            cells[5] = quote(*gap_ratio(own))
            cells[6] = quote(block.gap_ratio, block.gap_ratio_uncertainty)
        told = ", ".join(f"{name} = {value}" for name, value in values.items())
        yield [told, *cells, block.beyond]


def tails(replicas: int, levels: int, sets: int) -> list[str]:
    """Share of simulated widths beyond 3 and 5 errors: plain quotient, then pull."""
    rng = np.random.default_rng(1)
    freedom = levels * (levels + 1) / 2
    # Sums of squares about the centre, the centre known: SS / sigma^2 is chi-squared.
    square = rng.chisquare(freedom, (sets, replicas)) / freedom
    means = (square.sum(axis=1, keepdims=True) - square) / (replicas - 1)
    left_out = np.sqrt(means)
    centred = left_out - left_out.mean(axis=1, keepdims=True)
    error = np.sqrt((replicas - 1) / replicas * (centred**2).sum(axis=1))
    sigma = replicas * np.sqrt(square.mean(axis=1)) - (replicas - 1) * left_out.mean(axis=1)
    plain = np.abs(sigma - 1) / error
    pairs = zip(sigma.tolist(), error.tolist(), strict=True)
    better = np.abs([pull(value, 1.0, one, replicas - 1, 0.0) for value, one in pairs])
    shares = [(found > limit).mean() for found in (plain, better) for limit in (3, 5)]
    return [str(replicas), str(levels), *(f"{share:.1e}" for share in shares)]


def show(heads: list[str], lines: Iterator[list[str]]) -> None:
    """Print a table line by line."""
    print("| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |", sep="\n")
    for line in lines:
        print("| " + " | ".join(line) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=400_000, help="blocks of each student")
    parser.add_argument("--machines", type=int, default=40_000, help="machines of each point")
    parser.add_argument("--sets", type=int, default=200_000, help="data sets of few replicas")
    options = parser.parse_args()
    points = [("teacher_student", values, options.blocks) for values in STUDENTS]
    points += [("gaussian_rbm", values, options.machines) for values in MACHINES]
    heads = ["point", "centre", "n", "sigma over theory", "beta", "theory"]
    heads += ["<S> / (sqrt(pi) sigma)", "theory", "beyond the theory"]
    show(heads, (row for point in points for row in rows(*point)))
    print()
    heads = ["replicas", "n", "beyond 3, plain", "beyond 5, plain", "beyond 3", "beyond 5"]
    sizes = [(replicas, levels) for replicas in (30, 64, 128) for levels in (1, 2)]
    show(heads, (tails(*size, options.sets) for size in sizes))


if __name__ == "__main__":
    main()
