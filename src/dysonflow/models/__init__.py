"""The systems: one file each, found by its name.

A file defines a subclass of `dysonflow.hyperparameters.Hyperparameters`, the dynamics as a subclass
of `dysonflow.simulation.base.Simulation`, and `SYSTEM`, the record `dysonflow.models.base.System`
of both. Nothing else needs to know of it. What theory predicts for it is a file of the same name in
`dysonflow.theory`, and optional.
"""

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

from dysonflow.errors import ConfigError
from dysonflow.wording import did_you_mean

if TYPE_CHECKING:
    from dysonflow.hyperparameters import Hyperparameters
    from dysonflow.models.base import System


def names() -> list[str]:
    """Names of all models, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


@cache
def load(name: str) -> "System":
    """The system of a name.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    if name not in names():
        raise ConfigError(f"model = {name!r}: unknown model{did_you_mean(name, names())}")
    system: System = importlib.import_module(f"{__name__}.{name}").SYSTEM
    if system.name != name:
        raise ConfigError(f"model {name!r}: its file says MODEL = {system.name!r}; make them equal")
    return system


def trained() -> list[str]:
    """Names of the models that are trained, not read from files."""
    return [name for name in names() if load(name).is_trained]


def hyperparameters_of(name: str) -> "type[Hyperparameters]":
    """Class of the hyperparameters of the model `name`."""
    return load(name).hyperparameters
