"""Time the kernel on a GPU beside that on the CPU, torch on the GPU, and what the card can do.

Replica-steps per second of the Gaussian RBM, B = 16, three sweeps, and their ratios: to the CPU
kernel on two cores, to the batched products of torch, and, by the operations of a step that the
model counts (random numbers are not among them), to multiply-adds in registers, measured in the
same run. `--tune` compares what can be chosen: replicas and registers of a thread.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dysonflow.models import hyperparameters_of, load
from dysonflow.simulation.base import Block
from dysonflow.simulation.kernel import gpu, library, nvrtc

SAMPLERS = ("gibbs", "ar1", "wishart")
SITES = (10, 32, 64, 128)
REPLICAS = (1024, 16384, 131072)
DTYPES = ("float64", "float32")
BATCH = 16
QUICK = {
    "cases": [("gibbs", 10), ("wishart", 10), ("gibbs", 32)],
    "replicas": (1024, 131072),
    "seconds": 0.3,
}
CPU_REPLICAS = 256
"""Of the CPU kernel, whose speed does not depend on them."""
MULTIPLY_ADDS = """
extern "C" __global__ void multiply_adds(REAL* out, int rounds) {
    const REAL x = (REAL)0.999, y = (REAL)0.001;
    REAL value[8];
    for (int i = 0; i < 8; ++i) value[i] = (REAL)(i + threadIdx.x);
    for (int round = 0; round < rounds; ++round)
        for (int i = 0; i < 8; ++i) value[i] = value[i] * x + y;
    for (int i = 1; i < 8; ++i) value[0] += value[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = value[0];
}
"""


def run_of(sampler: str, sites: int, replicas: int, dtype: str) -> Any:
    values = {"sampler": sampler, "sites": sites, "replicas": replicas, "dtype": dtype}
    # A rate at which no size leaves its stationary state.
    return hyperparameters_of("gaussian_rbm").from_config(
        {**values, "batch_size": BATCH, "learning_rate": 0.02, "burn_in": 0, "steps": 10}
    )


def rate(advance: Callable[[int], None], replicas: int, seconds: float) -> float:
    """Replica-steps per second: the best of two timings, after a start that is not timed."""
    steps, spent = 1, 0.0
    while spent < seconds / 4:
        started = time.perf_counter()
        advance(steps)
        spent = time.perf_counter() - started
        steps *= 2
    steps = max(1, int(steps / 2 * seconds / max(spent, 1e-9)))
    best = 0.0
    for _ in range(2):
        started = time.perf_counter()
        advance(steps)
        best = max(best, replicas * steps / (time.perf_counter() - started))
    return best


def kernel_on_gpu(run: Any) -> Callable[[int], None]:
    block = Block(0, run.replicas, "cuda")
    return load("gaussian_rbm").compiled.start(run, block).kernel.advance  # type: ignore[union-attr]


def kernel_on_cpu(run: Any, threads: int) -> Callable[[int], None]:
    block = Block(0, run.replicas, "cpu", threads)
    return load("gaussian_rbm").compiled.start(run, block).kernel.advance  # type: ignore[union-attr]


def torch_on_gpu(run: Any) -> Callable[[int], None]:
    # It ends with a look at all weights, for which it waits.
    return load("gaussian_rbm").simulation.start(run, Block(0, run.replicas, "cuda")).advance  # type: ignore[union-attr]


def measured(make: Callable[[], Callable[[int], None]], replicas: int, seconds: float) -> float:
    """Rate, NaN where the card has too little memory or nothing serves the run."""
    try:
        return rate(make(), replicas, seconds)
    except Exception as error:
        # Whatever ends one measurement is no reason to lose the others.
        print(f"    {str(error).splitlines()[0][:150]}", flush=True)
        return float("nan")
    finally:
        free_torch()


def free_torch() -> None:
    import gc

    import torch

    gc.collect()
    # The kernel's pool, too, is given back.
    gpu.card().free()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def arithmetic_limit(dtype: str) -> float:
    """Operations per second of multiply-adds in registers, each counted as two."""
    from cuda.core import LaunchConfig, ObjectCode, Program, ProgramOptions, launch

    card = gpu.card()
    assert isinstance(card, gpu.NvidiaCard)
    options = ProgramOptions(
        std="c++17", arch=card.architecture, define_macro=[("REAL", nvrtc.REALS[dtype])]
    )
    code = bytes(Program(MULTIPLY_ADDS, "c++", options).compile("cubin").code)
    function = ObjectCode.from_cubin(code).get_kernel("multiply_adds")
    blocks, block = 8 * card.device.properties.multiprocessor_count, 256
    out = card.allocate(8 * blocks * block)
    best, rounds = 0.0, 4096
    for _ in range(6):
        started = time.perf_counter()
        config = LaunchConfig(grid=blocks, block=block)
        launch(card.stream, config, function, out, ctypes.c_int(rounds))
        card.stream.sync()
        seconds = time.perf_counter() - started
        best = max(best, 2.0 * 8 * rounds * blocks * block / seconds)
        if seconds < 0.02:
            rounds *= 4
    return best


def compare(
    cases: Iterable[tuple[str, int, str]], replicas: Iterable[int], seconds: float, threads: int
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    limits = {dtype: arithmetic_limit(dtype) for dtype in DTYPES}
    for dtype, limit in limits.items():
        print(f"multiply-adds in registers, {dtype}: {limit:.3g} operations per second")
    print(
        "sampler    N dtype         R   kernel GPU   kernel CPU    torch GPU  "
        "GPU/CPU GPU/torch of the limit"
    )
    for sampler, sites, dtype in cases:
        few = run_of(sampler, sites, CPU_REPLICAS, dtype)
        on_cpu = float("nan")
        if library.available():
            on_cpu = measured(lambda few=few: kernel_on_cpu(few, threads), few.replicas, seconds)
        for count in replicas:
            run = run_of(sampler, sites, count, dtype)
            on_gpu = measured(lambda run=run: kernel_on_gpu(run), count, seconds)
            in_torch = measured(lambda run=run: torch_on_gpu(run), count, seconds)
            row = {
                "sampler": sampler,
                "sites": sites,
                "batch_size": BATCH,
                "dtype": dtype,
                "replicas": count,
                "kernel_gpu": on_gpu,
                "kernel_cpu": on_cpu,
                "torch_gpu": in_torch,
                "gpu_over_cpu": on_gpu / on_cpu,
                "gpu_over_torch": on_gpu / in_torch,
                "share_of_limit": on_gpu * run.cost().operations / limits[dtype],
                "limit": limits[dtype],
                "cpu_threads": threads,
            }
            rows.append(row)
            print(
                f"{sampler:8s} {sites:3d} {dtype} {count:7d} {on_gpu:12.3g} {on_cpu:12.3g} "
                f"{in_torch:12.3g} {row['gpu_over_cpu']:8.2f} {row['gpu_over_torch']:9.2f} "
                f"{100 * row['share_of_limit']:9.1f} %",
                flush=True,
            )
    return rows


def crossover(rows: list[dict[str, Any]]) -> None:
    """Say from which N on torch is faster, beside what the package takes for it."""
    for sampler, dtype in sorted({(row["sampler"], row["dtype"]) for row in rows}):
        many = [row for row in rows if (row["sampler"], row["dtype"]) == (sampler, dtype)]
        largest = max(row["replicas"] for row in many)
        lost = [
            row["sites"]
            for row in many
            if row["replicas"] == largest
            # A rate that is not there is no rate.
            and row["torch_gpu"] > 0
            and not row["kernel_gpu"] >= row["torch_gpu"]
        ]
        said = f"from N = {min(lost)} on" if lost else "at no N of these"
        unknown = sorted({row["sites"] for row in many if not row["torch_gpu"] > 0})
        if unknown:
            said += f" (torch has no rate at N = {', '.join(map(str, unknown))})"
        largest = load("gaussian_rbm").compiled.largest_on_gpu  # type: ignore[union-attr]
        print(f"{sampler} {dtype}: torch is faster {said}; the package takes it above {largest}")


def tune(seconds: float) -> list[dict[str, Any]]:
    rows = []
    for sampler in SAMPLERS:
        for dtype in DTYPES:
            run = run_of(sampler, 10, 131072, dtype)
            sizes = (8, 16) if dtype == "float64" else (4, 8, 16)
            for vector_bytes in sizes:
                for registers in (128, 168, 255):
                    chosen = {"vector_bytes": vector_bytes, "registers": registers}
                    found = measured(
                        lambda run=run, chosen=chosen: chosen_kernel(run, **chosen),
                        run.replicas,
                        seconds,
                    )
                    rows.append({"sampler": sampler, "dtype": dtype, **chosen, "kernel_gpu": found})
                    print(" ".join(str(value) for value in rows[-1].values()), flush=True)
    return rows


def chosen_kernel(run: Any, **choice: int) -> Callable[[int], None]:
    """Steps of the kernel with another choice than the package makes."""
    kernel = load("gaussian_rbm").compiled.start(run, Block(0, run.replicas, "cuda")).kernel  # type: ignore[union-attr]
    replicas = gpu.ReplicasOnGpu(
        gpu.card(),
        kernel._system,
        kernel._changing(),
        kernel._target,
        kernel._numbers(),
        **choice,
    )
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        failure = replicas.advance(steps, done)
        if failure is not None:
            raise RuntimeError(f"diverged: {failure}")
        done += steps

    return advance


def write(rows: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return
    # NaN is no JSON.
    clean = [
        {name: None if value != value else value for name, value in row.items()} for row in rows
    ]
    path.write_text(json.dumps(clean, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few cases, under a minute")
    parser.add_argument("--tune", action="store_true", help="compare choices instead")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one timing")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU kernel")
    parser.add_argument("--out", type=Path, help="table of the rows, .json or .csv")
    arguments = parser.parse_args()
    why = gpu.why_unavailable()
    if why:
        raise SystemExit(f"benchmarks/gpu.py: no kernel on a GPU: {why}")
    card, threads = gpu.card(), arguments.threads
    print(
        f"{card.name} ({card.architecture}), {nvrtc.nvrtc_name()}; "
        f"CPU: {library.instruction_set() if library.available() else 'no kernel'}, "
        f"{threads} threads",
        flush=True,
    )
    if arguments.tune:
        rows = tune(arguments.seconds)
    elif arguments.quick:
        cases = [(sampler, sites, "float64") for sampler, sites in QUICK["cases"]]
        cases.append(("gibbs", 10, "float32"))
        rows = compare(cases, QUICK["replicas"], QUICK["seconds"], threads)
    else:
        cases = [(s, n, dtype) for n in SITES for s in SAMPLERS for dtype in DTYPES]
        rows = compare(cases, REPLICAS, arguments.seconds, threads)
    if not arguments.tune:
        crossover(rows)
    if arguments.out:
        write([{"card": card.name, **row} for row in rows], arguments.out)


if __name__ == "__main__":
    main()
