"""Digests of the package's own source: what a stage executes, and nothing else.

Imports within the package are followed, transitively, and so are the includes of a C++ file that
lies beside a Python module of its name. Not counted is what cannot change a number: comments,
docstrings, the words of errors and of the log, methods marked `planning_only`, the units and
symbols of hyperparameters, imports that only type checkers see.

What a file comes to is kept on disk under the checksum of its content, so that a call that has
nothing to do parses nothing.
"""

import ast
import hashlib
import json
import logging
import os
import platform
import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dysonflow import models, theory
from dysonflow.artifacts.cache_folder import cache_folder
from dysonflow.artifacts.files import atomic
from dysonflow.artifacts.provenance import PACKAGE
from dysonflow.errors import ArtifactError
from dysonflow.report import figures

log = logging.getLogger(__name__)

WORDS = ("dysonflow.errors", "dysonflow.wording", "dysonflow.logs")
"""Modules of words for people, which decide no number."""
STYLES = ("report/figures/dysonflow.mplstyle", "report/figures/column.mplstyle")
PAGE = ("report/page/page.css", "report/page/page.js")
CACHE_VERSION = 1
"""Raised when this file makes something else of a source file."""
TEXT_ARGUMENTS = {"quantity": ("symbol", "unit"), "Law": ("text",)}
"""Arguments, by the name of what is called, that are words for people."""
CPP = (".cpp", ".hpp")
BESIDE = (".cpp", ".npz")
"""A file of these suffixes beside a module of its name is part of the module."""


class Parsed(NamedTuple):
    """What a file comes to: the files that it needs, and a digest of its own code."""

    needs: tuple[str, ...]
    code: str


class _Bare(ast.NodeTransformer):
    """Removes what cannot change a number."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                kept = [one for one in statements if not _is_text(one)]
                # A block may not be empty.
                setattr(node, name, kept or ([ast.Pass()] if statements else []))
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _Speechless().visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        marks = [mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)]
        return None if "planning_only" in marks else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return (node.orelse or None) if typing else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        text = TEXT_ARGUMENTS.get(node.func.id, ()) if isinstance(node.func, ast.Name) else ()
        node.keywords = [one for one in node.keywords if one.arg not in text]
        return node


class _Speechless(ast.NodeTransformer):
    """Takes the words out of an error."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string, or a line for the log."""
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return isinstance(value.func.value, ast.Name) and value.func.value.id == "log"
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _imports(tree: ast.AST) -> tuple[str, ...]:
    """Names of the package's modules that a module imports, as written."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise ValueError(f"line {node.lineno}: import by full name, so that digests follow it")
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return tuple(sorted(name for name in found if name.split(".")[0] == PACKAGE.name))


def _parse_python(raw: bytes, function: str) -> Parsed:
    tree: ast.AST = ast.parse(raw)
    if function:
        named = [
            node
            for node in getattr(tree, "body", [])
            if isinstance(node, ast.FunctionDef) and node.name == function
        ]
        if not named:
            raise FileNotFoundError(f"{function}: no such function")
        tree = ast.Module([named[0]], [])
    bare = _Bare().visit(tree)
    return Parsed(_imports(bare), _sha(ast.unparse(bare).encode()))


def _parse_cpp(raw: bytes) -> Parsed:
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", raw.decode("utf-8"), flags=re.DOTALL)
    needs = re.findall(r'#\s*include\s*"([^"]+)"', code)
    return Parsed(tuple(sorted(set(needs))), _sha(" ".join(code.split()).encode()))


def _sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


class ParsedFiles:
    """What files come to, by the checksum of their content, in memory and on disk.

    Parameters
    ----------
    path : Path, optional
        Where it is kept between calls; nowhere if None.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self._known: dict[str, Any] = {}
        self._read: dict[tuple[str, str, int, int], Parsed] = {}
        self._is_new = False
        try:
            if path is not None:
                found = json.loads(path.read_text(encoding="utf-8"))
                self._known = found if isinstance(found, dict) else {}
        except FileNotFoundError:
            log.debug("%s: not there yet", path)
        except (OSError, ValueError) as error:
            log.debug("%s: made anew: %s", path, error)

    def parse(self, path: Path, function: str = "") -> Parsed:
        """What a file, or one function of it, comes to."""
        status = os.stat(path)
        # Many digests share a file, which is read once as long as nobody writes to it.
        place = (str(path), function, status.st_mtime_ns, status.st_size)
        if place not in self._read:
            self._read[place] = self._parse(path, function)
        return self._read[place]

    def _parse(self, path: Path, function: str) -> Parsed:
        raw = path.read_bytes()
        key = f"{path.suffix}:{function}:{_sha(raw)}"
        found = self._known.get(key)
        if not (isinstance(found, list) and len(found) == 2):
            if path.suffix == ".py":
                parsed = _parse_python(raw, function)
            else:
                parsed = _parse_cpp(raw) if path.suffix in CPP else Parsed((), _sha(raw))
            self._known[key] = found = [list(parsed.needs), parsed.code]
            self._is_new = True
        return Parsed(tuple(found[0]), str(found[1]))

    def save(self) -> None:
        """Keep what is new; where that is not possible, the next call parses again."""
        if self.path is None or not self._is_new:
            return
        try:
            with atomic(self.path) as temporary:
                temporary.write_text(json.dumps(self._known), encoding="utf-8")
        except ArtifactError as error:
            log.debug("%s", error)
        self._is_new = False


def cache_file() -> Path | None:
    """Where parsed sources are kept: in the user's cache; None if there is no home."""
    version = f"{CACHE_VERSION}-python{'.'.join(platform.python_version_tuple()[:2])}"
    folder = cache_folder()
    return folder and folder / f"sources-{version}.json"


@cache
def _parsed_files() -> ParsedFiles:
    return ParsedFiles(cache_file())


def save_cache() -> None:
    """Keep what this process parsed for the next one."""
    _parsed_files().save()


@cache
def _file_of(module: str, package: Path) -> Path | None:
    path = package.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and module != PACKAGE.name:
            return candidate
    return None


def source_digest(
    modules: Iterable[str],
    files: Iterable[str] = (),
    package: Path = PACKAGE,
    functions: Iterable[str] = (),
    parsed_files: ParsedFiles | None = None,
) -> str:
    """Digest of the package's own source that the given modules execute.

    Parameters
    ----------
    modules : iterable of str
        Full names, such as "dysonflow.simulation.ensemble". A name that does not exist is an error.
    files : iterable of str
        Further files of the package, relative to it.
    package : Path
        Folder of the package.
    functions : iterable of str
        Full names of functions whose module counts only as far as they import it.
    parsed_files : ParsedFiles, optional
        By default those of the user's cache.

    Returns
    -------
    str
        16 hex digits of a SHA-256.

    Raises
    ------
    FileNotFoundError
        If one of `modules`, `files` or `functions` does not exist.
    """
    known = parsed_files or _parsed_files()
    pending: list[str] = list(modules)
    codes: dict[str, str] = {}
    for module in pending:
        if _file_of(module, package) is None:
            raise FileNotFoundError(f"{module}: no such module in {package}")
    for name in functions:
        module, _, function = name.rpartition(".")
        path = _file_of(module, package)
        if path is None:
            raise FileNotFoundError(f"{name}: no such function in {package}")
        needs, codes[name] = known.parse(path, function)
        pending += needs
    compiled: list[Path] = []
    while pending:
        module = pending.pop()
        path = _file_of(module, package)
        if module in codes or path is None or module in WORDS:
            continue
        needs, codes[module] = known.parse(path)
        pending += needs
        compiled += [beside for beside in map(path.with_suffix, BESIDE) if beside.is_file()]
    while compiled:
        path = compiled.pop()
        name = path.relative_to(package).as_posix()
        if name not in codes:
            needs, codes[name] = known.parse(path)
            compiled += [path.with_name(include) for include in needs]
    for name in files:
        codes[name] = known.parse(package / name).code
    text = "".join(f"{name}\n{codes[name]}\n" for name in sorted(codes))
    return _sha(text.encode())[:16]


STAGES = ("train", "spectra", "fit", "scaling", "figure")


@lru_cache
def source(stage: str, model: str, figure: str = "") -> str:
    """Digest of the source that decides the output of a stage, and of the stages before it.

    Parameters
    ----------
    stage : str
        One of `STAGES`, `increments`, `bulk`, `gradient_noise`, `layers` or `linear_scaling`. The
        first of a model that is not trained reads its weights from files.
    model : str
        Name of the system.
    figure : str
        Name of the figure, for the last stage.
    """
    after = {
        "increments": ("train", "increments"),
        "bulk": ("train", "spectra", "bulk"),
        "gradient_noise": ("train", "gradient_noise"),
        "layers": ("layers",),
        "linear_scaling": ("train", "spectra", "linear_scaling"),
    }
    executed = list(after.get(stage) or STAGES[: STAGES.index(stage) + 1])
    is_trained = models.load(model).is_trained
    roots = {
        "train": [f"dysonflow.models.{model}", "dysonflow.artifacts.weights"],
        "layers": ["dysonflow.analysis.layers"],
        "spectra": ["dysonflow.analysis.spectra"],
        "fit": ["dysonflow.analysis.fits", *_theory_of(model)],
        "increments": ["dysonflow.analysis.increments", *_theory_of(model)],
        "bulk": ["dysonflow.analysis.bulk"],
        "gradient_noise": ["dysonflow.analysis.gradient_noise"],
        "scaling": ["dysonflow.analysis.scaling"],
        "linear_scaling": [
            "dysonflow.analysis.linear_scaling",
            "dysonflow.analysis.noise_response",
        ],
    }
    if is_trained:
        roots["train"].append("dysonflow.simulation.ensemble")
    if stage == "figure":
        kind = figures.FIGURES[figure]
        roots["figure"] = [f"dysonflow.report.figures.{kind.module}", *_theory_of(model)]
        # What shows no fits is not made from them.
        if "fits" not in kind.inputs and "scaling" not in kind.inputs:
            executed = ["train", "spectra", "figure"]
        if "increments" in kind.inputs:
            executed.insert(1, "increments")
        if "gradient_noise" in kind.inputs:
            executed = [*after["gradient_noise"], "figure"]
        if "linear_scaling" in kind.inputs:
            executed = [*after["linear_scaling"], "figure"]
        if "bulk" in kind.inputs:
            executed.insert(-1, "bulk")
    # Of the stages only the functions themselves: the others do not run.
    first = ["join", "train"] if is_trained else ["read_weights"]
    names = ["_parse", "_lists", *(first if executed[0] == "train" else executed[:1])]
    names += executed[1:]
    functions = [f"dysonflow.stages.{name}" for name in names]
    modules = [module for name in executed for module in roots[name]]
    if stage != "figure":
        return source_digest(modules, functions=functions)
    # The legends show the symbols, which count for nothing else.
    symbols = json.dumps(models.hyperparameters_of(model).symbols())
    return _joint([source_digest(modules, STYLES, functions=functions), symbols])


def _theory_of(model: str) -> list[str]:
    return [f"dysonflow.theory.{model}"] if theory.exists(model) else []


@lru_cache
def source_of_reproduction(of: tuple[str, ...]) -> str:
    """Digest of the source that decides the document, and the tables of these models."""
    own = source_digest(
        ["dysonflow.report.reproduction"], functions=["dysonflow.stages.reproduction"]
    )
    stages = ("scaling", "increments")
    return _joint([own, *(source(stage, model) for model in sorted(set(of)) for stage in stages)])


@lru_cache
def source_of_report(made: tuple[str, ...]) -> str:
    """Digest of the source that decides the report, and what it is made from.

    Parameters
    ----------
    made : tuple of str
        Digests of the source of all artifacts that it shows.
    """
    functions = ["dysonflow.stages._lists", "dysonflow.stages.report_page"]
    own = source_digest(["dysonflow.report.page"], PAGE, functions=functions)
    return _joint([own, *sorted(set(made))])


def _joint(digests: Sequence[str]) -> str:
    return _sha(" ".join(digests).encode())[:16]
