"""The kernel on a GPU: the numbers of the CPU kernel, interruptions, company, too little memory.

The source for GPUs is tested on any machine (tests/unit/test_gpu_kernel.py); here the hardware is.
These tests are rehearsed on any machine with a driver that has no GPU (tests/stub_driver.py).
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
import small_kernels
from limits import HANGING
from on_a_gpu import REHEARSAL

from dysonflow import models
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.artifacts.weights import read_tensors
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import Device
from dysonflow.simulation.kernel import gpu, library, nvrtc

WHY_NOT = gpu.why_unavailable()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no kernel on a GPU: {WHY_NOT}"),
]
FIVE_SIGMA = 5.0
IS_REHEARSAL = os.environ.get(REHEARSAL) == "1"
# A processor in the place of a GPU is given less to do.
REPLICAS, STEPS = (100, 50) if IS_REHEARSAL else (1000, 200)
CUDA = Device("cuda", "the GPU")


def many(make, *given, **values):
    """A maker of so many replicas as are compared here."""
    return partial(make, *given, **({"replicas": REPLICAS} | values))


def sampled(sampler, sites=10):
    return many(small_kernels.rbm, sampler, sites, learning_rate=0.05)


MAKERS = {
    "gibbs": sampled("gibbs"),
    "ar1": sampled("ar1"),
    "wishart": sampled("wishart"),
    "gibbs_23": sampled("gibbs", 23),
    "teacher_student": many(small_kernels.student),
    "two_layer_student": many(small_kernels.network),
    "dyson": many(small_kernels.levels),
}
CASES = [(system, "float64") for system in MAKERS]
CASES += [(system, "float32") for system in ("gibbs", "wishart", "two_layer_student")]
LAWS = [("gibbs", "float64"), ("gibbs", "float32"), ("ar1", "float64"), ("wishart", "float64")]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """All machine code is made side by side, and lies in the cache before the first test."""
    variants = small_kernels.variants()
    make = partial(nvrtc.machine_code, layout=gpu.layout(), architecture=gpu.card().architecture)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(make, variants))


needs_cpu = pytest.mark.skipif(
    not library.available() or library.instruction_set() == "baseline",
    reason="there is no CPU kernel with a fused multiply-add to compare with",
)


# --- numbers --------------------------------------------------------------------------------------


@needs_cpu
@pytest.mark.parametrize(("system", "dtype"), CASES)
def test_the_numbers_are_those_of_the_cpu(system, dtype, record_property):
    pair = MAKERS[system](dtype=dtype), MAKERS[system](dtype=dtype, device="cuda")
    for one in pair:
        one.advance(STEPS)
    cpu, card = (one.state() for one in pair)
    # The random numbers to the bit, the rest to rounding, which each step makes a little larger.
    np.testing.assert_array_equal(cpu["streams"], card["streams"])
    tolerance = 1e-9 if cpu["weights"].dtype == np.float64 else 1e-2
    for name in set(cpu) - {"streams", "steps_done"}:
        np.testing.assert_allclose(card[name], cpu[name], rtol=tolerance, atol=tolerance)
    record_property("equal_bits", float(np.mean(cpu["weights"] == card["weights"])))


@needs_cpu
@pytest.mark.parametrize(("system", "dtype"), CASES)
def test_a_step_has_the_bits_of_the_cpu(system, dtype):
    # Fused multiply-adds, divisions and roots are rounded as IEEE 754 says on both.
    pair = MAKERS[system](dtype=dtype), MAKERS[system](dtype=dtype, device="cuda")
    for one in pair:
        one.advance(3)
    np.testing.assert_array_equal(*(one.weights for one in pair))


@pytest.mark.parametrize(("sampler", "dtype"), LAWS)
def test_the_law_is_that_of_torch_on_the_cpu(sampler, dtype):
    replicas = 128 if IS_REHEARSAL else 1024
    values = {"replicas": replicas, "burn_in": 0, "steps": 200, "snapshots": 1, "sampler": sampler}
    run = models.hyperparameters_of("gaussian_rbm").from_config({**values, "dtype": dtype})
    system, moments = models.load("gaussian_rbm"), []
    for simulation, device in ((system.simulation, Device("cpu", "cpu")), (system.compiled, CUDA)):
        found = eigenvalues(ensemble.train_in_memory(simulation, run, device).weights)[:, 0]
        moments.append((found.mean(axis=0), found.var(axis=0) / len(found)))
        moments.append(((found**2).mean(axis=0), (found**2).var(axis=0) / len(found)))
    for (cpu, cpu_error), (card, card_error) in zip(moments[:2], moments[2:], strict=True):
        assert np.all(np.abs(cpu - card) <= FIVE_SIGMA * np.sqrt(cpu_error + card_error))


@pytest.mark.parametrize("system", ["gibbs", "teacher_student", "two_layer_student"])
def test_the_numbers_do_not_depend_on_shard_or_interruption(system):
    whole = MAKERS[system](device="cuda", replicas=640)
    whole.advance(50)
    part = MAKERS[system](device="cuda", replicas=128, first_block=8)
    part.advance(7)
    later = MAKERS[system](device="cuda", replicas=128, first_block=8)
    later.load(part.state())
    later.advance(43)
    np.testing.assert_array_equal(later.weights, whole.weights[128:256])


def test_a_failure_names_replica_and_step():
    starts = np.zeros((REPLICAS, 10, 10))
    starts[REPLICAS // 2] = 2.999 * np.eye(10)
    with pytest.raises(DivergedError) as failure:
        MAKERS["wishart"](weights=starts, learning_rate=3.0, device="cuda").advance(100)
    assert failure.value.replica == REPLICAS // 2


# --- jobs -----------------------------------------------------------------------------------------

JOB = """
import sys
from dysonflow import stages
stages.train("gaussian_rbm", {hyperparameters}, "source", "cuda", sys.argv[1],
             checkpoint_seconds=0.2)
"""
SIZE = {"replicas": 128, "steps": 4000} if IS_REHEARSAL else {"replicas": 4096, "steps": 60000}
VALUES = {**SIZE, "burn_in": 0, "snapshots": 4}


def job(output, **changes):
    code = JOB.format(hyperparameters=VALUES | changes)
    return subprocess.Popen([sys.executable, "-c", code, str(output)], stderr=subprocess.PIPE)


def weights_of(path):
    return read_tensors(path)[0]["weights/W"]


def finished(process):
    _, said = process.communicate(timeout=HANGING)
    assert process.returncode == 0, said.decode()


def test_a_killed_job_goes_on_to_the_same_numbers_and_two_share_a_card(tmp_path):
    # Two at once, one of them killed.
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    first, second = job(whole), job(cut)
    checkpoint, ends = tmp_path / "cut.safetensors.checkpoint", time.monotonic() + HANGING
    while not checkpoint.exists() and second.poll() is None and time.monotonic() < ends:
        time.sleep(0.02)
    assert checkpoint.exists(), "it was over before it could be killed"
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    finished(first)
    finished(job(cut))
    np.testing.assert_array_equal(weights_of(whole), weights_of(cut))


def test_too_little_memory_is_one_line():
    card = gpu.card()
    held = card.allocate(card.free() - 512 * 2**20)
    try:
        with pytest.raises(ConfigError, match="out of memory.*lower shard_size") as error:
            MAKERS["gibbs"](replicas=400_000, device="cuda").advance(1)
    finally:
        del held
    assert "\n" not in str(error.value)
    # The card serves on.
    small = MAKERS["gibbs"](replicas=64, device="cuda")
    small.advance(1)
    assert np.isfinite(small.weights).all()


def test_no_gpu_in_sight_is_a_reason():
    code = "from dysonflow.simulation.kernel import gpu; print(gpu.why_unavailable())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "CUDA_VISIBLE_DEVICES" in found.stdout


def test_machine_code_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    variant = nvrtc.Variant("dyson", "float64")
    first = nvrtc.machine_code(variant, gpu.layout(), gpu.card().architecture)
    monkeypatch.setattr(nvrtc, "compiled", lambda *_: pytest.fail("compiled again"))
    assert nvrtc.machine_code(variant, gpu.layout(), gpu.card().architecture) == first
