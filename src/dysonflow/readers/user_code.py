"""Functions in the user's own Python files: named as `path.py:function`, loaded, called.

What a file imports from its own folder belongs to it: `files` follows these imports, so that a
digest of them all says whether anything was edited.
"""

import ast
import importlib.util
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from dysonflow.errors import ArtifactError, ConfigError, DivergedError
from dysonflow.readers import places
from dysonflow.wording import did_you_mean, plain

log = logging.getLogger(__name__)

OF_DEVICES = ("OutOfMemoryError", "AcceleratorError")
"""Names of torch's errors of a GPU that gave up."""


@dataclass(frozen=True)
class Reference:
    """A function in a file.

    Attributes
    ----------
    path : Path
        The file, relative to the working directory or absolute.
    name : str
        Of the function.
    """

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"


def is_reference(text: str) -> bool:
    """Whether a text names a function in a file, rather than something built in."""
    return ".py:" in text


def reference(text: str, key: str) -> Reference:
    """The function that `path.py:function` names.

    Parameters
    ----------
    text : str
        As it is written in the configuration.
    key : str
        Its hyperparameter, for the error.

    Raises
    ------
    ConfigError
        If it is no such name, or the file is nowhere.
    """
    path, _, name = text.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"{key} = {text!r}: give a file and a function in it, as in net.py:{key}")
    return Reference(Path(places.find(path)), name)


def files(paths: Iterable[Path]) -> list[Path]:
    """Files of code, and those that they import from their own folders, in a fixed order.

    Raises
    ------
    ConfigError
        If one of them is no Python.
    """
    found: dict[str, Path] = {}
    pending = list(paths)
    while pending:
        path = pending.pop()
        place = os.path.realpath(path)
        if place not in found:
            found[place] = path
            pending += [path.parent / local for local in _local_imports(path)]
    return [found[place] for place in sorted(found)]


def _local_imports(path: Path) -> Iterator[str]:
    """Names of the files in the folder of a file that it imports, relative to the folder."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        parts = name.split(".")
        # Of a package every folder on the way runs its own code.
        for depth in range(1, len(parts) + 1):
            place = Path(*parts[:depth])
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if (path.parent / candidate).is_file():
                    yield str(candidate)


def check(wanted: Reference) -> None:
    """Refuse a function that a file does not have; the file is not executed.

    Raises
    ------
    ConfigError
        If nothing of this name is made at the top of the file.
    """
    try:
        tree = ast.parse(wanted.path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        # `files` says what is wrong with it.
        return
    names: list[str] = []
    pending: list[ast.AST] = list(tree.body)
    for node in pending:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # What stands in its body is known there only.
            names.append(node.name)
            continue
        if isinstance(node, ast.alias):
            names.append((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        pending += ast.iter_child_nodes(node)
    # With all names of another file, only that file tells.
    if wanted.name not in names and "*" not in names:
        raise ConfigError(f"{wanted}: no such function{did_you_mean(wanted.name, names)}")


def yields(wanted: Reference) -> bool:
    """Whether a function is written as a generator; the file is not executed."""
    try:
        code = compile(wanted.path.read_bytes(), str(wanted.path), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        # `files` says what is wrong with it.
        return False
    return any(
        isinstance(part, CodeType)
        and part.co_name == wanted.name
        and bool(part.co_flags & inspect.CO_GENERATOR)
        for part in code.co_consts
    )


def load(wanted: Reference) -> Callable[..., Any]:
    """A function of a file; the file is executed.

    Modules in the folder of the file are found, as they are where it is run as a script.

    Raises
    ------
    ConfigError
        If the file cannot be executed or has no such function.
    """
    folder = os.path.realpath(wanted.path.parent)
    # Another study may have imported a module of the same name from another folder.
    for path in files([wanted.path]):
        loaded = sys.modules.get(path.stem)
        if getattr(loaded, "__file__", None) not in (None, os.path.realpath(path)):
            del sys.modules[path.stem]
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    spec = importlib.util.spec_from_file_location(wanted.path.stem, os.path.realpath(wanted.path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with one_line(wanted, "cannot be executed: "):
        spec.loader.exec_module(module)
    found = getattr(module, wanted.name, None)
    if not callable(found):
        functions = [name for name, value in vars(module).items() if callable(value)]
        raise ConfigError(f"{wanted}: no such function{did_you_mean(wanted.name, functions)}")
    return found


@contextmanager
def one_line(wanted: Reference, what: str = "") -> Iterator[None]:
    """Turn what the user's code raises into one line that says where."""
    try:
        yield
    except (ArtifactError, ConfigError, DivergedError):
        raise
    except Exception as error:
        if type(error).__name__ in OF_DEVICES:
            # Not what the code does is wrong: whoever trains knows what to change.
            raise
        log.info("%s", traceback.format_exc())
        folder = os.path.realpath(wanted.path.parent)
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if os.path.realpath(frame.filename).startswith(folder + os.sep)
        ]
        place = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
        said = plain((str(error).splitlines() or [""])[0], longest=300)
        advice = ""
        if "on the same device" in said:
            advice = (
                "; let constants of the module be buffers (register_buffer), which move with it to "
                "the device of the run"
            )
        elif re.search("cuda|nvidia", said, re.IGNORECASE):
            advice = "; make everything on the CPU: it is moved to the device of the run"
        raise ConfigError(
            f"{wanted}: {what}{type(error).__name__}: {said}{place}{advice}"
        ) from error
