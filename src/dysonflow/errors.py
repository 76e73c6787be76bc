"""Errors whose message a user can act on."""

import os


class ConfigError(ValueError):
    """The configuration cannot be used; the message names study, key, value and the fix."""


class ArtifactError(RuntimeError):
    """A file is not what the workflow wrote: truncated, foreign, or of another version."""


class UnreadableError(ArtifactError):
    """A file may not be read, or is none: nothing is known of what it holds."""


class DamagedError(ArtifactError):
    """A file is cut off or was changed since it was written, or is none of the workflow's.

    Nobody can tell which of them from the file alone, so the message does not ask for it to be
    deleted: the command that it names deletes what lies where the workflow puts such a file, and
    nothing else.

    Parameters
    ----------
    path : path-like
        The file.
    reason : str
        What is wrong with it, in words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str):
        if os.path.islink(path):
            reason += f"; it is a link into a shared cache, to {os.path.realpath(path)}"
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.path}: damaged or not of dysonflow ({self.reason}); if the workflow made it, "
            "`dysonflow verify --delete` deletes it, and `snakemake` makes it again"
        )


class NewerFormatError(ArtifactError):
    """A file was written by a newer dysonflow, in a layout that this one does not know."""


class OlderFormatError(ArtifactError):
    """A file was written by an older dysonflow, in a layout that is no longer read."""


class DivergedError(RuntimeError):
    """Training left the region where the model is defined.

    Parameters
    ----------
    replica : int
        Number of the first replica concerned.
    step : int
        SGD step at which it was noticed.
    reason : str
        What went wrong, in words.
    """

    def __init__(self, replica: int, step: int, reason: str):
        super().__init__(replica, step, reason)
        self.replica = replica
        self.step = step
        self.reason = reason

    def __str__(self) -> str:
        said = f"replica {self.replica} diverged at SGD step {self.step}: {self.reason}"
        # Before any step no learning rate has done it. Models differ in what sets their start.
        return said if self.step > 1 else f"{said}; as it starts so, start from smaller weights"
