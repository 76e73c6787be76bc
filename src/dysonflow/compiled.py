"""The compiled kernel in the place of a torch simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dysonflow.errors import DivergedError
from dysonflow.kernel import library
from dysonflow.simulation import LazyModule, Simulation

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dysonflow.noise import NoiseStream
else:
    torch = LazyModule("torch")

BLOCKS_PER_STREAM = 64 // library.REPLICAS_PER_BLOCK
"""Blocks of the kernel in one block of `dysonflow.ensemble`."""


class CompiledSimulation(Simulation):
    """Mixin: the time loop runs in the kernel, all else is that of the torch simulation.

    A model's class derives from this and from its torch simulation, and makes its `kernel` with
    the arguments of `kernel_arguments`.
    """

    kernel: Any

    def kernel_arguments(self, noise: NoiseStream, replicas: int, threads: int) -> dict[str, Any]:
        """Arguments that all kernels share: replicas, random streams, type, threads."""
        return {
            "replicas": replicas,
            "first_block": noise.block * BLOCKS_PER_STREAM,
            "seed": (noise.seed, int(noise.key, 16)),
            "dtype": str(noise.dtype).removeprefix("torch."),
            "threads": threads,
        }

    def kernel_inputs(self, steps: int) -> dict[str, Any]:
        """What the kernel is given for the next steps instead of drawing it; nothing by default."""
        return {}

    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps.

        Raises
        ------
        DivergedError
            If the precision matrix lost positive definiteness, or a weight is not finite.
        """
        try:
            self.kernel.advance(steps, **self.kernel_inputs(steps))
        except DivergedError as error:
            first = self.kernel.first_block * library.REPLICAS_PER_BLOCK
            raise DivergedError(error.replica - first, error.step, error.reason) from None
        self._take_over()

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        import numpy as np

        return {name: np.atleast_1d(value) for name, value in self.kernel.state().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        self.kernel.load({**state, "steps_done": state["steps_done"][0]})
        self._take_over()

    def _take_over(self) -> None:
        self.step = self.kernel.steps_done
        self.weights = torch.from_numpy(self.kernel.weights)


def choose(model: ModuleType, on_cpu: bool, threads: int) -> tuple[Callable[..., Simulation], str]:
    """Fastest simulation of a model on this machine, and its name for the log.

    Parameters
    ----------
    model : module
        File of the model; `COMPILED` is its simulation by the kernel, if it has one.
    on_cpu : bool
        Whether it is to run on a CPU: the kernel does not run elsewhere.
    threads : int
        Threads for the kernel; they change no number.
    """
    if not on_cpu:
        return model.SIMULATION, "torch"
    if not hasattr(model, "COMPILED"):
        return model.SIMULATION, "torch (the model has no compiled kernel)"
    if not library.available():
        return model.SIMULATION, f"torch ({library.why_unavailable()})"

    def simulation(*arguments: Any) -> Simulation:
        return model.COMPILED(*arguments, threads=threads)

    return simulation, f"compiled kernel ({library.instruction_set()})"
