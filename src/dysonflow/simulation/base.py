"""What every simulation of a model offers, and torch, loaded when it is first used."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dysonflow.simulation.noise import NoiseStream


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

    STATE: ClassVar[tuple[str, ...]] = ("weights",)
    """Names of the tensors that change from step to step; all else follows from the parameters."""

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

    def state(self) -> dict[str, np.ndarray]:
        """All that the steps to come depend on, as named arrays.

        A simulation of the same parameters that loads it goes on to the same bytes.
        """
        import numpy as np

        tensors = {name: getattr(self, name) for name in self.STATE if hasattr(self, name)}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return {**arrays, "step": np.array([self.step]), "noise": self.noise.state()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to what `state` returned."""
        import torch

        for name in self.STATE:
            if name in state:
                tensor = torch.as_tensor(state[name], device=self.weights.device)
                setattr(self, name, tensor.clone())
        self.step = int(state["step"][0])
        self.noise.load(state["noise"])
