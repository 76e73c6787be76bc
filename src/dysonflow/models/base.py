"""What a model declares: the record at the end of every file of a system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dysonflow.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from dysonflow.simulation.base import Simulation
    from dysonflow.simulation.compiled import CompiledSimulation


@dataclass(frozen=True)
class System:
    """A system, and how its weights come about: trained here, or read from files.

    Attributes
    ----------
    hyperparameters : type of Hyperparameters
        Its hyperparameters, with shapes, cost and times.
    simulation : type of Simulation, optional
        Its dynamics; None where weights are read.
    compiled : type of CompiledSimulation, optional
        The same dynamics by the compiled kernel.
    read : callable, optional
        `read(hyperparameters, put)` hands every snapshot to `put(first, snapshot, weights)`, as of
        `dysonflow.artifacts.weights.WeightsWriter.put`, and returns the SGD step of each snapshot.
    """

    hyperparameters: type[Hyperparameters]
    simulation: type[Simulation] | None = None
    compiled: type[CompiledSimulation] | None = None
    read: Callable[[Any, Callable[..., int]], Any] | None = None

    def __post_init__(self) -> None:
        if (self.simulation is None) == (self.read is None):
            raise TypeError(f"{self.name}: a system has either a simulation or a reader")

    @property
    def name(self) -> str:
        """Name under which the configuration refers to it."""
        return self.hyperparameters.MODEL

    @property
    def is_trained(self) -> bool:
        """Whether it is trained here; if not, its weights are read from files."""
        return self.simulation is not None
