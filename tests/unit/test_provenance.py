"""Source digests: blind to comments, awake to numbers, through imports of imports."""

import pytest

from dysonflow import models, stages
from dysonflow.artifacts import provenance

FILES = {
    "a.py": '"""Doc."""\nfrom dysonflow import b\nX = b.Y\n',
    "b.py": "from dysonflow.sub.c import Z\n\nY = Z + 1  # why\n",
    "sub/__init__.py": "",
    "sub/c.py": 'def f():\n    """Explain."""\n    return 1\n\n\nZ = 3.0\n',
    "other.py": "A = 1\n",
    "style.txt": "red",
}


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "dysonflow"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def digest(package):
    return provenance.source_digest(["dysonflow.a"], ["style.txt"], package)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("a.py", '"""Doc."""', '"""Other words."""'),
        ("b.py", "  # why", "   # because"),
        ("b.py", "Y = Z + 1", "Y = (Z\n     + 1)"),
        ("sub/c.py", '    """Explain."""\n', ""),
        ("other.py", "1", "2"),
    ],
)
def test_text_and_unrelated_modules_do_not_count(package, file, old, new):
    before = digest(package)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert digest(package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("a.py", "b.Y", "-b.Y"),
        ("b.py", "+ 1", "+ 2"),
        ("sub/c.py", "3.0", "3.1"),
        ("sub/c.py", "return 1", "return 2"),
        ("style.txt", "red", "blue"),
    ],
)
def test_code_counts_through_all_imports(package, file, old, new):
    before = digest(package)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert digest(package) != before


def test_an_unknown_module_is_an_error(package):
    with pytest.raises(FileNotFoundError, match="dysonflow.nothing"):
        provenance.source_digest(["dysonflow.nothing"], package=package)


@pytest.mark.parametrize("model", models.names())
def test_stages_of_the_package_have_different_digests(model):
    digests = [stages.source(stage, model) for stage in ("train", "spectra", "fit", "scaling")]
    digests += [stages.source("figure", model, figure) for figure in ("sigma", "evolution")]
    assert len(set(digests)) == len(digests)


def test_training_does_not_depend_on_theory_fits_or_figures():
    pending, seen = (
        [
            "dysonflow.models.gaussian_rbm",
            "dysonflow.simulation.ensemble",
            "dysonflow.artifacts.weights",
        ],
        set(),
    )
    while pending:
        module = pending.pop()
        path = provenance._file_of(module, provenance.PACKAGE)
        if path is None or module in seen:
            continue
        seen.add(module)
        pending += provenance._imports(provenance.ast.parse(path.read_text()))
    assert "dysonflow.simulation.noise" in seen
    assert not {
        name for name in seen if name.split(".")[1] in ("theory", "fits", "figures", "laws")
    }
