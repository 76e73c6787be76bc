"""Optimisers and schedules of the learning rate, for tensors that stack replicas.

An update is elementwise, so it is exact on tensors whose first axis is the replica, and on all
parameters of all replicas in one flat tensor. Signs and constants are those of `torch.optim`, which
the tests compare with.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dysonflow.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    torch = LazyModule("torch")

OptimiserName = Literal["sgd", "momentum", "nesterov", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "step"]


class Optimiser(ABC):
    """An update rule with what it remembers of former gradients.

    Parameters
    ----------
    parameters : mapping of torch.Tensor
        Name to tensor; names, shapes, types and devices are those of all later calls.

    Attributes
    ----------
    memory : dict of torch.Tensor
        `<kind>.<name of the parameter>` to what is remembered, of the parameter's shape.
    """

    KINDS: ClassVar[tuple[str, ...]] = ()
    """What is remembered of each parameter."""

    def __init__(self, parameters: Mapping[str, torch.Tensor]):
        self.memory = {
            f"{kind}.{name}": torch.zeros_like(tensor, requires_grad=False)
            for kind in self.KINDS
            for name, tensor in parameters.items()
        }

    def update(
        self,
        parameters: Mapping[str, torch.Tensor],
        gradients: Mapping[str, torch.Tensor],
        rate: float,
        step: int,
    ) -> None:
        """Change the parameters in place by one step against the gradients.

        Parameters
        ----------
        parameters, gradients : mapping of torch.Tensor
            By name. Gradients stay as they are.
        rate : float
            Learning rate of this step.
        step : int
            Number of this step, from 1.
        """
        with torch.no_grad():
            for name, parameter in parameters.items():
                self._change(name, parameter, gradients[name], rate, step)

    @abstractmethod
    def _change(
        self,
        name: str,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        rate: float,
        step: int,
    ) -> None:
        """Change one parameter in place."""

    def state(self) -> dict[str, torch.Tensor]:
        """What is remembered, by name: all that the steps to come depend on."""
        return dict(self.memory)

    def load(self, state: Mapping[str, torch.Tensor | np.ndarray]) -> None:
        """Go back to what `state` returned; what else the mapping holds is left aside."""
        for name, tensor in self.memory.items():
            tensor.copy_(torch.as_tensor(state[name]))


class SGD(Optimiser):
    """Stochastic gradient descent with momentum; decay is that of an L2 penalty.

    With the momentum m the buffer is v' = m v + g and the step -rate v'; Nesterov's is
    -rate (g + m v').

    Parameters
    ----------
    parameters : mapping of torch.Tensor
        As of `Optimiser`.
    momentum : float
        m, >= 0; at 0 nothing is remembered.
    nesterov : bool
        Whether the gradient is taken ahead, as Nesterov does.
    weight_decay : float
        Its product with the parameter is added to the gradient.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        super().__init__(parameters if momentum else {})

    KINDS = ("momentum",)

    def _change(
        self,
        name: str,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        rate: float,
        step: int,
    ) -> None:
        if self.weight_decay:
            gradient = gradient.add(parameter, alpha=self.weight_decay)
        if self.momentum:
            velocity = self.memory[f"momentum.{name}"].mul_(self.momentum).add_(gradient)
            ahead = gradient.add(velocity, alpha=self.momentum) if self.nesterov else velocity
            parameter.sub_(ahead, alpha=rate)
        else:
            parameter.sub_(gradient, alpha=rate)


class Adam(Optimiser):
    """Adam (Kingma and Ba, arXiv:1412.6980) and AdamW (Loshchilov and Hutter, arXiv:1711.05101).

    Parameters
    ----------
    parameters : mapping of torch.Tensor
        As of `Optimiser`.
    betas : tuple of float
        Memory of the mean gradient and of the mean square, both >= 0 and < 1.
    eps : float
        Added to the root of the mean square.
    weight_decay : float
        Strength of the decay.
    decoupled : bool
        Whether parameters decay by themselves, by rate times strength (AdamW), or through the
        gradient (Adam).
    """

    KINDS = ("mean", "square")

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ):
        self.betas, self.eps = betas, eps
        self.weight_decay, self.decoupled = weight_decay, decoupled
        super().__init__(parameters)

    def _change(
        self,
        name: str,
        parameter: torch.Tensor,
        gradient: torch.Tensor,
        rate: float,
        step: int,
    ) -> None:
        if self.weight_decay and self.decoupled:
            parameter.mul_(1.0 - rate * self.weight_decay)
        elif self.weight_decay:
            gradient = gradient.add(parameter, alpha=self.weight_decay)
        first, second = self.betas
        mean = self.memory[f"mean.{name}"].lerp_(gradient, 1.0 - first)
        square = self.memory[f"square.{name}"].mul_(second)
        square.addcmul_(gradient, gradient, value=1.0 - second)
        # Both means start at zero; what they lack is divided out.
        root = square.sqrt().div_(math.sqrt(1.0 - second**step)).add_(self.eps)
        parameter.addcdiv_(mean, root, value=-rate / (1.0 - first**step))


@dataclass(frozen=True)
class Schedule:
    """Learning rate of every step.

    Attributes
    ----------
    peak : float
        Learning rate after the warm-up.
    kind : str
        `constant`; `cosine`, from the peak to 0 within `decay_steps`, then 0; `step`, times
        `decay_factor` after each `decay_steps`. Both count from the end of the warm-up.
    warmup_steps : int
        Steps within which the rate grows linearly to the peak.
    decay_steps : int
        As above; without effect where the rate is constant.
    decay_factor : float
        As above.
    """

    peak: float
    kind: ScheduleName = "constant"
    warmup_steps: int = 0
    decay_steps: int = 0
    decay_factor: float = 1.0

    def rate(self, step: int) -> float:
        """Learning rate of a step; the first is step 1."""
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps
        done = step - 1 - self.warmup_steps
        if self.kind == "cosine":
            share = min(done / self.decay_steps, 1.0)
            return self.peak * 0.5 * (1.0 + math.cos(math.pi * share))
        if self.kind == "step":
            return self.peak * self.decay_factor ** (done // self.decay_steps)
        return self.peak
