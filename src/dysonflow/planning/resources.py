"""Memory and time that a job asks a cluster for, from the hyperparameters of its run.

Estimates on the safe side, measured on slow cores (docs/scaling.md); what a job asks for decides
when it starts and when it is killed, never a number in its output. Every retry asks for more.
"""

import math
from collections.abc import Sequence

from dysonflow.hyperparameters import Hyperparameters
from dysonflow.simulation.base import BLOCK_SIZE

BYTES = 8
"""Of one number in double precision."""
SECONDS = {
    "cpu": {"step": 1e-4, "draw": 5e-9, "operation": 1e-10},
    "cuda": {"step": 1e-3, "draw": 1e-10, "operation": 1e-12},
}
"""Of the small kernels of one SGD step of a block, one normal random number, and one floating-point
operation. On a CPU: one core, measured. On a GPU: a guess on the safe side for double precision."""
TIME_MARGIN = 4
"""A job is given this many times its estimated time: cores differ, and so do their neighbours."""
MEMORY_MARGIN = 1.5
"""A job is given this many times its estimated arrays."""
TRAIN_MB = 1500
"""Of a training job without its arrays: two nested snakemakes, Python with torch."""
TABLE_MB = 1200
"""Of any other job without its tables: two nested snakemakes, Python with pandas."""
SHORTEST_TRAINING = 10
"""Minutes that even the shortest training may take: start, imports, a slow file system."""
SHORTEST_TABLE = 4
"""Minutes that even the smallest table may take."""
ROW_BYTES = 400
"""One row of spectra while it is made or read: its columns, copies and the sort."""

PART = 2**26
"""Bytes of weights that a job holds at once, `dysonflow.artifacts.weights.PART_BYTES`."""


def _weight_bytes(run: Hyperparameters, replicas: int) -> int:
    """Bytes of the snapshots of some replicas, all layers together."""
    matrix = sum(rows * columns for rows, columns in run.layers().values())
    return replicas * run.snapshots * (1 + len(run.lags)) * matrix * BYTES


def training_seconds(run: Hyperparameters, replicas: int, device: str = "cpu") -> float:
    """Estimated time of training on one core, or on one GPU for the device `cuda`.

    Each step of a block costs its kernels, and what the model says of each replica.
    """
    cost = SECONDS["cuda" if device == "cuda" else "cpu"]
    step = run.cost()
    blocks = 1 if device == "cuda" else math.ceil(replicas / BLOCK_SIZE)
    each = replicas * (step.draws * cost["draw"] + step.operations * cost["operation"])
    return run.frame_steps[-1] * (blocks * cost["step"] + each)


def training(
    run: Hyperparameters, replicas: int, attempt: int = 1, device: str = "cpu"
) -> dict[str, int]:
    """What a job that trains `replicas` replicas of a run asks for.

    Parameters
    ----------
    run : Hyperparameters
        The run.
    replicas : int
        Replicas trained by this job.
    attempt : int
        1, and one more for each retry: memory and time grow with it.
    device : str
        As in the configuration; `auto` counts as `cpu`, for no GPU is asked for.

    Returns
    -------
    dict
        `mem_mb` in MB, `runtime` in minutes.
    """
    # Snapshots go to the disk as they are taken; one of a block is held, and the block itself.
    block = min(replicas, BLOCK_SIZE) if device != "cuda" else replicas
    matrix = sum(rows * columns for rows, columns in run.layers().values())
    held = block * (run.cost().numbers + 3 * matrix)
    return _grown(
        TRAIN_MB,
        held * BYTES,
        SHORTEST_TRAINING,
        training_seconds(run, replicas, device),
        attempt,
    )


def joining(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What the job that joins the shards of a run asks for; shape as of `training`."""
    size = _weight_bytes(run, run.replicas)
    # One snapshot of a shard at a time. Read and written on a slow shared file system: 20 MB/s.
    return _grown(TABLE_MB, min(3 * size, 4 * PART), SHORTEST_TABLE, size / 20e6, attempt)


def reading(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What the job asks for that reads the weights of a run from files; shape as of `training`."""
    sizes = [path.stat().st_size for path in run.sources]
    there = max(sum(sizes), _weight_bytes(run, run.replicas))
    # All of one file, and as much again while it is brought into order; torch for its own format.
    return _grown(TRAIN_MB, 4 * max(sizes, default=0), SHORTEST_TABLE, there / 20e6, attempt)


def increments(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What a job asks for that measures the increments of a run.

    Shape as of `training`. The samples of one layer and lag are held at once, with some arrays of
    their pairs; measured: 3 ms of one core for a hundred pairs of levels.
    """
    largest = max(columns for _, columns in run.layers().values())
    samples = run.replicas * run.snapshots
    size = 40 * samples * largest**2 * BYTES
    seconds = sum(samples * columns**2 * 3e-5 for _, columns in run.layers().values())
    seconds *= len(run.lags)
    # Theory goes through every step of a lag.
    seconds += sum(run.lags) * samples * largest**3 * 1e-8
    return _grown(TABLE_MB, size, SHORTEST_TABLE, seconds, attempt)


def table(runs: Sequence[Hyperparameters], attempt: int = 1) -> dict[str, int]:
    """What a job asks for that makes or reads the weights, spectra or fits of some runs.

    Shape as of `training`.
    """
    size, seconds = 0, 0.0
    for run in runs:
        matrices = run.replicas * run.snapshots
        # One layer at a time is held.
        size += matrices * max(columns for _, columns in run.layers().values()) * ROW_BYTES
        for rows, columns in run.layers().values():
            # The singular values, then a few microseconds for each row.
            decomposition = 20 * rows * columns * min(rows, columns)
            decomposition_seconds = decomposition * SECONDS["cpu"]["operation"]
            seconds += matrices * (decomposition_seconds + 1e-5 + 5e-6 * columns)
        size += min(2 * _weight_bytes(run, run.replicas), 4 * PART)
    return _grown(TABLE_MB, size, SHORTEST_TABLE, seconds, attempt)


def _grown(
    base_mb: float, array_bytes: float, shortest: float, seconds: float, attempt: int
) -> dict[str, int]:
    """Margins added; the whole multiplied by the attempt."""
    memory = base_mb + MEMORY_MARGIN * array_bytes / 1e6
    minutes = shortest + TIME_MARGIN * seconds / 60
    return {"mem_mb": math.ceil(memory) * attempt, "runtime": math.ceil(minutes) * attempt}
