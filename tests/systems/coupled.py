"""Two weight matrices of different shape that relax under noise: a system with several layers.

It has no theory, no degenerate blocks and does not know when it is stationary: it is there to see
that such a system trains and gets its spectra.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dysonflow.errors import DivergedError
from dysonflow.hyperparameters import Hyperparameters, quantity
from dysonflow.lazy import LazyModule
from dysonflow.models.base import System
from dysonflow.simulation.torch_simulation import TorchSimulation

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")


class CoupledHyperparameters(Hyperparameters):
    """Hyperparameters of the two matrices."""

    MODEL = "coupled"

    learning_rate: float = quantity(0.1, label="lr", symbol=r"\alpha", gt=0)
    """Step size."""
    batch_size: int = quantity(4, label="B", symbol="B", ge=1)
    """Samples per step."""
    inputs: int = quantity(3, ge=1)
    """Columns of the first matrix."""
    width: int = quantity(5, ge=1)
    """Rows of the first and columns of the second matrix."""

    def weight_shapes(self) -> list[tuple[str, int, int]]:
        """Two layers."""
        return [("first", self.width, self.inputs), ("second", 2, self.width)]


class CoupledSimulation(TorchSimulation):
    """A block of pairs of matrices."""

    LAYERS = {"first": "lower", "second": "upper"}
    STATE = ("lower", "upper")

    def __init__(self, hyperparameters: CoupledHyperparameters, replicas: int, noise: NoiseStream):
        super().__init__(hyperparameters, replicas, noise)
        self.h = hyperparameters
        (_, rows, columns), (_, outputs, _) = hyperparameters.weight_shapes()
        self.lower = noise.normal(replicas, rows, columns)
        self.upper = noise.normal(replicas, outputs, rows)

    def advance(self, steps: int) -> None:
        """Relax towards zero, kicked by noise."""
        rate = self.h.learning_rate
        kick = rate / math.sqrt(self.h.batch_size)
        for _ in range(steps):
            self.step += 1
            self.lower = (1 - rate) * self.lower + kick * self.noise.normal(*self.lower.shape)
            self.upper = (1 - rate) * self.upper + kick * self.noise.normal(*self.upper.shape)
        if not bool(torch.isfinite(self.upper).all()):
            raise DivergedError(0, self.step, "a weight is not finite")

    def loss(self) -> np.ndarray:
        """Sum of squares."""
        return (self.lower**2).sum(dim=(1, 2)).cpu().numpy().astype(np.float64)


SYSTEM = System(CoupledHyperparameters, CoupledSimulation)
