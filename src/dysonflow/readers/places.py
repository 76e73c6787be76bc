"""Where the files are that a configuration names: here, or beside the configuration."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dysonflow.errors import ConfigError
from dysonflow.wording import plain

VARIABLE = "DYSONFLOW_PATH"
"""Variable of the environment, which the jobs of a workflow inherit: folders, separated as in PATH,
in which a relative path is looked for where it is not in the working directory."""


def folders() -> list[Path]:
    """Folders beside the working directory in which relative paths are looked for, in order."""
    given = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    here = os.path.realpath(".")
    return [folder for folder in given if os.path.realpath(folder) != here]


def look_beside(configurations: Iterable[str | os.PathLike[str]]) -> None:
    """From now on, and in all jobs, look for files in the folders of configuration files, too."""
    beside = [os.path.abspath(os.path.dirname(path)) for path in configurations]
    given = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    # A folder whose name holds the separator cannot be handed on; the working directory can.
    told = [folder for folder in beside if os.pathsep not in folder]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*given, *told]))


def find(
    path: str,
    is_there: Callable[[str], bool] = os.path.exists,
    spelt: Callable[[str], str] = str,
) -> str:
    """Place of a file that a configuration names.

    Parameters
    ----------
    path : str
        Absolute, or relative to the working directory or else to one of `folders`.
    is_there : callable
        Whether a path, or a pattern for paths, leads to something.
    spelt : callable
        How the name of a folder is written in a pattern.

    Raises
    ------
    ConfigError
        If it is relative, there are such folders, and it is in none of them.
    """
    beside = folders()
    if os.path.isabs(path) or not beside or is_there(path):
        return path
    for folder in beside:
        beneath = os.path.relpath(folder)
        # What lies elsewhere is named in full.
        place = spelt(str(folder) if beneath.startswith(os.pardir) else beneath)
        if is_there(place := os.path.join(place, path)):
            return place
    named = ", ".join(str(folder) for folder in beside)
    raise ConfigError(
        f"{plain(path)}: no such file in the working directory, {Path.cwd()}, nor beside the "
        f"configuration, in {named}"
    )
