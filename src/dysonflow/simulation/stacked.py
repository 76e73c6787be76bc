"""Named parameters of many replicas in one flat tensor, with a gradient of the same shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dysonflow.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


class StackedParameters:
    """Parameters of replicas: named views of one flat tensor, so that an update is one operation.

    Parameters
    ----------
    shapes : mapping
        Name to shape, of one replica.
    replicas : int
        How many.
    dtype : torch.dtype
        Of all.
    device : torch.device
        Of all.

    Attributes
    ----------
    flat, gradient : torch.Tensor
        All numbers, and the gradient that `backward` adds to.
    views : dict of torch.Tensor
        Name to leaf of the graph, shape (replica, ...), whose numbers are those of `flat`.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        replicas: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        self.shapes, self.replicas = dict(shapes), replicas
        size = sum(replicas * math.prod(shape) for shape in shapes.values())
        self.flat = torch.zeros(size, dtype=dtype, device=device)
        self.gradient = torch.zeros_like(self.flat)
        self.views = {name: view.requires_grad_() for name, view in self.of(self.flat).items()}
        for name, gradient in self.of(self.gradient).items():
            self.views[name].grad = gradient

    def of(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of a tensor like `flat`, name to shape (replica, ...)."""
        found, first = {}, 0
        for name, shape in self.shapes.items():
            end = first + self.replicas * math.prod(shape)
            found[name] = flat[first:end].view(self.replicas, *shape)
            first = end
        return found

    def broken(self) -> tuple[str, int] | None:
        """Name and replica of the first number that is not finite; None if all are."""
        for name, view in self.views.items():
            finite = torch.isfinite(view.detach()).reshape(len(view), -1).all(dim=1)
            if not bool(finite.all()):
                return name, int((~finite).int().argmax())
        return None
