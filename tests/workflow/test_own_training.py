"""The worked example of docs/own_training.md, through the real workflow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT

import dysonflow
from dysonflow.artifacts import kinds

pytestmark = pytest.mark.workflow


def example() -> dict[str, str]:
    """Files of the example by name, as the page shows them."""
    text = (ROOT / "docs" / "own_training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", text, re.S)
    return dict(blocks)


def test_the_example_of_the_docs_runs_and_an_edit_is_another_run(workflow):
    files = example()
    assert set(files) == {"net.py", "my.yaml"}
    folder = workflow.folder
    # Configuration and code in a folder of their own, where jobs find them, too.
    study = folder / "study"
    study.mkdir()
    study.joinpath("net.py").write_text(files["net.py"], encoding="utf-8")
    workflow.configfile = study / "my.yaml"
    workflow.configure(yaml.safe_load(files["my.yaml"]))
    done = workflow.snakemake("--cores", "2")
    assert done.returncode == 0, done.stderr
    spectra = dysonflow.read_spectra(folder / "results")
    assert spectra.groupby("layer")["index"].nunique().to_dict() == {"0": 2, "3": 16, "5": 16}
    assert set(dysonflow.read_increments(folder / "results")["lag"]) == {1, 8}
    figures = folder / "results" / "figures" / "spirals"
    for name in ("loss_curve", "singular_values", "3/motion_index"):
        assert kinds.read_whole(figures / f"{name}.png")["model"] == "torch_module"
    (log, *_) = (folder / "results" / "logs" / "train").rglob("*.log")
    assert "trained one by one" not in log.read_text(encoding="utf-8")
    # In the working directory they are the same run.
    for path in (study / "net.py", study / "my.yaml"):
        shutil.move(path, folder)
    workflow.configfile = folder / "my.yaml"
    again = workflow.snakemake("-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    verify = [sys.executable, "-m", "dysonflow", "verify", "--configfile", "my.yaml"]
    done = subprocess.run(verify, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(folder / "net.py", "a", encoding="utf-8") as stream:
        stream.write("# edited\n")
    again = workflow.snakemake("-n")
    assert re.search(r"^train +1$", again.stdout + again.stderr, re.M)
    # The file of another folder, by its absolute path, is the same network.
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "net.py", folder / "elsewhere")
    planned = workflow.snakemake("-n")
    said = [line for line in planned.stderr.splitlines() if line.startswith("config:")]
    assert planned.returncode != 0 and said[0] == (
        "config: study 'spirals': net.py: cannot be read: No such file or directory"
    )


def test_what_the_recorder_wrote_is_read_by_one_line_of_configuration(workflow):
    rng = np.random.default_rng(0)
    written = {}
    for seed in (0, 1):
        folder = workflow.folder / "weights" / f"seed{seed}"
        recorder = dysonflow.Recorder(folder, layers="*.key", every=10)
        for step in range(0, 31, 5):
            model = {"block0.key.weight": rng.standard_normal((6, 4)), "head": np.ones((2, 2))}
            if recorder(step, model):
                written[seed, step] = model["block0.key.weight"]
        recorder.close()
    path = "weights/seed{replica}/step{snapshot}.safetensors"
    assert os.path.relpath(recorder.path, workflow.folder) == path.replace("{replica}", "1")
    study = {"model": "checkpoints", "hyperparameters": {"path": path}}
    workflow.configure({"studies": {"mine": study}})
    done = workflow.snakemake("--cores", "2")
    assert done.returncode == 0, done.stderr
    spectra = dysonflow.read_spectra(workflow.folder / "results")
    assert sorted(spectra["step"].unique()) == [0, 10, 20, 30]
    assert set(spectra["layer"]) == {"block0.key"}
    for (seed, step), weights in written.items():
        own = spectra[(spectra["replica"] == seed) & (spectra["step"] == step)]
        expected = np.linalg.svd(weights, compute_uv=False)[::-1] ** 2
        np.testing.assert_allclose(own.sort_values("index")["eigenvalue"], expected, rtol=1e-12)
    assert Path(workflow.folder / "results" / "figures" / "mine").is_dir()
