"""Time the compiled kernel against the one-replica reference, side by side in one run.

Measurements are interleaved, so that a busy moment of the machine hits all alike, and the median of
the rounds is taken; compare ratios, not microseconds, between machines.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from dysonflow import kernel, reference

SITES = (10, 32, 64)
BATCH_SIZES = (4, 16, 64)
SAMPLERS = ("gibbs", "ar1", "wishart")
SWEEPS = 3
MU_SQUARED = 9.0
LEARNING_RATE = 0.02
REPLICAS = 32


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


def kernel_run(
    sampler: Any, sites: int, batch: int, dtype: str, threads: int
) -> Callable[[int], None]:
    return kernel.GaussianRBMKernel(
        target_covariance=ring_covariance(sites),
        learning_rate=LEARNING_RATE,
        batch_size=batch,
        mu_squared=MU_SQUARED,
        sweeps=SWEEPS,
        sampler=sampler,
        replicas=REPLICAS,
        dtype=dtype,
        threads=threads,
    ).advance


def measure(
    sampler: str, sites: int, batch: int, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Time all implementations at one point.

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
        ``implementation, sampler, sites, batch_size, dtype, threads, microseconds, ratio``: time
        per replica and step, and how many times faster than the reference.
    """
    candidates = [("reference", "float64", 1, reference_run(sampler, sites, batch), 1)]
    for dtype in ("float64", "float32"):
        for threads in (1, 2):
            run = kernel_run(sampler, sites, batch, dtype, threads)
            candidates.append(("kernel", dtype, threads, run, REPLICAS))
    steps = []
    for _, _, _, run, _ in candidates:
        run(1)
        start = time.perf_counter()
        run(4)
        steps.append(max(4, int(4 * seconds / (time.perf_counter() - start))))
    timings: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds):
        for times, count, (_, _, _, run, replicas) in zip(timings, steps, candidates, strict=True):
            start = time.perf_counter()
            run(count)
            times.append((time.perf_counter() - start) / (count * replicas) * 1e6)
    medians = [statistics.median(times) for times in timings]
    return [
        {
            "implementation": name,
            "sampler": sampler,
            "sites": sites,
            "batch_size": batch,
            "dtype": dtype,
            "threads": threads,
            "microseconds": median,
            "ratio": medians[0] / median,
        }
        for median, (name, dtype, threads, _, _) in zip(medians, candidates, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.06, help="per timing")
    parser.add_argument("--sites", type=int, nargs="+", default=SITES)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not kernel.available():
        raise SystemExit(kernel.why_unavailable())
    print(f"Microseconds per replica and step, {kernel.instruction_set()}, {SWEEPS} Gibbs sweeps;")
    print("in brackets: times faster than the reference (torch, float64, one replica).")
    columns = [f"{dtype} x {threads}" for dtype in ("float64", "float32") for threads in (1, 2)]
    print(f"{'sampler':8} {'N':>3} {'B':>3} {'reference':>10}", *(f"{c:>18}" for c in columns))
    for sampler in SAMPLERS:
        for sites in arguments.sites:
            for batch in BATCH_SIZES:
                slow, *fast = measure(sampler, sites, batch, arguments.rounds, arguments.seconds)
                cells = (f"{row['microseconds']:8.3f} ({row['ratio']:7.0f})" for row in fast)
                print(f"{sampler:8} {sites:3} {batch:3} {slow['microseconds']:10.1f}", *cells)


if __name__ == "__main__":
    main()
