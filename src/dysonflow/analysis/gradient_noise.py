"""Noise of the gradient, measured sample by sample, against how singular values then move.

With the gradients G_k of single samples at the weights W = sum_i s_i u_i v_i^T of a layer, and C
their covariance, the gradient of B independent samples has the covariance C / B. To first order
a step dW moves a singular value by u_i^T dW v_i, so that for plain descent at the rate a

    Var[ds_i] = (a^2 / B) Var_k[u_i^T G_k v_i].

The same variance is measured from steps that are taken many times over from the same state, each
time with other samples: nothing else can make them differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dysonflow.analysis.columns import RUN_FIELDS, hyperparameter_fields, run_columns
from dysonflow.artifacts.arrow import arrow_array
from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.lazy import LazyModule
from dysonflow.simulation.base import Block
from dysonflow.simulation.gradients import (
    BRANCHES,
    MEASURED,
    SAMPLES,
    WithSampleGradients,
    response,
    why_unmeasurable,
)
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.base import Simulation
    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

SAMPLES_STREAM, BRANCHES_STREAM = 2**31 + 1, 2**31 + 2
"""Streams of the samples and of the repeated steps, which no block of replicas has."""
FEWEST = 4
"""Samples, and repetitions, from which a variance has an error."""

OF_LEVEL = (
    *("singular_value", "noise", "anisotropy", "diffusion_predicted", "diffusion_measured"),
)
OF_LAYER = ("trace", "effective_dimension", "mean_anisotropy", "measured_over_predicted")
GRADIENT_NOISE_FIELDS = [
    *RUN_FIELDS,
    pa.field("step", pa.int64(), False),
    pa.field("index", pa.int64(), False),
    pa.field("entries", pa.int64(), False),
    *[
        pa.field(name, pa.float64())
        for quantity in (*OF_LEVEL, *OF_LAYER)
        for name in (quantity, f"{quantity}_error")
    ],
]


def gradient_noise_schema(hyperparameters: type[Hyperparameters]) -> pa.Schema:
    """Schema of the noise of the gradient of a model."""
    return pa.schema([*GRADIENT_NOISE_FIELDS, *hyperparameter_fields(hyperparameters)])


def measured_steps(hyperparameters: Hyperparameters) -> list[int]:
    """SGD steps after which the workflow measures: up to `MEASURED` of the snapshots, evenly."""
    steps = hyperparameters.snapshot_steps
    count = min(MEASURED, len(steps))
    last = len(steps) - 1
    return [steps[round(k * last / max(count - 1, 1))] for k in range(count)]


def gradient_noise_parts(
    hyperparameters: Hyperparameters,
    simulation: type[Simulation],
    steps: Sequence[int],
    samples: int = SAMPLES,
    branches: int = BRANCHES,
) -> Iterator[dict[str, Any]]:
    """Train a run in memory, and measure the noise of its gradient at some steps.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the run; up to 64 replicas, which are one block.
    simulation : type of Simulation
        Of its model; one of `WithSampleGradients`.
    steps : sequence of int
        SGD steps after which it is measured, ascending.
    samples : int
        Gradients of single samples, for each replica.
    branches : int
        Steps that are taken from the same state.

    Yields
    ------
    dict
        Columns of `gradient_noise_schema`, of one step and layer.

    Raises
    ------
    ConfigError
        If the noise of this run cannot be measured, or numbers do not fit.
    """
    from dysonflow.simulation.noise import NoiseStream

    h: Any = hyperparameters
    why = why_unmeasurable(h)
    if why:
        raise ConfigError(why)
    if min(samples, branches) < FEWEST:
        raise ConfigError(f"samples, branches: give at least {FEWEST} of each")
    if not steps or sorted(set(steps)) != list(steps) or steps[0] < 0:
        raise ConfigError(f"steps = {list(steps)}: give steps >= 0 in ascending order")
    block = Block(0, h.replicas)
    trained: Any = simulation.start(h, block)
    branch: Any = simulation.start(h, block)
    place = (trained.noise.device, trained.noise.dtype)
    noise = NoiseStream(h.seed, h.key, SAMPLES_STREAM, *place)
    others = NoiseStream(h.seed, h.key, BRANCHES_STREAM, *place)
    for step in steps:
        trained.advance(step - trained.step)
        found = _of_samples(trained, noise, samples)
        moved = _moved(trained, branch, list(found), others, branches)
        for layer, each in found.items():
            yield _columns(h, step, layer, each, moved[layer])


def _moved(
    trained: Any, branch: Any, layers: Sequence[str], noise: NoiseStream, branches: int
) -> dict[str, np.ndarray]:
    """Variance of the step of each singular value, layer to shape (replica, level)."""
    state = trained.state()
    values: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for _ in range(branches):
        branch.load(state)
        branch.draw_from(noise)
        branch.advance(1)
        # The next repetition goes on in the stream where this one has ended.
        noise.load(branch.noise.state())
        weights = branch.layers()
        for layer, found in values.items():
            found.append(np.linalg.svd(weights[layer].astype(np.float64), compute_uv=False))
    return {layer: np.var(found, axis=0, ddof=1)[:, ::-1] for layer, found in values.items()}


def _of_samples(
    trained: WithSampleGradients, noise: NoiseStream, samples: int
) -> dict[str, dict[str, np.ndarray]]:
    """What the gradients of single samples say, layer to named arrays, the replica first."""
    found: dict[str, dict[str, list[Any]]] = {}
    weights = trained.layers()  # type: ignore[attr-defined]
    for replica in range(trained.h.replicas):
        for layer, gradients in trained.sample_gradients(replica, samples, noise).items():
            u, s, vt = np.linalg.svd(weights[layer][replica].astype(np.float64), False)
            left, right = (torch.as_tensor(part.copy()) for part in (u.T, vt.T))
            g = gradients.detach().cpu().to(torch.float64)
            mean = g.mean(dim=0)
            scale = response(trained, layer, replica, mean.to(gradients)).cpu().to(torch.float64)
            along = left @ g @ right
            variance = along.var(dim=0, correction=1)
            stepped = (left @ (scale * g) @ right).diagonal(dim1=1, dim2=2).var(dim=0, correction=1)
            pairs = ((g[0::2][: samples // 2] - g[1::2]) / math.sqrt(2.0)).flatten(1)
            products = pairs @ pairs.T
            trace = float(products.diagonal().mean())
            count = len(pairs)
            square = float((products**2).sum() - (products.diagonal() ** 2).sum())
            one = {
                "singular_value": s[::-1],
                "noise": variance.diagonal().numpy()[::-1],
                "trace": trace,
                "trace_of_square": square / (count * (count - 1)),
                "predicted": stepped.numpy()[::-1] / trained.h.batch_size,
            }
            for name, value in one.items():
                found.setdefault(layer, {}).setdefault(name, []).append(value)
    return {
        layer: {name: np.array(values) for name, values in each.items()}
        for layer, each in found.items()
    }


def _columns(
    h: Any, step: int, layer: str, each: dict[str, np.ndarray], moved: np.ndarray
) -> dict[str, Any]:
    """Columns of one layer and step: means over replicas with their errors."""
    rows, columns = h.layers()[layer]
    count = moved.shape[1]
    isotropic = each["trace"] / (rows * columns)
    of_level = {
        "singular_value": each["singular_value"],
        "noise": each["noise"],
        "anisotropy": each["noise"] / isotropic[:, None],
        "diffusion_predicted": each["predicted"],
        "diffusion_measured": moved,
    }
    # Of the layer as a whole, the same in each of its rows. Ratios of means, not means of ratios:
    # what is divided by is noisy.
    of_layer = {
        "trace": (each["trace"], np.ones(len(moved))),
        "effective_dimension": (each["trace"] ** 2, each["trace_of_square"]),
        "mean_anisotropy": (each["noise"].mean(axis=1), isotropic),
        "measured_over_predicted": (moved.sum(axis=1), each["predicted"].sum(axis=1)),
    }
    found: dict[str, tuple[Any, Any]] = {
        name: (values.mean(axis=0), _error(values)) for name, values in of_level.items()
    }
    for name, (above, below) in of_layer.items():
        found[name] = (above.mean() / below.mean(), _error_of_ratio(above, below))
    numbers = {
        "step": np.full(count, step),
        "index": np.arange(count),
        "entries": np.full(count, rows * columns),
    }
    for name, (value, error) in found.items():
        numbers[name] = np.broadcast_to(value, count)
        numbers[f"{name}_error"] = np.broadcast_to(error, count)
    return run_columns(h, layer, count) | {
        field.name: arrow_array(
            [None if isinstance(x, float) and math.isnan(x) else x for x in column.tolist()],
            field.type,
        )
        for field in GRADIENT_NOISE_FIELDS
        for column in [numbers.get(field.name)]
        if column is not None
    }


def _error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over replicas; NaN for one of them."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))


def _error_of_ratio(above: np.ndarray, below: np.ndarray) -> float:
    """Error of a ratio of means over replicas, by the jackknife; NaN for one of them."""
    if len(above) < 2:
        return math.nan
    means = leave_one_out_means(np.stack([above, below], axis=1))
    return float(jackknife_error(means[1:, 0] / means[1:, 1]))
