"""Where to train: what is said where no GPU can be used, or one gives up."""

import logging

import pytest
import torch

from dysonflow import stages
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.logs import job_log
from dysonflow.models import hyperparameters_of
from dysonflow.readers.user_code import Reference, one_line
from dysonflow.simulation import devices, gpu_errors
from dysonflow.simulation.devices import CPU, Device, choose_device, has_code_for, why_refused
from dysonflow.simulation.gpu_errors import Memory, explained, is_of_gpu, out_of_memory

CARD = Device("cuda", "Some Card")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_a_torch_without_cuda_says_so():
    with pytest.raises(ConfigError, match="was built without CUDA.*; or set device: auto or cpu$"):
        choose_device("cuda")


@without_gpu
@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("", "CUDA_VISIBLE_DEVICES = '' hides them all"),
        ("NoDevFiles", "CUDA_VISIBLE_DEVICES = 'NoDevFiles' hides them all"),
        ("7", "CUDA_VISIBLE_DEVICES = '7' names none that there is"),
        (None, "no GPU is visible here; `nvidia-smi -L` lists those that there are"),
    ],
)
def test_a_hidden_gpu_is_named_by_what_hides_it(visible, said, monkeypatch):
    # All but the version is what this torch says.
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError) as caught:
        choose_device("cuda")
    assert said in str(caught.value) and "\n" not in str(caught.value)


@without_gpu
def test_a_job_without_its_gpu_ends_with_one_line_and_leaves_nothing(tmp_path):
    run = hyperparameters_of("mlp").from_config({"burn_in": 0, "steps": 10, "snapshots": 1})
    output = tmp_path / "weights.safetensors"
    with pytest.raises(SystemExit) as caught, job_log(f"{tmp_path}/log") as log:
        stages.train("mlp", run.canonical(), "digest", "cuda", str(output), log)
    assert str(caught.value).startswith("dysonflow: device = 'cuda': ")
    assert "\n" not in str(caught.value) and caught.value.code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@without_gpu
@pytest.mark.parametrize("has_driver", [True, False])
def test_auto_falls_back_with_a_line_in_the_log(has_driver, monkeypatch, caplog):
    monkeypatch.setattr(devices, "may_have_gpu", lambda: has_driver)
    with caplog.at_level(logging.INFO, "dysonflow"):
        assert choose_device("auto") == CPU
    (record,) = caplog.records
    why = "no GPU can be used: " if has_driver else "there is no driver of a GPU here"
    assert record.getMessage().startswith("device: auto: ") and why in record.getMessage()


TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU"
)


@pytest.mark.parametrize(
    ("said", "visible", "expected"),
    [
        (TOO_OLD, None, "its driver, made for CUDA 11.4, is too old for torch 9.9; update"),
        (TOO_OLD, "0", "its driver, made for CUDA 11.4, is too old"),
        ("CUDA initialization: Unexpected error.", None, "here (CUDA initialization: Unexpected"),
    ],
)
def test_what_torch_says_of_a_driver_is_read(said, visible, expected):
    assert expected in devices.why_invisible(said, visible, "9.9")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCompile with ..",
            "Some Card is held by another process (it is in exclusive mode; `nvidia-smi` shows by",
        ),
        ("CUDA_ERROR_DEVICES_UNAVAILABLE", "Some Card is held by another process (it is in"),
        ("CUDA error: out of memory", "the memory of Some Card is full before anything was done"),
        ("CUDA error: no kernel image is available", "torch has no code for Some Card; install"),
        ("CUDA error: strange.\nmore", "Some Card does not work (CUDA error: strange); `nvidia-s"),
    ],
)
def test_a_gpu_that_refuses_is_named_with_the_fix(said, expected):
    assert why_refused(said, "Some Card").startswith(expected)


@pytest.mark.parametrize(
    ("capability", "known", "runs"),
    [
        ((9, 0), ["sm_80", "sm_90", "compute_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90"], False),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((12, 0), ["sm_80", "sm_90", "sm_100"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a", "compute_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 1), ["sm_120"], True),
        ((3, 7), ["sm_50", "compute_50"], False),
        ((9, 0), ["gfx90a"], True),
        ((9, 0), [], True),
    ],
)
def test_a_card_runs_the_code_that_there_is_for_it(capability, known, runs):
    assert has_code_for(capability, known) is runs


GB = 10**9
FULL = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"


def test_out_of_memory_says_which_shard_size_fits(monkeypatch):
    there = Memory(needed=100 * GB, available=78 * GB, total=85 * GB)
    monkeypatch.setattr(gpu_errors, "memory_of", lambda said: there)
    with pytest.raises(ConfigError) as caught, explained(CARD, 2048):
        raise torch.OutOfMemoryError(FULL)
    # 0.8 x 78 / 100 x 2048 = 1278, in blocks of 64.
    assert str(caught.value) == (
        "device = 'cuda': out of memory on Some Card: 2048 replicas side by side need more than "
        "100 GB, it has 85 GB, of which others hold 7 GB; lower shard_size to 1216"
    )


def test_out_of_memory_of_the_smallest_shard_says_what_else_to_lower():
    line = out_of_memory("Some Card", 64, Memory(90 * GB, 80 * GB, 80 * GB))
    assert "lower batch_size or the width of the network, take dtype: float32" in line
    assert "others" not in line


def test_what_cuda_core_says_of_a_full_gpu_is_explained_as_well(monkeypatch):
    class CUDAError(Exception):
        pass

    monkeypatch.setattr(gpu_errors, "memory_of", lambda said: Memory(0, 70 * GB, 80 * GB))
    with pytest.raises(ConfigError, match="need more than 70 GB.*lower shard_size to 512"):
        with explained(CARD, 1024):
            raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed")


def test_the_memory_that_was_asked_for_is_read():
    assert gpu_errors.asked_for(FULL) == 20 * 2**30
    assert gpu_errors.asked_for("Tried to allocate 512 bytes.") == 512
    assert gpu_errors.asked_for("CUDA error") == 0


def test_only_what_a_gpu_gives_up_with_is_explained():
    with pytest.raises(ConfigError, match="Some Card does not work .CUDA error: an illegal"):
        with explained(CARD, 64):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
    mixed = RuntimeError("Expected all tensors to be on the same device, cuda:0 and cpu")
    for error in (mixed, DivergedError(0, 1, "no CUDA"), ValueError("CUDA error")):
        assert not is_of_gpu(error)
        with pytest.raises(type(error)) as caught, explained(CARD, 64):
            raise error
        assert caught.value is error
    # On a CPU nothing is.
    with pytest.raises(torch.OutOfMemoryError), explained(CPU, 64):
        raise torch.OutOfMemoryError(FULL)


def test_the_users_own_network_is_not_blamed_for_a_full_gpu(tmp_path):
    with pytest.raises(torch.OutOfMemoryError), one_line(Reference(tmp_path / "own.py", "Net")):
        raise torch.OutOfMemoryError(FULL)
