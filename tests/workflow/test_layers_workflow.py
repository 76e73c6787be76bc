"""A system with several layers through the real workflow; weights that are not kept; a wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from limits import HANGING

import dysonflow
from dysonflow.artifacts import kinds

ROOT = Path(__file__).parents[2]
TIMES = {"burn_in": 10, "steps": 40, "snapshots": 3}

pytestmark = pytest.mark.workflow


@pytest.fixture
def tree(tmp_path):
    """A copy of the sources with the system of the tests in it."""
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("workflow", "profiles", "src", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copy(ROOT / "tests" / "systems" / "coupled.py", tmp_path / "src/dysonflow/models")
    return tmp_path


def snakemake(folder, config, *arguments):
    folder.joinpath("my.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--configfile", "my.yaml", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGING
    )
    return done.returncode, done.stdout + done.stderr


def test_several_layers_go_through_shards_join_spectra_figures_and_verify(tree):
    study = {"model": "coupled", "hyperparameters": {"replicas": 150, **TIMES}}
    config = {"shard_size": 64, "studies": {"deep": study}}
    status, text = snakemake(tree, config, "--cores", "2")
    assert status == 0, text
    for rule, count in (("train_shard", 3), ("join", 1), ("spectra", 1), ("figure", 2)):
        assert re.search(rf"^{rule} +{count}$", text, re.M), text
    assert not re.search(r"^(fit|scaling) +\d", text, re.M)
    frame = dysonflow.read_spectra(tree / "results")
    assert frame.groupby("layer")["index"].nunique().to_dict() == {"first": 3, "second": 5}
    for layer in ("first", "second"):
        figure = tree / "results" / "figures" / "deep" / layer / "spectrum.png"
        assert kinds.read_whole(figure)["layer"] == layer
        assert f"layer ``{layer}``" in figure.with_suffix(".rst").read_text(encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    command = [sys.executable, "-m", "dysonflow", "verify", "--configfile", "my.yaml"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 not made yet: 0 damaged, 0 stale" in done.stdout
    status, text = snakemake(tree, config, "-n")
    assert status == 0 and "Nothing to be done" in text


def test_a_time_that_is_not_known_is_one_line(tree):
    status, text = snakemake(tree, {"studies": {"deep": {"model": "coupled"}}}, "-n")
    assert status != 0 and "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("config:")]
    assert lines == [
        "config: study 'deep': burn_in = auto: coupled does not know when it is stationary; give "
        "numbers for burn_in and steps"
    ]


def test_weights_that_no_study_keeps_are_deleted_after_use(workflow):
    study = {
        "model": "teacher_student",
        "hyperparameters": {"replicas": 128, "snapshots": 2},
        "figures": ["sigma"],
    }
    thrifty = study | {"sweep": {"batch_size": [8, 16]}, "keep_weights": False}
    # One of the two runs is kept, because another study keeps it.
    kept = study | {"sweep": {"batch_size": [16]}}
    config = {"shard_size": 64, "studies": {"thrifty": thrifty, "kept": kept}}
    workflow.configure(config)
    done = workflow.snakemake("--cores", "2")
    assert done.returncode == 0, done.stderr
    results = workflow.folder / "results"
    weights = list(results.glob("runs/*/*/weights.safetensors"))
    assert [path.parent.name[:9] for path in weights] == ["lr0.1-B16"]
    assert len(dysonflow.read_fits(results)) == 2
    again = workflow.snakemake("-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    # Another fit needs the weights: they are trained again, which is what it costs.
    (fits,) = (path for path in results.glob("runs/*/*/fits.parquet") if "B8" in str(path))
    fits.unlink()
    target = str(fits.relative_to(workflow.folder))
    planned = workflow.snakemake("-n", target)
    assert re.search(r"^train_shard +2$", planned.stdout + planned.stderr, re.M)
    assert re.search(r"^join_temporary +1$", planned.stdout + planned.stderr, re.M)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from the sources where no compiler is to be had, installed in a folder."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
    shutil.copytree(ROOT / "src", sources / "src", ignore=skip)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    environment = os.environ | {"CC": "false", "CXX": "false"}
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(sources)],
        check=True,
        env=environment,
        timeout=HANGING,
    )
    (built,) = folder.glob("*.whl")
    installed = folder / "installed"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(installed), str(built)], check=True
    )
    return installed


def test_a_wheel_without_a_compiler_works_outside_the_checkout(wheel, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(wheel)}

    def run(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANGING,
        )

    helped = run("-m", "dysonflow", "--help")
    assert helped.returncode == 0 and "verify" in helped.stdout
    code = (
        "import io, dysonflow; assert dysonflow.__file__.startswith(__import__('os').environ"
        "['PYTHONPATH']); run = dysonflow.train('teacher_student', {'replicas': 40, 'snapshots': "
        "2}, progress=io.StringIO()); print(run.implementation); print(len(dysonflow.spectra(run)),"
        " dysonflow.fit(run)['sigma'].item() > 0)"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("torch (the compiled kernel was not built: ")
    assert done.stdout.splitlines()[1] == "160 True"
