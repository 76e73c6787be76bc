"""What an artifact was made from: digest of the source, versions, git commit."""

import ast
import hashlib
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
RECORDED_PACKAGES = ("dysonflow", "numpy", "scipy", "torch", "pyarrow", "snakemake")


def _without_text(tree: ast.AST) -> ast.AST:
    """Remove docstrings and other bare strings, so that editing them changes no digest."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [
                statement
                for statement in body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _imports(tree: ast.AST) -> set[str]:
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
    return {name for name in found if name.split(".")[0] == PACKAGE.name}


def _file_of(module: str, package: Path) -> Path | None:
    path = package.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and module != PACKAGE.name:
            return candidate
    return None


def _function(name: str, package: Path) -> ast.AST:
    """One function of a module of which the rest does not count."""
    module, _, function = name.rpartition(".")
    path = _file_of(module, package)
    if path is not None:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return node
    raise FileNotFoundError(f"{name}: no such function in {package}")


@cache
def _parts(text: str) -> tuple[frozenset[str], str]:
    """What a module imports, and its code alone; parsed once, as many digests share it."""
    tree = ast.parse(text)
    return frozenset(_imports(tree)), ast.unparse(_without_text(tree))


def source_digest(
    modules: Iterable[str],
    files: Iterable[str] = (),
    package: Path = PACKAGE,
    functions: Iterable[str] = (),
) -> str:
    """Digest of the package's own source that the given modules execute.

    Imports within the package are followed, transitively. Comments, docstrings and formatting do
    not count, so that editing them re-runs nothing.

    Parameters
    ----------
    modules : iterable of str
        Full names, such as "dysonflow.simulation.ensemble". A name that does not exist is an error.
    files : iterable of str
        Further files of the package, relative to it: C++ without comments and line breaks, others
        byte by byte.
    package : Path
        Folder of the package.
    functions : iterable of str
        Full names of functions whose module counts only as far as they import it.

    Returns
    -------
    str
        16 hex digits of a SHA-256.

    Raises
    ------
    FileNotFoundError
        If one of `modules`, `files` or `functions` does not exist.
    """
    pending: list[str] = list(modules)
    texts: dict[str, str] = {}
    for module in pending:
        if _file_of(module, package) is None:
            raise FileNotFoundError(f"{module}: no such module in {package}")
    for name in functions:
        tree = _function(name, package)
        pending += _imports(tree)
        texts[name] = ast.unparse(_without_text(tree))
    while pending:
        module = pending.pop()
        path = _file_of(module, package)
        if module in texts or path is None:
            continue
        imports, texts[module] = _parts(path.read_text())
        pending += imports
    digest = hashlib.sha256()
    for module in sorted(texts):
        digest.update(f"{module}\n{texts[module]}\n".encode())
    for name in sorted(files):
        digest.update(name.encode() + _content(package / name))
    return digest.hexdigest()[:16]


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix not in (".cpp", ".hpp"):
        return raw
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", raw.decode(), flags=re.DOTALL)
    return " ".join(code.split()).encode()


def git_commit() -> str:
    """Commit of the checkout the package runs from, "unknown" outside of one."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, Any]:
    """Versions of Python, of the packages that make the numbers, and the git commit."""
    found = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    here = {"python": platform.python_version(), "machine": platform.machine()}
    return {**here, **found, "git_commit": git_commit()}
