"""Training of an ensemble: replicas in blocks of fixed size, snapshots, progress."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from tqdm import tqdm

from dysonflow.errors import ConfigError, DivergedError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.simulation.base import Simulation
from dysonflow.simulation.noise import NoiseStream
from dysonflow.simulation.resume import Checkpoint

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
    spent = float(saved["seconds"][0]) if saved else 0.0
    finished = _Snapshots(saved, "finished", axis=0)

    def save(first: int, block: Simulation, kept: _Snapshots) -> None:
        if checkpoint is None or not checkpoint.is_due:
            return
        now = {
            "first": np.array([first]),
            "seconds": np.array([spent + time.perf_counter() - began]),
        }
        state = {f"state.{name}": array for name, array in block.state().items()}
        checkpoint.write({**now, **finished.named(), **kept.named(), **state})

    with tqdm(
        total=len(members) * times[-1],
        unit="replica-steps",
        unit_scale=True,
        mininterval=1.0,
        file=log,
        ascii=True,
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
            if saved and first == saved["first"][0]:
                prefix = "state."
                state = {n.removeprefix(prefix): saved[n] for n in saved if n.startswith(prefix)}
                block.load(state)
                progress.update(replicas * block.step)
                kept = _Snapshots(saved, "kept", axis=1)
            else:
                kept = _Snapshots({}, "kept", axis=1)
            try:
                for step in times[kept.count :]:
                    while block.step < step:
                        stride = min(step - block.step, LONGEST_STRIDE)
                        block.advance(stride)
                        progress.update(stride * replicas)
                        save(first, block, kept)
                    kept.append(block.weights.cpu().numpy()[:, None], block.loss()[:, None])
            except DivergedError as error:
                if checkpoint:
                    checkpoint.remove()
                raise DivergedError(first + error.replica, error.step, error.reason) from None
            finished.append(*kept.arrays())
    weights, losses = finished.arrays()
    seconds = spent + time.perf_counter() - began
    steps = np.array(times, dtype=np.int64)
    return Ensemble(weights, steps, losses, device_name(place), seconds)


def device_name(place: torch.device) -> str:
    """Name of a device as artifacts record it."""
    return torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"


class _Snapshots:
    """Weights and losses that grow along one axis, taken up from a saved state if it has some."""

    def __init__(self, saved: Mapping[str, np.ndarray], name: str, axis: int):
        self.name, self.axis = name, axis
        found = [saved.get(f"{name}.{part}") for part in ("weights", "loss")]
        self.weights, self.losses = ([array] if array is not None else [] for array in found)

    @property
    def count(self) -> int:
        return sum(array.shape[self.axis] for array in self.weights)

    def append(self, weights: np.ndarray, losses: np.ndarray | torch.Tensor) -> None:
        if isinstance(losses, torch.Tensor):
            losses = losses.cpu().numpy().astype(np.float64)
        # A copy: the memory of the simulation's own weights may be written to again.
        self.weights.append(weights.copy())
        self.losses.append(losses)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(self.weights, self.axis), np.concatenate(self.losses, self.axis)

    def named(self) -> dict[str, np.ndarray]:
        if not self.weights:
            return {}
        weights, losses = self.arrays()
        return {f"{self.name}.weights": weights, f"{self.name}.loss": losses}
