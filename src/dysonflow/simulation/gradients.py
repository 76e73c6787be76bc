"""What a simulation offers whose gradient noise can be measured, and what a step makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dysonflow.errors import ConfigError
from dysonflow.lazy import LazyModule
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.optimisers import SGD, Adam, Optimiser, Schedule

if TYPE_CHECKING:
    import torch

    from dysonflow.hyperparameters import Hyperparameters
    from dysonflow.simulation.noise import NoiseStream
else:
    torch = LazyModule("torch")

SAMPLES, BRANCHES = 128, 32
"""Gradients of single samples, and repetitions of a step, unless others are asked for."""
MEASURED = 4
"""Snapshots of a run at which the workflow measures, at most."""


class WithSampleGradients(Protocol):
    """A simulation of replicas with the gradients of single samples."""

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

    def draw_from(self, noise: NoiseStream) -> None:
        """Let the next step draw its batch, and all else, from where this stream is."""
        ...

    def remembered(self, kind: str) -> dict[str, torch.Tensor]:
        """What the optimiser remembers of one kind, layer to shape (replica, M, N)."""
        ...


def why_unmeasurable(hyperparameters: Hyperparameters) -> str:
    """Why the noise of the gradient of a run cannot be measured; empty if it can."""
    if hyperparameters.replicas > BLOCK_SIZE:
        return (
            f"replicas = {hyperparameters.replicas}: the noise of the gradient is measured of up "
            f"to {BLOCK_SIZE}, one block"
        )
    return hyperparameters.why_no_gradient_noise()


def response(
    simulation: WithSampleGradients, layer: str, replica: int, mean: torch.Tensor
) -> torch.Tensor:
    """How far the next step moves each weight for a gradient that is larger by one.

    The derivative of the step at the mean gradient. Descent with and without momentum is linear;
    Adam is not, least of all in its first steps, which follow the sign of the gradient.

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
        Shape (M, N): the step goes by minus that.
    """
    step = simulation.step + 1
    rate, optimiser = simulation.rates.rate(step), simulation.optimiser
    if isinstance(optimiser, SGD):
        factor = 1.0 + optimiser.momentum if optimiser.nesterov else 1.0
        return torch.full_like(mean, rate * factor)
    if not isinstance(optimiser, Adam):
        raise ConfigError(f"{type(optimiser).__name__}: how it answers to noise is not known")
    first, second = optimiser.betas
    memory = {kind: simulation.remembered(kind)[layer][replica] for kind in ("mean", "square")}
    # Step a m / (r + eps) with m and r^2 as they will be with this gradient, starts divided out.
    lacking, lacking_square = 1.0 - first**step, 1.0 - second**step
    m = torch.lerp(memory["mean"], mean, 1.0 - first) / lacking
    root = ((second * memory["square"] + (1.0 - second) * mean**2) / lacking_square).sqrt()
    through_mean = (1.0 - first) / lacking / (root + optimiser.eps)
    # A weight without any gradient so far has none.
    of_root = torch.where(root > 0, (1.0 - second) * mean / (lacking_square * root), 0.0)
    return rate * (through_mean - m * of_root / (root + optimiser.eps) ** 2)
