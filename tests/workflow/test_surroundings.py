"""Folders, locales and limits that are not those of the developers' machines."""

import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile

import pytest
import yaml
from conftest import ROOT, Workflow
from limits import HANGING

import dysonflow
from dysonflow.artifacts import kinds

pytestmark = pytest.mark.workflow

ODD = "bl ank 'q' \"d\" $HOME `b` %s \\ é;&"
"""Name of a folder with all that a shell, pip, make or a format string may stumble over."""
TINY = {
    "studies": {
        "small": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 40, "snapshots": 2},
            "figures": ["spectrum"],
        }
    }
}
MAKE = shutil.which("make")

# A build backend that pip has to install first: what it installs says which version built it, and
# brings the packages of the environment that the tests run in, so that nothing is downloaded.
BACKEND = """
import pathlib
import zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    file = "dysonflow-0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, file), "w") as wheel:
        wheel.writestr("dysonflow.pth", {paths!r})
        wheel.writestr("built_by", {version!r})
        for name, text in {info!r}.items():
            wheel.writestr(f"dysonflow-0.dist-info/{{name}}", text)
    return file
"""


def info(name, version, more=""):
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }


def write_backend(folder, version, paths):
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in ("dev", "cluster"))
    own = info("dysonflow", "0", extras)
    with zipfile.ZipFile(folder / f"backend-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("backend.py", BACKEND.format(paths=paths, version=version, info=own))
        for name, text in info("backend", version).items():
            wheel.writestr(f"backend-{version}.dist-info/{name}", text)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale in which Python cannot even spell an umlaut."""

# Run at the start of every Python: what is left to a job is less than its imports take.
LIMITED = """
import resource
import sys

if any(argument.endswith(".scaling.py") for argument in sys.orig_argv):
    resource.setrlimit(resource.RLIMIT_AS, (150_000_000, 150_000_000))
"""


class Checkout:
    """The sources in a folder of an odd name, with a project that is installed in a moment."""

    def __init__(self, folder):
        self.folder = folder / ODD
        self.folder.mkdir()
        skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("workflow", "profiles", "src", "config"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=skip)
        for name in ("Snakefile", "environment.yml", "Makefile"):
            shutil.copy(ROOT / name, self.folder)
        self.write("config/config.yaml", yaml.safe_dump(TINY))
        self.write("constraints.txt", "backend==1\n")
        self.write("tests/test_one.py", "import dysonflow\n\n\ndef test_one():\n    pass\n")
        self.write(
            "pyproject.toml",
            '[build-system]\nrequires = ["backend"]\nbuild-backend = "backend"\n'
            '[tool.pytest.ini_options]\nmarkers = ["cluster: ."]\n',
        )
        # Whoever takes the newer of the two has not read the constraints.
        wheels = folder / "wheels"
        wheels.mkdir()
        for version in ("1", "2"):
            paths = f"{self.folder / 'src'}\n{sysconfig.get_paths()['purelib']}\n"
            write_backend(wheels, version, paths)
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("HOME", "MAKEFLAGS")
            },
            **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_CACHE_DIR": "1"},
        }
        self.environment.pop("PYTHONPATH", None)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def make(self, *arguments, cwd=None):
        command = [MAKE, f"PYTHON={sys.executable}", "CORES=1", *arguments]
        return subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=HANGING,
            preexec_fn=few_files_that_nobody_else_reads,
        )


def few_files_that_nobody_else_reads():
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, most))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    if MAKE is None:
        pytest.skip("needs make")
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    # Through a link, without a home, with few open files, nothing for others to read.
    link = made.folder.with_name("li nk")
    link.symlink_to(made.folder)
    made.run = made.make("run", cwd=link)
    return made


def test_make_run_in_an_odd_folder(checkout):
    assert checkout.run.returncode == 0, checkout.run.stdout
    results = checkout.folder / "results"
    assert (results / "report.html").is_file()
    assert len(dysonflow.read_fits(results)) > 0
    (weights,) = results.rglob("weights.safetensors")
    assert kinds.read_whole(weights)["run"] == weights.parent.name
    assert not [path for path in results.rglob("*") if path.stat().st_mode & 0o077]


def test_the_constraints_hold_also_where_packages_are_built(checkout):
    (built,) = checkout.folder.glob(".venv/lib/*/site-packages/built_by")
    assert built.read_text() == "1"


def test_make_test_in_an_odd_folder(checkout):
    done = checkout.make("test")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_no_target_names_the_folder(checkout):
    """What make inserts into a command is read by the shell once more."""
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert len(targets) > 10
    # A make that calls this one would have it name the folder that it enters.
    flags = ("--dry-run", "--always-make", "--no-print-directory")
    planned = checkout.make(*flags, *targets)
    assert planned.returncode == 0, planned.stdout
    assert "snakemake" in planned.stdout and ODD not in planned.stdout


def test_braces_in_the_path_of_the_workflow_are_one_line(tmp_path):
    folder = tmp_path / "{b}"
    folder.mkdir()
    for name in ("workflow", "profiles", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "-s", str(folder / "Snakefile")]
    command += ["--directory", str(tmp_path), "--config", "studies=1"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=HANGING)
    assert failed.returncode != 0 and "Traceback" not in failed.stderr
    assert f"dysonflow: {folder}: " in failed.stderr and "rename the folder" in failed.stderr


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The tiny study in an odd working folder, without a locale and with a home that is none."""
    folder = tmp_path_factory.mktemp("elsewhere")
    flow = Workflow(folder / "q' {b} $d")
    flow.folder.mkdir()
    flow.configure(TINY)
    flow.environment = ASCII | {"HOME": "/dev/null", "XDG_CACHE_HOME": str(folder / "cache")}
    flow.run = flow.snakemake("--cores", "1")
    return flow


def test_it_runs_without_a_locale_and_a_home(elsewhere):
    assert elsewhere.run.returncode == 0, elsewhere.run.stderr
    assert len(dysonflow.read_fits(elsewhere.folder / "results")) > 0
    shown = subprocess.run(
        [sys.executable, "-m", "dysonflow", "verify", "--configfile", "my.yaml"],
        cwd=elsewhere.folder,
        env=os.environ | elsewhere.environment,
        capture_output=True,
        text=True,
        timeout=HANGING,
    )
    assert (shown.returncode, shown.stderr) == (0, "") and "0 stale" in shown.stdout


def all_of_1970(results):
    for path in results.rglob("*"):
        os.utime(path, (1, 1))


def copied_behind_a_link(results):
    """As `cp -r` does: the time stamps are those of the copying, in any order."""
    shutil.copytree(results, results.with_name("elsewhere"), copy_function=shutil.copyfile)
    shutil.rmtree(results)
    results.symlink_to("elsewhere")


@pytest.mark.parametrize("change", [all_of_1970, copied_behind_a_link])
def test_time_stamps_and_links_are_no_reason_to_run(elsewhere, tmp_path, change):
    shutil.copytree(elsewhere.folder, tmp_path / "copy")
    flow = Workflow(tmp_path / "copy")
    change(flow.folder / "results")
    planned = flow.snakemake("-n")
    assert planned.returncode == 0
    assert "Nothing to be done" in planned.stdout + planned.stderr, planned.stdout


def test_a_clock_that_was_set_back(elsewhere, tmp_path):
    shutil.copytree(elsewhere.folder, tmp_path / "sp ace")
    flow = Workflow(tmp_path / "sp ace")
    (weights,) = flow.folder.glob("results/runs/*/*/weights.safetensors")
    spectra = weights.with_name("spectra.parquet")
    spectra.unlink()
    later = time.time() + 3600
    os.utime(weights, (later, later))
    target = str(spectra.relative_to(flow.folder))
    failed = flow.snakemake("--cores", "1", target)
    assert failed.returncode != 0
    name = weights.relative_to(flow.folder)
    assert f"dysonflow: {name}: its time stamp lies ahead of the clock; `touch`" in failed.stderr
    # What the line says.
    weights.touch()
    done = flow.snakemake("--cores", "1", target)
    assert done.returncode == 0, done.stderr


def test_a_job_with_too_little_memory_says_so(elsewhere, tmp_path):
    """A limit under which Snakemake still works, and which a job adds itself."""
    shutil.copytree(elsewhere.folder, tmp_path / "copy")
    flow = Workflow(tmp_path / "copy")
    (path,) = flow.folder.glob("results/studies/small/scaling.parquet")
    path.unlink()
    (flow.folder / "sitecustomize.py").write_text(LIMITED)
    flow.environment = {"PYTHONPATH": f"{flow.folder}:{os.environ.get('PYTHONPATH', '')}"}
    failed = flow.snakemake("--cores", "1", str(path.relative_to(flow.folder)))
    assert failed.returncode != 0
    found = re.findall("^dysonflow: a job had too little memory.*", failed.stderr, re.M)
    assert len(found) == 1, failed.stderr
