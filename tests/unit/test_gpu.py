"""Every system on a GPU: the law is that of the CPU, and the speed is reported with the card."""

import math

import numpy as np
import pytest
import torch

from dysonflow import models
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import choose_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible"),
]
FIVE_SIGMA = 5.0
SHORT = {"replicas": 2048, "burn_in": 0, "steps": 300, "snapshots": 1}
CASES = [
    pytest.param(name, more, id="-".join([name, *map(str, more.values())]))
    for name in models.trained()
    for more in (
        [{"sampler": "gibbs"}, {"sampler": "wishart"}]
        if "sampler" in models.hyperparameters_of(name).model_fields
        else [{}]
    )
]


def result_on(device, simulation, run):
    return ensemble.train_in_memory(simulation, run, choose_device(device))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("model", "more"), CASES)
def test_the_law_is_that_of_the_cpu(model, more, dtype):
    run = models.hyperparameters_of(model).from_config({**SHORT, **more, "dtype": dtype})
    simulation = models.load(model).simulation
    moments = []
    for device in ("cpu", "cuda"):
        layers = result_on(device, simulation, run).layers.values()
        levels = np.hstack([eigenvalues(weights)[:, 0] for weights in layers])
        moments.append((levels.mean(axis=0), levels.var(axis=0) / len(levels)))
    (cpu, cpu_error), (gpu, gpu_error) = moments
    # Where a matrix has more columns than rows, some levels are zero.
    assert np.all(np.abs(cpu - gpu) <= FIVE_SIGMA * np.sqrt(cpu_error + gpu_error))


@pytest.mark.parametrize(("model", "more"), CASES)
def test_the_speed_is_reported_with_the_card(model, more, record_property, capsys):
    run = models.hyperparameters_of(model).from_config({**SHORT, **more})
    simulation = models.load(model).simulation
    result_on("cuda", simulation, run)
    speeds = {}
    for device in ("cpu", "cuda"):
        place, memory = choose_device(device), ensemble.Memory(run, run.replicas)
        seconds = ensemble.train(simulation, run, memory, place)
        speeds[place.name] = run.replicas * run.steps / seconds
    assert len(speeds) == 2 and all(math.isfinite(speed) for speed in speeds.values())
    text = ", ".join(f"{device}: {speed:.3g}" for device, speed in speeds.items())
    record_property("replica_steps_per_second", text)
    with capsys.disabled():
        print(f"\n{model} {more or ''} replica-steps per second: {text}")
