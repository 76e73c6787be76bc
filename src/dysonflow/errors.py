"""Errors whose message a user can act on."""


class ConfigError(ValueError):
    """The configuration cannot be used; the message names study, key, value and the fix."""


class ArtifactError(RuntimeError):
    """A file is not what the workflow wrote: truncated, foreign, or of another version."""


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
        # Before any step no learning rate has done it.
        return said if self.step > 1 else f"{said}; as it starts so, lower initial_width"
