"""The real workflow on a tiny configuration: from YAML to the report, and bad input."""

import copy
import re

import matplotlib.image
import pandas as pd
import pytest
import yaml
from conftest import ROOT

import dysonflow
from dysonflow.artifacts.tables import read_metadata
from dysonflow.artifacts.weights import read_tensors
from dysonflow.planning.studies import load_studies
from dysonflow.report import figures

pytestmark = pytest.mark.workflow


def test_it_runs_to_the_end(finished):
    assert finished.run.returncode == 0, finished.run.stderr
    assert (finished.folder / "results" / "report.html").is_file()
    assert "\ndysonflow: done; open results/report.html\n" in finished.run.stderr
    # Which rules may share their outputs is said only where they are to.
    assert "eligible for caching" not in finished.run.stderr


def test_the_tables_read_as_the_readme_says(finished):
    results = finished.folder / "results"
    spectra, fits = dysonflow.read_spectra(results), dysonflow.read_fits(results)
    scaling = dysonflow.read_scaling(results)
    assert spectra.groupby("model")["run"].nunique().to_dict() == {
        "gaussian_rbm": 3,
        "teacher_student": 4,
    }
    assert set(fits["run"]) < set(spectra["run"])
    assert set(scaling["study"]) == {"machine", "student"}
    for name in ("centre", "sigma"):
        pull = (fits[name] - fits[f"{name}_theory"]) / fits[f"{name}_error"]
        assert pull.notna().all()
    small = scaling[scaling["law"] == "mean_gap_small_noise"]
    assert small["points"].tolist() == [1]
    # Two runs, one pair each, at a/B = 8e-4 and 3e-3: the theory holds to a few per cent.
    law = scaling[(scaling["study"] == "machine") & (scaling["law"] == "mean_gap_finite_step")]
    assert law["slope"].item() == pytest.approx(law["slope_theory"].item(), rel=0.2)


@pytest.mark.parametrize("library", ["polars", "duckdb", "pyarrow"])
def test_other_readers_unite_the_columns_of_all_models(finished, library, monkeypatch):
    pytest.importorskip(library)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tables.md").read_text(), re.S)
    (block,) = [block for block in blocks if f"import {library}" in block]
    monkeypatch.chdir(finished.folder)
    found = {}
    exec(block, found)
    ours = dysonflow.read_fits()
    names = getattr(found["fits"], "column_names", None) or found["fits"].columns
    assert set(names) == set(ours.columns) and found["fits"].shape == ours.shape
    assert {"sites", "size"} <= set(names)


def test_every_artifact_says_what_it_was_made_from(finished):
    runs = finished.folder / "results" / "runs"
    files = sorted(runs.glob("*/*/*"))
    assert len(files) == 7 + 7 + 5
    for path in files:
        if path.suffix == ".safetensors":
            metadata = read_tensors(path)[1]
            assert metadata["seconds"] > 0 and metadata["device"] == "cpu"
        else:
            metadata = read_metadata(path)
        assert metadata["run"] == path.parent.name
        assert re.fullmatch("[0-9a-f]{16}", metadata["source"])
        assert metadata["versions"]["torch"]
        assert metadata["hyperparameters"]["replicas"] in (40, 64)


@pytest.mark.parametrize("study", ["machine", "student"])
@pytest.mark.parametrize("figure", figures.STATIONARY)
def test_every_figure_has_picture_numbers_and_caption(finished, study, figure):
    stem = finished.folder / "results" / "figures" / study / figure
    picture = matplotlib.image.imread(stem.with_suffix(".png"))
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.05
    assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    numbers = pd.read_csv(stem.with_suffix(".csv"), comment="#")
    assert {"panel", "curve", "x", "y"} <= set(numbers.columns)
    assert len(numbers) > 5
    assert study in stem.with_suffix(".rst").read_text()


def test_logs_show_progress_and_speed(finished):
    logs = list((finished.folder / "results" / "logs" / "train").glob("*/*.log"))
    assert len(logs) == 7
    for log in logs:
        text = log.read_text()
        assert "100%" in text and "replica-steps/s" in text


def test_a_second_run_does_nothing(finished):
    again = finished.snakemake("--cores", "1")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr


def test_a_deleted_table_is_made_again(finished):
    tables = sorted(finished.folder.glob("results/runs/*/*/fits.parquet"))
    aside = tables[0].with_name("aside")
    tables[0].rename(aside)
    try:
        plan = finished.snakemake("-n")
    finally:
        aside.rename(tables[0])
    assert re.search(r"^fit\s+1$", plan.stdout + plan.stderr, re.M), plan.stderr


def test_a_new_point_trains_one_run(finished):
    before = yaml.safe_load((finished.folder / "my.yaml").read_text())
    more = copy.deepcopy(before)
    more["studies"]["student"]["sweep"][0]["batch_size"].append(32)
    finished.configure(more)
    try:
        plan = finished.snakemake("-n")
    finally:
        finished.configure(before)
    for rule in ("train", "spectra", "fit"):
        assert re.search(rf"^{rule}\s+1$", plan.stdout + plan.stderr, re.M), plan.stderr


def test_a_dry_run_ends_with_an_estimate(workflow):
    study = {"model": "teacher_student", "hyperparameters": {"replicas": 64, "snapshots": 2}}
    workflow.configure({"shard_size": 64, "studies": {"small": study}})
    planned = workflow.snakemake("-n")
    *_, last = planned.stderr.splitlines()
    assert re.fullmatch(
        r"dysonflow: an estimate for these jobs: 0\.01 core-hours and [\d.]+ MB in results", last
    )
    assert re.search(
        r"train teacher_student \S+, about \d+ s; progress in results/logs/train/\S+\.log",
        planned.stdout + planned.stderr,
    )


def test_the_shard_size_changes_no_number(workflow):
    study = {"model": "teacher_student", "hyperparameters": {"replicas": 200, "snapshots": 2}}
    (run,) = load_studies({"studies": {"small": study}})["small"].runs
    target = f"results/runs/teacher_student/{run.name}/weights.safetensors"
    found = []
    for size in (512, 128, 64):
        workflow.configure({"shard_size": size, "studies": {"small": study}})
        done = workflow.snakemake("--cores", "2", "--forceall", target)
        assert done.returncode == 0, done.stderr
        path = workflow.folder / target
        tensors, _ = read_tensors(path)
        found.append([tensors[name].tobytes() for name in sorted(tensors)])
        assert not list(path.parent.glob("shards/*"))
    # Another shard size is no reason to train again.
    workflow.configure({"shard_size": 192, "studies": {"small": study}})
    planned = workflow.snakemake("-n", target)
    assert "Nothing to be done" in planned.stdout + planned.stderr
    assert found[0] == found[1] == found[2]


def test_the_rule_graph_can_be_drawn(finished):
    graph = finished.snakemake("--rulegraph")
    assert graph.returncode == 0
    for rule in ("train", "spectra", "fit", "scaling", "figure"):
        assert f'label = "{rule}"' in graph.stdout


def test_a_mistake_stops_before_any_job(workflow):
    workflow.configure(
        {"studies": {"small": {"model": "teacher_student", "sweep": {"batch_size": [4, 0]}}}}
    )
    failed = workflow.snakemake("--cores", "1")
    assert failed.returncode != 0
    lines = [line for line in failed.stderr.splitlines() if line.startswith("config:")]
    assert lines == [
        "config: study 'small': batch_size = 0 is not allowed: give a whole number >= 1 and "
        "<= 1000000000"
    ]
    assert "Traceback" not in failed.stderr
    assert not (workflow.folder / "results").exists()


def test_a_run_that_diverges_does_not_stop_the_others(workflow):
    workflow.configure(
        {
            "studies": {
                "wild": {
                    "model": "gaussian_rbm",
                    "hyperparameters": {"sites": 10, "replicas": 40, "burn_in": 0},
                    "sweep": [
                        {"learning_rate": 0.3, "batch_size": 1, "steps": 3000},
                        {"learning_rate": 0.1, "batch_size": 64, "steps": 30},
                    ],
                }
            }
        }
    )
    failed = workflow.snakemake("--cores", "1")
    assert failed.returncode != 0
    assert re.search(r"replica \d+ diverged at SGD step \d+: K = mu\^2", failed.stderr)
    assert "'learning_rate': 0.3" in failed.stderr
    *_, last = (line for line in failed.stderr.splitlines() if line.startswith("dysonflow: "))
    assert re.match(
        r"dysonflow: run lr0\.3-B1-\S+ of wild: replica \d+ diverged .*report.html", last
    )
    assert "hyperparameters" not in last and "dysonflow: done" not in failed.stderr
    fitted = list((workflow.folder / "results").glob("runs/*/*/fits.parquet"))
    assert [path.parent.name[:9] for path in fitted] == ["lr0.1-B64"]
    assert len(list((workflow.folder / "results").glob("runs/*/*/weights.*"))) == 1


@pytest.mark.parametrize("artifact", ["weights.safetensors", "spectra.parquet"])
def test_a_damaged_artifact_is_named(workflow, artifact):
    study = {"model": "teacher_student", "hyperparameters": {"replicas": 40, "snapshots": 2}}
    workflow.configure({"studies": {"small": study | {"figures": ["spectrum"]}}})
    target = "results/studies/small/scaling.parquet"
    assert workflow.snakemake("--cores", "1", target).returncode == 0
    (path,) = workflow.folder.glob(f"results/runs/*/*/{artifact}")
    path.write_bytes(path.read_bytes()[:-20])
    for later in workflow.folder.glob("results/runs/*/*/fits.parquet"):
        later.unlink()
    if artifact.startswith("weights"):
        (path.parent / "spectra.parquet").unlink()
    failed = workflow.snakemake("--cores", "1", target)
    assert failed.returncode != 0
    assert re.search(rf"dysonflow: results/\S*{artifact}: .*damaged.*snakemake", failed.stderr)
    path.unlink()
    assert workflow.snakemake("--cores", "1", target).returncode == 0
