"""What simulations in torch share: random numbers, state, the way of the weights to NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from dysonflow.lazy import LazyModule
from dysonflow.simulation.base import Block, Simulation

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")


class TorchSimulation(Simulation):
    """A block of replicas as torch tensors whose first axis is the replica.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the model.
    replicas : int
        Replicas in this block.
    noise : NoiseStream
        All random numbers come from here; its device and type are those of the weights.
    """

    LIBRARY = "torch"
    DEVICES = ("cpu", "cuda")

    LAYERS: ClassVar[Mapping[str, str]] = {"W": "weights"}
    """Layer to the attribute that holds its weights, a tensor of shape (replica, M, N)."""
    STATE: ClassVar[tuple[str, ...]] = ("weights",)
    """Names of the tensors that change from step to step; all else follows from the parameters."""
    CARRIES_NOISE: ClassVar[bool] = False
    """Whether a GPU gets its random numbers from the CPU, so that it starts and learns as the CPU
    does. Where most of the time goes into drawing them it draws its own."""

    def __init__(self, hyperparameters: Any, replicas: int, noise: NoiseStream):
        self.noise = noise
        self.step = 0

    @classmethod
    def start(cls, hyperparameters: Any, block: Block) -> Self:
        """A block of replicas at step 0."""
        from dysonflow.simulation.noise import CarriedNoise, NoiseStream

        # Several threads would wait for each other at every small product (kernel barriers cost
        # more than the work): parallelism comes from jobs.
        torch.set_num_threads(1)
        place = torch.device(block.device)
        if place.type == "cuda":
            # Single precision is to be that of a CPU, also in convolutions, which would round
            # their factors to ten bits.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        stream = (hyperparameters.seed, hyperparameters.key, block.number)
        kind = (place, getattr(torch, hyperparameters.dtype))
        noise = (
            CarriedNoise(*stream, block.replicas, *kind)
            if cls.CARRIES_NOISE and place.type != "cpu"
            else NoiseStream(*stream, *kind)
        )
        return cls(hyperparameters, block.replicas, noise)

    def layers(self) -> dict[str, np.ndarray]:
        """Weights now, layer to a copy of shape (replica, M, N)."""
        return {layer: getattr(self, name).cpu().numpy() for layer, name in self.LAYERS.items()}

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays."""
        tensors = {name: getattr(self, name) for name in self.STATE if hasattr(self, name)}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return {**arrays, "step": np.array([self.step]), "noise": self.noise.state()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        for name in self.STATE:
            if name in state:
                tensor = torch.as_tensor(state[name], device=self.noise.device)
                setattr(self, name, tensor.clone())
        self.step = int(state["step"][0])
        self.noise.load(state["noise"])

    def draw_from(self, noise: NoiseStream) -> None:
        """Let the next step draw from where this stream is, as of `simulation.gradients`."""
        self.noise.load(noise.state())
