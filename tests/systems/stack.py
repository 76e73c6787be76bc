"""Matrices with noise and a signal that grows, large enough for a bulk; beside them a small one.

It has no theory: it is there for the description of bulks, with several layers and replicas.
"""

from __future__ import annotations

import numpy as np

from dysonflow.hyperparameters import Hyperparameters, quantity
from dysonflow.models.base import System
from dysonflow.simulation.torch_simulation import TorchSimulation

SHAPES = {"wide": (48, 96), "square": (40, 40), "small": (3, 40)}


class StackHyperparameters(Hyperparameters):
    """Hyperparameters of the matrices."""

    MODEL = "stack"

    learning_rate: float = quantity(0.1, label="lr", symbol=r"\alpha", gt=0)
    """Growth of the signal in one step."""

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """Three layers."""
        return [(name, *shape) for name, shape in SHAPES.items()]


class StackSimulation(TorchSimulation):
    """A block of such matrices."""

    LAYERS = {name: name for name in SHAPES}
    STATE = tuple(SHAPES)

    def __init__(self, hyperparameters: StackHyperparameters, replicas: int, noise):
        super().__init__(hyperparameters, replicas, noise)
        self.rate = hyperparameters.learning_rate
        for name, shape in SHAPES.items():
            setattr(self, name, noise.normal(replicas, *shape))

    def advance(self, steps: int) -> None:
        """Let the signal grow: the same change of all entries."""
        self.step += steps
        for name in SHAPES:
            getattr(self, name).add_(steps * self.rate)

    def loss(self) -> np.ndarray:
        """Sum of squares."""
        return (self.square**2).sum(dim=(1, 2)).cpu().numpy().astype(np.float64)


SYSTEM = System(StackHyperparameters, StackSimulation)
