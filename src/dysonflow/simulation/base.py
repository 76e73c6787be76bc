"""What every simulation of a model offers, whatever it is computed with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    import numpy as np

    from dysonflow.hyperparameters import Hyperparameters

BLOCK_SIZE = 64
"""Replicas that share a stream of random numbers; on a CPU they are simulated side by side."""


@dataclass(frozen=True)
class Block:
    """Consecutive replicas of a run that are trained side by side.

    Attributes
    ----------
    number : int
        Number of the first stream of random numbers: first replica over `BLOCK_SIZE`.
    replicas : int
        How many.
    device : str
        `cpu` or `cuda`.
    threads : int
        Threads; they change no number.
    """

    number: int
    replicas: int
    device: str = "cpu"
    threads: int = 1


class Simulation(ABC):
    """A block of replicas of one model, advanced side by side.

    Attributes
    ----------
    step : int
        SGD steps made so far.
    """

    LIBRARY: ClassVar[str] = "numpy"
    """What it is computed with, for the log and the metadata of a run."""
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    """Kinds of devices that it runs on."""

    step: int = 0

    @classmethod
    @abstractmethod
    def start(cls, hyperparameters: Any, block: Block) -> Self:
        """A block of replicas at step 0."""

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps; raise `DivergedError` if a replica diverges."""

    @abstractmethod
    def layers(self) -> dict[str, np.ndarray]:
        """Weights now, layer to array of shape (replica, M, N)."""

    @abstractmethod
    def loss(self) -> np.ndarray:
        """Loss of each replica, shape (replica,), float64."""

    def diverged(self) -> np.ndarray | None:
        """SGD step at which each replica diverged, -1 if it did not; shape (replica,).

        None where a replica that diverges is an error.
        """
        return None

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays.

        A simulation of the same parameters that loads it goes on to the same bytes.
        """

    @abstractmethod
    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""


def only_layer(hyperparameters: Hyperparameters) -> str:
    """Name of the weight matrix of a model that has one."""
    (layer,) = hyperparameters.layers()
    return layer
