"""Multilayer perceptrons of many replicas at once: outputs, and gradients of their losses.

All weights of all replicas lie in one flat tensor, of which each layer is a view (replica, M, N).
The gradient is another such tensor, written by hand: a graph that torch differentiates would cost
more than the products of matrices as small as these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from dysonflow.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Activation = Literal["linear", "tanh", "relu", "gelu"]
Loss = Literal["squared_error", "cross_entropy"]

PART = 256
"""Samples whose loss is evaluated at once."""


class Perceptrons:
    """Replicas of a multilayer perceptron.

    Parameters
    ----------
    widths : sequence of int
        Inputs, hidden layers, outputs.
    replicas : int
        How many.
    activation : str
        Of the hidden layers; the last layer has none.
    bias : bool
        Whether each layer adds a trained vector.
    loss : str
        `squared_error`: half of the squared distance to the target, summed over outputs;
        `cross_entropy`: of the softmax of the outputs. Both averaged over the samples.
    dtype : torch.dtype
        Of all tensors.
    device : torch.device
        Of all tensors.

    Attributes
    ----------
    parameters, gradient : torch.Tensor
        Flat; the gradient is that of the sum of the losses, so of each replica its own.
    weights : list of torch.Tensor
        Views of `parameters`, one for each layer, shape (replica, M, N).
    biases : list of torch.Tensor
        Views of `parameters`, shape (replica, 1, M); empty without biases.
    """

    def __init__(
        self,
        widths: Sequence[int],
        replicas: int,
        activation: Activation,
        bias: bool,
        loss: Loss,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.replicas, self.activation, self.loss = replicas, activation, loss
        self.shapes = [(rows, columns) for columns, rows in pairwise(widths)]
        size = replicas * sum(rows * (columns + bias) for rows, columns in self.shapes)
        self.parameters = torch.zeros(size, dtype=dtype, device=device)
        self.gradient = torch.zeros_like(self.parameters)
        self.weights, self.biases = self._views(self.parameters, bias)
        self._weight_gradients, self._bias_gradients = self._views(self.gradient, bias)

    def _views(
        self, flat: torch.Tensor, bias: bool
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        weights, biases, first = [], [], 0
        for rows, columns in self.shapes:
            size = self.replicas * rows * columns
            weights.append(flat[first : first + size].view(self.replicas, rows, columns))
            first += size
            if bias:
                size = self.replicas * rows
                biases.append(flat[first : first + size].view(self.replicas, 1, rows))
                first += size
        return weights, biases

    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs, shape (replica, sample, output), for inputs (replica or 1, sample, input)."""
        return self._forward(inputs.expand(self.replicas, -1, -1))[1][-1]

    def _forward(self, inputs: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Inputs and outputs of the activations, layer by layer; the inputs come first in both."""
        before, after = [inputs], [inputs]
        for layer, weights in enumerate(self.weights):
            turned = weights.transpose(1, 2)
            if self.biases:
                z = torch.baddbmm(self.biases[layer], after[-1], turned)
            else:
                z = torch.bmm(after[-1], turned)
            before.append(z)
            after.append(self.activate(z) if layer < len(self.weights) - 1 else z)
        return before, after

    def activate(self, z: torch.Tensor) -> torch.Tensor:
        """The activation of the hidden layers."""
        if self.activation == "tanh":
            return torch.tanh(z)
        if self.activation == "relu":
            return torch.relu(z)
        if self.activation == "gelu":
            return torch.nn.functional.gelu(z)
        return z

    def _back(self, gradient: torch.Tensor, z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Gradient before the activation, from that after it."""
        if self.activation == "tanh":
            return torch.ops.aten.tanh_backward(gradient, h)
        if self.activation == "relu":
            return torch.ops.aten.threshold_backward(gradient, h, 0.0)
        if self.activation == "gelu":
            return torch.ops.aten.gelu_backward(gradient, z)
        return gradient

    def differentiate(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Write the gradient of each replica's mean loss over its own samples.

        Parameters
        ----------
        inputs : torch.Tensor
            Shape (replica, sample, input).
        targets : torch.Tensor
            Shape (replica, sample, output); probabilities of the classes for the cross-entropy.
        """
        before, after = self._forward(inputs)
        outputs = after[-1]
        if self.loss == "cross_entropy":
            outputs = torch.softmax(outputs, dim=2)
        flow = torch.sub(outputs, targets).div_(inputs.shape[1])
        for layer in reversed(range(len(self.weights))):
            torch.bmm(flow.transpose(1, 2), after[layer], out=self._weight_gradients[layer])
            if self.biases:
                torch.sum(flow, 1, keepdim=True, out=self._bias_gradients[layer])
            if layer:
                flow = torch.bmm(flow, self.weights[layer])
                flow = self._back(flow, before[layer], after[layer])

    def losses(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of each replica over samples that all share, shape (replica,).

        Parameters
        ----------
        inputs, targets : torch.Tensor
            Shapes (sample, input) and (sample, output).
        """
        total = torch.zeros(self.replicas, dtype=inputs.dtype, device=inputs.device)
        # A part at a time: the layers of all replicas on all samples would not fit everywhere.
        for x, y in zip(inputs.split(PART), targets.split(PART), strict=True):
            outputs = self.outputs(x[None])
            if self.loss == "cross_entropy":
                total -= (torch.log_softmax(outputs, dim=2) * y).sum(dim=(1, 2))
            else:
                total += 0.5 * torch.square(outputs - y).sum(dim=(1, 2))
        return total / len(inputs)

    def product(self) -> torch.Tensor:
        """Product of all weight matrices, W_L ... W_1, shape (replica, output, input)."""
        found = self.weights[0]
        for weights in self.weights[1:]:
            found = torch.bmm(weights, found)
        return found


Initialisation = Literal[
    "xavier_normal", "xavier_uniform", "kaiming_normal", "kaiming_uniform", "normal"
]


def standard_deviation(
    initialisation: Initialisation, rows: int, columns: int, width: float
) -> float:
    """Standard deviation of the weights (rows, columns) of a layer at the start.

    `xavier`: sqrt(2 / (rows + columns)) (X. Glorot and Y. Bengio, AISTATS 2010); `kaiming`:
    sqrt(2 / columns) (K. He et al., arXiv:1502.01852); `normal`: width / sqrt(columns).
    """
    if initialisation == "normal":
        return width / math.sqrt(columns)
    fan = (rows + columns) / 2.0 if initialisation.startswith("xavier") else columns / 2.0
    return 1.0 / math.sqrt(fan)
