"""Training of an ensemble: replicas in blocks of fixed size, snapshots, progress."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
import torch
from tqdm import tqdm

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
        Wall time.
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
    weights: list[np.ndarray] = []
    losses: list[np.ndarray] = []
    total = len(members) * times[-1]
    with tqdm(
        total=total, unit="replica-steps", unit_scale=True, mininterval=1.0, file=log, ascii=True
    ) as progress:
        for first in members[::block_size]:
            replicas = min(block_size, members.stop - first)
            stream = first // BLOCK_SIZE
            noise = NoiseStream(hyperparameters.seed, hyperparameters.key, stream, place, dtype)
            progress.set_description(f"replicas {first}..{first + replicas - 1}")
            block = simulation(hyperparameters, replicas, noise)
            try:
                kept = [_advance_to(block, step, replicas, progress) for step in times]
            except DivergedError as error:
                raise DivergedError(first + error.replica, error.step, error.reason) from None
            weights.append(np.stack([weight for weight, _ in kept], axis=1))
            losses.append(np.stack([loss for _, loss in kept], axis=1))
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu"
    return Ensemble(
        np.concatenate(weights),
        np.array(times, dtype=np.int64),
        np.concatenate(losses),
        name,
        time.perf_counter() - began,
    )


def _advance_to(
    block: Simulation, step: int, replicas: int, progress: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and losses at the given SGD step."""
    while block.step < step:
        stride = min(step - block.step, LONGEST_STRIDE)
        block.advance(stride)
        progress.update(stride * replicas)
    return block.weights.cpu().numpy().copy(), block.loss().cpu().numpy().astype(np.float64)
