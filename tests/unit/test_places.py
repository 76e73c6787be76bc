"""Files that a configuration names: in the working directory, or beside the configuration."""

import os

import numpy as np
import pytest

from dysonflow import models
from dysonflow.errors import ConfigError
from dysonflow.readers import places

TEXT = "a rose is a rose is a rose. " * 40
MODULE = """
import torch

def build():
    return torch.nn.Linear(2, 2)

def data(generator, batch_size):
    x = torch.randn(batch_size, 2, generator=generator)
    return x, x
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """The folder of a configuration, which is not the working directory."""
    study = tmp_path / "study"
    study.mkdir()
    study.joinpath("text.txt").write_text(TEXT, encoding="utf-8")
    study.joinpath("net.py").write_text(MODULE, encoding="utf-8")
    np.savez(study / "digits.npz", inputs=np.eye(16, 3), targets=np.arange(16) % 3)
    for seed in (0, 1):
        (study / "runs" / f"seed{seed}").mkdir(parents=True)
        np.savez(study / "runs" / f"seed{seed}" / "step3.npz", fc=np.eye(4) + seed)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    places.look_beside([study / "my.yaml", "own.yaml"])
    return study


RUNS = {
    "char_gpt": {"data": "text.txt", "context": 8},
    "mlp": {"data": "digits.npz", "widths": [3, 4, 3], "burn_in": 0, "steps": 4, "snapshots": 2},
    "torch_module": {
        **{"module": "net.py:build", "data": "net.py:data", "loss": "squared_error"},
        **{"steps": 4, "snapshots": 2},
    },
    "checkpoints": {"path": "runs/seed{replica}/step{snapshot}.npz"},
}


@pytest.mark.parametrize("model", RUNS)
def test_files_beside_the_configuration_are_found_and_are_the_same_run(beside, model, monkeypatch):
    hyperparameters = models.hyperparameters_of(model)
    run = hyperparameters.from_config(RUNS[model])
    run.check_sources()
    assert all(path.is_file() for path in run.sources) and run.sources
    assert all(os.path.isabs(path) for path in run.sources)
    monkeypatch.chdir(beside)
    here = hyperparameters.from_config(RUNS[model])
    assert not any(os.path.isabs(path) for path in here.sources)
    assert here.key == run.key and here.canonical() == run.canonical()


@pytest.mark.parametrize("model", RUNS)
def test_the_working_directory_comes_first_and_an_error_names_both(beside, model):
    hyperparameters = models.hyperparameters_of(model)
    name = next(iter(RUNS[model].values())).partition(":")[0]
    (beside / name.partition("/")[0]).rename(beside / "elsewhere")
    with pytest.raises(ConfigError) as caught:
        hyperparameters.from_config(RUNS[model])
    assert str(caught.value) == (
        f"{name}: no such file in the working directory, {os.getcwd()}, nor beside the "
        f"configuration, in {beside}"
    )
    (beside / "elsewhere").rename(os.path.join(os.getcwd(), name.partition("/")[0]))
    (path, *_) = hyperparameters.from_config(RUNS[model]).sources
    assert not os.path.isabs(path)


def test_a_folder_of_odd_letters_is_no_pattern(tmp_path, monkeypatch):
    study = tmp_path / "study[1]*"
    study.mkdir()
    np.savez(study / "w0.npz", fc=np.eye(3))
    monkeypatch.chdir(tmp_path)
    places.look_beside([study / "my.yaml"])
    run = models.hyperparameters_of("checkpoints").from_config({"path": "w{replica}.npz"})
    assert run.sources == [study.relative_to(tmp_path) / "w0.npz"]


def test_folders_are_handed_on_once_each(beside):
    places.look_beside(["/a/b.yaml", "/a/c.yaml", "/odd:name/d.yaml"])
    assert [str(folder) for folder in places.folders()] == [str(beside), "/a"]
    assert places.find("/no/such/file") == "/no/such/file"
