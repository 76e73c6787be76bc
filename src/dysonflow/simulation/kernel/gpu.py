"""The time loops on a GPU: the source of the kernel, one group of replicas to each thread.

A replica draws the random numbers that it draws on a CPU, from its own generator, and computes with
them what a lane of AVX2 or AVX-512 computes, operation by operation; no number depends on which
replicas are side by side.

Driver and compiler are reached through ``cuda.core`` and ``cuda.bindings``, NVIDIA's own Python
bindings. CuPy would bring a whole array library for three calls, and another wheel for each version
of CUDA; ``torch.cuda._compile_kernel`` is private, has no cache on disk, and is not there where
torch was built for CPUs.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dysonflow.errors import ConfigError
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.devices import why_refused
from dysonflow.simulation.kernel import nvrtc
from dysonflow.simulation.kernel.library import ACTIVATIONS
from dysonflow.simulation.kernel.nvrtc import Variant

log = logging.getLogger(__name__)

LAUNCH_SECONDS = 0.3
"""What one launch is to take: long beside its start, short where a user wants to interrupt it, and
where a driver stops programs on a card that also drives a screen."""
FIRST_STRIDE = 4
"""Steps of the first launch, by which the next ones are measured."""
BLOCK = 32
"""Threads of a block: a warp. They have nothing to do with one another, and the smallest block
spreads few replicas most evenly over a card."""
SHARE = 0.8
"""Of the free memory of a card that is taken at once."""
NEVER = 2**63 - 1
"""No replica failed, and none stops."""
SYSTEMS = {name: number for number, name in enumerate(nvrtc.FAMILIES)}
FAILURES = {1: "not positive definite", 2: "not finite"}
"""Numbers of the enumerations in `job.hpp`; `layout` lets the compiler check them."""
OUTCOME = np.dtype([("failure", np.int32), ("step", np.int64), ("replica", np.int64)], align=True)


class Job(ctypes.Structure):
    """The record `Job` of `job.hpp`, field by field."""

    _fields_ = [
        ("system", ctypes.c_int),
        ("single_precision", ctypes.c_bool),
        ("replicas", ctypes.c_int64),
        ("hidden", ctypes.c_int),
        ("visible", ctypes.c_int),
        ("batch", ctypes.c_int),
        ("sweeps", ctypes.c_int),
        ("learning_rate", ctypes.c_double),
        ("mu_squared", ctypes.c_double),
        ("sigma_h", ctypes.c_double),
        ("noise_scale", ctypes.c_double),
        ("target", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("chains", ctypes.c_void_p),
        ("streams", ctypes.c_void_p),
        ("noise", ctypes.c_void_p),
        ("noise_per_step", ctypes.c_int64),
        ("inputs", ctypes.c_void_p),
        ("inputs_per_replica", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("first_step", ctypes.c_int64),
        ("input_size", ctypes.c_int),
        ("output_size", ctypes.c_int),
        ("activation", ctypes.c_int),
        ("limit", ctypes.c_double),
        ("diverged", ctypes.c_void_p),
    ]


# NVRTC 13.0 knows no offsetof; what it has in its place is not known elsewhere.
OFFSET_OF = """\
#ifdef __CUDACC_RTC__
#define OFFSET_OF(structure, member) __INTADDR__(&((structure*)0)->member)
#else
#define OFFSET_OF(structure, member) __builtin_offsetof(structure, member)
#endif"""


def layout() -> str:
    """Assertions, in C++, that a job is laid out there as it is here, and numbered alike."""
    said = [
        f"OFFSET_OF(dysonflow::Job, {name}) == {getattr(Job, name).offset}"
        for name, *_ in Job._fields_
    ]
    said.append(f"sizeof(dysonflow::Job) == {ctypes.sizeof(Job)}")
    said.append(f"sizeof(dysonflow::Outcome) == {OUTCOME.itemsize}")
    said += [
        f"OFFSET_OF(dysonflow::Outcome, {name}) == {place[1]}"
        for name, place in (OUTCOME.fields or {}).items()
    ]
    said += [f"(int)dysonflow::System::{name} == {number}" for name, number in SYSTEMS.items()]
    said += [
        f"(int)dysonflow::Activation::{name} == {number}" for name, number in ACTIVATIONS.items()
    ]
    said += [
        f"(int)dysonflow::Failure::{text.replace(' ', '_')} == {number}"
        for number, text in FAILURES.items()
    ]
    asserted = [f'static_assert({one}, "gpu.py says otherwise");' for one in said]
    return "\n".join([OFFSET_OF, *asserted])


class Card(Protocol):
    """What the loops need of a GPU."""

    name: str
    architecture: str

    def load(self, variant: Variant) -> Any:
        """Functions of a variant, ready to be launched."""

    def allocate(self, size: int) -> Any:
        """Memory of `size` bytes, freed when nobody holds it any more; its `handle` is where."""

    def upload(self, array: NDArray[Any], memory: Any) -> None:
        """Copy an array there."""

    def download(self, memory: Any, array: NDArray[Any]) -> None:
        """Copy memory into an array."""

    def free(self) -> int:
        """Bytes that are free."""

    def threads(self, functions: Any, variant: Variant) -> int:
        """How many threads of a variant run side by side."""

    def launch(self, functions: Any, name: str, threads: int, *arguments: Any) -> None:
        """Run a function in so many threads, and wait for them."""


class NvidiaCard:
    """The first GPU that this process sees, through `cuda.core`.

    Raises
    ------
    ConfigError
        If it cannot be used; the line says why.
    """

    def __init__(self) -> None:
        from cuda.core import Device

        with explained(""):
            self.device = Device(0)
            self.device.set_current()
            self.stream = self.device.create_stream()
            self.name: str = self.device.name
            major, minor = self.device.compute_capability
        self.architecture = f"sm_{major}{minor}"
        self._loaded: dict[Variant, Any] = {}

    def load(self, variant: Variant) -> Any:
        """Functions of a variant; compiled or from the cache, loaded once a process."""
        from cuda.core import ObjectCode

        if variant not in self._loaded:
            code = nvrtc.machine_code(variant, layout(), self.architecture)
            with explained(self.name):
                module = ObjectCode.from_cubin(code, name=variant.system)
                names = ("advance", "working_memory")
                functions = {name: module.get_kernel(name) for name in names}
            self._ask_for_shared_memory(functions["advance"])
            self._loaded[variant] = functions
        return self._loaded[variant]

    def _ask_for_shared_memory(self, function: Any) -> None:
        """Have multiprocessors give their memory to the blocks first, the rest to the cache."""
        from cuda.bindings import driver

        what = driver.CUfunction_attribute
        here = function.handle, driver.CUdevice(self.device.device_id)
        size = what.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
        share = what.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT
        if self._check(driver.cuKernelGetAttribute(size, *here))[0]:
            (status,) = driver.cuKernelSetAttribute(share, 100, *here)
            if int(status) != 0:
                # It is slower then, and nothing else.
                log.info("%s: shared memory is left to the driver (%s)", self.name, status.name)

    def allocate(self, size: int) -> Any:
        """Memory of `size` bytes."""
        with explained(self.name):
            return self.device.allocate(max(size, 1), stream=self.stream)

    def upload(self, array: NDArray[Any], memory: Any) -> None:
        """Copy an array there."""
        from cuda.bindings import driver

        there, here = int(memory.handle), array.ctypes.data
        # In the stream: elsewhere a launch might begin before the copy is over.
        self._check(driver.cuMemcpyHtoDAsync(there, here, array.nbytes, self.stream.handle))
        self.stream.sync()

    def download(self, memory: Any, array: NDArray[Any]) -> None:
        """Copy memory into an array."""
        from cuda.bindings import driver

        there, here = int(memory.handle), array.ctypes.data
        self._check(driver.cuMemcpyDtoHAsync(here, there, array.nbytes, self.stream.handle))
        self.stream.sync()

    def free(self) -> int:
        """Bytes that are free, once what this process has freed is given back."""
        from cuda.bindings import driver

        # cuda.core has the pool of a card keep all that was ever taken from it.
        self.stream.sync()
        (pool,) = self._check(driver.cuDeviceGetMemPool(driver.CUdevice(self.device.device_id)))
        self._check(driver.cuMemPoolTrimTo(pool, 0))
        return int(self._check(driver.cuMemGetInfo())[0])

    def threads(self, functions: Any, variant: Variant) -> int:
        """How many threads of a variant run side by side."""
        with explained(self.name):
            occupancy = functions["advance"].occupancy
            blocks = occupancy.max_active_blocks_per_multiprocessor(BLOCK, 0)
            return int(blocks * self.device.properties.multiprocessor_count * BLOCK)

    def launch(self, functions: Any, name: str, threads: int, *arguments: Any) -> None:
        """Run a function in so many threads, and wait for them."""
        from cuda.core import LaunchConfig, launch

        with explained(self.name):
            config = LaunchConfig(grid=-(-threads // BLOCK), block=BLOCK)
            launch(self.stream, config, functions[name], *arguments)
            self.stream.sync()

    def _check(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        """What a call of the driver gave, without its status."""
        status, *found = answer
        with explained(self.name):
            if int(status) != 0:
                raise RuntimeError(status.name)
        return tuple(found)


@contextmanager
def explained(card: str) -> Iterator[None]:
    """Turn what the driver gives up with into one line.

    Raises
    ------
    ConfigError
        In the place of errors of the driver.
    MemoryError
        If the memory of the card does not suffice: who asked for it knows what to change.
    """
    try:
        yield
    except (ConfigError, MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        said = _first_line(error)
        if "OUT_OF_MEMORY" in said:
            raise MemoryError(said) from error
        raise ConfigError(
            f"device = 'cuda': {why_driver_refused(said, card or 'the GPU')}"
        ) from error


def why_driver_refused(said: str, card: str) -> str:
    """Why a GPU does not work, and what to change, by what the driver says.

    Parameters
    ----------
    said : str
        By the driver, with the name of its status.
    card : str
        Name of the card.
    """
    if "NO_DEVICE" in said or "INVALID_DEVICE" in said:
        return "no GPU is visible here (`nvidia-smi -L`, CUDA_VISIBLE_DEVICES)"
    if "INVALID_IMAGE" in said or "UNSUPPORTED_PTX" in said or "NO_BINARY" in said:
        return (
            f"the driver of {card} does not take what {nvrtc.nvrtc_name()} compiled; "
            "update the driver, or install nvidia-cuda-nvrtc of its version of CUDA"
        )
    if "LAUNCH_TIMEOUT" in said:
        return f"{card} also drives a screen, and its driver stopped the kernel; take another card"
    return why_refused(said, card)


@cache
def card() -> Card:
    """The GPU of this process; errors as of `NvidiaCard`."""
    return NvidiaCard()


@cache
def why_unavailable() -> str:
    """Why the kernel cannot run on a GPU here; empty if it can."""
    why = nvrtc.why_unavailable()
    if why:
        return why
    try:
        from cuda.bindings import driver

        (status,) = driver.cuInit(0)
        if int(status) != 0:
            return why_driver_refused(status.name, "the GPU")
        status, version = driver.cuDriverGetVersion()
        why = why_too_old(version, nvrtc.nvrtc_version())
        if why:
            return why
        found = card()
    except ConfigError as error:
        return str(error)
    except MemoryError:
        return why_refused("out of memory", "the GPU")
    except Exception as error:
        return f"the driver cannot be used ({_first_line(error)})"
    if found.architecture not in nvrtc.architectures():
        return (
            f"{nvrtc.nvrtc_name()} does not know {found.name} ({found.architecture}); "
            "install nvidia-cuda-nvrtc of another version"
        )
    return ""


def why_too_old(driver: int, compiler: tuple[int, int]) -> str:
    """Why a driver cannot load what a compiler makes; empty if it can.

    Within a major version of CUDA any driver loads machine code of any compiler (CUDA
    compatibility, minor version compatibility); a newer driver also loads older code.

    Parameters
    ----------
    driver : int
        As the driver says it: 12040 is CUDA 12.4.
    compiler : tuple of int
        Version of NVRTC.
    """
    major, minor = driver // 1000, driver % 1000 // 10
    if compiler[0] <= major:
        return ""
    return (
        f"the driver is made for CUDA {major}.{minor}, NVRTC is of {compiler[0]}.{compiler[1]}: "
        f"update the driver, or pip install 'cuda-bindings=={major}.*' "
        f"'nvidia-cuda-nvrtc-cu{major}'"
    )


def why_too_large(shapes: Iterable[tuple[int, int]], largest: int) -> str:
    """Why weights of these shapes are not for the kernel on a GPU; empty if they are.

    Parameters
    ----------
    shapes : iterable of tuple of int
        Of the weights.
    largest : int
        Most rows or columns for which it is used.
    """
    for rows, columns in shapes:
        if max(rows, columns) > largest:
            return f"{rows} x {columns} weights, more than {largest}, are left to its products"
    return ""


class ReplicasOnGpu:
    """State of an ensemble in the memory of a card, and the loop that advances it.

    Parameters
    ----------
    card : Card
        Where.
    system : str
        As in `nvrtc.FAMILIES`.
    arrays : mapping
        Field of `Job` to the array that the loop changes: `weights`, `streams`, and where the
        system has them `chains` and `diverged`. What stands there is uploaded, and `fetch` brings
        what it has become.
    target : array
        The field `target`.
    numbers : mapping
        Fields of `Job` that do not change.
    vector_bytes, registers : int
        As of `nvrtc.Variant`.
    """

    def __init__(
        self,
        card: Card,
        system: str,
        arrays: Mapping[str, NDArray[Any]],
        target: NDArray[Any],
        numbers: Mapping[str, Any],
        vector_bytes: int = 8,
        registers: int = 255,
    ):
        self.card, self.system = card, system
        self.arrays = dict(arrays)
        weights = self.arrays["weights"]
        self.replicas, rows, columns = weights.shape
        self.numbers: dict[str, Any] = {
            "system": SYSTEMS[system],
            "single_precision": weights.dtype.itemsize == 4,
            "replicas": self.replicas,
            "hidden": rows,
            "visible": columns,
            **numbers,
        }
        self._variant = Variant(
            system,
            weights.dtype.name,
            nvrtc.constant_for(system, rows, columns),
            False,
            vector_bytes,
            registers,
        )
        self._stride = FIRST_STRIDE
        self._scratch: tuple[Any, int] = (None, 0)
        self._elements: dict[tuple[Variant, bool], int] = {}
        self._changed = False
        with self._enough_memory():
            # What was there before nothing was asked for, for the line on what does not fit.
            self._free = card.free()
            self.memory = {name: card.allocate(array.nbytes) for name, array in self.arrays.items()}
            self.target = self._uploaded(target)
            self._job = card.allocate(ctypes.sizeof(Job))
            self._stop = card.allocate(8)
            groups = -(-self.replicas // self._variant.lanes)
            self._outcomes = np.zeros(groups, OUTCOME)
            self._outcomes_there = self._uploaded(self._outcomes)
        for name, array in self.arrays.items():
            card.upload(array, self.memory[name])

    def fetch(self) -> None:
        """Bring what the loop changed into the arrays."""
        if self._changed:
            for name, array in self.arrays.items():
                self.card.download(self.memory[name], array)
            self._changed = False

    def advance(
        self,
        steps: int,
        first_step: int,
        noise: NDArray[Any] | None = None,
        inputs: NDArray[Any] | None = None,
    ) -> tuple[int, int, str] | None:
        """Make `steps` steps.

        Parameters
        ----------
        steps : int
            How many.
        first_step : int
            Steps made before.
        noise : array of shape (replicas, steps, numbers), optional
            Random numbers to use instead of drawn ones.
        inputs : array of shape (steps, ...) or (replicas, steps, ...), optional
            The field `inputs`: the second shape, with one axis more, only of `teacher_student`.

        Returns
        -------
        tuple, optional
            Replica, step and kind of the first failure.
        """
        variant = replace(self._variant, noise_given=noise is not None)
        with self._enough_memory():
            functions = self.card.load(variant)
        job = Job(**self.numbers, steps=steps, first_step=first_step)
        job.target = int(self.target.handle)
        for name, memory in self.memory.items():
            setattr(job, name, int(memory.handle))
        # Held until the last launch is over.
        held, of_step = [], 0
        with self._enough_memory():
            if noise is not None:
                held.append(self._uploaded(noise))
                job.noise, job.noise_per_step = int(held[-1].handle), noise.shape[2]
            if inputs is not None:
                own = inputs.ndim == 4
                of_step = inputs.nbytes // max(steps * (self.replicas if own else 1), 1)
                held.append(self._uploaded(inputs))
                job.inputs = int(held[-1].handle)
                job.inputs_per_replica = inputs[0].size if own else 0
        self._changed = True
        while True:
            # Given noise has its rows as long as the call.
            job.steps = steps if noise is not None else min(steps, self._stride)
            started = time.perf_counter()
            outcome = self._launch(functions, variant, job)
            if outcome is not None:
                return outcome
            if job.steps:
                self._adapt(job.steps, time.perf_counter() - started)
            steps -= job.steps
            if steps <= 0:
                return None
            job.first_step += job.steps
            if inputs is not None:
                job.inputs += of_step * job.steps

    def _launch(self, functions: Any, variant: Variant, job: Job) -> tuple[int, int, str] | None:
        """One launch, and its first failure."""
        card = self.card
        stop = np.array([NEVER])
        with self._enough_memory():
            card.upload(np.frombuffer(bytes(job), np.uint8), self._job)
            threads, elements = self._working_memory(functions, variant, bool(job.inputs))
            card.upload(stop, self._stop)
            arguments = (self._job, self._scratch[0], ctypes.c_int64(elements), self._stop)
            card.launch(functions, "advance", threads, *arguments, self._outcomes_there)
        card.download(self._stop, stop)
        if stop[0] == NEVER:
            return None
        card.download(self._outcomes_there, self._outcomes)
        failed = self._outcomes[self._outcomes["failure"] != 0]
        first = failed[np.lexsort((failed["replica"], failed["step"]))[0]]
        self._outcomes[:] = 0
        card.upload(self._outcomes, self._outcomes_there)
        return int(first["replica"]), int(first["step"]), FAILURES[int(first["failure"])]

    def _working_memory(
        self, functions: Any, variant: Variant, has_inputs: bool
    ) -> tuple[int, int]:
        """Threads, and elements of working memory for each, which is there when this returns."""
        case, found = (variant, has_inputs), np.zeros(1, np.int64)
        is_new = case not in self._elements or self._scratch[0] is None
        if is_new:
            self.card.launch(functions, "working_memory", 1, self._job, self._stop)
            self.card.download(self._stop, found)
            self._elements[case] = int(found[0])
        elements = self._elements[case]
        of_thread = elements * variant.vector_bytes
        needed = -(-len(self._outcomes) // BLOCK) * BLOCK
        threads = min(needed, self.card.threads(functions, variant))
        if is_new and threads * of_thread > self._scratch[1]:
            self._scratch = (None, 0)
            # Fewer threads serve as well, only more slowly.
            fitting = int(SHARE * self.card.free()) // of_thread // BLOCK * BLOCK
            size = max(min(threads, fitting), BLOCK) * of_thread
            self._scratch = (self.card.allocate(size), size)
        threads = min(threads, self._scratch[1] // of_thread // BLOCK * BLOCK)
        return threads, elements

    def _adapt(self, steps: int, seconds: float) -> None:
        """Choose the steps of the next launch by the time of this one."""
        fitting = steps * LAUNCH_SECONDS / max(seconds, 1e-6)
        self._stride = int(min(max(fitting, 1.0), 8.0 * self._stride))

    def _uploaded(self, array: NDArray[Any]) -> Any:
        memory = self.card.allocate(array.nbytes)
        self.card.upload(np.ascontiguousarray(array), memory)
        return memory

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        """Say what to change where the memory of the card does not suffice."""
        try:
            yield
        except MemoryError as error:
            state = sum(array.nbytes for array in self.arrays.values())
            fits = int(SHARE * self._free * self.replicas / state) // BLOCK_SIZE * BLOCK_SIZE
            fitting = min(fits, (self.replicas - 1) // BLOCK_SIZE * BLOCK_SIZE)
            fix = f"lower shard_size to {fitting}" if fitting else "take another card"
            raise ConfigError(
                f"device = 'cuda': out of memory on {self.card.name}: the state of {self.replicas} "
                f"replicas is {state / 1e9:.2g} GB, their working memory comes to it, and "
                f"{self._free / 1e9:.2g} GB were free; {fix}"
            ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
