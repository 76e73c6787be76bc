"""What each model predicts with no free parameter: a file or folder each, named like the model.

A file defines `THEORY`, an object of a class derived from `dysonflow.theory.base.Theory`. A model
without such a file has no theory: it is trained and gets its spectra, and nothing is fitted.
"""

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

from dysonflow.errors import ConfigError

if TYPE_CHECKING:
    from dysonflow.theory.base import Theory

SHARED = ("base", "blocks", "drawn", "tails")
"""Files that are no theory of a model."""


@cache
def names() -> tuple[str, ...]:
    """Names of the models that have a theory, in alphabetical order."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in found if name not in SHARED)


def exists(model: str) -> bool:
    """Whether there is a theory of a model; nothing is imported."""
    return model in names()


@cache
def load(model: str) -> "Theory[Any]":
    """Theory of a model.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if not exists(model):
        raise ConfigError(f"model {model!r} has no theory; there is one of: {', '.join(names())}")
    theory: Theory[Any] = importlib.import_module(f"{__name__}.{model}").THEORY
    return theory
