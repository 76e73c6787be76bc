"""Training of an ensemble: replicas in blocks of fixed size, snapshots, progress."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from tqdm import tqdm

from dysonflow.checkpoints import Checkpoint
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.noise import NoiseStream
from dysonflow.simulation import Simulation

BLOCK_SIZE = 64
"""Replicas that share a stream of random numbers; on a CPU they are simulated side by side."""
LONGEST_STRIDE = 1000
"""SGD steps between two looks at the progress bar and at the sanity of the weights."""


@dataclass(frozen=True)
class Ensemble:
    """What training yields.

    Attributes
    ----------
    weights : np.ndarray
        Shape (replica, snapshot, M, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
    loss : np.ndarray
        Loss of each weight matrix, shape (replica, snapshot).
    device : str
        Name of the device that trained it.
    seconds : float
        Wall time, that of interrupted jobs up to their last checkpoint included.
    """

    weights: np.ndarray
    step: np.ndarray
    loss: np.ndarray
    device: str
    seconds: float


def choose_device(name: str) -> torch.device:
    """Device for `auto`, `cpu` or `cuda`.

    Raises
    ------
    ConfigError
        If `cuda` is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device = 'cuda': no GPU is visible here; set device: auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def train(
    simulation: Callable[..., Simulation],
    hyperparameters: Hyperparameters,
    device: str = "cpu",
    log: TextIO | None = None,
    members: range | None = None,
    threads: int = 1,
    checkpoint: Checkpoint | None = None,
) -> Ensemble:
    """Train the replicas of a run, or some of them, and keep their snapshots.

    Which replicas are trained in one call does not change a single number on a CPU. A GPU wants
    many replicas side by side: there all of a call share one stream.

    Parameters
    ----------
    simulation : type of Simulation
        The model, in torch or compiled.
    hyperparameters : Hyperparameters
        Of the run.
    device : str
        `auto`, `cpu` or `cuda`.
    log : text stream, optional
        Where the progress bar is drawn; standard error if None.
    members : range, optional
        Consecutive replicas to train, beginning at a multiple of `BLOCK_SIZE`; all if None.
    threads : int
        Threads that the simulation uses; on a CPU, blocks that are simulated side by side.
    checkpoint : Checkpoint, optional
        Where the state is saved from time to time, and taken up from. Changes no number.

    Returns
    -------
    Ensemble
        Weights, steps and losses of all snapshots.

    Raises
    ------
    DivergedError
        With replica and step, if a replica diverges.
    ValueError
        If `members` does not begin at the start of a block.
    """
    # Several threads would wait for each other at every small product (kernel barriers cost more
    # than the work): parallelism comes from jobs.
    torch.set_num_threads(1)
    place = choose_device(device)
    dtype = getattr(torch, hyperparameters.dtype)
    members = range(hyperparameters.replicas) if members is None else members
    if members.start % BLOCK_SIZE:
        raise ValueError(f"replica {members.start} does not start a block of {BLOCK_SIZE}")
    block_size = BLOCK_SIZE * threads if place.type == "cpu" else len(members)
    times = hyperparameters.snapshot_steps
    began = time.perf_counter()
    saved = checkpoint.read() if checkpoint else {}
    finished = _Snapshots(saved, "finished")
    total = len(members) * times[-1]
    with tqdm(
        total=total, unit="replica-steps", unit_scale=True, mininterval=1.0, file=log, ascii=True
    ) as progress:
        for first in members[::block_size]:
            replicas = min(block_size, members.stop - first)
            if saved and first < saved["first"][0]:
                progress.update(replicas * times[-1])
                continue
            stream = first // BLOCK_SIZE
            noise = NoiseStream(hyperparameters.seed, hyperparameters.key, stream, place, dtype)
            progress.set_description(f"replicas {first}..{first + replicas - 1}")
            block = simulation(hyperparameters, replicas, noise)
            kept = _Snapshots()
            if saved and first == saved["first"][0]:
                block.load({name[6:]: saved[name] for name in saved if name.startswith("state.")})
                kept = _Snapshots(saved, "kept")
                progress.update(replicas * block.step)
            try:
                for step in times[kept.count(axis=1) :]:
                    while block.step < step:
                        stride = min(step - block.step, LONGEST_STRIDE)
                        block.advance(stride)
                        progress.update(stride * replicas)
                        if checkpoint and checkpoint.is_due:
                            spent = float(saved.get("seconds", [0.0])[0])
                            checkpoint.write(
                                {
                                    "first": np.array([first]),
                                    "seconds": np.array([spent + time.perf_counter() - began]),
                                    **finished.arrays("finished", axis=0),
                                    **kept.arrays("kept", axis=1),
                                    **{f"state.{k}": array for k, array in block.state().items()},
                                }
                            )
                    weight = block.weights.cpu().numpy()[:, None].copy()
                    kept.append(weight, block.loss().cpu().numpy().astype(np.float64)[:, None])
            except DivergedError as error:
                if checkpoint:
                    checkpoint.remove()
                raise DivergedError(first + error.replica, error.step, error.reason) from None
            finished.append(*kept.arrays("", axis=1).values())
    arrays = finished.arrays("", axis=0)
    return Ensemble(
        arrays[".weights"],
        np.array(times, dtype=np.int64),
        arrays[".loss"],
        device_name(place),
        float(saved.get("seconds", [0.0])[0]) + time.perf_counter() - began,
    )


def device_name(place: torch.device) -> str:
    """Name of a device as artifacts record it."""
    return torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"


class _Snapshots:
    """Weights and losses that grow along one axis, taken up from a saved state if it has some."""

    def __init__(self, saved: Mapping[str, np.ndarray] | None = None, name: str = ""):
        found = [(saved or {}).get(f"{name}.{part}") for part in ("weights", "loss")]
        self.weights, self.losses = ([array] if array is not None else [] for array in found)

    def append(self, weights: np.ndarray, losses: np.ndarray) -> None:
        self.weights.append(weights)
        self.losses.append(losses)

    def count(self, axis: int) -> int:
        return sum(array.shape[axis] for array in self.weights)

    def arrays(self, name: str, axis: int) -> dict[str, np.ndarray]:
        if not self.weights:
            return {}
        return {
            f"{name}.weights": np.concatenate(self.weights, axis),
            f"{name}.loss": np.concatenate(self.losses, axis),
        }
