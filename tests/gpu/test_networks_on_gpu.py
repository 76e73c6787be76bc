"""Networks on a GPU: the numbers of the CPU to rounding, and what happens when a job ends early."""

import io
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dysonflow import models
from dysonflow.artifacts.weights import open_weights
from dysonflow.errors import ConfigError
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import choose_device

pytestmark = pytest.mark.gpu
NETWORK = """
import torch

def build():
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 6)), torch.nn.Conv1d(1, 3, 3), torch.nn.Flatten(),
        torch.nn.LayerNorm(12), torch.nn.Tanh(), torch.nn.Linear(12, 2),
    )

def data(generator, batch_size):
    x = torch.randn(batch_size, 6, generator=generator)
    return x, x[:, :2] - x[:, 2:4] ** 2

def with_statistics():
    return torch.nn.Sequential(
        torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, 2)
    )
"""
SHORT = {"burn_in": 0, "steps": 24, "snapshots": 3, "dtype": "float64"}
# More than one block, so that several streams are carried.
MLP = {"replicas": 70}
GPT = {"replicas": 66, "width": 8, "heads": 2, "blocks": 1, "context": 4, "batch_size": 2}
OPTIMISERS = ("sgd", "momentum", "nesterov", "adam", "adamw")
CASES = [
    *[("mlp", MLP | {"optimiser": name}) for name in OPTIMISERS],
    ("mlp", MLP | {"activation": "gelu", "sampling": "independent", "schedule": "cosine"}),
    ("mlp", MLP | {"activation": "relu", "loss": "squared_error", "weight_decay": 0.01}),
    *[("char_gpt", GPT | {"optimiser": name}) for name in ("adamw", "momentum")],
    ("char_gpt", GPT | {"data": "topics", "tied": False}),
    *[("torch_module", {"optimiser": name}) for name in OPTIMISERS],
    ("torch_module", {"module": "with_statistics"}),
]


@pytest.fixture
def run_of(tmp_path):
    """Hyperparameters of a short run; the user's own network lies in a file."""
    file = tmp_path / "own.py"
    file.write_text(NETWORK, encoding="utf-8")

    def make(model, values):
        if model == "torch_module":
            own = {"replicas": 5, "data": f"{file}:data", "loss": "squared_error"}
            values = own | values | {"module": f"{file}:{values.get('module', 'build')}"}
        return models.hyperparameters_of(model).from_config(SHORT | values)

    return make


def trained(run, device):
    simulation = models.load(run.MODEL).simulation
    return ensemble.train_in_memory(simulation, run, choose_device(device), io.StringIO())


@pytest.mark.parametrize(("model", "values"), CASES, ids=lambda value: str(value)[:70])
def test_the_numbers_are_those_of_the_cpu(model, values, run_of, device):
    run = run_of(model, values)
    here, there = trained(run, "cpu"), trained(run, device)
    # Double precision; rounding is enlarged by 24 steps, most by Adam's, which follow signs.
    assert np.allclose(here.loss, there.loss, rtol=1e-8, atol=1e-10)
    for layer, weights in here.layers.items():
        assert np.allclose(weights, there.layers[layer], rtol=1e-7, atol=1e-8), layer


def test_dropout_has_the_law_of_the_cpu(run_of, device):
    run = run_of("char_gpt", GPT | {"dropout": 0.3, "replicas": 128, "optimiser": "momentum"})
    means = [(trained(run, where).loss[:, -1]) for where in ("cpu", device)]
    error = np.sqrt(sum(loss.var() / len(loss) for loss in means))
    # Five standard errors: a false alarm in 6 of 10^7 calls.
    assert abs(means[0].mean() - means[1].mean()) < 5 * error


JOB = """
import json, sys
from dysonflow import stages
model, values, output, device, seconds = json.loads(sys.argv[1])
stages.train(model, values, "digest", device, output, checkpoint_seconds=seconds)
"""


class Job:
    """A training job in a process of its own."""

    def __init__(self, run, output, device, seconds=60.0):
        import json

        self.output = output
        values = [run.MODEL, run.canonical(), str(output), device, seconds]
        command = [sys.executable, "-c", JOB, json.dumps(values)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def finish(self):
        said = self.process.communicate()[1]
        assert self.process.returncode == 0, said
        return self.weights()

    def weights(self):
        with open_weights(str(self.output)) as file:
            return {
                layer: np.concatenate([file.read(layer, *part) for part in file.pieces(layer)])
                for layer in file.shapes
            }


@pytest.mark.parametrize(
    ("model", "values"),
    [("mlp", MLP | {"optimiser": "adamw"}), ("char_gpt", GPT | {"replicas": 3, "dropout": 0.1})],
    ids=["mlp", "char_gpt"],
)
def test_a_killed_job_goes_on_to_the_same_numbers(model, values, run_of, device, tmp_path):
    # Long enough that it is killed on the way; snapshots are looks at the checkpoint.
    run = run_of(model, values | {"steps": 600, "snapshots": 20})
    output = tmp_path / "killed.safetensors"
    first = Job(run, output, device, seconds=0.0)
    checkpoint = tmp_path / "killed.safetensors.checkpoint"
    while not checkpoint.exists() and first.process.poll() is None:
        time.sleep(0.01)
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate()
    assert first.process.returncode == -signal.SIGKILL and not output.exists()
    again = Job(run, output, device).finish()
    whole = Job(run, tmp_path / "whole.safetensors", device).finish()
    for layer, weights in whole.items():
        # The same operations in the same order on the same device.
        assert np.array_equal(weights, again[layer]), layer


def test_two_jobs_share_a_gpu(run_of, device, tmp_path):
    runs = [run_of("mlp", MLP | {"seed": seed, "steps": 200}) for seed in (0, 1)]
    jobs = [Job(run, tmp_path / f"{k}.safetensors", device) for k, run in enumerate(runs)]
    together = [job.finish() for job in jobs]
    alone = Job(runs[0], tmp_path / "alone.safetensors", device).finish()
    for layer, weights in alone.items():
        assert np.array_equal(weights, together[0][layer])
        assert not np.array_equal(weights, together[1][layer])


def test_out_of_memory_is_one_line_with_a_shard_size_that_fits(run_of, device, is_rehearsal):
    if is_rehearsal:
        pytest.skip("only a GPU is full in this way")
    import torch

    # A card of half a gigabyte, of which no more than this process is concerned.
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(5e8 / total)
    try:
        import dysonflow

        with pytest.raises(ConfigError) as caught:
            values = {"replicas": 64_000, "steps": 2, "burn_in": 0, "snapshots": 1}
            dysonflow.train("mlp", values, device="cuda", progress=io.StringIO())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    said = str(caught.value)
    assert "out of memory on" in said and "lower shard_size to" in said and "\n" not in said
