"""Replicas of a torch.nn.Module that is not ours: gradients of all at once, or one by one.

Parameters and buffers of all replicas are stacked, the replica first. `torch.func.vmap` computes
all gradients in one go where the module allows it. Where it does not, because it keeps statistics
from step to step, decides by its data what to do, or calls what vmap does not know, replicas are
gone through one by one, and `why_one_by_one` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dysonflow.errors import ConfigError
from dysonflow.lazy import LazyModule
from dysonflow.wording import plain

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Batch = tuple[tuple["torch.Tensor", ...], Any]
"""What the module is called with, and what its output is compared with."""
TOLERANCE = 1e-3
"""Largest difference of two gradients of a module without dropout, relative to the largest entry,
that can be rounding in single precision."""


class Modules:
    """Stacked replicas of a module.

    Parameters
    ----------
    replicas : sequence of torch.nn.Module
        Each with its own start. The first is called from then on, with the numbers of the others.
    loss : callable
        Of output and targets of one replica; one number.
    trial : Batch
        With which it is tried whether all replicas can be computed at once.
    device : torch.device, optional
        Where they are computed; that of the replicas by default. Batches may be elsewhere: those of
        all replicas are carried over together.

    Attributes
    ----------
    parameters, buffers : dict of torch.Tensor
        Name to tensor, the replica first; parameters that are not trained are among the buffers.
    why_one_by_one : str
        Why replicas are not computed at once; empty if they are.

    Raises
    ------
    ConfigError
        If replicas differ in their shapes, the module changes its own, or the loss is no number.
    """

    def __init__(
        self,
        replicas: Sequence[torch.nn.Module],
        loss: Callable[[Any, Any], torch.Tensor],
        trial: Batch,
        device: torch.device | None = None,
    ):
        self.module, self.loss, self.count = replicas[0], loss, len(replicas)
        _check_alike(replicas)
        trained = {name for name, value in self.module.named_parameters() if value.requires_grad}
        states = [_state(replica) for replica in replicas]
        stacked = {
            name: torch.stack([state[name].detach() for state in states]).to(device)
            for name in states[0]
        }
        if device is not None:
            self.module.to(device)
        self.device = device
        self.parameters = {name: stacked[name] for name in stacked if name in trained}
        self.buffers = {name: stacked[name] for name in stacked if name not in trained}
        self.why_one_by_one = self._why_one_by_one(trial)

    def gradients(self, batches: Sequence[Batch]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Gradient and loss of each replica on its own batch, shapes (replica, ...), (replica,)."""
        self.module.train()
        if self.why_one_by_one:
            return self._one_by_one(batches, self.buffers)
        return self._at_once(batches)

    def losses(self, batches: Sequence[Batch]) -> torch.Tensor:
        """Loss of each replica on its own batch without dropout, shape (replica,)."""
        self.module.eval()
        with torch.no_grad():
            found = []
            for replica, (inputs, targets) in enumerate(map(self._carried, batches)):
                parameters = {name: stack[replica] for name, stack in self.parameters.items()}
                buffers = {name: stack[replica] for name, stack in self.buffers.items()}
                found.append(self._loss(parameters, buffers, inputs, targets))
        return torch.stack(found)

    def sample_gradients(self, replica: int, batch: Batch) -> tuple[dict[str, torch.Tensor], str]:
        """Gradient of each sample of a batch at the parameters of one replica.

        Parameters
        ----------
        replica : int
            Number within the stack.
        batch : Batch
            Inputs and targets whose first axis is the sample.

        Returns
        -------
        gradients : dict of torch.Tensor
            Parameter to shape (sample, ...).
        why_one_by_one : str
            Why samples were gone through one after the other; empty if they were not.

        Raises
        ------
        ConfigError
            If the gradient of the batch is not the mean of those of its samples, as with dropout
            or statistics over the batch: then its noise is not that of single samples.
        """
        self.module.train()
        inputs, targets = self._carried(batch)
        parameters = {name: stack[replica].detach() for name, stack in self.parameters.items()}
        buffers = {name: stack[replica].clone() for name, stack in self.buffers.items()}
        together = self._gradient(parameters, buffers, inputs, targets)
        for name, value in buffers.items():
            if not torch.equal(value, self.buffers[name][replica]):
                raise ConfigError(
                    f"module: keeps statistics of its batches, in {name}: the noise of its "
                    "gradient is not that of single samples"
                )
        # Each sample is a batch of one.
        alone = (tuple(part[:, None] for part in inputs), targets[:, None])
        why = ""
        try:
            each = torch.func.vmap(
                torch.func.grad(self._loss), in_dims=(None, None, 0, 0), randomness="different"
            )(parameters, buffers, *alone)
        except ConfigError:
            raise
        except Exception as error:
            # Whatever vmap does not know of a module that runs by itself.
            why = plain((str(error).splitlines() or [type(error).__name__])[0], longest=300)
            found = [
                self._gradient(parameters, buffers, tuple(part[k] for part in alone[0]), target)
                for k, target in enumerate(alone[1])
            ]
            each = {name: torch.stack([one[name] for one in found]) for name in parameters}
        for name, expected in together.items():
            difference = (each[name].mean(dim=0) - expected).abs().max()
            if float(difference) > TOLERANCE * float(each[name].abs().max()):
                raise ConfigError(
                    "module, loss: the gradient of a batch is not the mean of those of its samples "
                    f"({name}), because of dropout, statistics over the batch, or a loss that is "
                    "no mean over samples; the noise of single samples says nothing of it"
                )
        return each, why

    def _gradient(
        self,
        parameters: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        inputs: tuple[torch.Tensor, ...],
        targets: Any,
    ) -> dict[str, torch.Tensor]:
        """Gradient of the loss of one replica by plain automatic differentiation."""
        own = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        loss = self._loss(own, buffers, inputs, targets)
        found = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
        return {
            name: torch.zeros_like(own[name]) if value is None else value
            for name, value in zip(own, found, strict=True)
        }

    def _loss(
        self,
        parameters: Mapping[str, torch.Tensor],
        buffers: Mapping[str, torch.Tensor],
        inputs: tuple[torch.Tensor, ...],
        targets: Any,
    ) -> torch.Tensor:
        state = {**parameters, **buffers}
        value = self.loss(torch.func.functional_call(self.module, state, inputs), targets)
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            what = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ConfigError(f"loss: gave {what}, where one number belongs; take the mean")
        return value.reshape(())

    def _at_once(self, batches: Sequence[Batch]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        inputs, targets = self._carried(_stacked(batches))
        gradient = torch.func.grad_and_value(self._loss)
        # Every replica has a dropout mask of its own.
        each = torch.func.vmap(gradient, randomness="different")
        gradients, losses = each(self.parameters, self.buffers, inputs, targets)
        return gradients, losses

    def _carried(self, batch: Batch) -> Batch:
        """A batch where the modules are."""
        inputs, targets = batch
        if self.device is None:
            return batch
        return tuple(part.to(self.device) for part in inputs), targets.to(self.device)

    def _one_by_one(
        self, batches: Sequence[Batch], buffers: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        gradients = {name: torch.empty_like(stack) for name, stack in self.parameters.items()}
        losses = []
        for replica, (inputs, targets) in enumerate(map(self._carried, batches)):
            own = {
                name: stack[replica].detach().requires_grad_()
                for name, stack in self.parameters.items()
            }
            # Views: what the module changes in place is changed in the stack.
            state = {name: stack[replica] for name, stack in buffers.items()}
            loss = self._loss(own, state, inputs, targets)
            found = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
            for name, value in zip(own, found, strict=True):
                if value is None:
                    gradients[name][replica].zero_()
                else:
                    gradients[name][replica].copy_(value)
            losses.append(loss.detach())
        return gradients, torch.stack(losses)

    def _why_one_by_one(self, trial: Batch) -> str:
        """Try both ways on one batch; the numbers of the replicas stay as they are."""
        before = _shapes(self.module)
        batches = [trial] * self.count
        buffers = {name: stack.clone() for name, stack in self.buffers.items()}
        self.module.train()
        self._one_by_one(batches[:1], buffers)
        if _shapes(self.module) != before:
            differing = sorted(set(before.items()) ^ set(_shapes(self.module).items()))[0][0]
            raise ConfigError(
                f"module: changes its own shapes when it is called ({differing}); make all "
                "parameters before the first call"
            )
        changed = [name for name in buffers if not torch.equal(buffers[name], self.buffers[name])]
        if changed:
            return f"the module keeps statistics from step to step, in {changed[0]}"
        if self.count == 1:
            return "there is one"
        try:
            self._at_once(batches)
            self.module.eval()
            at_once, _ = self._at_once(batches)
        except ConfigError:
            raise
        except Exception as error:
            # Whatever vmap does not know of a module that runs by itself.
            return plain((str(error).splitlines() or [type(error).__name__])[0], longest=300)
        by_itself, _ = self._one_by_one(batches, buffers)
        for name, expected in by_itself.items():
            scale = float(expected.abs().max())
            if float((at_once[name] - expected).abs().max()) > TOLERANCE * scale:
                return f"replicas computed at once have another gradient of {name}"
        return ""


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in _state(module).items()}


def _check_alike(replicas: Sequence[torch.nn.Module]) -> None:
    first = _shapes(replicas[0])
    for number, replica in enumerate(replicas):
        if _shapes(replica) != first:
            differing = sorted(set(first.items()) ^ set(_shapes(replica).items()))[0][0]
            raise ConfigError(
                f"module: replica {number} has other shapes than the first ({differing}); let them "
                "depend on the arguments alone"
            )


def _stacked(batches: Sequence[Batch]) -> tuple[tuple[torch.Tensor, ...], Any]:
    """Batches of the replicas, the replica first."""
    try:
        columns = zip(*(inputs for inputs, _ in batches), strict=True)
        inputs = tuple(torch.stack(parts) for parts in columns)
        return inputs, torch.stack([targets for _, targets in batches])
    except (RuntimeError, ValueError) as error:
        said = plain(str(error).splitlines()[0], longest=300)
        raise ConfigError(f"data: batches of two replicas differ in their shapes: {said}") from None
