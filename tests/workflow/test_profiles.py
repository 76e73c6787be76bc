"""The profiles: what they share with the default one, and what they plan and submit."""

import os
import re

import pytest
import yaml
from conftest import ROOT, Workflow

pytestmark = pytest.mark.workflow

PROFILES = ROOT / "profiles"
STUDY = {
    "shard_size": 64,
    "device": "cuda",
    "studies": {
        "small": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 128, "snapshots": 2},
            "figures": ["mean_gap"],
        }
    },
}


def read(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ["slurm", "pbs"])
def test_a_cluster_profile_carries_the_default_one(name):
    assert read("default").items() <= read(name).items()


@pytest.mark.parametrize("name", ["slurm", "pbs"])
def test_every_key_is_explained(name):
    text = (PROFILES / "README.md").read_text()
    for key in read(name):
        assert f"`{key}`" in text, key


@pytest.mark.parametrize("name", ["slurm", "pbs"])
@pytest.mark.parametrize("option", ["--profile", "--workflow-profile"])
def test_a_profile_plans_the_study(workflow, name, option):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs dysonflow[cluster]")
    workflow.configure(STUDY)
    planned = workflow.snakemake(option, str(PROFILES / name), "--dry-run", "--quiet", "rules")
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"^train_shard +2$", planned.stdout + planned.stderr, re.M)


def test_pbs_is_asked_for_what_was_computed(tmp_path, monkeypatch):
    """The real executor; in place of the queue a script that keeps its arguments and fails."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    queue = tmp_path / "bin" / "qsub"
    queue.parent.mkdir()
    # The last argument is the script of the job.
    queue.write_text(
        f'#!/bin/sh\nfor job; do :; done\ntest -f "$job" && echo "$*" >> {tmp_path}/asked\nexit 1\n'
    )
    queue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{queue.parent}:{os.environ['PATH']}")
    workflow = Workflow(tmp_path / "bl ank 'q' {b} é")
    workflow.folder.mkdir()
    workflow.configure(STUDY)
    failed = workflow.snakemake("--profile", str(PROFILES / "pbs"), "--retries", "0")
    assert failed.returncode != 0
    asked = tmp_path.joinpath("asked").read_text().splitlines()
    assert len(asked) == 2, failed.stderr
    for line in asked:
        assert "-l select=1:ncpus=1:mem=4001mb:ngpus=1 -l walltime=660 " in line
        assert "-q workq" in line
