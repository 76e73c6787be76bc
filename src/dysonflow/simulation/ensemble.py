"""Training of an ensemble: replicas in blocks of fixed size, snapshots, progress."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import numpy as np
from tqdm import tqdm

from dysonflow.errors import DivergedError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.simulation.base import BLOCK_SIZE, Block, Simulation
from dysonflow.simulation.devices import CPU, Device
from dysonflow.simulation.resume import Checkpoint

LONGEST_STRIDE = 1000
"""SGD steps between two looks at the progress bar and at the sanity of the weights."""


class Sink(Protocol):
    """Where snapshots go as soon as they are taken: a weights file, or memory."""

    @property
    def loss(self) -> np.ndarray:
        """Losses so far, shape (replica, snapshot)."""
        ...

    @property
    def diverged(self) -> np.ndarray:
        """SGD step at which each replica diverged, -1 if it did not so far; shape (replica,)."""
        ...

    def put(
        self,
        first: int,
        frame: int,
        weights: Mapping[str, np.ndarray],
        loss: np.ndarray | None = None,
    ) -> int:
        """Keep one frame of the replicas from `first` on; returns its checksum."""
        ...

    def checksum(self, first: int, frame: int, count: int) -> int:
        """Checksum of what was kept, in this process or in one before it."""
        ...

    def sync(self) -> None:
        """Make sure that what was kept outlives this process."""
        ...


@dataclass(frozen=True)
class Ensemble:
    """All snapshots of an ensemble, in memory.

    Attributes
    ----------
    layers : dict of np.ndarray
        Layer to weights, shape (replica, snapshot, M, N).
    step : np.ndarray
        SGD step of each snapshot, shape (snapshot,).
    loss : np.ndarray
        Shape (replica, snapshot).
    lagged : dict of np.ndarray
        Layer to the weights `lags` SGD steps after each snapshot, shape
        (replica, snapshot, lag, M, N).
    diverged : np.ndarray, optional
        SGD step at which each replica diverged, -1 if it did not, shape (replica,); None where that
        is an error.
    """

    layers: dict[str, np.ndarray]
    step: np.ndarray
    loss: np.ndarray
    lagged: dict[str, np.ndarray] = field(default_factory=dict)
    diverged: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray:
        """Weights of a model with one layer, shape (replica, snapshot, M, N)."""
        (only,) = self.layers.values()
        return only


class Memory:
    """A sink that holds everything; nothing outlives the process."""

    def __init__(self, hyperparameters: Hyperparameters, replicas: int):
        shape, dtype = (replicas, hyperparameters.snapshots), hyperparameters.dtype
        self.layers = {
            layer: np.zeros((*shape, *matrix), dtype)
            for layer, matrix in hyperparameters.layers().items()
        }
        self.lags = len(hyperparameters.lags)
        self.lagged = {
            layer: np.zeros((*shape, self.lags, *matrix), dtype)
            for layer, matrix in hyperparameters.layers().items()
        }
        self.loss = np.full(shape, np.nan)
        self.diverged = np.full(replicas, -1, dtype=np.int64)

    def put(
        self,
        first: int,
        frame: int,
        weights: Mapping[str, np.ndarray],
        loss: np.ndarray | None = None,
    ) -> int:
        """Keep one frame of the replicas from `first` on."""
        snapshot, lag = divmod(frame, 1 + self.lags)
        for layer, array in weights.items():
            here = slice(first, first + len(array))
            if lag:
                self.lagged[layer][here, snapshot, lag - 1] = array
                continue
            self.layers[layer][here, snapshot] = array
            if loss is not None:
                self.loss[here, snapshot] = loss
        return 0

    def checksum(self, first: int, frame: int, count: int) -> int:
        """Nothing is ever taken up again."""
        return 0

    def sync(self) -> None:
        """Nothing to do."""


def train(
    simulation: type[Simulation],
    hyperparameters: Hyperparameters,
    sink: Sink,
    device: Device = CPU,
    log: TextIO | None = None,
    members: range | None = None,
    threads: int = 1,
    checkpoint: Checkpoint | None = None,
) -> float:
    """Train the replicas of a run, or some of them, and hand on their frames.

    A frame is a snapshot, or the weights some SGD steps after one where the run has `lags`.

    Which replicas are trained in one call does not change a single number on a CPU, nor where the
    kernel runs on a GPU. A GPU wants many replicas side by side: in torch all of a call share one
    stream there.

    Parameters
    ----------
    simulation : type of Simulation
        The model, in torch or compiled.
    hyperparameters : Hyperparameters
        Of the run.
    sink : Sink
        Gets every snapshot, replicas counted from the first of `members`.
    device : Device
        Where.
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
    float
        Wall time in seconds, that of interrupted jobs up to their last checkpoint included.

    Raises
    ------
    DivergedError
        With replica and step, if a replica diverges.
    ValueError
        If `members` does not begin at the start of a block.
    """
    members = range(hyperparameters.replicas) if members is None else members
    if members.start % BLOCK_SIZE:
        raise ValueError(f"replica {members.start} does not start a block of {BLOCK_SIZE}")
    block_size = BLOCK_SIZE * threads if device.kind == "cpu" else len(members)
    times = hyperparameters.frame_steps
    began = time.perf_counter()
    progress_of = _Progress(sink, members, block_size, len(times))
    saved = progress_of.take_up(checkpoint)
    spent = float(saved["seconds"][0]) if saved else 0.0
    with tqdm(
        total=len(members) * times[-1],
        unit="replica-steps",
        unit_scale=True,
        mininterval=1.0,
        file=log,
        ascii=True,
    ) as bar:
        for number, first in enumerate(members[::block_size]):
            replicas = min(block_size, members.stop - first)
            if saved and first < saved["first"][0]:
                bar.update(replicas * times[-1])
                continue
            bar.set_description(f"replicas {first}..{first + replicas - 1}")
            block = simulation.start(
                hyperparameters, Block(first // BLOCK_SIZE, replicas, device.kind, threads)
            )
            kept = 0
            if saved and first == saved["first"][0]:
                prefix = "state."
                state = {n.removeprefix(prefix): saved[n] for n in saved if n.startswith(prefix)}
                block.load(state)
                bar.update(replicas * block.step)
                kept = int(saved["kept"][0])
            try:
                for frame in range(kept, len(times)):
                    while block.step < times[frame]:
                        stride = min(times[frame] - block.step, LONGEST_STRIDE)
                        block.advance(stride)
                        bar.update(stride * replicas)
                        if checkpoint is not None and checkpoint.is_due:
                            seconds = spent + time.perf_counter() - began
                            checkpoint.write(progress_of.state(first, frame, seconds, block))
                    progress_of.put(number, first, frame, block)
            except DivergedError as error:
                if checkpoint:
                    checkpoint.remove()
                raise DivergedError(first + error.replica, error.step, error.reason) from None
    return spent + time.perf_counter() - began


class _Progress:
    """Which frames of which blocks were handed on, with a checksum of each."""

    def __init__(self, sink: Sink, members: range, block_size: int, frames: int):
        self.sink, self.members, self.block_size = sink, members, block_size
        blocks = len(members[::block_size])
        self.checksums = np.zeros((blocks, frames), dtype=np.uint32)

    def put(self, number: int, first: int, frame: int, block: Simulation) -> None:
        """Hand on what a block of replicas is now."""
        weights = block.layers()
        for layer, array in weights.items():
            bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if bad.any():
                reason = f"a weight of layer {layer} is not finite; lower learning_rate"
                raise DivergedError(int(bad.argmax()), block.step, reason)
        here = first - self.members.start
        checksum = self.sink.put(here, frame, weights, block.loss())
        diverged = block.diverged()
        if diverged is not None:
            self.sink.diverged[here : here + len(diverged)] = diverged
        self.checksums[number, frame] = checksum

    def state(
        self, first: int, kept: int, seconds: float, block: Simulation
    ) -> dict[str, np.ndarray]:
        """What a later process goes on from; the snapshots are on the disk already."""
        self.sink.sync()
        return {
            "first": np.array([first]),
            "kept": np.array([kept]),
            "seconds": np.array([seconds]),
            "loss": self.sink.loss,
            "diverged": self.sink.diverged,
            "checksums": self.checksums,
            **{f"state.{name}": array for name, array in block.state().items()},
        }

    def take_up(self, checkpoint: Checkpoint | None) -> dict[str, np.ndarray]:
        """State that was saved, if the snapshots before it are there as they were written."""
        saved = checkpoint.read() if checkpoint else {}
        if not saved:
            return {}
        if saved["checksums"].shape != self.checksums.shape or not self._is_whole(saved):
            assert checkpoint is not None
            checkpoint.ignore("the snapshots before it are not there as they were written")
            return {}
        self.checksums[:] = saved["checksums"]
        self.sink.loss[:] = saved["loss"]
        self.sink.diverged[:] = saved["diverged"]
        return saved

    def _is_whole(self, saved: Mapping[str, np.ndarray]) -> bool:
        for number, first in enumerate(self.members[:: self.block_size]):
            before = first < saved["first"][0]
            frames = self.checksums.shape[1] if before else int(saved["kept"][0])
            count = min(self.block_size, self.members.stop - first)
            here = first - self.members.start
            for frame in range(frames):
                if self.sink.checksum(here, frame, count) != saved["checksums"][number, frame]:
                    return False
            if not before:
                break
        return True


def train_in_memory(
    simulation: type[Simulation],
    hyperparameters: Hyperparameters,
    device: Device = CPU,
    log: TextIO | None = None,
    members: range | None = None,
    threads: int = 1,
) -> Ensemble:
    """Train, and hold all snapshots in memory; parameters and errors as of `train`."""
    count = hyperparameters.replicas if members is None else len(members)
    memory = Memory(hyperparameters, count)
    train(simulation, hyperparameters, memory, device, log, members, threads)
    step = np.array(hyperparameters.snapshot_steps, dtype=np.int64)
    diverged = memory.diverged if hyperparameters.KEEPS_DIVERGED else None
    return Ensemble(memory.layers, step, memory.loss, memory.lagged, diverged)
