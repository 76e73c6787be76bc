"""What a GPU draws itself: the law is that of the CPU."""

import numpy as np
import pytest

from dysonflow import models
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import choose_device

pytestmark = pytest.mark.gpu
FIVE_SIGMA = 5.0
"""Of each level, of which there are below 100: a false alarm in 2 of 10^5 calls."""
SHORT = {"replicas": 1024, "burn_in": 0, "steps": 100, "snapshots": 1}
CASES = [
    *[("gaussian_rbm", {"sampler": sampler}) for sampler in ("gibbs", "ar1", "wishart")],
    ("teacher_student", {}),
    ("two_layer_student", {}),
    ("mlp", {"data": "teacher", "widths": [6, 5, 3], "loss": "squared_error", "label_noise": 0.1}),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("model", "more"), CASES, ids=lambda value: str(value)[:40])
def test_the_law_is_that_of_the_cpu(model, more, dtype, device):
    run = models.hyperparameters_of(model).from_config({**SHORT, **more, "dtype": dtype})
    simulation = models.load(model).simulation
    moments = []
    for where in ("cpu", device):
        found = ensemble.train_in_memory(simulation, run, choose_device(where))
        levels = np.hstack([eigenvalues(weights)[:, 0] for weights in found.layers.values()])
        moments.append((levels.mean(axis=0), levels.var(axis=0) / len(levels)))
    (cpu, cpu_error), (gpu, gpu_error) = moments
    # Where a matrix has more columns than rows, some levels are zero.
    assert np.all(np.abs(cpu - gpu) <= FIVE_SIGMA * np.sqrt(cpu_error + gpu_error))
