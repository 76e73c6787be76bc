"""What has become of students of two layers at a point: how well they learnt, and their regime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dysonflow.models.two_layer_student import Samples, overlap, test_set

if TYPE_CHECKING:
    from dysonflow.artifacts.weights import WeightsFile
    from dysonflow.models.two_layer_student import TwoLayerStudentHyperparameters

LEARNT = 0.01
"""Loss of a student that has learnt, over that of one who always answers the mean output."""
KEPT = 0.5
"""Cosine between the weights at the end and at the start from which on the start counts as kept."""
FROZEN = 0.2
"""Distance from the start, over its length, below which a student counts as frozen."""

REGIMES = ("learnt", "frozen", "kept", "diverged")
"""In the order of their numbers: learnt; frozen at the start; order of the start kept; diverged:
stopped, or carried away from the start without learning."""


@dataclass(frozen=True)
class Outcome:
    """Replicas of a run at their last snapshot; arrays of shape (replica,).

    Attributes
    ----------
    loss : np.ndarray
        On the test set.
    gradient_norm : np.ndarray
        Length of the gradient of that loss.
    overlap, hidden_overlap : np.ndarray
        Cosine between W and W_t, and between the hidden units of student and teacher.
    start_overlap : np.ndarray
        Cosine between W and W at the first snapshot.
    displacement : np.ndarray
        |W - W(start)| / |W(start)|.
    largest, smallest : np.ndarray
        Singular values of W.
    signal : np.ndarray
        Drift over noise of the singular values, of `signal_to_noise`.
    diverged_at : np.ndarray
        SGD step, or -1.
    regime : np.ndarray
        Index into `REGIMES`.
    """

    loss: np.ndarray
    gradient_norm: np.ndarray
    overlap: np.ndarray
    hidden_overlap: np.ndarray
    start_overlap: np.ndarray
    displacement: np.ndarray
    largest: np.ndarray
    smallest: np.ndarray
    signal: np.ndarray
    diverged_at: np.ndarray
    regime: np.ndarray

    @property
    def common_regime(self) -> int:
        """The regime of most replicas, the first of several."""
        return int(np.bincount(self.regime, minlength=len(REGIMES)).argmax())


def outcome(h: TwoLayerStudentHyperparameters, file: WeightsFile) -> Outcome:
    """Measure the replicas of a run, whose first snapshot is their start.

    Parameters
    ----------
    h : TwoLayerStudentHyperparameters
        Of the run.
    file : WeightsFile
        Its weights.
    """
    start = file.read("W", snapshots=slice(0, 1))[:, 0].astype(np.float64)
    last = slice(file.snapshots - 1, file.snapshots)
    weights = file.read("W", snapshots=last)[:, 0].astype(np.float64)
    assert file.diverged is not None
    return measure(h, start, weights, file.diverged)


def measure(
    h: TwoLayerStudentHyperparameters,
    start: np.ndarray,
    weights: np.ndarray,
    diverged_at: np.ndarray,
) -> Outcome:
    """As `outcome`, of weights (replica, K, L) at the start and at the end."""
    samples = test_set(h)
    singular = np.linalg.svd(weights, compute_uv=False)
    first, length = _length(start), _length(weights)
    start_overlap = (weights * start).sum(axis=(1, 2)) / np.maximum(first * length, 1e-300)
    found = {
        "loss": samples.loss(weights),
        "start_overlap": start_overlap,
        "displacement": _length(weights - start) / np.maximum(first, 1e-300),
        "diverged_at": diverged_at,
    }
    return Outcome(
        **found,
        gradient_norm=_length(samples.gradient(weights)),
        overlap=overlap(h, weights),
        hidden_overlap=samples.hidden_overlap(weights),
        largest=singular[:, 0],
        smallest=singular[:, -1],
        signal=signal_to_noise(samples, weights, h.batch_size),
        regime=regimes(**found, untaught=samples.untaught_loss),
    )


def regimes(
    loss: np.ndarray,
    start_overlap: np.ndarray,
    displacement: np.ndarray,
    diverged_at: np.ndarray,
    untaught: float,
) -> np.ndarray:
    """Regime of each replica, as an index into `REGIMES`.

    Learnt: loss below `LEARNT` times `untaught`. Of the others: diverged, if the replica stopped,
    or `start_overlap` is below `KEPT`; frozen, if the displacement is below `FROZEN`; else kept.
    """
    names = np.where(displacement < FROZEN, "frozen", "kept")
    names = np.where(start_overlap < KEPT, "diverged", names)
    names = np.where(loss < LEARNT * untaught, "learnt", names)
    names = np.where(diverged_at >= 0, "diverged", names)
    return np.array([REGIMES.index(str(name)) for name in names])


def signal_to_noise(samples: Samples, weights: np.ndarray, batch_size: int) -> np.ndarray:
    """Drift over noise of the singular values in one SGD step, shape (replica,).

    With u_i, v_i the singular vectors of W, a step of gradient G moves s_i by -a u_i^T G v_i to
    first order. Drift is that of the mean gradient, noise the standard deviation over batches of
    B samples, from the gradients of single samples; both are root mean squares over the levels.
    The square of the drift is freed of what the mean of so many samples has by chance, and is given
    as no less than its standard error: smaller drifts are not seen.
    """
    left, _, right = np.linalg.svd(weights, full_matrices=False)
    mean = np.empty((len(weights), left.shape[-1]))
    variance = np.empty_like(mean)
    for replica, matrix in enumerate(weights):
        delta = samples.deltas(matrix) @ left[replica]
        kicks = delta * (samples.features @ right[replica].T)
        mean[replica], variance[replica] = kicks.mean(axis=0), kicks.var(axis=0)
    noise = variance.sum(axis=1) / batch_size
    chance = variance / (len(samples.features) - 1)
    drift = (np.square(mean) - chance).sum(axis=1)
    error = np.sqrt(2.0 * np.square(chance).sum(axis=1))
    return np.sqrt(np.maximum(drift, error) / np.maximum(noise, 1e-300))


def mean_squared_moves(h: TwoLayerStudentHyperparameters, file: WeightsFile) -> np.ndarray:
    """Mean squared change of the singular values over each lag, shape (lag, replica).

    Averages over the levels and over the later half of the snapshots; of runs with `lags`.
    """
    later = slice(file.snapshots // 2, file.snapshots)

    def levels(weights: np.ndarray) -> np.ndarray:
        return np.linalg.svd(weights.astype(np.float64), compute_uv=False)

    before = levels(file.read("W", snapshots=later))
    return np.array(
        [
            np.square(levels(file.read_lagged("W", lag, snapshots=later)) - before).mean(
                axis=(1, 2)
            )
            for lag in range(len(h.lags))
        ]
    )


def _length(matrices: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(matrices).sum(axis=(1, 2)))
