"""The systems: one file each, found by its name.

A model file defines `HYPERPARAMETERS`, a subclass of `dysonflow.hyperparameters.Hyperparameters`,
and `SIMULATION`, a subclass of `dysonflow.simulation.base.Simulation`. Nothing else needs to know
of it.
A file without `SIMULATION` defines `read(hyperparameters)` instead, which returns weights and steps
of its snapshots from the files that the property `sources` of its hyperparameters names.
"""

import importlib
import pkgutil
from types import ModuleType

from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters, did_you_mean


def names() -> list[str]:
    """Names of all models, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def trained() -> list[str]:
    """Names of the models that are trained, not read from files."""
    return [name for name in names() if hasattr(load(name), "SIMULATION")]


def load(name: str) -> ModuleType:
    """Import the file of the model `name`.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    if name not in names():
        raise ConfigError(f"model = {name!r}: unknown model{did_you_mean(name, names())}")
    return importlib.import_module(f"{__name__}.{name}")


def hyperparameters_of(name: str) -> type[Hyperparameters]:
    """Class of the hyperparameters of the model `name`."""
    return load(name).HYPERPARAMETERS
