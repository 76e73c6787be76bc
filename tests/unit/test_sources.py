"""Source digests: blind to comments, awake to numbers, through imports of imports."""

import shutil

import pytest

from dysonflow import models
from dysonflow.artifacts.provenance import PACKAGE
from dysonflow.planning import sources

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
        path.write_text(text, encoding="utf-8")
    return root


def digest(package):
    return sources.source_digest(["dysonflow.a"], ["style.txt"], package)


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
        sources.source_digest(["dysonflow.nothing"], package=package)


@pytest.mark.parametrize("model", models.names())
def test_stages_of_the_package_have_different_digests(model):
    digests = [sources.source(stage, model) for stage in ("train", "spectra", "fit", "scaling")]
    digests += [sources.source("figure", model, figure) for figure in ("sigma", "evolution")]
    assert len(set(digests)) == len(digests)


def modules_behind(*roots):
    """All modules of the package that some modules import, directly or through others."""
    pending, seen = list(roots), set()
    while pending:
        module = pending.pop()
        path = sources._file_of(module, PACKAGE)
        if path is None or module in seen:
            continue
        seen.add(module)
        pending += sources.ParsedFiles(None).parse(path).needs
    return seen


def test_training_does_not_depend_on_theory_fits_or_figures():
    seen = modules_behind(
        "dysonflow.models.gaussian_rbm",
        "dysonflow.simulation.ensemble",
        "dysonflow.artifacts.weights",
    )
    assert "dysonflow.simulation.noise" in seen
    assert "dysonflow.artifacts.tables" not in seen and "dysonflow.results" not in seen
    rooms = {name.split(".")[1] for name in seen}
    assert rooms == {
        "errors",
        "wording",
        "lazy",
        "hyperparameters",
        "artifacts",
        "simulation",
        "models",
    }


def test_fits_do_not_depend_on_how_increments_are_measured():
    systems = [f"dysonflow.theory.{model}" for model in models.names()]
    seen = modules_behind("dysonflow.analysis.fits", *systems)
    assert "dysonflow.statistics.kick" in seen
    assert "dysonflow.statistics.increments" not in seen


def test_the_kernel_of_a_system_counts_for_that_system_alone(tmp_path):
    root = tmp_path / "dysonflow"
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    kernel = root / "simulation" / "kernel"

    def digests():
        known = sources.ParsedFiles(None)
        return {
            model: sources.source_digest([f"dysonflow.models.{model}"], (), root, (), known)
            for model in ("gaussian_rbm", "teacher_student")
        }

    def changed(file, old, new):
        before, path = digests(), kernel / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return sorted(model for model, digest in digests().items() if digest != before[model])

    assert changed("gaussian_rbm.cpp", "job.mu_squared", "2 * job.mu_squared") == ["gaussian_rbm"]
    assert changed("teacher_student.cpp", "return", "  return") == []
    assert changed("teacher_student.cpp", "job.noise_scale", "job.noise_scale * 2") == [
        "teacher_student"
    ]
    assert changed("random.hpp", "#pragma once", "#pragma once\nint one = 1;") == [
        "gaussian_rbm",
        "teacher_student",
    ]
    assert changed("job.hpp", "// ", "// So to say: ") == []


WORDS = {
    "the words of an error": (
        "if Z > 4:\n    raise ValueError(f'too large: {Z}')\n",
        "if Z > 4:\n    raise ValueError('far too large')\n",
    ),
    "a line for the log": ("log.info('x %s', Z)\n", "log.info('y')\n"),
    "a method that only plans": (
        "class A:\n    @planning_only\n    def cost(self):\n        return 1\n",
        "class A:\n    @planning_only\n    def cost(self):\n        return 2\n",
    ),
    "a symbol": ("x = quantity(1, symbol='a')\n", "x = quantity(1, symbol='b')\n"),
    "an import for type checkers": (
        "if TYPE_CHECKING:\n    from dysonflow import other\n",
        "if TYPE_CHECKING:\n    import dysonflow.sub.c\n",
    ),
}


@pytest.mark.parametrize("case", WORDS)
def test_what_cannot_change_a_number_does_not_count(package, case):
    path = package / "b.py"
    text, found = path.read_text(encoding="utf-8"), []
    for more in WORDS[case]:
        path.write_text(text + more, encoding="utf-8")
        found.append(digest(package))
    assert found[0] == found[1]


def test_a_default_counts(package):
    path = package / "b.py"
    text, found = path.read_text(encoding="utf-8"), []
    for more in ("x = quantity(1, symbol='a')\n", "x = quantity(2, symbol='a')\n"):
        path.write_text(text + more, encoding="utf-8")
        found.append(digest(package))
    assert found[0] != found[1]


def test_what_was_parsed_is_kept_on_disk_by_content(package, tmp_path, monkeypatch):
    first = sources.ParsedFiles(tmp_path / "cache" / "parsed.json")
    expected = sources.source_digest(["dysonflow.a"], (), package, (), first)
    first.save()

    def refuse(*arguments):
        raise AssertionError("parsed again")

    monkeypatch.setattr(sources, "_parse_python", refuse)
    again = sources.ParsedFiles(tmp_path / "cache" / "parsed.json")
    assert sources.source_digest(["dysonflow.a"], (), package, (), again) == expected
    (package / "b.py").write_text("Y = 3\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="parsed again"):
        sources.source_digest(["dysonflow.a"], (), package, (), again)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', "\x00"])
def test_a_damaged_cache_is_made_anew(package, tmp_path, content):
    path = tmp_path / "parsed.json"
    path.write_text(content, encoding="utf-8")
    known = sources.ParsedFiles(path)
    assert sources.source_digest(["dysonflow.a"], (), package, (), known) == sources.source_digest(
        ["dysonflow.a"], (), package, (), sources.ParsedFiles(None)
    )
    known.save()
    assert "a.py" not in path.read_text(encoding="utf-8")


def test_a_cache_that_cannot_be_written_is_done_without(package, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    known = sources.ParsedFiles(tmp_path / "file" / "parsed.json")
    assert sources.source_digest(["dysonflow.a"], (), package, (), known)
    known.save()


# The rooms of the house, lowest first: a room imports only of those before it.
ROOMS = [
    *(
        "errors",
        "wording",
        "lazy",
        "statistics",
        "hyperparameters",
        "artifacts",
        "readers",
        "recording",
        "simulation",
    ),
    *("models", "theory", "analysis", "report", "results", "logs", "planning", "stages"),
    *("single", "__init__", "cli", "__main__"),
]


def test_imports_go_down_the_house_only():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        room = parts[0]
        assert room in ROOMS, f"{path}: a room that the house does not have"
        # All imports, also those within functions; not those for type checkers.
        for name in sources.ParsedFiles(None).parse(path).needs:
            other = name.split(".")[1] if "." in name else ""
            if other in ROOMS and ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{'/'.join(parts)} imports {name}")
    assert wrong == []
