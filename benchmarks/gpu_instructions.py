"""What a GPU executes and moves for a replica and step, counted without one, and its bounds.

The PTX that NVRTC makes of the kernel is run on this processor; its instructions and what it reads
and writes of its working memory are counted (tests/ptx.py). Bounds on replica-steps per second
follow, for an H100 unless told otherwise; waiting is in none of them:

issue    instructions by what a multiprocessor can do in a cycle (CUDA C++ Programming Guide,
         "Arithmetic Instructions", compute capability 9.0). NVIDIA's assembler drops copies of
         registers and joins additions to addresses with the access that uses them, and makes ten
         to forty instructions of a division or root; the count is of PTX.
L2       bytes that the first cache does not hold; it writes through.
memory   bytes that the second cache does not hold.

torch    the same bound for the batched products of torch: bytes of the arrays that its operations
         read and write, as if a product waited for nothing else (two systems have it).

A cache is taken to be shared evenly by the threads that run at once, and to drop what has not been
used for longest. How many run at once follows from registers and shared memory of the machine code.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import sys
import tempfile
import time
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from dysonflow.models import hyperparameters_of, load
from dysonflow.simulation.base import Block
from dysonflow.simulation.kernel import gpu, nvrtc

# The processor in the place of a card, and the small kernels, are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import cubin
import emulated_card
import small_kernels

REPLICAS, STEPS = 64, 32
TRACED = 4
"""Steps of which every access is followed, after as many that fill the caches."""
ISSUED = 128
PER_CYCLE = {"float64": 64, "float32": 128, "integers": 64, "memory": 16, "shared": 16}
"""Instructions of a multiprocessor, counted for one thread each; an access has eight bytes."""
WARPS, BLOCKS, REGISTERS, SHARED = 64, 32, 65536, 227 * 1024
"""Of a multiprocessor: at most."""
OF_BLOCK = 1024
"""Bytes of shared memory that a block takes for itself."""
FIRST_CACHE = 256 * 1024
"""Bytes of a multiprocessor that shared memory leaves to the first cache."""

WIDTHS = {"system": 17, "dtype": 8, "registers": 5, "warps": 6, "multiply_adds": 7}
WIDTHS |= {"instructions": 8, "bytes": 8, "bytes_l2": 8, "bytes_memory": 9}
WIDTHS |= {"bound_issue": 9, "bound_l2": 9, "bound_memory": 9, "bound_torch": 9}
WIDTHS |= {"cpu": 9, "over_cpu": 7}
SHORT = {"registers": "regs", "multiply_adds": "fma", "instructions": "instr", "bytes_l2": "to L2"}
SHORT |= {"bytes_memory": "to mem.", "bound_issue": "issue", "bound_l2": "L2"}
SHORT |= {"bound_memory": "memory", "bound_torch": "torch", "over_cpu": "/ cpu"}
"""Of the columns that are printed; --out has all."""


def class_of(opcode: str) -> str:
    """Unit that an instruction of PTX keeps busy; empty where there is none, or a rare one."""
    name, *parts = opcode.split(".")
    if name in ("ld", "st", "atom"):
        return "shared" if "shared" in parts else "" if "param" in parts else "memory"
    if name in ("fma", "add", "sub", "mul", "min", "max", "setp"):
        floats = {"f64": "float64", "f32": "float32"}
        return floats.get(parts[-1], "integers")
    if name in ("and", "or", "xor", "not", "shl", "shr", "shf", "bfi", "mad", "neg"):
        return "" if parts[-1] in ("pred", "f32", "f64") else "integers"
    return ""


class CountingCard(emulated_card.EmulatedCard):
    """A card whose code counts what it executes."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.scratch = (0, 0)

    def load(self, variant: nvrtc.Variant) -> Any:
        """The code of a variant that counts."""
        if variant not in self._loaded:
            library = emulated_card.build(variant, self.folder, from_ptx=True, counted=True)
            self._loaded[variant] = ctypes.CDLL(str(library))
        return self._loaded[variant]

    def launch(self, functions: Any, name: str, threads: int, *arguments: Any) -> None:
        """Run a function, and note where its working memory is."""
        if name == "advance":
            self.scratch = (arguments[1].handle, arguments[1].handle + arguments[1].size)
        super().launch(functions, name, threads, *arguments)

    @property
    def library(self) -> tuple[nvrtc.Variant, Any]:
        """The only one that was loaded."""
        ((variant, library),) = self._loaded.items()
        return variant, library

    def executed(self) -> Counter[str]:
        """Instructions of all threads until now, by opcode."""
        library = self.library[1]
        size = ctypes.c_uint64.in_dll(library, "instructions").value
        numbers = (ctypes.c_uint64 * size).in_dll(library, "executed")
        said = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "opcodes")))
        found: Counter[str] = Counter()
        for opcode, number in zip(said.decode().split("\n"), numbers, strict=True):
            found[opcode] += number
        return found

    def follow(self, room: int) -> np.ndarray:
        """Note the accesses from now on, in rows of place, size and whether it is written."""
        notes = np.zeros((room, 3), np.uint64)
        library = self.library[1]
        ctypes.c_void_p.in_dll(library, "accesses").value = notes.ctypes.data
        ctypes.c_uint64.in_dll(library, "accessed").value = 0
        ctypes.c_uint64.in_dll(library, "room").value = room
        return notes

    def followed(self) -> int:
        """How many accesses were noted."""
        return ctypes.c_uint64.in_dll(self.library[1], "accessed").value

    def forget(self) -> None:
        """Note no more."""
        ctypes.c_uint64.in_dll(self.library[1], "room").value = 0


def instructions(start: Any, folder: Path, **arguments: Any) -> tuple[Counter[str], nvrtc.Variant]:
    """Instructions of a replica and step, by opcode."""
    card = CountingCard(folder)
    gpu.card = lambda: card
    ensemble = start(replicas=REPLICAS, device="cuda", **arguments)
    ensemble.advance(STEPS)
    before = card.executed()
    ensemble.advance(STEPS)
    after = card.executed()
    found = Counter({one: (after[one] - before[one]) / REPLICAS / STEPS for one in after})
    return found, card.library[0]


def accesses(start: Any, folder: Path, lanes: int, **arguments: Any) -> tuple[np.ndarray, int]:
    """Accesses of one thread to its working memory in twice `TRACED` steps, and its second half."""
    card = CountingCard(folder)
    gpu.card = lambda: card
    ensemble = start(replicas=lanes, device="cuda", **arguments)
    ensemble.advance(1)
    notes = card.follow(20_000_000)
    ensemble.advance(TRACED)
    half = card.followed()
    ensemble.advance(TRACED)
    whole = card.followed()
    card.forget()
    if whole == len(notes):
        raise SystemExit("benchmarks/gpu_instructions.py: too many accesses to follow")
    low, high = card.scratch
    own = (notes[:whole, 0] >= low) & (notes[:whole, 0] < high)
    return notes[:whole][own].astype(np.int64), int(own[:half].sum())


def missed(trace: np.ndarray, first: int, size: float) -> tuple[int, int]:
    """Bytes read and bytes written back of a cache of so many bytes, after access `first`."""
    cache: OrderedDict[int, tuple[int, bool]] = OrderedDict()
    held = read = written = 0
    for number, (place, length, writes) in enumerate(trace.tolist()):
        counts = number >= first
        there, dirty = cache.pop(place, (0, False))
        if not there:
            read += length * (counts and not writes)
        held += length - there
        cache[place] = length, dirty or bool(writes)
        while held > size:
            _, (oldest, dirty) = cache.popitem(last=False)
            held -= oldest
            written += oldest * (dirty and counts)
    return read, written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--multiprocessors", type=int, default=132, help="of the card")
    parser.add_argument("--gigahertz", type=float, default=1.755, help="of the card")
    parser.add_argument("--l2", type=float, default=50, help="second cache, MB")
    parser.add_argument("--l2-rate", type=float, default=5500, help="of that, GB/s")
    parser.add_argument("--rate", type=float, default=3000, help="of the memory, GB/s")
    parser.add_argument("--opcodes", action="store_true", help="list what is executed most, too")
    parser.add_argument("--systems", nargs="+", help="these alone")
    parser.add_argument("--sites", type=int, default=10, help="N of the Boltzmann machine")
    parser.add_argument("--out", type=Path, help="table of the rows, .csv")
    arguments = parser.parse_args()
    why = nvrtc.why_unavailable()
    if why:
        raise SystemExit(f"benchmarks/gpu_instructions.py: {why}")
    starts: dict[str, Any] = {
        sampler: lambda sampler=sampler, **more: small_kernels.rbm(sampler, arguments.sites, **more)
        for sampler in ("gibbs", "ar1", "wishart")
    }
    starts["teacher_student"] = small_kernels.student
    starts["two_layer_student"] = small_kernels.network
    starts["dyson"] = small_kernels.levels
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for system in arguments.systems or starts:
            for dtype in ("float64", "float32") if system != "dyson" else ("float64",):
                row = measured(system, dtype, starts[system], Path(folder), arguments)
                if not rows:
                    heads = (f"{SHORT.get(name, name):>{width}}" for name, width in WIDTHS.items())
                    print("".join(heads))
                rows.append(row)
                said = (written(row[name], width) for name, width in WIDTHS.items())
                print("".join(said), flush=True)
    if arguments.out:
        with arguments.out.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


def written(value: Any, width: int) -> str:
    if not isinstance(value, float):
        return f"{value:>{width}}"
    return f"{value:>{width}.2g}" if value >= 1e6 else f"{value:>{width}.0f}"


def bytes_of_torch(system: str, dtype: str, sites: int) -> float:
    """Bytes that the operations of torch read and write for a replica and step; 0 if unknown."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    if system == "teacher_student":
        model, values = system, {}
    elif system in ("gibbs", "ar1", "wishart"):
        model, values = "gaussian_rbm", {"sampler": system, "sites": sites, "learning_rate": 0.02}
    else:
        return 0.0
    values |= {"dtype": dtype, "replicas": 256, "burn_in": 0, "steps": 10}
    run = hyperparameters_of(model).from_config(values)
    simulation = load(model).simulation.start(run, Block(0, run.replicas, "cpu"))

    def size(tree: Any) -> int:
        # What repeats an element is read once.
        found = [one for one in tree_leaves(tree) if isinstance(one, torch.Tensor)]
        return sum(
            one.untyped_storage().nbytes() if 0 in one.stride() else one.nbytes for one in found
        )

    class Counter(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = function(*args, **(kwargs or {}))
            name = function.overloadpacket.__name__
            if not function.is_view and name not in ("empty", "_unsafe_view", "detach"):
                # What only fills an array does not read it.
                fills = name in ("normal_", "zero_", "fill_")
                self.bytes += size(result) + (0 if fills else size((args, kwargs)))
            return result

    simulation.advance(2)
    with Counter() as beside:
        simulation.advance(0)
    with Counter() as counter:
        simulation.advance(4)
    return (counter.bytes - beside.bytes) / 4 / run.replicas


def on_cpu(start: Any, dtype: str) -> float:
    """Replica-steps per second of the kernel on two threads of this processor: the best of four."""
    ensemble = start(replicas=256, threads=2, dtype=dtype)
    steps, timed, least = 1, 0, float("inf")
    while timed < 4:
        began = time.perf_counter()
        ensemble.advance(steps)
        seconds = time.perf_counter() - began
        if timed or seconds > 0.25:
            timed, least = timed + 1, min(least, seconds)
        else:
            steps *= 2
    return 256 * steps / least


def measured(
    system: str, dtype: str, start: Any, folder: Path, card: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table."""
    found, variant = instructions(start, folder, dtype=dtype)
    if card.opcodes:
        for opcode, number in found.most_common(40):
            print(f"    {number:9.1f} {opcode}")
    amounts: Counter[str] = Counter()
    for opcode, number in found.items():
        amounts[class_of(opcode)] += number
    issued = sum(found.values())
    cycles = max(issued / ISSUED, *(amounts[one] / PER_CYCLE[one] for one in PER_CYCLE))

    code = nvrtc.compiled(variant, gpu.layout(), "sm_90")
    registers, shared = cubin.resources(code)
    of_warp = -(-registers // 8) * 8 * 32
    warps = min(WARPS, BLOCKS, REGISTERS // of_warp, SHARED // (shared + OF_BLOCK))
    threads = 32 * warps
    left = FIRST_CACHE - warps * (shared + OF_BLOCK)

    trace, half = accesses(start, folder, variant.lanes, dtype=dtype)
    steps = TRACED * variant.lanes
    read, _ = missed(trace, half, left / threads)
    through = (read + int((trace[half:, 1] * trace[half:, 2]).sum())) / steps
    # Where all fits there is none, and no bound.
    beyond = sum(missed(trace, half, card.l2 * 1e6 / (threads * card.multiprocessors))) / steps
    bounds = {
        "issue": card.multiprocessors * card.gigahertz * 1e9 / cycles,
        "l2": card.l2_rate * 1e9 / through,
        "memory": card.rate * 1e9 / beyond if beyond else float("inf"),
    }
    torch_bytes = bytes_of_torch(system, dtype, card.sites)
    bound_of_torch = card.rate * 1e9 / torch_bytes if torch_bytes else float("nan")
    cpu = on_cpu(start, dtype)
    return {
        "system": system,
        "dtype": dtype,
        "registers": registers,
        "warps": warps,
        "multiply_adds": found[f"fma.rn.f{dtype[-2:]}"],
        "instructions": issued,
        **{f"instructions_{one}": amounts[one] for one in PER_CYCLE},
        "bytes": float(trace[half:, 1].sum() / steps),
        "bytes_l2": through,
        "bytes_memory": beyond,
        **{f"bound_{name}": value for name, value in bounds.items()},
        "bytes_torch": torch_bytes,
        "bound_torch": bound_of_torch,
        "cpu": cpu,
        "over_cpu": min(bounds.values()) / cpu,
    }


if __name__ == "__main__":
    main()
