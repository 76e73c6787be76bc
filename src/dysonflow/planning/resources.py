"""Memory and time of jobs, from the hyperparameters of their runs.

What a job asks a cluster for is on the safe side, measured on slow cores (docs/scaling.md); it
decides when the job starts and when it is killed, never a number in its output. Every retry asks
for more. What people are told to expect is the likely time on a core of today, with no margin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dysonflow import models, theory
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.devices import CPU, Device
from dysonflow.simulation.gradients import BRANCHES, MEASURED, SAMPLES
from dysonflow.simulation.implementation import choose

BYTES = 8
"""Of one number in double precision."""
SECONDS = {
    "cpu": {"step": 1e-4, "draw": 5e-9, "operation": 1e-10},
    "cuda": {"step": 1e-3, "draw": 1e-10, "operation": 1e-12},
    "compiled": {"step": 5e-7, "draw": 2e-10, "operation": 2e-11},
}
"""Of the small kernels of one SGD step of a block, one normal random number, and one floating-point
operation. On a CPU: one core, measured, with torch and with the compiled kernel (half of that on an
idle core with AVX-512, docs/speed.md). On a GPU, `cuda`: a guess on the safe side for double
precision, never measured; `benchmarks/cost.py --device cuda` prints what these numbers estimate
over what it measures, and this is the one place to put better ones."""
JOB_SECONDS = 1.5
"""CPU time of a job beside what it computes: start of Python, imports, files."""
FIT_SECONDS = 1.0
"""Of all fits of a run of some thousand matrices."""
READ_BYTES_PER_SECOND = 20e6
"""From a slow shared file system."""
TIME_MARGIN = 4
"""A job is given this many times its estimated time: cores differ, and so do their neighbours."""
MEMORY_MARGIN = 1.5
"""A job is given this many times its estimated arrays."""
TRAIN_MB = 1500
"""Of a training job without its arrays: two nested snakemakes, Python with torch."""
TRAIN_ON_GPU_MB = 4000
"""The same on a GPU, whose libraries take memory of the host as well: a guess, not measured."""
TABLE_MB = 1200
"""Of any other job without its tables: two nested snakemakes, Python with pandas."""
SHORTEST_TRAINING = 10
"""Minutes that even the shortest training may take: start, imports, a slow file system."""
SHORTEST_TABLE = 4
"""Minutes that even the smallest table may take."""
ROW_BYTES = 400
"""One row of spectra while it is made or read: its columns, copies and the sort."""
ROW_DISK_BYTES = 12
"""One row of spectra on the disk, compressed."""
RUN_DISK_BYTES = 30_000
"""Of a table of one run or study on the disk, however short it is."""
FIGURE_DISK_BYTES = 400_000
"""Of the four files of a figure."""

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
    return _training_seconds(run, replicas, "cuda" if device == "cuda" else "cpu")


def _training_seconds(run: Hyperparameters, replicas: int, with_what: str) -> float:
    cost = SECONDS[with_what]
    step = run.cost()
    blocks = 1 if with_what == "cuda" else math.ceil(replicas / BLOCK_SIZE)
    each = replicas * (step.draws * cost["draw"] + step.operations * cost["operation"])
    return run.frame_steps[-1] * (blocks * cost["step"] + each)


def expected_training_seconds(run: Hyperparameters, replicas: int, device: str = "cpu") -> float:
    """Likely time of training, of a job as a whole, with what would train it on this machine.

    Parameters
    ----------
    run : Hyperparameters
        The run.
    replicas : int
        Replicas trained by this job.
    device : str
        As in the configuration; `auto` counts as `cpu`.
    """
    kind = "cuda" if device == "cuda" else "cpu"
    place = Device(kind, kind) if kind == "cuda" else CPU
    is_compiled = choose(models.load(run.MODEL), place).is_compiled
    return JOB_SECONDS + _training_seconds(run, replicas, "compiled" if is_compiled else kind)


@dataclass(frozen=True)
class Expected:
    """What jobs are likely to take.

    Attributes
    ----------
    seconds : float
        Of one core, or of one GPU that trains.
    size : float
        Bytes of the files that stay.
    """

    seconds: float = 0.0
    size: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(self.seconds + other.seconds, self.size + other.size)

    def __str__(self) -> str:
        size, unit = (self.size / 1e9, "GB") if self.size >= 1e9 else (self.size / 1e6, "MB")
        hours = max(self.seconds / 3600, 0.01)
        # Two digits; `g` alone would write 290 as 2.9e+02.
        return f"{float(f'{hours:.2g}'):g} core-hours and {float(f'{max(size, 0.1):.2g}'):g} {unit}"


def expected(
    stage: str,
    runs: Sequence[Hyperparameters],
    replicas: int = 0,
    device: str = "cpu",
    is_kept: bool = True,
) -> Expected:
    """What a job is likely to take.

    Parameters
    ----------
    stage : str
        Name of its rule.
    runs : sequence of Hyperparameters
        Runs that it makes or reads.
    replicas : int
        Replicas that it trains.
    device : str
        As in the configuration.
    is_kept : bool
        Whether its output stays.
    """
    if stage.startswith("train"):
        (run,) = runs
        seconds = expected_training_seconds(run, replicas, device)
        return Expected(seconds, is_kept * _weight_bytes(run, replicas))
    if stage == "layers":
        size = sum(path.stat().st_size for run in runs for path in run.sources)
        return Expected(JOB_SECONDS + size / READ_BYTES_PER_SECOND, RUN_DISK_BYTES)
    if stage in ("join", "read_weights"):
        size = sum(_weight_bytes(run, run.replicas) for run in runs)
        return Expected(JOB_SECONDS + size / READ_BYTES_PER_SECOND, is_kept * size)
    if stage == "spectra":
        rows = sum(
            run.replicas * run.snapshots * columns
            for run in runs
            for _, columns in run.layers().values()
        )
        seconds = JOB_SECONDS + sum(map(_spectra_seconds, runs))
        return Expected(seconds, RUN_DISK_BYTES + rows * ROW_DISK_BYTES)
    if stage == "fit":
        seconds = FIT_SECONDS + sum(map(_spectra_seconds, runs))
        return Expected(JOB_SECONDS + seconds, RUN_DISK_BYTES)
    if stage == "bulk":
        return Expected(
            JOB_SECONDS + sum(_bulk_seconds(run, False) for run in runs), RUN_DISK_BYTES
        )
    if stage == "gradient_noise":
        seconds = sum(_gradient_noise_seconds(run) for run in runs)
        return Expected(JOB_SECONDS + seconds, RUN_DISK_BYTES)
    if stage == "increments":
        return Expected(JOB_SECONDS + sum(map(_increments_seconds, runs)), RUN_DISK_BYTES)
    size = FIGURE_DISK_BYTES if stage == "figure" else RUN_DISK_BYTES
    return Expected(JOB_SECONDS, size)


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
        TRAIN_ON_GPU_MB if device == "cuda" else TRAIN_MB,
        held * BYTES,
        SHORTEST_TRAINING,
        training_seconds(run, replicas, device),
        attempt,
    )


def joining(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What the job that joins the shards of a run asks for; shape as of `training`."""
    size = _weight_bytes(run, run.replicas)
    # One snapshot of a shard at a time. Read and written on a slow shared file system: 20 MB/s.
    return _grown(
        TABLE_MB, min(3 * size, 4 * PART), SHORTEST_TABLE, size / READ_BYTES_PER_SECOND, attempt
    )


def reading(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What the job asks for that reads the weights of a run from files; shape as of `training`."""
    sizes = [path.stat().st_size for path in run.sources]
    there = max(sum(sizes), _weight_bytes(run, run.replicas))
    # All of one file, and as much again while it is brought into order; torch for its own format.
    # Of whole networks one layer at a time.
    held = _largest_bytes(run) if run.chooses_layers else max(sizes, default=0)
    return _grown(TRAIN_MB, 4 * held, SHORTEST_TABLE, there / READ_BYTES_PER_SECOND, attempt)


def _largest_bytes(run: Hyperparameters) -> int:
    """Bytes of the largest matrix of a run."""
    return max(rows * columns for rows, columns in run.layers().values()) * BYTES


def _increments_seconds(run: Hyperparameters) -> float:
    """Time of one core for the increments of a run: 3 us for each pair of levels and lag.

    Theory, where there is one, goes through every step of a lag.
    """
    samples, sizes = run.replicas * run.snapshots, [n for _, n in run.layers().values()]
    pairs = sum(samples * n**2 * 3e-6 for n in sizes) * len(run.lags)
    steps = sum(run.lags) if theory.exists(run.MODEL) else 0
    return pairs + steps * samples * max(sizes) ** 3 * 1e-8


def _gradient_noise_seconds(run: Hyperparameters) -> float:
    """Time of one core: training once more, repeated steps, and gradients of single samples."""
    steps = run.frame_steps[-1] + MEASURED * (BRANCHES + SAMPLES)
    return training_seconds(run, run.replicas) * steps / run.frame_steps[-1]


def gradient_noise(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What a job asks for that measures the noise of the gradient; shape as of `training`."""
    held = (2 * run.replicas + SAMPLES) * run.cost().numbers
    # Gradients of all samples of all layers, in double precision, and the same along the levels.
    held += 4 * SAMPLES * sum(rows * columns for rows, columns in run.layers().values())
    seconds = _gradient_noise_seconds(run)
    return _grown(TRAIN_MB, held * BYTES, SHORTEST_TRAINING, seconds, attempt)


def increments(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What a job asks for that measures the increments of a run.

    Shape as of `training`. The samples of one layer and lag are held at once, with some arrays of
    their pairs.
    """
    largest = max(columns for _, columns in run.layers().values())
    samples = run.replicas * run.snapshots
    size = 40 * samples * largest**2 * BYTES
    seconds = _increments_seconds(run)
    return _grown(TABLE_MB, size, SHORTEST_TABLE, seconds, attempt)


def _bulk_seconds(run: Hyperparameters, with_extras: bool) -> float:
    """Time of one core for the bulk of a run, 20 ms for each matrix.

    With all that can be asked for: singular vectors take three times as long as values, the
    shuffled matrix as much again, and the bend of a power law half a second.
    """
    matrices = run.replicas * run.snapshots * len(run.layers())
    if not with_extras:
        return 0.02 * matrices
    return 10 * _spectra_seconds(run) + 1.0 * matrices


def bulk(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What a job asks for that describes the bulk of a run; shape as of `training`."""
    largest = max(rows * columns for rows, columns in run.layers().values())
    rows = run.replicas * run.snapshots * max(columns for _, columns in run.layers().values())
    # One snapshot of a part of the replicas, and a few copies of one matrix with its vectors.
    size = rows * ROW_BYTES + PART + 10 * largest * BYTES
    return _grown(TABLE_MB, size, SHORTEST_TABLE, _bulk_seconds(run, True), attempt)


def table(runs: Sequence[Hyperparameters], attempt: int = 1) -> dict[str, int]:
    """What a job asks for that makes or reads the weights, spectra or fits of some runs.

    Shape as of `training`.
    """
    size, seconds = 0, 0.0
    for run in runs:
        matrices = run.replicas * run.snapshots
        # One layer at a time is held.
        size += matrices * max(columns for _, columns in run.layers().values()) * ROW_BYTES
        seconds += _spectra_seconds(run)
        size += min(2 * _weight_bytes(run, run.replicas), 4 * max(PART, _largest_bytes(run)))
    return _grown(TABLE_MB, size, SHORTEST_TABLE, seconds, attempt)


def _spectra_seconds(run: Hyperparameters) -> float:
    """Time of the singular values of a run, and a few microseconds for each row of its table."""
    matrices, seconds = run.replicas * run.snapshots, 0.0
    for rows, columns in run.layers().values():
        decomposition = 20 * rows * columns * min(rows, columns) * SECONDS["cpu"]["operation"]
        seconds += matrices * (decomposition + 1e-5 + 5e-6 * columns)
    return seconds


def _grown(
    base_mb: float, array_bytes: float, shortest: float, seconds: float, attempt: int
) -> dict[str, int]:
    """Margins added; the whole multiplied by the attempt."""
    memory = base_mb + MEMORY_MARGIN * array_bytes / 1e6
    minutes = shortest + TIME_MARGIN * seconds / 60
    return {"mem_mb": math.ceil(memory) * attempt, "runtime": math.ceil(minutes) * attempt}
