"""What a simulation offers whose gradient noise can be measured, and what a step makes of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from dysonflow.errors import ConfigError
from dysonflow.lazy import LazyModule
from dysonflow.simulation.optimisers import SGD, Adam, Optimiser, Schedule

if TYPE_CHECKING:
    import torch

    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")


class WithSampleGradients(Protocol):
    """A simulation of replicas in flat parameters, with the gradients of single samples."""

    h: Any
    step: int
    noise: NoiseStream
    optimiser: Optimiser
    rates: Schedule

    def sample_gradients(
        self, replica: int, samples: int, noise: NoiseStream
    ) -> dict[str, torch.Tensor]:
        """Gradient of the loss of single samples at the weights of one replica.

        Parameters
        ----------
        replica : int
            Number within the block.
        samples : int
            How many; independent, of the law that batches are drawn from.
        noise : NoiseStream
            What they are drawn from, so that training goes on as without.

        Returns
        -------
        dict of torch.Tensor
            Layer to shape (sample, M, N).
        """
        ...

    def per_layer(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of a tensor like the flat parameters, layer to shape (replica, M, N)."""
        ...


def response(
    simulation: WithSampleGradients, layer: str, replica: int, mean: torch.Tensor
) -> torch.Tensor:
    """How far the next step moves each weight for a gradient that is larger by one.

    Exact for descent with and without momentum. For Adam it is the derivative at the mean gradient
    with its mean square held fixed, which moves by a share 1 - beta_2 only.

    Parameters
    ----------
    simulation : WithSampleGradients
        Before the step.
    layer : str
        Of the weights.
    replica : int
        Number within the block.
    mean : torch.Tensor
        Mean gradient, shape (M, N).

    Returns
    -------
    torch.Tensor
        Shape (M, N), positive: the step is minus that.
    """
    step = simulation.step + 1
    rate, optimiser = simulation.rates.rate(step), simulation.optimiser
    if isinstance(optimiser, SGD):
        factor = 1.0 + optimiser.momentum if optimiser.nesterov else 1.0
        return torch.full_like(mean, rate * factor)
    if not isinstance(optimiser, Adam):
        raise ConfigError(f"{type(optimiser).__name__}: how it answers to noise is not known")
    first, second = optimiser.betas
    memory = simulation.per_layer(optimiser.memory["square.parameters"])[layer][replica]
    square = second * memory + (1.0 - second) * mean**2
    root = square.sqrt() / math.sqrt(1.0 - second**step) + optimiser.eps
    return rate * (1.0 - first) / (1.0 - first**step) / root
