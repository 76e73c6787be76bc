"""What several tests need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from limits import HANGING

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
    """A small configuration of both systems, run to the report once for all tests."""
    flow = Workflow(tmp_path_factory.mktemp("finished"))
    flow.configure(yaml.safe_load((ROOT / "tests" / "workflow" / "tiny.yaml").read_text()))
    flow.run = flow.snakemake("--cores", "2")
    return flow
