"""Deep linear students of a linear teacher in plain NumPy, for tests and benchmarks.

The same equations as `models/mlp.py` for `activation: linear` and plain SGD, with weights that are
given, so that motion along flat directions can be followed from any point.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Layers = Sequence[Array]
"""Weights of each layer, the inputs' first, shape (replica, rows, columns)."""


def product(layers: Layers) -> Array:
    """W_L .. W_1, shape (replica, n_out, n_in)."""
    return functools.reduce(lambda found, weights: weights @ found, layers)


def imbalance(layers: Layers) -> Array:
    """W_1 W_1^T - W_2^T W_2 of two layers, shape (replica, h, h)."""
    first, second = layers
    return first @ first.swapaxes(1, 2) - second.swapaxes(1, 2) @ second


@dataclass(frozen=True)
class LinearStudents:
    """Students with fresh normal inputs and noisy labels, half the squared error, plain SGD.

    Attributes
    ----------
    teacher : np.ndarray
        Shape (n_out, n_in).
    rate : float
        Learning rate.
    batch : int
        Samples per step.
    noise : float
        Standard deviation of the label noise.
    """

    teacher: Array
    rate: float
    batch: int
    noise: float

    def samples(self, replicas: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Inputs (replica, n_in, B) and label noise (replica, n_out, B) of a step."""
        outputs, inputs = self.teacher.shape
        drawn = rng.standard_normal((replicas, inputs, self.batch))
        return drawn, self.noise * rng.standard_normal((replicas, outputs, self.batch))

    def step(self, layers: Layers, inputs: Array, noise: Array) -> list[Array]:
        """Layers after one step."""
        activities = [inputs]
        for weights in layers:
            activities.append(weights @ activities[-1])
        flow = (self.rate / self.batch) * (activities[-1] - self.teacher @ inputs - noise)
        found = []
        for weights, activity in zip(layers[::-1], activities[-2::-1], strict=True):
            found.append(weights - flow @ activity.swapaxes(1, 2))
            flow = weights.swapaxes(1, 2) @ flow
        return found[::-1]

    def simulate(
        self,
        layers: Layers,
        rng: np.random.Generator,
        *,
        burn_in: int,
        every: int = 1,
        snapshots: int = 1,
        measure: Callable[[Layers], Array] = product,
    ) -> tuple[Array, Layers]:
        """Measurements, shape (snapshot, ..), and the layers after the last.

        Parameters
        ----------
        layers : sequence of np.ndarray
            Weights at the start.
        rng : numpy.random.Generator
            All randomness comes from here.
        burn_in : int
            Steps to the first snapshot, at least 1.
        every : int
            Steps from one snapshot to the next.
        snapshots : int
            How many.
        measure : callable
            What is kept of the layers.
        """
        found = []
        for count in range(1, burn_in + every * (snapshots - 1) + 1):
            layers = self.step(layers, *self.samples(len(layers[0]), rng))
            if count >= burn_in and (count - burn_in) % every == 0:
                found.append(measure(layers))
        return np.array(found), layers
