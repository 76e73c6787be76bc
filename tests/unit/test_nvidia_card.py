"""The kernel on a GPU behind NVIDIA's own bindings, with a driver that has no GPU (stub_driver.py).

What is ours up to the driver runs as it does on a card: bindings, memory, copies, launches, and the
lines on what the driver refuses.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_kernels
import stub_driver
from emulated_card import compiler
from limits import HANGING
from on_a_gpu import REHEARSAL

from dysonflow import models, stages
from dysonflow.artifacts.weights import read_tensors
from dysonflow.errors import ConfigError
from dysonflow.simulation import devices
from dysonflow.simulation.devices import CPU
from dysonflow.simulation.implementation import choose_place
from dysonflow.simulation.kernel import gpu, library, nvrtc

pytestmark = [
    pytest.mark.skipif(bool(nvrtc.why_unavailable()), reason=nvrtc.why_unavailable()),
    pytest.mark.skipif(not compiler(), reason="there is no compiler for the driver"),
    pytest.mark.skipif(
        library.instruction_set() not in ("avx2", "avx512"),
        reason="there is no fused multiply-add to stand in for that of a GPU",
    ),
]
STUDENT = nvrtc.Variant("teacher_student", "float64", 2)
ON_GPU = Path(__file__).parents[1] / "gpu" / "test_kernel_on_gpu.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("driver")


def run(command, folder, variants=(), more=None, **settings):
    surroundings = stub_driver.surroundings(folder, variants, **settings)
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | surroundings | (more or {}),
        capture_output=True,
        text=True,
        timeout=HANGING,
    )


def line_of(code, folder, variants=(), **settings):
    """The one line that a program prints."""
    found = run(["-c", code], folder, variants, **settings)
    assert found.returncode == 0, found.stderr
    (line,) = found.stdout.splitlines()
    return line


def test_the_tests_for_a_gpu_pass(folder):
    command = ["-m", "pytest", "-p", "no:cacheprovider", "-rs", "-m", "gpu", str(ON_GPU)]
    found = run(command, folder, small_kernels.variants(), {REHEARSAL: "1"}, memory="6e8")
    assert found.returncode == 0, found.stdout + found.stderr
    assert " passed" in found.stdout and "skipped" not in found.stdout


@pytest.mark.workflow
def test_a_study_is_trained_by_a_card_without_torch(workflow, folder, tmp_path):
    values = {"replicas": 96, "snapshots": 4, "steps": 400, "burn_in": 200}
    study = {"model": "teacher_student", "hyperparameters": values}
    workflow.configure({"device": "cuda", "shard_size": 64, "studies": {"student": study}})
    workflow.environment = stub_driver.surroundings(folder, [STUDENT])
    done = workflow.snakemake("--cores", "2", "--until", "spectra")
    assert done.returncode == 0, done.stderr
    (path,) = (workflow.folder / "results").rglob("weights.safetensors")
    tensors, metadata = read_tensors(path)
    assert metadata["device"] == "Stub Card"
    assert metadata["implementation"] == "compiled kernel (sm_90)"
    # It takes the streams of the CPU, shard by shard.
    alone = tmp_path / "cpu.safetensors"
    hyperparameters = models.hyperparameters_of("teacher_student").from_config(values).canonical()
    stages.train("teacher_student", hyperparameters, "source", "cpu", str(alone))
    cpu = read_tensors(alone)[0]["weights/W"]
    np.testing.assert_allclose(tensors["weights/W"], cpu, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "12080"}, "the driver is made for CUDA 12.8, NVRTC is of 13."),
        ({"refuses": "cuInit=100"}, "no GPU is visible here"),
        ({"refuses": "cuInit=803"}, "the GPU does not work (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        ({"refuses": "cuDevicePrimaryCtxRetain=46"}, "is held by another process"),
        ({"refuses": "cuDevicePrimaryCtxRetain=2"}, "is full before anything was done"),
    ],
    ids=lambda value: None if isinstance(value, str) else "_".join(value.values()),
)
def test_a_driver_that_refuses_is_a_reason(settings, words, folder):
    code = "from dysonflow.simulation.kernel import gpu; print(gpu.why_unavailable())"
    assert words in line_of(code, folder, **settings)


TRAIN = """
import dysonflow, json, sys
from dysonflow.errors import ConfigError
try:
    found = dysonflow.train("teacher_student", json.loads({values!r}), device="cuda")
    print(found.implementation, "torch" in sys.modules)
except ConfigError as error:
    print(error)
"""


SMALL = json.dumps({"replicas": 64, "burn_in": 0, "steps": 4, "snapshots": 1})


def test_torch_is_not_imported(folder):
    said = line_of(TRAIN.format(values=SMALL), folder, [STUDENT])
    assert said == "compiled kernel (sm_90) False"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"refuses": "cuLibraryLoadData=209"}, "does not take what NVRTC 13."),
        ({"refuses": "cuLibraryLoadData=222"}, "does not take what NVRTC 13."),
        ({"refuses": "cuMemAllocFromPoolAsync=2"}, "out of memory on Stub Card"),
        ({"refuses": "cuLaunchKernelEx=702"}, "also drives a screen"),
        ({"refuses": "cuStreamSynchronize=214"}, "Stub Card does not work (CUDA_ERROR_ECC"),
    ],
    ids=lambda value: None if isinstance(value, str) else "_".join(value.values()),
)
def test_a_card_that_gives_up_is_one_line(settings, words, folder):
    said = line_of(TRAIN.format(values=SMALL), folder, [STUDENT], **settings)
    assert said.startswith("device = 'cuda': ") and words in said


def test_where_neither_torch_nor_the_kernel_has_a_gpu_both_say_why(monkeypatch):
    monkeypatch.setattr(devices, "why_unusable", lambda: "torch says no")
    monkeypatch.setattr(gpu, "why_unavailable", lambda: "the card is held")
    values = {"burn_in": 0, "steps": 9, "snapshots": 1}
    student, mlp = (
        (models.load(model), models.hyperparameters_of(model).from_config(values))
        for model in ("teacher_student", "mlp")
    )
    with pytest.raises(
        ConfigError, match="no; nor can the compiled kernel: the card is held; or set"
    ):
        choose_place(student[0], "cuda", student[1])
    with pytest.raises(ConfigError, match="torch says no; or set device: auto or cpu$"):
        choose_place(mlp[0], "cuda", mlp[1])
    assert choose_place(mlp[0], "cpu", mlp[1]) == CPU
