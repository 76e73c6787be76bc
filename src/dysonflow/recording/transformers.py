"""A recorder as a callback of Hugging Face transformers."""

from typing import Any

from transformers import TrainerCallback

from dysonflow.recording.recorder import Recorder


class RecorderCallback(TrainerCallback):
    """Records after each optimiser step, and before the first.

    Parameters
    ----------
    recorder : Recorder
        Counts the trainer's `global_step`.
    """

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def on_train_begin(self, args: Any, state: Any, control: Any, **what: Any) -> None:
        """Record the start."""
        self.recorder(state.global_step, what["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **what: Any) -> None:
        """Record what the step made of the weights."""
        self.recorder(state.global_step, what["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **what: Any) -> None:
        """Let go of the folder."""
        self.recorder.close()
