"""Memory and time that a job asks a cluster for, from the hyperparameters of its run.

Estimates on the safe side, measured on slow cores (docs/scaling.md); what a job asks for decides
when it starts and when it is killed, never a number in its output. Every retry asks for more.
"""

import math
from collections.abc import Sequence
from functools import cache

from dysonflow.hyperparameters import Hyperparameters

BYTES = 8
"""Of one number in double precision."""
BLOCK = 64
"""Replicas simulated side by side on a CPU, `simulation.ensemble.BLOCK_SIZE`, without torch."""
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

ROWS = ("hidden_units", "outputs", "size", "width", "rows")
COLUMNS = ("sites", "inputs", "size", "width", "columns")
"""Names under which the models keep the shape of W; the first that exists counts."""


def weight_shape(run: Hyperparameters) -> tuple[int, int]:
    """Rows M and columns N of the weight matrix of a run; a model may tell its own `weight_shape`.

    A model that names neither is taken for a small one: set its resources in the profile.
    """
    rows, columns = _shape_fields(type(run))
    if rows == "weight_shape":
        shape = run.weight_shape  # type: ignore[attr-defined]
        return int(shape[-2]), int(shape[-1])
    small = 16
    return (
        int(getattr(run, rows)) if rows else small,
        int(getattr(run, columns)) if columns else small,
    )


@cache
def _shape_fields(model: type) -> tuple[str, str]:
    """Names of the fields of a model that give M and N; looked up once for thousands of runs."""
    if hasattr(model, "weight_shape"):
        return "weight_shape", "weight_shape"
    known = getattr(model, "model_fields", {})
    rows, columns = (
        next((name for name in names if name in known), "") for names in (ROWS, COLUMNS)
    )
    return rows, columns


def training_seconds(run: Hyperparameters, replicas: int, device: str = "cpu") -> float:
    """Estimated time of training on one core, or on one GPU for the device `cuda`.

    Each step of a block costs its kernels, B (M + N) random numbers a replica and sweep, and the
    products of W, samples and gradients: 4 B M N a sweep, 2 B N^2 and 4 N^2 max(M, N) operations.
    """
    rows, columns = weight_shape(run)
    batch = int(getattr(run, "batch_size", 1))
    sweeps = int(getattr(run, "gibbs_sweeps", 1))
    if getattr(run, "sampler", "") == "wishart":
        # One draw of a triangle stands for the whole batch.
        batch, sweeps = min(batch, columns), 1
    draws = sweeps * batch * (rows + columns)
    operations = 4 * sweeps * batch * rows * columns + 2 * batch * columns**2
    operations += 4 * columns**2 * max(rows, columns)
    cost = SECONDS["cuda" if device == "cuda" else "cpu"]
    blocks = 1 if device == "cuda" else math.ceil(replicas / BLOCK)
    each = replicas * (draws * cost["draw"] + operations * cost["operation"])
    return int(run.steps) * (blocks * cost["step"] + each)


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
    rows, columns = weight_shape(run)
    batch = int(getattr(run, "batch_size", 1))
    matrix = rows * columns
    # The snapshots are held as a list, stacked, and as the bytes of the file.
    kept = 3 * replicas * run.snapshots * matrix
    # W, gradient, covariance, precision and their factors; chains and hidden units of two sweeps.
    block = min(replicas, BLOCK) * (10 * max(rows, columns) ** 2 + 4 * batch * (rows + columns))
    return _grown(
        TRAIN_MB,
        (kept + block) * BYTES,
        SHORTEST_TRAINING,
        training_seconds(run, replicas, device),
        attempt,
    )


def joining(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What the job that joins the shards of a run asks for; shape as of `training`."""
    size = run.replicas * run.snapshots * math.prod(weight_shape(run)) * BYTES
    # Read and written on a slow shared file system: 20 MB/s.
    return _grown(TABLE_MB, 3 * size, SHORTEST_TABLE, size / 20e6, attempt)


def reading(run: Hyperparameters, attempt: int = 1) -> dict[str, int]:
    """What the job asks for that reads the weights of a run from files; shape as of `training`."""
    kept = run.replicas * run.snapshots * math.prod(weight_shape(run)) * BYTES
    there = max(sum(path.stat().st_size for path in run.sources), kept)
    # All of a file and what is kept of it, then as in `joining`; with torch for its own format.
    return _grown(TRAIN_MB, 2 * there + 3 * kept, SHORTEST_TABLE, there / 20e6, attempt)


def table(runs: Sequence[Hyperparameters], attempt: int = 1) -> dict[str, int]:
    """What a job asks for that makes or reads the weights, spectra or fits of some runs.

    Shape as of `training`.
    """
    size, seconds = 0, 0.0
    for run in runs:
        rows, columns = weight_shape(run)
        matrices = run.replicas * run.snapshots
        size += 2 * matrices * rows * columns * BYTES + matrices * columns * ROW_BYTES
        # The singular values, then a few microseconds for each row.
        decomposition = 20 * rows * columns * min(rows, columns) * SECONDS["cpu"]["operation"]
        seconds += matrices * (decomposition + 1e-5 + 5e-6 * columns)
    return _grown(TABLE_MB, size, SHORTEST_TABLE, seconds, attempt)


def _grown(
    base_mb: float, array_bytes: float, shortest: float, seconds: float, attempt: int
) -> dict[str, int]:
    """Margins added; the whole multiplied by the attempt."""
    memory = base_mb + MEMORY_MARGIN * array_bytes / 1e6
    minutes = shortest + TIME_MARGIN * seconds / 60
    return {"mem_mb": math.ceil(memory) * attempt, "runtime": math.ceil(minutes) * attempt}
