"""Every block of code in the documents, run as it stands (tests/documents.py).

Each page has a copy of the checkout in which its blocks run one after the other, with real make,
snakemake and dysonflow. One rule makes them small: in the copy config/config.yaml is the tiny
configuration of the other tests of the workflow, and its results are there already. A block that
begins with the name of a file, `# net.py`, is that file. YAML is read, held against the schema and
planned. Commands that .ci/run itself consists of are left to it.
"""

import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import documents
import pytest
from documents import ROOT, Block
from limits import HANGING

import dysonflow
from dysonflow.artifacts import kinds

pytestmark = pytest.mark.workflow

PAGES = [page for page in documents.pages() if documents.blocks(page)]
NOT_COPIED = ("__pycache__", ".*_cache", "*.egg-info", "results", "data", "site", ".snakemake")


@dataclass
class Page:
    """A page whose blocks are run in a folder."""

    folder: Path
    said: list[str] = field(default_factory=list)
    names: dict[str, object] = field(default_factory=dict)
    rules: str = ""
    has_another_package: bool = False

    @property
    def environment(self) -> dict[str, str]:
        programs = f"{self.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": programs, "PYTHONPATH": str(self.folder / "src")}

    def run(self, block: Block) -> None:
        if block.excepted:
            self.look_at(block)
            return
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
            self.has_another_package |= block.file.startswith("src/")
        if block.language == "yaml":
            if not block.given:
                self.plan(block)
        elif block.language == "python":
            code = compile(block.code, block.place, "exec")
            if not block.file:
                self.python(code)
        elif block.language == "snakemake":
            self.snakemake(block)
        else:
            self.shell(block)

    def look_at(self, block: Block) -> None:
        """What can be known of a block that is not run: it is Python, or there is such a plan."""
        if block.language == "python":
            ast.parse(block.code)
        for line in block.code.splitlines() if block.excepted.startswith("takes") else []:
            if line.startswith(("make ", "snakemake ")):
                self.command(f"{line.partition('#')[0]} -n", block.place)

    def plan(self, block: Block) -> None:
        if self.has_another_package:
            self.command("python tests/documents.py", block.place, block.code)
            return
        with contextlib.chdir(self.folder):
            documents.check_configuration(block.code)

    def python(self, code) -> None:
        said = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(said):
            exec(code, self.names)
        self.said.append(said.getvalue())

    def snakemake(self, block: Block) -> None:
        self.rules += block.code
        if not block.given:
            (self.folder / "rules.smk").write_text(self.rules, encoding="utf-8")
            profile = "--workflow-profile profiles/default"
            self.command(f"snakemake -n --snakefile rules.smk {profile} mine", block.place)

    def shell(self, block: Block) -> None:
        assert not documents.INSTALLS.search(block.code), f"{block.place}: installs packages"
        if "\n$ " not in f"\n{block.code}":
            of_ci = documents.run_by_ci()
            lines = block.code.splitlines()
            left = [line for line in lines if line.partition("#")[0].strip() not in of_ci]
            self.command("\n".join(left), block.place)
            return
        # A session: what follows a command is what it prints.
        for said in re.findall(r"^\$ .*\n(?:(?!\$ ).*\n)*", block.code, re.M):
            command, _, expected = said.removeprefix("$ ").partition("\n")
            printed = self.command(command, block.place)
            if expected:
                assert printed == expected, block.place

    def command(self, script: str, place: str, given: str = "") -> str:
        done = subprocess.run(
            ["bash", "-eu", "-c", script],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=HANGING,
        )
        assert done.returncode == 0, f"{place}\n{script}\n{done.stdout}{done.stderr}"
        self.said.append(done.stdout + done.stderr)
        return done.stdout


def checkout(folder: Path, finished) -> None:
    """A copy of the checkout with the tiny configuration, its results and this environment."""
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", *NOT_COPIED), symlinks=True
    )
    shutil.copy(finished.folder / "my.yaml", folder / "config" / "config.yaml")
    for name in ("results", ".snakemake"):
        shutil.copytree(finished.folder / name, folder / name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "ready":
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv" / "ready").touch()


@pytest.fixture(scope="module")
def ran(finished, tmp_path_factory):
    """A function that runs a page once, and returns what came of it."""
    pages: dict[str, Page] = {}

    def of(name: str) -> Page:
        if name not in pages:
            folder = tmp_path_factory.mktemp("page") / "dysonflow"
            checkout(folder, finished)
            pages[name] = Page(folder)
            for block in documents.blocks(name):
                if block.language in documents.RUN:
                    pages[name].run(block)
        return pages[name]

    return of


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_the_page_run_as_written(ran, page):
    ran(page)


def test_what_the_readme_prints_fits_a_terminal(ran):
    (printed,) = [said for said in ran("README.md").said if "sigma_theory" in said]
    for name in ("mean", "sigma_error", "sigma_theory", "slope_error", "slope_theory"):
        assert name in printed
    assert "..." not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_layers_of_the_own_network_are_those_that_were_trained(ran):
    page = ran("docs/own_networks.md")
    folder, printed = page.folder, page.said[-1]
    assert re.search(r"^step +0 +100 +200 +300$", printed, re.M)
    assert re.search(r"^fc1 ", printed, re.M) and re.search(r"^head ", printed, re.M)
    own = {"results": folder / "results", "study": "runs"}
    assert dysonflow.read_layers(**own)["layer"].dropna().tolist() == ["fc1", "head"]
    spectra = dysonflow.read_spectra(**own, layer="head")
    # Four rows: all but four of the 60 eigenvalues are zero.
    assert len(spectra) == 4 * 60 and (spectra["eigenvalue"] > 0).sum() == 4 * 4
    # The weights are in the user's own files, and no copy of them is kept.
    assert not list(folder.glob("results/runs/checkpoints/*/weights.safetensors"))
    for layer in ("fc1", "head"):
        assert (folder / "results" / "figures" / "runs" / layer / "spectrum.png").stat().st_size
    page.command("snakemake -n --configfile runs.yaml", "again")
    assert "Nothing to be done" in page.said[-1]


def test_the_own_training_has_all_layers_and_an_edit_of_it_is_another_run(ran):
    page = ran("docs/own_training.md")
    folder = page.folder
    own = {"results": folder / "results", "study": "spirals"}
    spectra = dysonflow.read_spectra(**own)
    assert spectra.groupby("layer")["index"].nunique().to_dict() == {"0": 2, "3": 16, "5": 16}
    assert set(dysonflow.read_increments(**own)["lag"]) == {1, 8}
    figures = folder / "results" / "figures" / "spirals"
    for name in ("loss_curve", "singular_values", "3/motion_index"):
        assert kinds.read_whole(figures / f"{name}.png")["model"] == "torch_module"
    (log,) = (folder / "results" / "logs" / "train" / "torch_module").rglob("*.log")
    assert "trained one by one" not in log.read_text(encoding="utf-8")
    plan = "snakemake -n --configfile my.yaml"
    page.command(plan, "again")
    assert "Nothing to be done" in page.said[-1]
    page.command("dysonflow verify --configfile my.yaml config/config.yaml", "verify")
    with open(folder / "net.py", "a", encoding="utf-8") as stream:
        stream.write("# edited\n")
    page.command(plan, "edited")
    assert re.search(r"^train +1$", page.said[-1], re.M)
    # The file of another folder, by its absolute path, is the same network.
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "net.py", folder / "elsewhere")
    page.command(f"! {plan}", "moved")
    said = [line for line in page.said[-1].splitlines() if line.startswith("config:")]
    assert said[0] == "config: study 'spirals': net.py: cannot be read: No such file or directory"


def test_the_notebook_draws_two_figures(ran):
    executed = ran("docs/read_tables.md").folder / "results" / "notebook.ipynb"
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/png" in data for data in shown) == 2


@pytest.mark.parametrize("page", documents.pages())
def test_every_block_says_what_it_is(page):
    known = (*documents.RUN, *documents.SHOWN)
    assert [b.place for b in documents.blocks(page) if b.language not in known] == []
    reasons = {block.excepted for block in documents.blocks(page)} - {""}
    assert reasons <= set(documents.REASONS)
    assert documents.hidden_commands(page) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_file_on_a_page_is_used_by_what_follows(page):
    blocks = documents.blocks(page)
    for number, block in enumerate(blocks):
        if block.file:
            used = "".join(later.code for later in blocks[number + 1 :])
            assert Path(block.file).stem in used, block.place
