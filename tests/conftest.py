"""What several tests need."""

import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import pytest
import yaml
from limits import HANGING

# Fixtures of tests/gpu; a second conftest.py would take the name of this one.
from on_a_gpu import device, is_rehearsal  # noqa: F401

from dysonflow.readers import places

ROOT = Path(__file__).parents[1]


class Workflow:
    """The real workflow in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment: dict[str, str] = {}
        self.configfile = folder / "my.yaml"

    def configure(self, config) -> None:
        self.configfile.write_text(yaml.safe_dump(config))

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", str(self.folder), "--configfile", str(self.configfile)]
        return subprocess.run(
            [*command, *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=HANGING,
        )


@pytest.fixture(autouse=True)
def _working_directory_alone(monkeypatch):
    """No test looks for files beside the configuration of another."""
    monkeypatch.setenv(places.VARIABLE, "")


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small configuration of both systems, run to the report once for all tests.

    Where several processes run the tests, the first that needs it makes it; each has a copy.
    """
    everyone = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        everyone = everyone.parent
    made, said = everyone / "finished", everyone / "finished.pickle"
    with open(everyone / "finished.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            flow = Workflow(made)
            made.mkdir()
            tiny = ROOT / "tests" / "workflow" / "tiny.yaml"
            flow.configure(yaml.safe_load(tiny.read_text()))
            run = flow.snakemake("--cores", "2")
            said.write_bytes(pickle.dumps(run))
    flow = Workflow(tmp_path_factory.mktemp("finished") / "own")
    shutil.copytree(made, flow.folder)
    flow.run = pickle.loads(said.read_bytes())
    return flow


def pytest_terminal_summary(terminalreporter):
    """Say how many blocks of the documents were run, where they were."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if any("test_documents_run" in getattr(report, "nodeid", "") for report in reports):
        terminalreporter.write_line(documents.count())
