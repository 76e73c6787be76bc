"""Modules that are imported when they are first used."""

import importlib
from typing import Any


class LazyModule:
    """A module that is imported when one of its attributes is first used.

    torch and scipy.special take longer to import than most jobs that could need them take to
    compute. (The loader of the standard library does not serve: whatever looks through
    `sys.modules`, as `inspect` does, would import it.)

    Parameters
    ----------
    name : str
        Full name of the module.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        module = importlib.import_module(self._name)
        self.__dict__.update(module.__dict__)
        return getattr(module, attribute)
