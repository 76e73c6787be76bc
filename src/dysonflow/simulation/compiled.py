"""The compiled kernel in the place of a torch simulation; torch is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dysonflow.errors import DivergedError
from dysonflow.simulation.base import BLOCK_SIZE, Block, Simulation, only_layer
from dysonflow.simulation.kernel import library

if TYPE_CHECKING:
    from dysonflow.hyperparameters import Hyperparameters

BLOCKS_PER_STREAM = BLOCK_SIZE // library.REPLICAS_PER_BLOCK
"""Blocks of the kernel in one block of an ensemble."""


def kernel_arguments(hyperparameters: Hyperparameters, block: Block) -> dict[str, Any]:
    """Arguments that all kernels share: replicas, random streams, type, threads."""
    return {
        "replicas": block.replicas,
        "first_block": block.number * BLOCKS_PER_STREAM,
        "seed": (hyperparameters.seed, int(hyperparameters.key, 16)),
        "dtype": hyperparameters.dtype,
        "threads": block.threads,
        "device": block.device,
    }


class CompiledSimulation(Simulation):
    """A block of replicas whose time loop runs in the kernel.

    A model's class derives from this and says in `start` which kernel, and in `loss` what the loss
    of weights is.

    Attributes
    ----------
    largest_on_gpu : int
        Most rows or columns of W for which the kernel is used on a GPU; larger ones are left to the
        batched products of torch. By what both have to read and write, which is not yet measured
        on a GPU (docs/gpu_kernel.md).
    """

    largest_on_gpu: ClassVar[int] = 32

    def __init__(self, hyperparameters: Any, kernel: library.KernelEnsemble):
        self.h = hyperparameters
        self.kernel = kernel
        self.step = kernel.steps_done
        self._layer = only_layer(hyperparameters)

    @staticmethod
    def why_unavailable() -> str:
        """Why the kernel cannot be used in this installation; empty if it can."""
        return library.why_unavailable()

    @classmethod
    def why_not(cls, hyperparameters: Any) -> str:
        """Why a run is not simulated by the kernel of its model; empty if it is, as most are."""
        return ""

    @classmethod
    def why_not_on_gpu(cls, hyperparameters: Any) -> str:
        """Why a run is not simulated by the kernel on a GPU; empty if it is."""
        from dysonflow.simulation.kernel import gpu

        why = gpu.why_too_large(hyperparameters.layers().values(), cls.largest_on_gpu)
        return why or cls.why_not(hyperparameters) or gpu.why_unavailable()

    @staticmethod
    def instruction_set(device: str = "cpu") -> str:
        """Name of the instruction set in use, or of the architecture of the GPU."""
        if device == "cpu":
            return library.instruction_set()
        from dysonflow.simulation.kernel import gpu

        return gpu.card().architecture

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
        self.step = self.kernel.steps_done

    def layers(self) -> dict[str, np.ndarray]:
        """Weights now, a copy."""
        return {self._layer: self.kernel.weights}

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        return {name: np.atleast_1d(value) for name, value in self.kernel.state().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        self.kernel.load({**state, "steps_done": state["steps_done"][0]})
        self.step = self.kernel.steps_done
