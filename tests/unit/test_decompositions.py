"""What singular values are computed with, where there is no GPU."""

import logging

import numpy as np
import pytest
import torch

from dysonflow.analysis import decompositions
from dysonflow.analysis.decompositions import OnGPU, chosen
from dysonflow.simulation.devices import CPU
from dysonflow.statistics.gpu_singular_values import DRIVERS, SMALLEST
from dysonflow.statistics.singular_values import singular_values

LARGE = np.random.default_rng(0).standard_normal((SMALLEST, SMALLEST))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
@pytest.mark.parametrize("name", ["lapack", *DRIVERS])
def test_without_a_gpu_it_is_lapack(name, caplog):
    with caplog.at_level(logging.WARNING, "dysonflow"):
        assert chosen(name) == (singular_values, CPU)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (name != "lapack")
    assert all(f"singular_values: {name}: there is no GPU to use" in line for line in said)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
def test_small_matrices_never_go_to_a_gpu():
    small = LARGE[:, : SMALLEST - 1]
    assert np.array_equal(OnGPU("gesvdj")(small), singular_values(small))


def test_a_gpu_that_gives_up_is_replaced(monkeypatch, caplog):
    def full(matrices, driver):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(decompositions, "singular_values_on_gpu", full)
    assert np.array_equal(OnGPU("gesvd")(LARGE), singular_values(LARGE))
    assert "the GPU gave up (CUDA out of memory" in caplog.text

    def wrong(matrices, driver):
        raise RuntimeError("svd: the algorithm failed to converge")

    monkeypatch.setattr(decompositions, "singular_values_on_gpu", wrong)
    with pytest.raises(RuntimeError, match="converge"):
        OnGPU("gesvd")(LARGE)
