"""docs/own_networks.md, from the network that it trains to the table that it prints."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT
from limits import HANGING

import dysonflow

pytestmark = pytest.mark.workflow


def python(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=HANGING,
    ).stdout


def test_the_page_runs_as_written(workflow):
    folder = workflow.folder
    page = (ROOT / "docs" / "own_networks.md").read_text(encoding="utf-8")
    train, read = re.findall(r"```python\n(.*?)```", page, re.S)
    python(folder, "-c", train)
    looked_at = 0
    for block in re.findall(r"```console\n(.*?)```", page, re.S):
        for command, said in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.M):
            program, *arguments = shlex.split(command)
            if program == "dysonflow":
                assert python(folder, "-m", "dysonflow", *arguments) == said, command
                looked_at += 1
                continue
            assert arguments == ["--cores", "2", "--configfile", "runs.yaml"]
            (folder / "my.yaml").write_text((folder / "runs.yaml").read_text())
            done = workflow.snakemake("--cores", "2")
            assert done.returncode == 0, done.stderr
    assert looked_at == 2
    printed = python(folder, "-c", read)
    assert re.search(r"^step +0 +100 +200 +300$", printed, re.M)
    assert re.search(r"^fc1 ", printed, re.M) and re.search(r"^head ", printed, re.M)
    layers = dysonflow.read_layers(folder / "results")
    assert layers["layer"].dropna().tolist() == ["fc1", "head"]
    spectra = dysonflow.read_spectra(folder / "results", layer="head")
    # Four rows: all but four of the 60 eigenvalues are zero.
    assert len(spectra) == 4 * 60 and (spectra["eigenvalue"] > 0).sum() == 4 * 4
    # The weights are in the user's own files, and no copy of them is kept.
    assert not list(folder.glob("results/runs/checkpoints/*/weights.safetensors"))
    for layer in ("fc1", "head"):
        assert (folder / "results" / "figures" / "runs" / layer / "spectrum.png").stat().st_size
    again = workflow.snakemake("-n")
    assert "Nothing to be done" in again.stdout + again.stderr
