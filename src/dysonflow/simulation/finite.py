"""Whether numbers stay finite, without a wait for the device in every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dysonflow.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


class FiniteWatch:
    """The first step at which a sum was not finite.

    A CPU is asked in every step. A GPU works on while the program is ahead of it, and to ask it is
    to wait for it: it notes the step by itself, and is asked after the last of many.

    Parameters
    ----------
    device : torch.device
        Where the sums are.
    asks_always : bool, optional
        Whether it is asked in every step; by default of a CPU only.
    """

    def __init__(self, device: torch.device, asks_always: bool | None = None):
        self._asks_always = device.type == "cpu" if asks_always is None else asks_always
        self._first = torch.full((), -1, dtype=torch.int64, device=device)

    def broken_at(self, sums: torch.Tensor, step: int, is_last: bool) -> int | None:
        """Step at which a number was first not finite; None if none was, or it was not asked for.

        Parameters
        ----------
        sums : torch.Tensor
            Of all numbers: not finite where one of them is not.
        step : int
            The step that they belong to.
        is_last : bool
            Whether a GPU is asked.
        """
        is_fine = torch.isfinite(sums).all()
        if self._asks_always:
            return None if bool(is_fine) else step
        self._first = torch.where(is_fine | (self._first >= 0), self._first, step)
        if not is_last:
            return None
        first = int(self._first)
        return first if first >= 0 else None
