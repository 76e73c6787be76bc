"""The workflow as a module of another one, to the report."""

import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from conftest import ROOT
from limits import HANGING

import dysonflow
from dysonflow.artifacts import kinds

pytestmark = pytest.mark.workflow

SNAKEFILE = """
configfile: "other.yaml"

rule all:
    input: "mine.txt"

module dysonflow:
    snakefile: "{snakefile}"
    config: config["part"]
    {prefix}

use rule * from dysonflow as dysonflow_*

rule mine:
    input: rules.dysonflow_all.input
    output: "mine.txt"
    shell: "ls {{input}} > {{output}}"
"""
# A key of the other workflow that has the name of one of this.
CONFIG = {
    "studies": ["of", "something", "else"],
    "part": {
        "device": "cpu",
        "studies": {
            "student": {
                "model": "teacher_student",
                "hyperparameters": {"replicas": 40, "snapshots": 2},
                "figures": ["sigma"],
            },
            "own": {
                "model": "checkpoints",
                "hyperparameters": {
                    **{"path": "w.npz", "array": "W", "learning_rate": 0.1, "batch_size": 4}
                },
            },
        },
    },
}


@pytest.mark.parametrize(
    ("snakefile", "prefix"), [("Snakefile", ""), ("workflow/Snakefile", "sub")]
)
def test_another_workflow_takes_it_as_a_part(tmp_path, snakefile, prefix):
    where = f'prefix: "{prefix}"' if prefix else ""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(snakefile=ROOT / snakefile, prefix=where))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(CONFIG))
    np.savez(tmp_path / "w.npz", W=np.random.default_rng(0).standard_normal((12, 3, 4, 4)))

    def snakemake(*arguments):
        command = [sys.executable, "-m", "snakemake", "--directory", str(tmp_path)]
        command += ["--workflow-profile", str(ROOT / "profiles" / "default")]
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=HANGING
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    snakemake("--cores", "1")
    results = tmp_path / prefix / "results"
    made = (tmp_path / "mine.txt").read_text().split()
    assert f"{prefix}/results/figures/student/sigma.png".lstrip("/") in made
    status = dysonflow.read_runs(results).set_index("model")["status"].to_dict()
    assert status == {"teacher_student": "fitted", "checkpoints": "diagonalised"}
    # Nothing lies where it would without the prefix.
    assert not prefix or not (tmp_path / "results").exists()
    snakemake("--report", "report.html")
    text = (tmp_path / "report.html").read_text()
    opening = re.search(r"Studies in this report.*?</ul>", text)[0]
    assert re.findall(r">(\w+)</tt>: (\w+)", opening) == [
        ("own", "checkpoints"),
        ("student", "teacher_student"),
    ]
    assert "something" not in opening
    page = (results / "report.html").read_text()
    assert '<a href="#study-student">student</a>' in page
    assert kinds.read_whole(results / "report.html")["studies"]
    assert "Law <tt" in text
    assert "Nothing to be done" in snakemake("-n")
