"""How the levels of a transformer move, against what the noise of its gradient predicts.

snakemake --cores 2 --configfile config/transformer_motion.yaml
python benchmarks/transformer_motion.py [results]

Prints the tables of docs/transformer.md. Singular values s_i of every layer are followed over lags:
their variance over replicas in one step, over the one that gradients of single samples predict; how
it grows with the lag; the drift that brings them back; the Dyson index. Errors are those of whole
replicas.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import dysonflow
from dysonflow import models
from dysonflow.artifacts import kinds
from dysonflow.artifacts.weights import open_weights
from dysonflow.report.quoting import quote
from dysonflow.statistics.jackknife import jackknife_error, leave_one_out_means

HEADS = {
    "one step": ("layer", "anisotropy, largest", "smallest", "mean", "one step / predicted"),
    "lags": (
        "layer",
        "lag",
        "variance / that of independent steps",
        "relaxation in 100 steps",
        "beta",
    ),
}


def main() -> None:
    """Print both tables of every run."""
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    noise, increments = dysonflow.read_gradient_noise(results), dysonflow.read_increments(results)
    for path in sorted((results / "runs" / "char_gpt").glob("*/weights.safetensors")):
        run = models.hyperparameters_of("char_gpt").from_config(kinds.peek(path)["hyperparameters"])
        if not run.lags:
            continue
        print(f"\n{run.optimiser}, steps {run.burn_in} to {run.steps}, {run.replicas} replicas")
        with open_weights(path) as file:
            moved = {layer: changes(run, file, layer) for layer in run.layers()}
        loss = np.asarray(file_loss(path))
        half = loss.shape[1] // 2
        fall = loss[:, half:].mean(axis=1) - loss[:, :half].mean(axis=1)
        print(f"loss {said(loss.mean(axis=1))}, second half less first {said(fall)}")
        own = noise[noise["run"] == run.name]
        table("one step", (one_step(run, own, layer, moved[layer]) for layer in moved))
        found = increments[(increments["run"] == run.name) & (increments["method"] == "free")]
        table("lags", (row for layer in moved for row in lags(run, found, layer, moved[layer])))


def changes(run, file, layer: str) -> np.ndarray:
    """Change of the singular values, shape (lag, replica, snapshot, level), the largest first."""

    def levels(weights: np.ndarray) -> np.ndarray:
        return np.linalg.svd(weights.astype(np.float64), compute_uv=False)

    before = levels(file.read(layer))
    return np.array([levels(file.read_lagged(layer, k)) - before for k in range(len(run.lags))])


def file_loss(path: Path) -> np.ndarray:
    """Loss of each replica and snapshot."""
    with open_weights(path) as file:
        return file.loss


def said(values: np.ndarray) -> str:
    """Mean over replicas, with its error."""
    return quote(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def variance(moved: np.ndarray) -> tuple[float, np.ndarray]:
    """Variance over replicas, summed over levels and averaged over snapshots; without each one."""
    first, second = leave_one_out_means(moved), leave_one_out_means(moved**2)
    found = (second - first**2).sum(axis=-1).mean(axis=-1)
    count = len(moved)
    # Of as many samples as there are in each mean.
    found *= np.array([count / (count - 1), *[(count - 1) / (count - 2)] * count])
    return float(found[0]), found


def one_step(run, noise, layer: str, moved: np.ndarray) -> list[str]:
    """Anisotropy of the noise, and the variance of a step over what it predicts."""
    rows = noise[noise["layer"] == layer]
    by_level = rows.groupby("index")[["anisotropy", "anisotropy_error"]].mean()
    measured, every = variance(moved[0])
    predicted = rows.groupby("step")["diffusion_predicted"].sum()
    # Over the steps: the spread is that of training, too.
    below = float(predicted.mean()) * memory(run, run.lags[0])
    ratio = every / below
    return [
        f"`{layer}`",
        *(quote(*by_level.iloc[k]) for k in (-1, 0)),
        quote(*rows[["mean_anisotropy", "mean_anisotropy_error"]].mean()),
        quote(measured / below, float(jackknife_error(ratio[1:]))),
    ]


def lags(run, increments, layer: str, moved: np.ndarray) -> Iterator[list[str]]:
    """Growth of the variance with the lag; relaxation and index, where they can be fitted."""
    _, first = variance(moved[0])
    for number, lag in enumerate(run.lags):
        _, every = variance(moved[number])
        growth = every / first * memory(run, run.lags[0]) / memory(run, lag)
        row = increments[(increments["layer"] == layer) & (increments["lag"] == lag)].iloc[0]
        fitted = ("", "")
        if not row["flag"] and np.isfinite(row["dyson_index"]):
            fitted = (
                quote(100 * row["drift"], 100 * row["drift_error"]),
                quote(row["dyson_index"], row["dyson_index_error"]),
            )
        yield [
            f"`{layer}`",
            str(lag),
            quote(float(growth[0]), float(jackknife_error(growth[1:]))),
            *fitted,
        ]


def memory(run, lag: int) -> float:
    """Variance of the sum of so many steps of independent gradients, over that of one gradient.

    Momentum and Adam go by a mean of former gradients with the memory m: steps are correlated as
    m^k, and their variance is that of the newest gradient over 1 - m^2.
    """
    m = {"sgd": 0.0, "momentum": run.momentum}.get(run.optimiser, run.betas[0])
    apart = np.arange(1, lag)
    return float((lag + 2 * ((lag - apart) * m**apart).sum()) / (1.0 - m**2))


def table(name: str, rows) -> None:
    """Print a table in Markdown."""
    for row in (HEADS[name], ["---"] * len(HEADS[name]), *rows):
        print("| " + " | ".join(row) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
