"""Documents that repeat what the code knows stay in step with it."""

import importlib.util
import json
import pkgutil
import re
import tomllib
from pathlib import Path

import documents
import jsonschema
import numpy as np
import pytest
import torch
import yaml

from dysonflow.analysis.bulk import BULK_FIELDS
from dysonflow.analysis.fits import FITS_FIELDS
from dysonflow.analysis.gradient_noise import GRADIENT_NOISE_FIELDS
from dysonflow.analysis.increments import INCREMENTS_FIELDS
from dysonflow.analysis.laws import LAWS
from dysonflow.analysis.layers import LAYERS_SCHEMA
from dysonflow.analysis.linear_scaling import LINEAR_SCALING_SCHEMA, TEXTS
from dysonflow.analysis.noise_response import POINT_FIELDS
from dysonflow.analysis.scaling import SCALING_SCHEMA
from dysonflow.analysis.spectra import DIVERGED_FIELD, SPECTRA_FIELDS
from dysonflow.planning import reference as reference_docs
from dysonflow.planning.audit import RUNS_FIELDS
from dysonflow.planning.studies import load_studies
from dysonflow.report import figures

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {
    "matplotlib-base": "matplotlib",
    "snakemake-minimal": "snakemake",
    "pytorch": "torch",
}


def read_config():
    return yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def test_the_schema_is_that_of_the_classes():
    stored = json.loads((ROOT / "config" / "schema.json").read_text())
    assert stored == reference_docs.json_schema(), "run python -m dysonflow.planning.reference"


def test_the_tables_are_those_of_the_classes():
    text = (ROOT / "config" / "README.md").read_text()
    assert text == reference_docs.with_tables(text), "run python -m dysonflow.planning.reference"


def test_every_figure_is_described():
    text = (ROOT / "config" / "README.md").read_text()
    shown = text.split("## Figures")[1].split("## Hyperparameters")[0]
    own = [name for name in figures.FIGURES if not name.startswith("gap_distribution_")]
    assert all(f"`{name}`" in shown for name in own)
    parts = ["learning_rate", "batch_size", "noise_scale", "pair1", "pair2", "pair4"]
    assert all(f"_{part}" in shown for part in parts)


def test_every_law_is_described():
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    shown = text.split("## Scaling")[1].split("\n## ")[0]
    rows = [line for line in shown.splitlines() if line.startswith("| `")]
    expected = [f"| `{law.name}` | {law.kind} | {law.text} |" for law in LAWS]
    assert [row for row in rows if row in expected] == expected


def test_every_law_of_linear_scaling_is_described():
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert all(f"| `{law}` | {meaning} |" in text for law, meaning in TEXTS.items())


TABLES = {
    "Layers": list(LAYERS_SCHEMA),
    "Spectra": [*SPECTRA_FIELDS, DIVERGED_FIELD],
    "Fits": FITS_FIELDS,
    "Increments": INCREMENTS_FIELDS,
    "Bulk": BULK_FIELDS,
    "Gradient noise": GRADIENT_NOISE_FIELDS,
    "Scaling": list(SCALING_SCHEMA),
    "Noise response": POINT_FIELDS,
    "Linear scaling": list(LINEAR_SCALING_SCHEMA),
    "Runs": RUNS_FIELDS,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described_and_every_description_has_a_column(table):
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    shown = text.split(f"## {table}")[1].split("\n## ")[0]
    first = [line.split("|")[1] for line in shown.splitlines() if line.startswith("| `")]
    named = {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
    # `..._error` stands for all columns that end so, `pull_...` for those that begin so.
    patterns = [re.escape(name).replace(r"\.\.\.", ".+") for name in named]
    columns = {field.name for field in TABLES[table]}
    left = {c for c in columns if not any(re.fullmatch(p, c) for p in patterns)}
    assert left == set()
    if "caling" not in table:  # Laws are described there as well.
        assert [p for p in patterns if not any(re.fullmatch(p, c) for c in columns)] == []


def test_the_default_configuration_is_valid():
    assert load_studies(read_config())
    jsonschema.validate(read_config(), reference_docs.json_schema())


def test_the_configuration_of_the_released_weights_is_valid(tmp_path, monkeypatch):
    config = yaml.safe_load((ROOT / "config" / "release.yaml").read_text())
    jsonschema.validate(config, reference_docs.json_schema())
    monkeypatch.chdir(tmp_path)
    for point in config["studies"]["released_teacher_student"]["sweep"]:
        path = Path(point["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, W=np.zeros((3, 6, 2, 2)))
    (study,) = load_studies(config).values()
    assert [run.batch_size for run in study.runs] == [4, 8, 16, 32, 64]
    assert [run.snapshots for run in study.runs] == [1] * 5
    assert study.is_stationary


@pytest.mark.parametrize(
    "change",
    [{"hyperparameters": {"batch_size": 0}}, {"sweep": {"batchsize": [1]}}, {"figures": ["x"]}],
)
def test_the_schema_refuses_what_the_code_refuses(change):
    config = read_config()
    config["studies"]["gaussian_rbm"] |= change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, reference_docs.json_schema())


def requirements(lines):
    parsed = [re.match(r"([A-Za-z0-9_-]+)(.*)", line).groups() for line in lines]
    return {CONDA_NAMES.get(name, name): bounds for name, bounds in parsed}


def test_environment_yml_agrees_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = requirements(project["dependencies"]) | {"python": project["requires-python"]}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    found = requirements(item for item in environment["dependencies"] if isinstance(item, str))
    assert {name: found.get(name) for name in wanted} == wanted


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    extras = [item for items in project["optional-dependencies"].values() for item in items]
    named = {re.match(r"[A-Za-z0-9_-]+", item).group() for item in project["dependencies"] + extras}
    assert {name.replace("-", "_") for name in named} <= {pin.replace("-", "_") for pin in pins}


def test_the_example_of_own_weights_names_the_runs_that_it_says(tmp_path, monkeypatch):
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    config = yaml.safe_load(next(block for block in blocks if "checkpoints" in block))
    jsonschema.validate(config, reference_docs.json_schema())
    monkeypatch.chdir(tmp_path)
    for replica in range(2):
        Path(f"runs/seed{replica}").mkdir(parents=True)
        for step in range(0, 700, 100):
            content = {"model": {"fc1.weight": torch.zeros(4, 3)}}
            torch.save(content, f"runs/seed{replica}/step{step}.pt")
    (run,) = load_studies(config)["my_network"].runs
    assert (run.replicas, run.snapshots, run.burn_in, run.steps) == (2, 5, 200, 600)


def named(pattern):
    """What the documents name in code spans, and where."""
    for page in documents.pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(rf"`({pattern})`", text):
            yield page, name


def test_what_documents_name_of_the_package_is_there():
    found = list(named(r"dysonflow(?:\.\w+)+"))
    assert len(found) > 25
    for page, name in found:
        assert pkgutil.resolve_name(name) is not None, page


def test_tests_that_documents_name_are_there():
    found = list(named(r"tests/[\w/]+\.py(?:::\w+)?"))
    assert len(found) > 15
    for page, name in found:
        file, _, test = name.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, (page, name)


def sentences(paths):
    """What source files say: parts of one string joined, what is filled in as `...`."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    joined = re.sub(r"""(["'])\s*\n\s*f?\1""", "", text)
    return re.sub(r"\{[^{}]*\}", "...", joined)


def test_every_message_of_the_page_on_trouble_is_what_the_code_says():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    own, of_snakemake = text.split("## From Snakemake")
    room = Path(importlib.util.find_spec("snakemake").origin).parent
    said = {
        own: sentences([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]),
        of_snakemake: sentences(room.rglob("*.py")),
    }
    for part, source in said.items():
        messages = re.findall(r"^\| `([^`]+)` \|", part, re.M)
        assert len(messages) >= 3
        for message in messages:
            parts = [re.escape(piece) for piece in re.split(r" ?\.\.\. ?", message) if piece]
            assert re.search("[^\n]*".join(parts), source), message


def test_notebooks_hold_no_output():
    (path,) = (ROOT / "docs" / "notebooks").glob("*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not c["outputs"] and c["execution_count"] is None for c in code)


@pytest.mark.parametrize("page", documents.pages())
def test_no_page_holds_what_is_taken_for_a_tag(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    outside = re.sub(r"(?ms)^( *)```.*?^\1```$|<!--.*?-->|`[^`\n]+`|^ {4}[^\n]*$", "", text)
    assert re.findall(r"</?[A-Za-z][^>\n]*>", outside) == []
