"""Systems with several weight matrices, without theory, and with files of their own."""

import tracemalloc
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from in_process import make

import dysonflow
from dysonflow import models, stages, theory
from dysonflow.analysis.spectra import eigenvalues, read_eigenvalues
from dysonflow.artifacts.weights import (
    PART_BYTES,
    WeightsWriter,
    open_weights,
    read_snapshot,
    write_weights,
)
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.hyperparameters import FileHyperparameters, Hyperparameters
from dysonflow.planning import audit, sources
from dysonflow.planning.graph import Plan
from dysonflow.results import Results

TIMES = {"burn_in": 10, "steps": 40, "snapshots": 3}
STUDY = {"model": "coupled", "hyperparameters": {"replicas": 150, **TIMES}}


@pytest.fixture(autouse=True)
def coupled(monkeypatch):
    """A system of the tests, beside those of the package."""
    folder = str(Path(__file__).parents[1] / "systems")
    monkeypatch.setattr(models, "__path__", [*models.__path__, folder])
    # It is no source of the package, whose digests are tested elsewhere.
    monkeypatch.setattr(sources, "source", lambda *names: "0" * 16)


def plan_of(folder, shard_size=512, **study):
    config = {"shard_size": shard_size, "studies": {"deep": STUDY | study}}
    return Plan.from_config(config, Results(str(folder)))


def test_layers_of_different_shape_go_through_all_stages(tmp_path):
    plan = plan_of(tmp_path, sweep={"width": [5, 7]})
    make(plan)
    report = audit.verify(plan)
    assert not (report.stale or report.damaged or report.missing)
    # Two runs, each with weights and spectra; a spectrum of each layer; no fits, no laws.
    assert report.checked == 2 * 2 + 2
    frame = dysonflow.read_spectra(tmp_path)
    assert frame.groupby(["width", "layer"])["index"].nunique().to_dict() == {
        **{(5, "first"): 3, (5, "second"): 5},
        **{(7, "first"): 3, (7, "second"): 7},
    }
    for run in plan.runs.values():
        files = plan.results.files_of(run)
        with open_weights(files["weights"]) as weights:
            assert weights.shapes == {"first": (run.width, 3), "second": (2, run.width)}
            for layer in weights.shapes:
                values, step = read_eigenvalues(files["spectra"], layer)
                np.testing.assert_array_equal(values, eigenvalues(weights.read(layer)))
                assert step.tolist() == [10, 25, 40]
                last = weights.read(layer)[:, 2]
                np.testing.assert_array_equal(read_snapshot(files["weights"], layer, 2), last)
        with pytest.raises(ArtifactError, match="no layer 'third'"):
            read_eigenvalues(files["spectra"], "third")
    only = dysonflow.read_spectra(tmp_path, layer="second")
    assert set(only["layer"]) == {"second"}


def test_shards_of_several_layers_join_to_the_same_bytes(tmp_path):
    found = []
    for size in (512, 64):
        plan = plan_of(tmp_path / str(size), size)
        make(plan)
        (run,) = plan.runs.values()
        with open_weights(plan.results.files_of(run)["weights"]) as weights:
            found.append([weights.metadata["data"], *weights.shapes])
    assert found[0] == found[1]


def test_figures_have_the_layer_in_their_key(tmp_path):
    (study,) = plan_of(tmp_path).studies.values()
    assert study.figures == ("first/spectrum", "second/spectrum")
    assert not study.is_stationary
    with pytest.raises(ConfigError, match="'mean_gap' shows fits.* without a theory of coupled"):
        plan_of(tmp_path, figures=["mean_gap"])


def test_a_system_without_theory_has_none():
    assert not theory.exists("coupled")
    with pytest.raises(ConfigError, match="coupled"):
        theory.load("coupled")
    run = dysonflow.train("coupled", {"replicas": 3, **TIMES})
    assert set(run.weights) == {"first", "second"}
    assert len(dysonflow.spectra(run)) == 3 * 3 * (3 + 5)
    with pytest.raises(ConfigError, match="coupled: no theory"):
        dysonflow.fit(run)


@pytest.mark.parametrize(
    ("values", "name"), [({}, "burn_in"), ({"burn_in": 5, "snapshots": 2}, "steps")]
)
def test_a_time_that_the_model_does_not_know_is_one_line(values, name):
    with pytest.raises(ConfigError) as caught:
        models.hyperparameters_of("coupled").from_config(values)
    assert str(caught.value) == (
        f"{name} = auto: coupled does not know when it is stationary; give numbers for burn_in and "
        "steps"
    )


class Named(Hyperparameters):
    """Hyperparameters whose layers a test chooses."""

    MODEL = "named"
    LAYERS: ClassVar[list[tuple[str, int, int]]] = []

    def weight_shapes(self):
        return self.LAYERS


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([("a", 2, 2), ("a", 3, 3)], "layer 'a' of named: there is a layer of this name already"),
        ([("a", 2, 2), ("A", 3, 3)], "layer 'A' of named: there is a layer of this name already"),
        ([("a/b", 2, 2)], "layer 'a/b' of named: a layer's name is made of letters"),
        ([("", 2, 2)], "layer '' of named: a layer's name"),
        ([("..", 2, 2)], "layer '..' of named: a layer's name"),
        ([("a\n", 2, 2)], "of named: a layer's name"),
        ([("x" * 101, 2, 2)], "at most 100"),
        ([("a", 0, 2)], "layer 'a' of named: 0 x 2 is empty"),
        ([], "named: no layer has a weight matrix"),
    ],
)
def test_bad_layers_are_one_line(layers, words, monkeypatch):
    monkeypatch.setattr(Named, "LAYERS", layers)
    with pytest.raises(ConfigError) as caught:
        Named.from_config({"burn_in": 0, "steps": 1, "snapshots": 1})
    assert words in str(caught.value) and "\n" not in str(caught.value).replace(r"\n", "")


class WithData(FileHyperparameters):
    """A model that learns from a file."""

    MODEL = "with_data"
    path: str = "data.bin"

    def weight_shapes(self):
        return [("W", 2, 2)]

    def files(self):
        return [Path(self.path)]


def test_the_content_of_a_data_file_is_part_of_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    times = {"burn_in": 0, "steps": 1, "snapshots": 1}
    with pytest.raises(ConfigError, match="data.bin: cannot be read: No such file"):
        WithData.from_config(times)
    Path("data.bin").write_bytes(b"one")
    first = WithData.from_config(times)
    assert first.sources == [Path("data.bin")]
    Path("data.bin").touch()
    assert WithData.from_config(times).name == first.name
    Path("data.bin").write_bytes(b"two")
    second = WithData.from_config(times)
    assert second.key != first.key
    # A later stage knows the run from its hyperparameters alone, whatever became of the file.
    Path("data.bin").unlink()
    assert WithData.from_config(second.canonical()).name == second.name
    with pytest.raises(ConfigError, match="cannot be read"):
        second.check_sources()
    Path("data.bin").write_bytes(b"three")
    with pytest.raises(ConfigError, match="data.bin: changed since the run was planned"):
        second.check_sources()


def test_no_stage_holds_the_weights_of_a_run(tmp_path):
    run = models.hyperparameters_of("coupled").from_config(
        {"replicas": 4000, "width": 64, "inputs": 64, "burn_in": 0, "steps": 40, "snapshots": 8}
    )
    size = 4000 * 8 * (64 * 64 + 2 * 64) * 8
    assert size > 12 * PART_BYTES
    path = str(tmp_path / "w.safetensors")
    part = {"first": np.ones((500, 64, 64)), "second": np.ones((500, 2, 64))}
    metadata = {"run": run.name, "layers": list(run.layers())}
    with WeightsWriter(path, run.layers(), 4000, 8, "float64", metadata) as writer:
        for first in range(0, 4000, 500):
            for snapshot in range(8):
                writer.put(first, snapshot, part)
        writer.finish(range(8), metadata)
    tracemalloc.start()
    with open_weights(path) as file:
        for part in file.parts("first"):
            assert file.read("first", part).shape[1:] == (8, 64, 64)
        assert read_snapshot(path, "first", 0).shape == (4000, 64, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One snapshot of a layer is an eighth of its weights.
    assert peak < size / 4


def test_weights_of_other_layers_are_refused(tmp_path):
    run = models.hyperparameters_of("coupled").from_config({"replicas": 2, **TIMES})
    path = str(tmp_path / "w.safetensors")
    write_weights(path, {"W": np.ones((2, 3, 2, 2))}, [1, 2, 3], np.ones((2, 3)), {"run": "x"})
    with pytest.raises(ArtifactError, match=r"the weights have the layers .*'W'.*delete the file"):
        stages.spectra("coupled", run.canonical(), "0", path, str(tmp_path / "s.parquet"))
    assert not list(tmp_path.glob("*.parquet"))
