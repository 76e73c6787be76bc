"""A GPU that is none: the kernel's code for GPUs, compiled for this processor.

One thread runs after the other. Either it is the source, where all that is NVIDIA's is left out and
all that is ours is there: the lanes of a thread, its working memory, the record of the job, the
launches. Or it is what NVRTC, asked for what a GPU gets, makes of that source (ptx.py).
"""

import ctypes
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import ptx

from dysonflow.simulation.kernel import gpu, nvrtc

FLAGS = ["-std=c++17", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-trapping-math", "-mfma"]
# In PTX integers go round, and memory has no types.
FLAGS_OF_PTX = ["-fwrapv", "-fno-strict-aliasing"]


def compiler() -> str | None:
    """The compiler that Python was made with, or None if it is not here."""
    command = (sysconfig.get_config_var("CXX") or "").split()
    return shutil.which(command[0]) if command else None


def build(
    variant, folder: Path, optimised: bool = False, from_ptx: bool = False, counted: bool = False
) -> Path:
    """A variant as a library for this processor, built once in a folder.

    From its source, with or without optimisation; or from its PTX, which counts what it executes if
    it is to be counted.
    """
    name = "_".join(map(str, [*variant.__dict__.values(), optimised, from_ptx, counted]))
    source, library = folder / f"{name}.cc", folder / f"{name}.so"
    if not library.exists():
        if from_ptx:
            source.write_text(ptx.translated(ptx.made(variant), counted))
            flags = FLAGS_OF_PTX
        else:
            source.write_text(nvrtc.source(variant, gpu.layout()))
            macros = [f"-D{name}={value}" for name, value in variant.macros.items()]
            flags = [*macros, f"-I{nvrtc.FOLDER}"]
        command = [compiler(), "-O1" if optimised or from_ptx else "-O0", *FLAGS, *flags]
        subprocess.run([*command, "-o", str(library), str(source)], check=True)
    return library


class Memory:
    """Memory that the card counts as its own."""

    def __init__(self, card, size):
        self.bytes = np.zeros(size + 64, np.uint8)
        start = self.bytes.ctypes.data
        self.handle, self.size, self.card = start + (-start) % 64, size, card
        card.used += size

    def __del__(self):
        self.card.used -= self.size


class EmulatedCard:
    """A card of few threads, with so many bytes of memory."""

    def __init__(self, folder: Path, threads: int = 64, size: int = 10**9, from_ptx: bool = False):
        self.folder, self.side_by_side, self.size = folder, threads, size
        self.from_ptx = from_ptx
        self.name, self.architecture, self.used = "emulated", "sm_90", 0
        self.launches: list[int] = []
        self._loaded = {}

    def load(self, variant):
        if variant not in self._loaded:
            library = build(variant, self.folder, from_ptx=self.from_ptx)
            self._loaded[variant] = ctypes.CDLL(str(library))
        return self._loaded[variant]

    def allocate(self, size):
        if self.used + size > self.size:
            raise MemoryError("out of memory")
        return Memory(self, size)

    def upload(self, array, memory):
        ctypes.memmove(memory.handle, array.ctypes.data, array.nbytes)

    def download(self, memory, array):
        ctypes.memmove(array.ctypes.data, memory.handle, array.nbytes)

    def free(self):
        return self.size - self.used

    def threads(self, functions, variant):
        return self.side_by_side

    def launch(self, functions, name, threads, *arguments):
        given = [
            ctypes.c_void_p(one.handle) if isinstance(one, Memory) else one for one in arguments
        ]
        if name == "advance":
            given.append(ctypes.c_int(threads))
            self.launches.append(threads)
        getattr(functions, name)(*given)
