"""What runs again after a change, and what does not: real Snakemake on a copy of the sources."""

import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from limits import HANGING

from dysonflow.artifacts import kinds
from dysonflow.planning.graph import Plan
from dysonflow.results import Results

ROOT = Path(__file__).parents[2]
# More than 1 MB of weights: Snakemake treats larger inputs differently by default.
SHARED = {"batch_size": 16, "snapshots": 300}
CONFIG = {
    "device": "cpu",
    "studies": {
        "first": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 128},
            "sweep": [{"batch_size": 8, "snapshots": 2}, SHARED],
            "figures": ["sigma"],
        },
        # Its point is one of the first study.
        "second": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 128, **SHARED},
            "figures": ["spectrum"],
        },
    },
}
STAGES = ["train", "spectra", "fit", "scaling", "figure"]

pytestmark = pytest.mark.workflow


class Tree:
    """A copy of the sources, with results beside them."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @classmethod
    def of_sources(cls, folder):
        skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("workflow", "profiles", "src", "config"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=skip)
        for name in ("Snakefile", "environment.yml"):
            shutil.copy(ROOT / name, folder)
        return cls(folder)

    def copied(self, folder):
        shutil.copytree(self.folder, folder)
        return Tree(folder)

    def configure(self, config):
        self.folder.joinpath("my.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def config(self):
        return yaml.safe_load(self.folder.joinpath("my.yaml").read_text())

    def start(self, *arguments, **environment):
        command = [sys.executable, "-m", "snakemake", "--configfile", "my.yaml", *arguments]
        # The jobs import the copy of the package, not the one under test.
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src")} | environment
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def snakemake(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        text, _ = process.communicate(timeout=HANGING)
        return process.returncode, text

    def run(self, *arguments, **environment):
        """Run it; how many jobs of each rule there were."""
        status, text = self.snakemake(*arguments, **environment)
        assert status == 0, text
        return jobs(text)

    def plan(self, *targets):
        return self.run("-n", *targets)

    def edit(self, file, old, new):
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def data(self, part=""):
        """Digests of the data of all artifacts, by path."""
        results = self.folder / "results"
        found = {}
        for artifact in Plan.from_config(self.config(), Results(str(results))).artifacts():
            path = Path(artifact.path)
            name = str(path.relative_to(results))
            if path.suffix != ".png" and path.exists() and part in name:
                found[name] = kinds.read_whole(path)["data"]
        return found


def jobs(text):
    found = re.findall(r"^(\w+) +(\d+)$", text, re.M)
    return {rule: int(count) for rule, count in found if rule not in ("all", "total")}


def change_a_number(path):
    """Add one to the first number in the code of a file."""
    text = path.read_text()
    numbers = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and type(node.value) in (int, float)
    ]
    node = min(numbers, key=lambda node: (node.lineno, node.col_offset))
    lines = text.splitlines(keepends=True)
    line = lines[node.lineno - 1]
    changed = line[: node.col_offset] + repr(node.value + 1) + line[node.end_col_offset :]
    lines[node.lineno - 1] = changed
    path.write_text("".join(lines))


# Changes to a finished folder. Each returns the folder to plan in, if that is another.


def number_in(file):
    return lambda tree: change_a_number(tree.folder / "src" / "dysonflow" / file)


def add_a_point(tree):
    config = tree.config()
    config["studies"]["first"]["sweep"].append({"batch_size": 32})
    tree.configure(config)


def other_style(tree):
    path = tree.folder / "src" / "dysonflow" / "report" / "figures" / "dysonflow.mplstyle"
    path.write_text(path.read_text() + "axes.linewidth: 1.25\n")


def other_style_of_the_report(tree):
    path = tree.folder / "src" / "dysonflow" / "report" / "page" / "page.css"
    path.write_text(path.read_text() + "p { color: black; }\n")


def other_words_and_format(tree):
    files = [*tree.folder.glob("src/**/*.py"), *tree.folder.glob("workflow/**/*.py")]
    assert len(files) > 60
    for path in files:
        text = path.read_text().replace('"""', '"""So to say: ', 1)
        path.write_text(f"# A comment.\n{text}\n# Another.\n")
    ruff = [sys.executable, "-m", "ruff", "format", "-q", "--line-length", "60"]
    subprocess.run([*ruff, *map(str, files)], check=True)
    for path in [*tree.folder.glob("workflow/**/*.smk"), tree.folder / "Snakefile"]:
        path.write_text(f"# A comment.\n{path.read_text()}")


def other_system(tree):
    file = "src/dysonflow/models/teacher_student.py"
    tree.edit(file, "self.h.learning_rate * update", "1.01 * self.h.learning_rate * update")


SOURCES = "src/dysonflow"


def a_new_column_of_the_fits(tree):
    file = f"{SOURCES}/analysis/fits.py"
    tree.edit(
        file, 'pa.field("variable"', 'pa.field("news", pa.float64()),\n    pa.field("variable"'
    )


def reworded_messages(tree):
    tree.edit(f"{SOURCES}/wording.py", "; did you mean", "; do you mean")
    tree.edit(f"{SOURCES}/hyperparameters.py", "training would end before", "training ends before")
    tree.edit(f"{SOURCES}/models/teacher_student.py", "the fluctuations grow", "fluctuations grow")
    tree.edit(f"{SOURCES}/artifacts/files.py", "update dysonflow", "install a newer dysonflow")
    tree.edit(f"{SOURCES}/stages.py", '"implementation: %s"', '"simulated by: %s"')


def a_new_reader(tree):
    path = tree.folder / SOURCES / "results.py"
    text = path.read_text(encoding="utf-8")
    more = (
        '\n\ndef read_all(results="results"):\n    return read_runs(results), read_fits(results)\n'
    )
    path.write_text(text + more, encoding="utf-8")


def a_new_figure(tree):
    folder = tree.folder / SOURCES / "report" / "figures"
    shutil.copy(folder / "sigma.py", folder / "width.py")
    tree.edit(
        f"{SOURCES}/report/figures/__init__.py",
        '    "evolution": Kind(',
        '    "width": Kind("width", ("fits", "scaling")),\n    "evolution": Kind(',
    )


def a_new_system(tree):
    models = tree.folder / SOURCES / "models"
    shutil.copy(ROOT / "tests" / "systems" / "coupled.py", models)


def a_new_theory(tree):
    a_new_system(tree)
    theory = tree.folder / SOURCES / "theory"
    text = (theory / "checkpoints.py").read_text(encoding="utf-8")
    (theory / "coupled.py").write_text(text, encoding="utf-8")


def other_cost_and_symbol(tree):
    file = f"{SOURCES}/models/teacher_student.py"
    tree.edit(file, "draws=2 * batch * n", "draws=3 * batch * n")
    tree.edit(file, 'symbol="B"', 'symbol="b"')


def touch(tree):
    assert any(path.stat().st_size > 1e6 for path in tree.folder.glob("results/runs/*/*/*"))
    # Whatever the order of time stamps comes to be.
    for path in sorted(tree.folder.rglob("*"), reverse=True):
        if ".snakemake" not in path.parts:
            path.touch()
            time.sleep(0.001)


def move(tree):
    return Tree(tree.folder.rename(tree.folder.with_name("moved")))


def clone(tree, *kept):
    git = ["git", "-C", str(tree.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    sources = ["Snakefile", "environment.yml", "workflow", "profiles", "src", "config", "my.yaml"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", *sources], check=True)
    subprocess.run([*git, "commit", "-qm", "Sources"], check=True)
    cloned = tree.folder.with_name("clone")
    subprocess.run(["git", "clone", "-q", str(tree.folder), str(cloned)], check=True)
    for name in kept:
        shutil.move(tree.folder / name, cloned / name)
    return Tree(cloned)


def same_config_otherwise_written(tree):
    tree.folder.joinpath("my.yaml").write_text(
        """
studies:
  second: {figures: [spectrum], model: teacher_student,
           hyperparameters: {learning_rate: 1e-1, snapshots: 3e2, batch_size: "16", replicas: 128}}
  first:
    figures: [sigma]
    sweep: [{snapshots: 2, batch_size: 8.0}, {snapshots: [300], batch_size: 16}]
    model: teacher_student
    hyperparameters: {noise_scale: 1.0e-1, replicas: 128, seed: 0}
device: auto
shard_size: 64
"""
    )


ALL = dict.fromkeys(STAGES, 2)
AFTER_TRAINING = {stage: 2 for stage in STAGES[1:]}
# The spectrum shows no fits: of the two figures one is drawn again.
AFTER_SPECTRA = {"fit": 2, "scaling": 2, "figure": 1}
# Whatever is made again is shown again.
REPORT = {"report_page": 1}
KERNEL = "src/dysonflow/simulation/kernel"
NOISE, MASS = "job.noise_scale", "job.mu_squared"
CHANGES = {
    "nothing": (lambda tree: None, {}),
    "an added point": (add_a_point, dict.fromkeys(STAGES, 1) | {"runs": 1}),
    "a figure": (number_in("report/figures/_law.py"), {"figure": 1}),
    "the style": (other_style, {"figure": 2}),
    "the fit": (number_in("analysis/fits.py"), AFTER_SPECTRA),
    "a module that the fit imports": (number_in("statistics/goodness.py"), AFTER_SPECTRA),
    "a module that fit and theory import": (
        number_in("statistics/estimators.py"),
        {stage: 2 for stage in STAGES[2:]},
    ),
    "a module that theory imports": (
        number_in("theory/blocks.py"),
        {stage: 2 for stage in STAGES[2:]},
    ),
    "the spectra": (number_in("analysis/spectra.py"), AFTER_TRAINING),
    "a module that training imports": (number_in("simulation/noise.py"), ALL),
    "the system": (other_system, ALL),
    "another system": (number_in("models/gaussian_rbm.py"), {}),
    "the kernel of the system": (
        lambda tree: tree.edit(f"{KERNEL}/teacher_student.cpp", NOISE, f"2 * {NOISE}"),
        ALL,
    ),
    "the kernel of another system": (
        lambda tree: tree.edit(
            f"{KERNEL}/gaussian_rbm.cpp", "job.mu_squared", "2 * job.mu_squared"
        ),
        {},
    ),
    "a new column of the fits": (a_new_column_of_the_fits, AFTER_SPECTRA),
    "reworded messages": (reworded_messages, {}),
    "a new reader": (a_new_reader, {}),
    "a new figure": (a_new_figure, {}),
    "a new system": (a_new_system, {}),
    "a new theory": (a_new_theory, {}),
    "what a step costs, and a symbol of legends": (other_cost_and_symbol, {"figure": 2}),
    "the law": (number_in("analysis/scaling.py"), {"scaling": 2, "figure": 1}),
    "words and format": (other_words_and_format, {}),
    "touch": (touch, {}),
    "move": (move, {}),
    "clone beside results": (lambda tree: clone(tree, "results", ".snakemake"), {}),
    "clone beside results alone": (lambda tree: clone(tree, "results"), {}),
    # The report shows the studies in their order.
    "order and spelling of the configuration": (same_config_otherwise_written, REPORT),
    "the page of the report": (number_in("report/page/markup.py"), REPORT),
    "its style": (other_style_of_the_report, REPORT),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Sources beside the results of a run on two cores; a second Snakemake tried to join in."""
    tree = Tree.of_sources(tmp_path_factory.mktemp("kept"))
    tree.configure(CONFIG)
    process = tree.start("--cores", "2")
    while process.poll() is None and not list(tree.folder.glob(".snakemake/locks/*.output.lock")):
        time.sleep(0.02)
    tree.second = tree.snakemake("--cores", "1")
    text, _ = process.communicate(timeout=HANGING)
    assert process.returncode == 0, text
    tree.first_run = jobs(text)
    return tree


@pytest.fixture(scope="module")
def plans(kept, tmp_path_factory):
    """What is planned after each change, two at a time: a plan is mostly the start of Python."""

    def plan(name):
        try:
            tree = kept.copied(tmp_path_factory.mktemp("change") / "tree")
            changed = CHANGES[name][0](tree) or tree
            return changed.plan()
        except Exception as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CHANGES, pool.map(plan, CHANGES), strict=True))


def test_a_shared_point_is_trained_once(kept):
    assert kept.first_run == ALL | REPORT | {"runs": 1}


def test_a_second_snakemake_is_told_that_the_folder_is_in_use(kept):
    status, text = kept.second
    assert status != 0
    assert "cannot be locked" in text and "--unlock" in text


@pytest.mark.parametrize("change", CHANGES)
def test_what_runs_after_a_change(plans, change):
    expected = CHANGES[change][1]
    assert plans[change] == (expected | REPORT if expected else {})


def test_a_study_that_is_removed_and_put_back_trains_nothing(kept, tmp_path):
    tree = kept.copied(tmp_path / "tree")
    config = copy.deepcopy(CONFIG)
    del config["studies"]["second"]
    tree.configure(config)
    assert tree.run("--cores", "1") == {"runs": 1} | REPORT
    tree.configure(CONFIG)
    assert tree.plan() == {"runs": 1} | REPORT


def test_an_edit_is_not_forgotten_when_interrupted_between_stages(kept, tmp_path):
    tree = kept.copied(tmp_path / "tree")
    tree.edit("src/dysonflow/simulation/noise.py", "spawn_key=(block,)", "spawn_key=(block + 7,)")
    weights = [str(p.relative_to(tree.folder)) for p in tree.folder.glob("results/**/weights.*")]
    assert tree.run("--cores", "2", *weights) == {"train": 2}
    assert tree.plan() == AFTER_TRAINING | REPORT
    # Taken back: what follows is that of the old source still, only the weights are not.
    tree.edit("src/dysonflow/simulation/noise.py", "spawn_key=(block + 7,)", "spawn_key=(block,)")
    assert tree.plan()["train"] == 2


def test_results_of_other_source_without_their_record_are_refused(kept, tmp_path):
    tree = kept.copied(tmp_path / "tree")
    shutil.rmtree(tree.folder / ".snakemake")
    number_in("analysis/spectra.py")(tree)
    status, text = tree.snakemake("-n")
    assert status != 0 and "Traceback" not in text
    assert re.search(r"results/runs/\S+/spectra.parquet: made by other source", text)
    assert "dysonflow verify --delete" in text


def test_a_second_checkout_trains_nothing_with_a_shared_cache(kept, tmp_path):
    (tmp_path / "cache").mkdir()
    shared = {"SNAKEMAKE_OUTPUT_CACHE": str(tmp_path / "cache")}
    first, second = (Tree.of_sources(tmp_path / name) for name in ("first", "second"))
    for tree in (first, second):
        # Two shards, to see that they are not trained either.
        tree.configure(CONFIG | {"shard_size": 64})
    (run,) = (run for run in kept.folder.glob("results/runs/*/*") if "B16" in run.name)
    target = str(run.relative_to(kept.folder) / "fits.parquet")
    written = []
    for tree, cores in ((first, "1"), (second, "2")):
        tree.run("--cores", cores, "--cache", "--", target, **shared)
        # A job that trains, diagonalises or fits writes its log; of the others it is empty.
        logs = tree.folder.glob("results/logs/*/teacher_student/**/*.log")
        written.append(sum(log.stat().st_size > 0 for log in logs))
    # Two shards, the join, spectra and fit.
    assert written == [5, 0]
    # The same bytes: shards or none, one core or two, another folder, from the cache or not.
    expected = kept.data("B16")
    assert len(expected) == 3
    assert first.data("B16") == second.data("B16") == expected
    assert second.plan(target) == {}
