"""What every simulation of a model offers, and torch, loaded when it is first used."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from dysonflow.noise import NoiseStream


class LazyModule:
    """A module that is imported when one of its attributes is first used.

    Planning the workflow, spectra, fits and figures need the hyperparameters of a model but not
    torch, whose import takes longer than most of their work. (The loader of the standard library
    does not serve: whatever looks through `sys.modules`, as `inspect` does, would import it.)
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        module = importlib.import_module(self._name)
        self.__dict__.update(module.__dict__)
        return getattr(module, attribute)


class Simulation(ABC):
    """A block of replicas of one model, advanced side by side.

    Parameters
    ----------
    hyperparameters : Hyperparameters
        Of the model.
    replicas : int
        Replicas in this block.
    noise : NoiseStream
        All random numbers come from here; its device and type are those of the weights.
    """

    weights: torch.Tensor
    """Weight matrices, shape (replica, M, N)."""

    def __init__(self, hyperparameters: Any, replicas: int, noise: NoiseStream):
        self.noise = noise
        self.step = 0

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Take `steps` SGD steps; raise `DivergedError` if a replica diverges."""

    @abstractmethod
    def loss(self) -> torch.Tensor:
        """Loss of each replica, shape (replica,)."""
