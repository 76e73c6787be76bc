"""Errors of the step of Dyson Brownian motion, as the tables of docs/dyson.md.

Four levels at every index, both dynamics and several steps, against the exact stationary law: sum
of squares and gap ratio. At infinite index: distance from the zeros of the Hermite polynomial.

    python benchmarks/dyson.py
"""

import argparse
import math

import numpy as np

from dysonflow import models
from dysonflow.simulation.base import Block
from dysonflow.simulation.devices import CPU
from dysonflow.simulation.implementation import choose
from dysonflow.statistics.coulomb_gas import hermite_zeros, sample

INDICES = (0.5, 1, 2, 4)
STEPS = (0.04, 0.02, 0.01, 0.005)
SIZE = 4
BURN_IN = 5.0
"""Time from the start to the first snapshot, over the relaxation time of the centre."""
SNAPSHOTS = 12
EXACT = 400_000
"""Exact samples, for the mean gap ratio."""
RESTS = 40.0
"""Time after which nothing is left of the start in double precision."""


def started(replicas: int, **values):
    """Replicas side by side at time 0, by the fastest implementation."""
    system = models.load("dyson")
    run = system.hyperparameters.from_config(
        {"burn_in": 0, "steps": 1, "snapshots": 1, "size": SIZE} | values
    )
    return choose(system, CPU, run).simulation.start(run, Block(0, replicas))


def levels_of(block) -> np.ndarray:
    """Levels now, shape (replica, n)."""
    array = block.layers()["M"]
    return array[:, 0] if array.shape[1] == 1 else np.linalg.eigvalsh(array)


def gap_ratio(levels: np.ndarray) -> np.ndarray:
    """Mean of r = min(g, g') / max(g, g') over neighbouring gaps, shape (...)."""
    gap = np.diff(levels, axis=-1)
    low, high = gap[..., 1:], gap[..., :-1]
    return (np.minimum(low, high) / np.maximum(low, high)).mean(axis=-1)


def quote(values: np.ndarray, truth: float) -> str:
    """Mean over replicas less the truth, with its standard error; one row of values a replica."""
    means = values.mean(axis=1)
    return f"{means.mean() - truth:+.4f} ± {means.std(ddof=1) / math.sqrt(len(means)):.4f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=2048)
    replicas = parser.parse_args().replicas
    print("| beta | dynamics | time_step | E[sum l^2] - exact | <r> - exact |")
    print("| --- | --- | --- | --- | --- |")
    for beta in INDICES:
        squares = SIZE / beta + SIZE * (SIZE - 1) / 2
        exact = sample(SIZE, beta, EXACT, np.random.default_rng(1), sigma=beta**-0.5)
        ratio = float(gap_ratio(exact).mean())
        for dynamics in ("matrix", "levels"):
            for step in STEPS:
                block = started(replicas, beta=beta, dynamics=dynamics, time_step=step)
                block.advance(round(BURN_IN / step))
                taken = []
                for _ in range(SNAPSHOTS):
                    block.advance(round(1 / step))
                    taken.append(levels_of(block))
                levels = np.stack(taken, axis=1)
                square = quote((levels**2).sum(axis=-1), squares)
                row = (f"{beta:g}", dynamics, f"{step:g}", square, quote(gap_ratio(levels), ratio))
                print(f"| {' | '.join(row)} |", flush=True)
    print("\n| n | largest distance of the levels from a zero, time_step 0.1 |")
    print("| --- | --- |")
    for size in (4, 16, 64):
        block = started(1, beta="infinity", time_step=0.1, size=size)
        block.advance(round(RESTS / 0.1))
        print(f"| {size} | {np.abs(levels_of(block) - hermite_zeros(size)).max():.1e} |")
    print("\n| time_step | standard deviation of the matrix's levels at beta = infinity |")
    print("| --- | --- |")
    for step in STEPS:
        block = started(replicas, beta="infinity", dynamics="matrix", time_step=step)
        block.advance(round(BURN_IN / step))
        away = levels_of(block) - hermite_zeros(SIZE)
        print(f"| {step:g} | {math.sqrt((away**2).mean()):.4f} |", flush=True)


if __name__ == "__main__":
    main()
