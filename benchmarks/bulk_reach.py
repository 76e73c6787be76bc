"""Time of spectra and bulk of a network of 50 million parameters, over bare singular values.

Weights like those of a transformer are drawn and written once. Then, in turns: LAPACK's singular
values of every matrix, in memory, in double precision; and the stages `spectra` and `bulk` as the
workflow runs them, files included. Where WeightWatcher is installed in another environment, its
`analyze` with `mp_fit` and `randomize` runs on the matrices of the first blocks, beside both stages
on the same matrices, once with and once without what WeightWatcher does not have.

    python benchmarks/bulk_reach.py --rounds 3 --weightwatcher /tmp/other/bin/python

Times are those of the CPU, on one thread: set OMP_NUM_THREADS=1.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dysonflow import models, stages
from dysonflow.analysis.bulk_scope import EXTRAS, SHUFFLED, layers_with_bulk
from dysonflow.artifacts.weights import open_weights

WATCH = """
import sys, time, warnings
import numpy as np, torch
warnings.filterwarnings("ignore")
import matplotlib
matplotlib.use("Agg")
import weightwatcher
held = np.load(sys.argv[1])
layers = []
for name in held.files:
    rows, columns = held[name].shape
    layer = torch.nn.Linear(columns, rows, bias=False)
    layer.weight.data = torch.tensor(held[name])
    layers.append(layer)
watcher = weightwatcher.WeightWatcher(model=torch.nn.Sequential(*layers))
start = time.process_time()
found = watcher.analyze(mp_fit=True, randomize=True, plot=False)
print("seconds", time.process_time() - start, len(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=24000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weightwatcher", help="a Python that has it")
    parser.add_argument("--watched", type=int, default=1, help="blocks that it analyses")
    options = parser.parse_args()
    models.__path__.append(str(Path(__file__).parent / "systems"))
    sizes = {name: getattr(options, name) for name in ("width", "blocks", "vocabulary")}
    with tempfile.TemporaryDirectory() as folder:
        whole = Network(Path(folder) / "whole", sizes)
        print(f"{whole.parameters / 1e6:.1f} million parameters in {whole.layers} matrices")
        times = interleaved(
            {
                "bare singular values": whole.bare,
                "spectra": whole.spectra,
                "bulk": lambda: whole.bulk(()),
            },
            options.rounds,
        )
        bare, spectra, bulk = times.values()
        print(f"spectra and bulk over bare singular values: {(spectra + bulk) / bare:.3f}")
        if options.weightwatcher:
            part = Network(
                Path(folder) / "part", sizes | {"blocks": options.watched, "vocabulary": 0}
            )
            print(f"the {part.layers} matrices of the first {options.watched} block(s):")
            seconds = watch(options.weightwatcher, part)
            for extras in ((), (SHUFFLED,), EXTRAS):
                own = interleaved(
                    {
                        f"spectra, {extras}": part.spectra,
                        f"bulk, {extras}": lambda extras=extras: part.bulk(extras),
                    },
                    options.rounds,
                )
                ratio = seconds / sum(own.values())
                print(f"WeightWatcher over spectra and bulk {extras}: {ratio:.1f}")


class Network:
    """Weights of a network in a file, and what is timed with them."""

    def __init__(self, folder: Path, sizes: dict[str, int]):
        self.folder = folder
        values = sizes | {"burn_in": 1, "steps": 1, "snapshots": 1, "replicas": 1}
        values["dtype"] = "float32"
        self.run = models.hyperparameters_of("transformer").from_config(values)
        self.layers = len(layers_with_bulk(self.run))
        self.parameters = sum(rows * columns for rows, columns in self.run.layers().values())
        self.params = {"hyperparameters": self.run.canonical(), "source": "0" * 16}
        folder.mkdir()
        stages.read_weights("transformer", **self.params, output=self.path("weights.safetensors"))
        with open_weights(self.path("weights.safetensors")) as file:
            self.weights = {layer: file.read(layer)[0, 0] for layer in file.shapes}

    def path(self, name: str) -> str:
        """A file of the network."""
        return str(self.folder / name)

    def bare(self) -> None:
        """Singular values of all matrices, nothing else."""
        for matrix in self.weights.values():
            np.linalg.svd(matrix.astype(np.float64), compute_uv=False)

    def spectra(self) -> None:
        """The stage `spectra`."""
        stages.spectra(
            "transformer",
            **self.params,
            weights=self.path("weights.safetensors"),
            output=self.path("spectra.parquet"),
        )

    def bulk(self, extras: tuple[str, ...]) -> None:
        """The stage `bulk`."""
        stages.bulk(
            "transformer",
            **self.params,
            extras=extras,
            scales={},
            spectra=self.path("spectra.parquet"),
            weights=self.path("weights.safetensors"),
            output=self.path("bulk.parquet"),
        )


def interleaved(what: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each, all of them in turns; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(rounds + 1):
        for name, function in what.items():
            start = time.process_time()
            function()
            times[name].append(time.process_time() - start)
    found = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, values in times.items():
        spread = ", ".join(f"{value:.2f}" for value in values[1:])
        print(f"{name}: {found[name]:.2f} s ({spread})", flush=True)
    return found


def watch(python: str, network: Network) -> float:
    """CPU seconds of WeightWatcher's `analyze` on the matrices of a network."""
    path = network.path("weights.npz")
    np.savez(path, **network.weights)
    done = subprocess.run([python, "-c", WATCH, path], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("seconds")]
    if not lines:
        sys.exit(f"WeightWatcher: {json.dumps(done.stderr[-2000:])}")
    _, seconds, layers = lines[0].split()
    print(f"WeightWatcher: {float(seconds):.1f} s, {layers} matrices", flush=True)
    return float(seconds)


if __name__ == "__main__":
    main()
