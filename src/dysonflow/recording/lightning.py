"""A recorder as a callback of Lightning."""

from typing import Any

from dysonflow.recording.recorder import Recorder

try:
    from lightning.pytorch import Callback
except ImportError:
    from pytorch_lightning import Callback


class RecorderCallback(Callback):
    """Records after each optimiser step, and before the first.

    Parameters
    ----------
    recorder : Recorder
        Counts the trainer's `global_step`.
    """

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Record the start."""
        self.recorder(trainer.global_step, trainer.strategy.model or pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
        """Record what the batch made of the weights."""
        self.recorder(trainer.global_step, trainer.strategy.model or pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let go of the folder."""
        self.recorder.close()
