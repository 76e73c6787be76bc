"""The student of two layers, advanced by compiled code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dysonflow.simulation.kernel import library
from dysonflow.simulation.kernel.library import KernelEnsemble, State


class TwoLayerStudentKernel(KernelEnsemble):
    """Replicas of a student W of the teacher ``y = Z f(W_t f(M x))`` with its M and Z.

    One step is ``W <- W - (a/B) sum_b delta_b f(M x_b)^T`` over a batch of standard normal inputs,
    ``delta = Z^T (y - y_t) f'``: SGD on half of the squared error
    (`arXiv:2509.01349 <https://arxiv.org/abs/2509.01349>`_). A replica one of whose deltas exceeds
    `limit` stands still from then on; `diverged` says when.

    Parameters
    ----------
    first, teacher, readout : array of shape (L, n_in), (K, L), (n_out, K)
        M, W_t and Z.
    activation : str
        f: ``tanh``, ``relu`` or ``linear``.
    learning_rate : float
        a, positive.
    batch_size : int
        B.
    limit : float
        Largest entry of delta.
    replicas, blocks, first_block, seed, dtype, threads, weights, initial_std, instruction_set
        As in `dysonflow.simulation.kernel.gaussian_rbm.GaussianRBMKernel`.
    device : str
        Likewise.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RuntimeError
        If the compiled kernel is unavailable.

    Notes
    -----
    Supplied noise, per replica and step: the B inputs, one after the other.
    """

    _system = "two_layer_student"

    def __init__(
        self,
        *,
        first: ArrayLike,
        teacher: ArrayLike,
        readout: ArrayLike,
        activation: str,
        learning_rate: float,
        batch_size: int,
        limit: float,
        replicas: int | None = None,
        blocks: int | None = None,
        first_block: int = 0,
        seed: int | Sequence[int] = 0,
        dtype: DTypeLike = np.float64,
        threads: int = 1,
        weights: ArrayLike | None = None,
        initial_std: float = 0.1,
        instruction_set: str = "",
        device: str = "cpu",
    ):
        layers = [np.asarray(layer, dtype=np.float64) for layer in (first, teacher, readout)]
        if not all(layer.ndim == 2 and np.isfinite(layer).all() for layer in layers):
            raise ValueError("first, teacher and readout must be matrices of finite numbers")
        (features, inputs), (hidden, columns), (outputs, units) = (one.shape for one in layers)
        if (features, hidden) != (columns, units):
            raise ValueError("first, teacher and readout must fit together")
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        if not (np.isfinite(learning_rate) and learning_rate > 0):
            raise ValueError(f"learning_rate must be positive, not {learning_rate}")
        super().__init__(
            (hidden, features),
            replicas=replicas,
            blocks=blocks,
            first_block=first_block,
            seed=seed,
            dtype=dtype,
            threads=threads,
            weights=weights,
            initial_std=initial_std,
            instruction_set=instruction_set,
            device=device,
        )
        self._target = np.concatenate([layer.ravel() for layer in layers]).astype(self.dtype)
        self._network = (activation, batch_size, inputs, outputs, learning_rate, limit)
        self._diverged = np.full(self.replicas, -1, dtype=np.int64)

    @property
    def diverged(self) -> NDArray[np.int64]:
        """Step at which each replica diverged, -1 where it did not; shape (replicas,)."""
        self._fetch()
        return self._diverged.copy()

    def noise_per_step(self) -> int:
        """Count the numbers that ``advance`` takes as ``noise`` where no samples are supplied."""
        _, batch, inputs, *_ = self._network
        return batch * inputs

    def advance(
        self,
        steps: int,
        *,
        noise: ArrayLike | None = None,
        samples: ArrayLike | None = None,
    ) -> None:
        """Make ``steps`` training steps.

        Parameters
        ----------
        steps : int
            Number of steps.
        noise : array of shape (replicas, steps, B n_in), optional
            Inputs to use instead of drawn ones.
        samples : array of shape (steps, B, L + n_out), optional
            Features and outputs of the teacher, shared by all replicas, instead of drawn inputs.
        """
        self._run(steps, noise, samples)

    def _advance_on_cpu(
        self, steps: int, noise: NDArray[Any] | None, inputs: NDArray[Any] | None
    ) -> None:
        compiled: Any = library.compiled()
        is_double = self.dtype.itemsize == 8
        advance = compiled.advance_two_layer64 if is_double else compiled.advance_two_layer32
        advance(
            self._weights,
            self._diverged,
            self._streams,
            self._target,
            *self._network,
            steps,
            self.steps_done,
            self.threads,
            self.instruction_set,
            noise,
            inputs,
        )

    def _shapes(self, steps: int, inputs: NDArray[Any] | None) -> dict[str, list[tuple[int, ...]]]:
        _, batch, _, outputs, *_ = self._network
        samples = (steps, batch, self._weights.shape[2] + outputs)
        return {
            "noise": [(self.replicas, steps, self.noise_per_step())],
            "inputs": [samples],
        }

    def _changing(self) -> dict[str, NDArray[Any]]:
        return {**super()._changing(), "diverged": self._diverged}

    def _numbers(self) -> dict[str, Any]:
        names = ("activation", "batch", "input_size", "output_size", "learning_rate", "limit")
        numbers = dict(zip(names, self._network, strict=True))
        return {**numbers, "activation": library.ACTIVATIONS[numbers["activation"]]}

    def state(self) -> State:
        """All that a later `load` needs to go on exactly; ``diverged`` besides the rest."""
        return {**super().state(), "diverged": self.diverged}

    def load(self, state: Any) -> None:
        """Go on from what `state` returned; errors as of the base class."""
        super().load(state)
        self._diverged = np.array(state["diverged"], dtype=np.int64)


def tanh(x: ArrayLike, dtype: DTypeLike = np.float64, instruction_set: str = "") -> NDArray[Any]:
    """Hyperbolic tangent as the kernel computes it.

    Parameters
    ----------
    x : array
        Of any shape.
    dtype : type
        ``float64`` or ``float32``.
    instruction_set : str
        One of `library.instruction_sets`; the fastest if empty.

    Returns
    -------
    array
        Of the shape of `x`.
    """
    values = np.ascontiguousarray(x, dtype=dtype)
    compiled: Any = library.compiled()
    function = compiled.tanh64 if values.dtype.itemsize == 8 else compiled.tanh32
    found: NDArray[Any] = function(values.ravel(), instruction_set)
    return found.reshape(values.shape)
