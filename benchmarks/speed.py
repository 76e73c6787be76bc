"""Time the compiled kernel and torch against the one-replica reference, side by side in one run.

Measurements are interleaved, so that a busy moment of the machine hits all alike, and the median of
the rounds is taken; compare ratios, not microseconds, between machines.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from dysonflow.analysis import spectra
from dysonflow.artifacts import tables
from dysonflow.artifacts.provenance import versions
from dysonflow.models import hyperparameters_of, load
from dysonflow.models.two_layer_student import teacher
from dysonflow.report.figures._page import STYLE
from dysonflow.report.quoting import quote
from dysonflow.simulation import ensemble, reference
from dysonflow.simulation.base import Block
from dysonflow.simulation.kernel import library

SITES = (10, 32, 64)
BATCH_SIZES = (4, 16, 64)
SAMPLERS = ("gibbs", "ar1", "wishart")
SWEEPS = 3
MU_SQUARED = 9.0
LEARNING_RATE = 0.02
REPLICAS = 64


def ring_covariance(sites: int) -> np.ndarray:
    identity = np.eye(sites)
    shifted = np.roll(identity, 1, axis=0) + np.roll(identity, -1, axis=0)
    return np.linalg.inv(6.0 * identity - shifted)


def reference_run(sampler: str, sites: int, batch: int) -> Callable[[int], None]:
    """Return a function that makes steps of one replica in torch, noise included."""
    weights = 0.1 * torch.randn(sites, sites, dtype=torch.float64)
    visible = torch.randn(batch, sites, dtype=torch.float64) / MU_SQUARED**0.5
    common: dict[str, Any] = {
        "target": torch.tensor(ring_covariance(sites)),
        "learning_rate": LEARNING_RATE,
        "mu_squared": MU_SQUARED,
        "sigma_h": 1.0,
    }
    degrees = (batch - torch.arange(sites)).to(torch.float64)

    def normals(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    def run(steps: int) -> None:
        nonlocal weights, visible
        for _ in range(steps):
            if sampler == "gibbs":
                noise = normals(SWEEPS, batch, sites), normals(SWEEPS, batch, sites)
                weights, visible = reference.rbm_gibbs_step(weights, visible, *noise, **common)
            elif sampler == "ar1":
                weights, visible = reference.rbm_ar1_step(
                    weights, visible, normals(batch, sites), sweeps=SWEEPS, **common
                )
            else:
                if batch < sites:
                    factor = normals(sites, batch)
                else:
                    chi = (2 * torch._standard_gamma(degrees / 2)).sqrt()
                    factor = reference.bartlett_factor(normals(sites * (sites - 1) // 2), chi)
                weights = reference.rbm_wishart_step(weights, factor, batch_size=batch, **common)

    return run


def machine(sampler: str, sites: int, batch: int, dtype: str) -> Any:
    """Hyperparameters of the package's own simulation at the same point."""
    return hyperparameters_of("gaussian_rbm").from_config(
        {"sampler": sampler, "sites": sites, "batch_size": batch, "dtype": dtype}
        | {"gibbs_sweeps": SWEEPS, "rbm_mass_squared": MU_SQUARED, "learning_rate": LEARNING_RATE}
    )


def simulation_run(
    implementation: str,
    sampler: str,
    sites: int,
    batch: int,
    dtype: str,
    threads: int,
    replicas: int,
) -> Callable[[int], None]:
    """Return a function that makes steps of an ensemble, as a training job does."""
    model, point = load("gaussian_rbm"), machine(sampler, sites, batch, dtype)
    simulation = model.simulation if implementation == "torch" else model.compiled
    return simulation.start(point, Block(0, replicas, threads=threads)).advance


def interleaved(
    runs: list[Callable[[int], None]], replicas: list[int], rounds: int, seconds: float
) -> list[list[float]]:
    """Microseconds per replica and step of each run in each round, the runs taking turns."""
    steps = []
    for run in runs:
        run(1)
        start = time.perf_counter()
        run(2)
        steps.append(max(2, int(2 * seconds / (time.perf_counter() - start))))
    timings: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for times, count, run, many in zip(timings, steps, runs, replicas, strict=True):
            start = time.perf_counter()
            run(count)
            times.append((time.perf_counter() - start) / (count * many) * 1e6)
    return timings


def measure_steps(
    sampler: str, sites: int, batch: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Time all implementations at one point, side by side.

    Parameters
    ----------
    sampler : str
        One of `SAMPLERS`.
    sites, batch : int
        N and B.
    rounds : int
        Interleaved repetitions; the median counts.
    seconds : float
        Aimed at, for one repetition of one implementation.

    Returns
    -------
    list of dict
        Rows of results/benchmarks.parquet.
    """
    kinds = [("reference", "float64", 1), ("torch", "float64", 1), ("torch", "float32", 1)]
    kinds += [("kernel", dtype, n) for dtype in ("float64", "float32") for n in (1, 2)]
    runs = [reference_run(sampler, sites, batch)]
    runs += [
        simulation_run(name, sampler, sites, batch, d, n, REPLICAS) for name, d, n in kinds[1:]
    ]
    timings = interleaved(runs, [1] + [REPLICAS] * (len(kinds) - 1), rounds, seconds)
    medians = [statistics.median(times) for times in timings]
    return [
        row("step", name, sampler, sites, batch, dtype, threads, median, medians[0] / median)
        for median, (name, dtype, threads) in zip(medians, kinds, strict=True)
    ]


def row(
    what: str,
    implementation: str,
    sampler: str,
    sites: int,
    batch_size: int,
    dtype: str,
    threads: int,
    microseconds: float,
    ratio: float,
) -> dict[str, Any]:
    """One row of the table."""
    return dict(locals())


def two_layer_reference() -> Callable[[int], None]:
    """Return a function that makes steps of one student of two layers in NumPy, inputs included."""
    h = two_layer("float64")
    learnt, rng = teacher(h), np.random.default_rng(0)
    weights = rng.standard_normal(learnt.weights.shape) / h.feature_size**0.5

    def run(steps: int) -> None:
        nonlocal weights
        for _ in range(steps):
            weights = reference.two_layer_student_step(
                weights,
                rng.standard_normal((h.batch_size, h.input_size)),
                first=learnt.first,
                teacher=learnt.weights,
                readout=learnt.readout,
                activation=np.tanh,
                derivative=lambda x: 1.0 - np.tanh(x) ** 2,
                learning_rate=h.learning_rate,
            )

    return run


def two_layer(dtype: str) -> Any:
    """Hyperparameters of the student of two layers: K = 16, L = 32, B = 4."""
    values = {"dtype": dtype, "steps": 1, "snapshots": 1}
    return hyperparameters_of("two_layer_student").from_config(values)


def two_layer_operations() -> float:
    """Count multiplications and additions of a step of one student: products and activations.

    A tanh counts as those of the kernel: 34, its polynomial, reduction and quotient.
    """
    h = two_layer("float64")
    units = 2 * h.hidden_size + h.feature_size
    products = h.input_size * h.feature_size + 3 * h.hidden_size * h.feature_size
    products += 3 * h.output_size * h.hidden_size
    return h.batch_size * (2 * products + 34 * units)


def measure_two_layer(rounds: int, seconds: float) -> tuple[list[dict[str, Any]], float]:
    """Time all implementations of the student of two layers, side by side.

    Returns
    -------
    rows, share
        Rows as of `measure_steps`; the median over the rounds of the rate of operations of the
        kernel on one thread (float64) over the arithmetic limit, measured next to it.
    """
    kinds = [("reference", "float64", 1), ("torch", "float64", 1)]
    kinds += [("kernel", dtype, n) for dtype in ("float64", "float32") for n in (1, 2)]
    model, runs = load("two_layer_student"), [two_layer_reference()]
    for name, dtype, threads in kinds[1:]:
        simulation = model.simulation if name == "torch" else model.compiled
        block = Block(0, REPLICAS * threads, threads=threads)
        runs.append(simulation.start(two_layer(dtype), block).advance)
    limits: list[float] = []
    runs.append(lambda steps: limits.append(library.arithmetic_rate(1)))
    replicas = [1] + [REPLICAS * threads for _, _, threads in kinds[1:]] + [1]
    *timings, _ = interleaved(runs, replicas, rounds, seconds)
    medians = [statistics.median(times) for times in timings]
    found = [
        row("step", name, "two_layer", 16, 4, dtype, threads, median, medians[0] / median)
        for median, (name, dtype, threads) in zip(medians, kinds, strict=True)
    ]
    one = timings[kinds.index(("kernel", "float64", 1))]
    shares = [
        two_layer_operations() / (us * 1e-6) / limit
        for us, limit in zip(one, limits[-rounds:], strict=True)
    ]
    return found, statistics.median(shares)


def print_two_layer(rows: list[dict[str, Any]], share: float) -> None:
    """Print the rows of `measure_two_layer`."""
    print("student of two layers, K = 16, L = 32, B = 4, reference in NumPy (one replica, einsum):")
    for r in rows:
        name = f"{r['implementation']} {r['dtype']} x {r['threads']}"
        print(f"{name:22} {r['microseconds']:9.3f} ({r['ratio']:5.0f})")
    print(
        f"kernel, float64, one thread: {100 * share:.0f} % of the arithmetic limit, products and "
    )
    print(f"activations counted ({two_layer_operations():.0f} operations), random numbers not")


def measure_study(rounds: int) -> list[dict[str, Any]]:
    """A whole point of the default study, (0.1, 16), as a training job does it.

    The reference is one replica at a time, its time per step from 200 steps; microseconds are per
    replica and step, all of the job included.
    """
    point = machine("gibbs", 10, 16, "float64")
    model = load("gaussian_rbm")
    reference_time = interleaved([reference_run("gibbs", 10, 16)], [1], rounds, 0.05)[0]
    base = statistics.median(reference_time)
    rows = [row("study", "reference", "gibbs", 10, 16, "float64", 1, base, 1.0)]
    short = point.model_copy(update={"burn_in": 0, "steps": 2000})
    for name, simulation in (("torch", model.simulation), ("kernel", model.compiled)):
        with open(os.devnull, "w", encoding="utf-8") as quiet:
            memory = ensemble.Memory(short, short.replicas)
            seconds = ensemble.train(simulation, short, memory, log=quiet)
        spent = seconds / (short.replicas * short.steps) * 1e6
        rows.append(row("study", name, "gibbs", 10, 16, "float64", 1, spent, base / spent))
    return rows


def measure_eigenvalues(folder: Path) -> tuple[dict[str, Any], float]:
    """Extract, write and read the spectra of 7500 x 10 matrices of 10 x 10.

    Returns
    -------
    row, seconds
        Microseconds of CPU per eigenvalue, and seconds of CPU in all.
    """
    point = hyperparameters_of("gaussian_rbm").from_config({"replicas": 7500, "snapshots": 10})
    weights = np.random.default_rng(0).normal(size=(7500, 10, 10, 10))
    start = time.process_time()
    columns = spectra.spectra_columns(point, "W", weights, np.arange(10))
    path = folder / "spectra.parquet"
    tables.write_table(columns, spectra.spectra_schema(type(point)), path, {"run": point.name})
    spectra.read_eigenvalues(str(path), "W")
    seconds = time.process_time() - start
    path.unlink()
    each = seconds / 750_000 * 1e6
    return row("eigenvalues", "numpy", "", 10, 0, "float64", 1, each, float("nan")), seconds


def matmul_peak(seconds: float = 1.0) -> float:
    """Floating-point operations per second of a large float64 product on one thread."""
    matrix = torch.randn(1024, 1024, dtype=torch.float64)
    best = float("inf")
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best


def operations(sampler: str, sites: int, batch: int) -> float:
    """Count the operations that the products in one step of one replica cannot do without.

    Multiplications and additions, of symmetric and triangular matrices only what is not known
    already; random numbers come on top. For B >= N.
    """
    cube, symmetric = sites**3, sites**2 * (sites + 1)
    outer = batch * sites * (sites + 1)  # v^T v
    count = symmetric + 2 * cube  # W^T W, and W times the gradient
    if sampler == "gibbs":
        return count + outer + SWEEPS * 2 * 2 * batch * sites**2
    if sampler == "ar1":
        # A^k and 1 + A + .. + A^{2k-1} by binary powers, its factor, and both times the chains.
        bits = bin(SWEEPS)[3:]
        products = 2 * len(bits) + bits.count("1")
        return count + products * symmetric + cube / 3 + 2 * batch * sites**2 + 2 * outer
    # A factor, its inverse times Bartlett's, and that squared, all triangular.
    return count + 3 * cube / 3


def print_shares(rows: list[dict[str, Any]]) -> None:
    """Compare the kernel with a product of large matrices and with the arithmetic units alone."""
    peak, limit = matmul_peak(), library.arithmetic_rate()
    print(f"one core: {limit:.2e} multiplications and additions per second in registers, ", end="")
    print(f"{peak:.2e} in a product of large matrices")
    print("One thread, float64, B = 16, random numbers not counted: share of the product's rate,")
    print("share of that in registers, and times faster than the reference all of it would be.")
    for r in rows:
        one = (r["implementation"], r["dtype"], r["threads"]) == ("kernel", "float64", 1)
        few_samples = r["sampler"] == "wishart" and r["batch_size"] < r["sites"]
        if not one or r["batch_size"] != 16 or few_samples:
            continue
        rate = operations(r["sampler"], r["sites"], 16) / (r["microseconds"] * 1e-6)
        shares = f"{100 * rate / peak:4.0f} %  {100 * rate / limit:4.0f} %"
        print(f"{r['sampler']:8} {r['sites']:3}  {shares}  {r['ratio'] * limit / rate:5.0f} x")


def scaling_figure(rounds: int, seconds: float) -> Figure:
    """Cost of a gibbs step against N, B and R in the kernel, one thread, with fitted powers."""
    figure = Figure(figsize=(9.0, 3.4))
    sweeps = {
        "sites $N$ (B = 16)": [(n, n, 16, REPLICAS) for n in (8, 12, 16, 24, 32, 48, 64)],
        "batch size $B$ (N = 10)": [(b, 10, b, REPLICAS) for b in (4, 8, 16, 32, 64, 128)],
        "replicas $R$ (N = 10, B = 16)": [(r, 10, 16, r) for r in (16, 32, 64, 128, 256, 512)],
    }
    for panel, (label, points) in zip(figure.subplots(1, 3), sweeps.items(), strict=True):
        runs = [simulation_run("kernel", "gibbs", n, b, "float64", 1, r) for _, n, b, r in points]
        timings = interleaved(runs, [1] * len(runs), rounds, seconds)
        x = np.array([point[0] for point in points], dtype=float)
        per = REPLICAS if "replicas" not in label else 1
        y = np.array([statistics.median(times) for times in timings]) / per
        error = np.array([np.std(times) for times in timings]) / per / np.sqrt(rounds)
        (power, offset), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
        panel.errorbar(x, y, error, fmt="o", color="black", label="kernel, float64, 1 thread")
        fit = f"fit, power {quote(power, covariance[0, 0] ** 0.5)}"
        panel.plot(x, np.exp(offset) * x**power, color="tab:red", ls="-.", label=fit)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        panel.yaxis.set_minor_formatter("{x:g}")
        panel.set_xlabel(label)
        unit = "µs per step" if per == 1 else "µs per replica and step"
        panel.set_ylabel(unit)
        panel.legend(loc="upper left")
    return figure


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("what", "implementation", "sampler")]
    + [("sites", pa.int64()), ("batch_size", pa.int64()), ("dtype", pa.string())]
    + [("threads", pa.int64()), ("microseconds", pa.float64()), ("ratio", pa.float64())]
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.05, help="per timing")
    parser.add_argument("--sites", type=int, nargs="+", default=SITES)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not library.available():
        raise SystemExit(library.why_unavailable())
    arguments.results.mkdir(exist_ok=True)
    print(f"Microseconds per replica and step, {library.instruction_set()}, {SWEEPS} Gibbs sweeps;")
    print("in brackets: times faster than the reference (torch, float64, one replica, one thread).")
    names = [
        "torch f64",
        "torch f32",
        *(f"kernel {d} x {n}" for d in ("f64", "f32") for n in (1, 2)),
    ]
    print(f"{'sampler':8} {'N':>3} {'B':>3} {'reference':>10}", *(f"{c:>17}" for c in names))
    rows = []
    for sampler in SAMPLERS:
        for sites in arguments.sites:
            for batch in BATCH_SIZES:
                new = measure_steps(sampler, sites, batch, arguments.rounds, arguments.seconds)
                rows += new
                cells = (f"{r['microseconds']:9.3f} ({r['ratio']:5.0f})" for r in new[1:])
                print(f"{sampler:8} {sites:3} {batch:3} {new[0]['microseconds']:10.1f}", *cells)
    network, share = measure_two_layer(arguments.rounds, arguments.seconds)
    print_two_layer(network, share)
    study = measure_study(arguments.rounds)
    for r in study[1:]:
        print(f"a point of the default study, {r['implementation']}: {r['ratio']:.0f} x")
    eigenvalues, seconds = measure_eigenvalues(arguments.results)
    print(
        f"7500 x 10 spectra of 10 x 10, extracted, written and read: {seconds:.2f} s of CPU, ",
        end="",
    )
    print(f"{1 / eigenvalues['microseconds']:.2f} million rows/s")
    print_shares(rows)
    everything = [*rows, *network, *study, eigenvalues]
    written = {name: [r[name] for r in everything] for name in SCHEMA.names}
    tables.write_table(written, SCHEMA, arguments.results / "benchmarks.parquet", versions())
    with mpl.rc_context(fname=STYLE):
        picture = scaling_figure(arguments.rounds, arguments.seconds)
        picture.savefig(arguments.results / "benchmarks.png", bbox_inches="tight")


if __name__ == "__main__":
    main()
