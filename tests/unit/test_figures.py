"""Figures: what they import, what they are made from, and the layer that they show."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import make

import dysonflow
from dysonflow import models, stages
from dysonflow.artifacts.pictures import COMPANIONS, read_metadata
from dysonflow.artifacts.weights import write_weights
from dysonflow.errors import ArtifactError
from dysonflow.hyperparameters import Hyperparameters, quantity
from dysonflow.planning import sources
from dysonflow.planning.graph import Plan
from dysonflow.report.figures import FIGURES, FROM_THE_START, STATIONARY, needs_fits
from dysonflow.report.figures._study import StudyData, draw_figure, name_of

FOLDER = Path(dysonflow.__file__).parent / "report" / "figures"


def test_every_figure_has_a_file_and_every_file_a_figure():
    files = {path.stem for path in FOLDER.glob("[a-z]*.py")}
    assert {kind.module for kind in FIGURES.values()} == files
    assert {*STATIONARY, *FROM_THE_START} <= set(FIGURES)
    assert not any(needs_fits(name) for name in FROM_THE_START)


def imported(statement):
    """Which slow packages a statement imports, in a fresh interpreter."""
    code = (
        f"import sys\n{statement}\n"
        "slow = ('matplotlib', 'pandas', 'scipy.stats', 'torch', 'pyarrow.dataset')\n"
        "print(*[name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_planning_figures_imports_nothing_slow():
    assert imported("import dysonflow.report.figures") == set()


def test_no_figure_imports_more_than_it_draws_with():
    names = ", ".join(sorted({kind.module for kind in FIGURES.values()}))
    assert imported(f"from dysonflow.report.figures import {names}") == {"matplotlib", "pandas"}


def test_the_list_of_figures_is_part_of_none(monkeypatch):
    read, parse = [], sources.ParsedFiles.parse

    def watched(self, path, function=""):
        read.append(path)
        return parse(self, path, function)

    monkeypatch.setattr(sources.ParsedFiles, "parse", watched)
    sources.source.__wrapped__("figure", "teacher_student", "pulls")
    assert FOLDER / "pulls.py" in read
    assert FOLDER / "__init__.py" not in read and FOLDER / "mean_gap.py" not in read


class DeepHyperparameters(Hyperparameters):
    """A system of two layers without a theory."""

    MODEL = "deep"

    rate: float = quantity(0.1, symbol=r"\eta", gt=0)
    """Step size."""
    mode: str = quantity("warm", symbol="m")
    """A word."""
    widths: list[float] = quantity([1.0, 2.5], symbol="w")
    """Several numbers."""

    def weight_shapes(self):
        return [("first", 4, 3), ("second", 2, 4)]


@pytest.fixture
def run(monkeypatch):
    hyperparameters_of = models.hyperparameters_of
    monkeypatch.setattr(
        models,
        "hyperparameters_of",
        lambda name: DeepHyperparameters if name == "deep" else hyperparameters_of(name),
    )
    return DeepHyperparameters.from_config(
        {"replicas": 20, "snapshots": 3, "burn_in": 0, "steps": 10}
    )


def made(run, folder):
    """Files of weights and spectra of a run."""
    rng = np.random.default_rng(1)
    weights = {
        name: rng.standard_normal((run.replicas, run.snapshots, *shape))
        for name, shape in run.layers().items()
    }
    paths = {"weights": str(folder / "w.safetensors"), "spectra": str(folder / "s.parquet")}
    loss = np.zeros((run.replicas, run.snapshots))
    write_weights(paths["weights"], weights, run.snapshot_steps, loss, {"run": run.name})
    stages.spectra(
        "deep", run.canonical(), "0", **{"weights": paths["weights"]}, output=paths["spectra"]
    )
    return paths


def test_values_in_a_legend_are_those_with_a_symbol(run):
    assert name_of(run) == r"$\eta = 0.1$, $m$ = warm, $w$ = [1.0, 2.5]"


@pytest.mark.parametrize("name", ["spectrum", "evolution"])
def test_figures_that_need_no_fits_need_no_theory_and_name_the_layer(run, tmp_path, name):
    paths = made(run, tmp_path)
    kind = FIGURES[name]
    for layer, levels in (("first", 3), ("second", 4)):
        target = tmp_path / layer
        output = {
            what: str(target) + suffix
            for what, suffix in (
                ("png", ".png"),
                ("pdf", ".pdf"),
                ("csv", ".csv"),
                ("caption", ".rst"),
            )
        }
        stages.figure(
            name,
            kind.module,
            "mine",
            "deep",
            layer,
            kind.options,
            [run.canonical()],
            "0",
            {what: [paths[what]] for what in kind.inputs},
            output,
        )
        metadata = read_metadata(output["png"])
        assert (metadata["layer"], metadata["options"]) == (layer, dict(kind.options))
        caption = Path(output["caption"]).read_text(encoding="utf-8")
        assert f"``mine``, layer ``{layer}``" in caption and "theory" not in caption
        files = {what: [paths[what]] for what in kind.inputs}
        drawing = draw_figure(kind.module, StudyData("mine", [run], layer=layer, **files), {})
        assert drawing.figure.get_suptitle() == f"layer {layer}"
        if name == "evolution":
            assert len(drawing.numbers) == levels
    csv = Path(output["png"]).with_suffix(COMPANIONS[1])
    csv.write_text(csv.read_text(encoding="utf-8") + "0", encoding="utf-8")
    with pytest.raises(ArtifactError, match="missing or changed"):
        read_metadata(output["png"])


def test_a_system_of_one_layer_does_not_name_it():
    student = models.hyperparameters_of("teacher_student").from_config({})
    data = StudyData("mine", [student])
    assert (data.layer, data.title) == ("W", "``mine``")


def test_points_beyond_the_theory_are_drawn_without_a_fitted_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = {"model": "teacher_student", "figures": ["mean_gap"]}
    study["hyperparameters"] = {"learning_rate": 0.5, "batch_size": 2, "snapshots": 2}
    plan = Plan.from_config({"studies": {"far": study}})
    make(plan)
    laws = dysonflow.read_scaling("results").set_index("law")
    assert laws.loc["mean_gap", "points"] == 0 and laws.loc["mean_gap", "verdict"] == ""
    numbers = Path(plan.results.figure("csv", "far", "mean_gap")).read_text("utf-8")
    assert "full theory" in numbers and "fit, slope" not in numbers
