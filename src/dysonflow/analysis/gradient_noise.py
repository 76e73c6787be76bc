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
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dysonflow.errors import ConfigError
from dysonflow.lazy import LazyModule
from dysonflow.simulation.base import Block
from dysonflow.simulation.gradients import WithSampleGradients, response
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from dysonflow.hyperparameters import Hyperparameters
    from dysonflow.simulation.base import Simulation
    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

SAMPLES, BRANCHES = 2**31 + 1, 2**31 + 2
"""Streams of the samples and of the repeated steps, which no block of replicas has."""
FEWEST = 4
"""Samples, and repetitions, from which a variance has an error."""


def measure(
    hyperparameters: Hyperparameters,
    simulation: type[Simulation],
    steps: Sequence[int],
    samples: int,
    branches: int,
) -> pd.DataFrame:
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

    Returns
    -------
    pandas.DataFrame
        A row for each step, layer and singular value; columns as of `dysonflow.gradient_noise`.

    Raises
    ------
    ConfigError
        If the model has no gradients of single samples, or numbers do not fit.
    """
    import pandas as pd

    from dysonflow.simulation.noise import NoiseStream

    h: Any = hyperparameters
    if not hasattr(simulation, "sample_gradients"):
        raise ConfigError(f"{h.MODEL}: has no gradients of single samples; mlp and char_gpt have")
    if min(samples, branches) < FEWEST:
        raise ConfigError(f"samples, branches: give at least {FEWEST} of each")
    if not steps or sorted(set(steps)) != list(steps) or steps[0] < 0:
        raise ConfigError(f"steps = {list(steps)}: give steps >= 0 in ascending order")
    block = Block(0, h.replicas)
    trained: Any = simulation.start(h, block)
    branch: Any = simulation.start(h, block)
    place = (trained.noise.device, trained.noise.dtype)
    noise = NoiseStream(h.seed, h.key, SAMPLES, *place)
    others = NoiseStream(h.seed, h.key, BRANCHES, *place)
    rows = []
    for step in steps:
        trained.advance(step - trained.step)
        found = _of_samples(trained, noise, samples)
        moved = _moved(trained, branch, list(found), others, branches)
        for layer, each in found.items():
            rows.append(_table(h, step, layer, each, moved[layer]))
    return pd.concat(rows, ignore_index=True)


def _moved(
    trained: Any, branch: Any, layers: Sequence[str], noise: NoiseStream, branches: int
) -> dict[str, np.ndarray]:
    """Variance of the step of each singular value, layer to shape (replica, level)."""
    state = trained.state()
    values: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for _ in range(branches):
        branch.load(state)
        branch.noise.load(noise.state())
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


def _table(
    h: Any, step: int, layer: str, each: dict[str, np.ndarray], moved: np.ndarray
) -> pd.DataFrame:
    """Rows of one layer and step: means over replicas with their errors."""
    import pandas as pd

    rows, columns = h.layers()[layer]
    isotropic = each["trace"] / (rows * columns)
    columns_of = {
        "run": h.name,
        "model": h.MODEL,
        "layer": layer,
        "step": step,
        "index": np.arange(moved.shape[1]),
    }
    quantities = {
        "singular_value": each["singular_value"],
        "noise": each["noise"],
        "anisotropy": each["noise"] / isotropic[:, None],
        "diffusion_predicted": each["predicted"],
        "diffusion_measured": moved,
    }
    for name, values in quantities.items():
        columns_of[name] = values.mean(axis=0)
        columns_of[f"{name}_error"] = _error(values)
    # Of the layer as a whole, the same in each of its rows. Ratios of means, not means of ratios:
    # what is divided by is noisy.
    one = np.ones(len(moved))
    whole = {
        "trace": (each["trace"], one),
        "effective_dimension": (each["trace"] ** 2, each["trace_of_square"]),
        "mean_anisotropy": (each["noise"].mean(axis=1), isotropic),
        "measured_over_predicted": (moved.sum(axis=1), each["predicted"].sum(axis=1)),
    }
    for name, (above, below) in whole.items():
        columns_of[name] = above.mean() / below.mean()
        columns_of[f"{name}_error"] = np.nan
        if len(moved) > 1:
            means = leave_one_out_means(np.stack([above, below], axis=1))
            columns_of[f"{name}_error"] = float(jackknife_error(means[1:, 0] / means[1:, 1]))
    return pd.DataFrame(columns_of | {"entries": rows * columns})


def _error(values: np.ndarray) -> Any:
    """Standard error of the mean over replicas; NaN for one of them."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / math.sqrt(len(values))
