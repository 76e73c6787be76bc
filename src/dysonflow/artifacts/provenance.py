"""What an artifact was made from: inputs, source, versions, git commit, time."""

import importlib.metadata
import platform
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
RECORDED_PACKAGES = ("dysonflow", "numpy", "scipy", "torch", "pyarrow", "snakemake")


class Clock:
    """Wall time since it was made, as artifacts record it."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds, to the millisecond."""
        return round(time.perf_counter() - self._began, 3)


@cache
def git_commit() -> str:
    """Commit of the checkout the package runs from, "unknown" outside of one."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, Any]:
    """Versions of Python, of the packages that make the numbers, and the git commit.

    A package that is not installed is left out: a wheel without the workflow needs no Snakemake.
    """
    found = {name: _version(name) for name in RECORDED_PACKAGES}
    here = {"python": platform.python_version(), "machine": platform.machine()}
    installed = {name: version for name, version in found.items() if version is not None}
    return {**here, **installed, "git_commit": git_commit()}


def record(source: str, seconds: float, **what: Any) -> dict[str, Any]:
    """Provenance of an artifact: the only place that says what all of them carry.

    Parameters
    ----------
    source : str
        Digest of the source that decides the artifact.
    seconds : float
        Time that it took to make.
    **what
        What it is, and what it was made from.
    """
    return {
        "device": "cpu",
        "source": source,
        "versions": versions(),
        "seconds": round(seconds, 3),
        **what,
    }
