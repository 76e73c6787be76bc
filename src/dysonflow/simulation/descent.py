"""Hyperparameters of models that are trained by an optimiser with a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Auto, Hyperparameters, quantity
from dysonflow.simulation.optimisers import (
    SGD,
    Adam,
    Optimiser,
    OptimiserName,
    Schedule,
    ScheduleName,
)

if TYPE_CHECKING:
    import torch

DECOUPLED_DECAY = 0.01
"""Usual weight decay of AdamW."""


class DescentHyperparameters(Hyperparameters):
    """Learning rate, batch size, optimiser and schedule."""

    learning_rate: float = quantity(0.1, label="lr", symbol=r"\alpha", gt=0)
    """Step size; with a schedule, the largest one."""
    batch_size: int = quantity(16, label="B", symbol="B", ge=1, le=1_000_000)
    """Samples per SGD step."""
    optimiser: OptimiserName = quantity("sgd")
    """Update rule, as in `torch.optim`; `sgd` is without momentum, `nesterov` with Nesterov's."""
    momentum: float = quantity(0.9, symbol="m", ge=0, lt=1)
    """Memory of the velocity; of `momentum` and `nesterov` only."""
    betas: Annotated[list[float], Field(min_length=2, max_length=2)] = quantity([0.9, 0.999])
    """Memory of mean and mean square of the gradient, both >= 0 and < 1; of `adam` and `adamw`
    only. In a sweep each value is a list of its own."""
    eps: float = quantity(1e-8, gt=0)
    """Added to the root of the mean square of the gradient; of `adam` and `adamw` only."""
    weight_decay: Annotated[float, Field(ge=0)] | Auto = quantity("auto")
    """Strength of the decay: of an L2 penalty, or decoupled from the gradient for `adamw`. `auto`:
    0.01 for `adamw`, else 0."""
    schedule: ScheduleName = quantity("constant")
    """Learning rate over time: `constant`; `cosine`, to 0 within `decay_steps`; `step`, times
    `decay_factor` after each `decay_steps`."""
    warmup_steps: int = quantity(0, unit="SGD steps", ge=0)
    """Steps within which the learning rate first grows linearly."""
    decay_steps: int = quantity(0, unit="SGD steps", ge=0)
    """Length of the cosine, 0: up to `steps`; or distance of two steps of the schedule `step`."""
    decay_factor: float = quantity(0.1, gt=0, le=1)
    """Factor of the schedule `step`."""

    def idle(self) -> list[str]:
        """Hyperparameters of other optimisers and schedules."""
        names = []
        if self.optimiser not in ("momentum", "nesterov"):
            names += ["momentum"]
        if self.optimiser not in ("adam", "adamw"):
            names += ["betas", "eps"]
        if self.schedule == "constant":
            names += ["decay_steps"]
        if self.schedule != "step":
            names += ["decay_factor"]
        return names

    def auto_weight_decay(self) -> float:
        """The usual one of the optimiser."""
        return DECOUPLED_DECAY if self.optimiser == "adamw" else 0.0

    def check(self) -> None:
        """Refuse memories that never fade, and a schedule without a length."""
        super().check()
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas = {self.betas}: give two numbers >= 0 and < 1")
        if self.schedule == "step" and not self.decay_steps:
            raise ConfigError("decay_steps = 0: the schedule `step` needs a number >= 1")

    @property
    def effective_rate(self) -> float:
        """The learning rate, with a momentum m over 1 - m.

        Of Adam it is the learning rate itself: how far a step goes depends on the gradients.
        """
        has_momentum = self.optimiser in ("momentum", "nesterov")
        return self.learning_rate / (1.0 - self.momentum) if has_momentum else self.learning_rate

    def learning_rates(self) -> Schedule:
        """Learning rate of every step."""
        length = self.decay_steps
        if self.schedule == "cosine" and not length:
            length = max(int(self.steps) - self.warmup_steps, 1)
        return Schedule(
            self.learning_rate, self.schedule, self.warmup_steps, length, self.decay_factor
        )

    def start_optimiser(self, parameters: Mapping[str, torch.Tensor]) -> Optimiser:
        """The optimiser before its first step.

        Parameters
        ----------
        parameters : mapping of torch.Tensor
            By name.
        """
        decay = float(self.weight_decay)
        if self.optimiser in ("adam", "adamw"):
            first, second = self.betas
            return Adam(parameters, (first, second), self.eps, decay, self.optimiser == "adamw")
        momentum = 0.0 if self.optimiser == "sgd" else self.momentum
        return SGD(parameters, momentum, self.optimiser == "nesterov", decay)
