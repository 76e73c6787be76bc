"""A GPU that is none: the kernel's source for GPUs, compiled for this processor.

One thread runs after the other. All that is NVIDIA's is left out; all that is ours is there: the
source with the lanes of a thread, its working memory, the record of the job, the launches.
"""

import ctypes
import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np

from dysonflow.simulation.kernel import gpu, nvrtc

FLAGS = ["-std=c++17", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-trapping-math", "-mfma"]


def compiler() -> str | None:
    """The compiler that Python was made with, or None if it is not here."""
    command = (sysconfig.get_config_var("CXX") or "").split()
    return shutil.which(command[0]) if command else None


def build(variant, folder: Path, optimised: bool = False) -> Path:
    """A variant as a library for this processor, built once in a folder."""
    name = "_".join(map(str, variant.__dict__.values()))
    source, library = folder / f"{name}.cc", folder / f"{name}.so"
    if not library.exists():
        source.write_text(nvrtc.source(variant, gpu.layout()))
        macros = [f"-D{name}={value}" for name, value in variant.macros.items()]
        command = [compiler(), "-O1" if optimised else "-O0", *FLAGS, *macros, f"-I{nvrtc.FOLDER}"]
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

    def __init__(self, folder: Path, threads: int = 64, size: int = 10**9):
        self.folder, self.side_by_side, self.size = folder, threads, size
        self.name, self.architecture, self.used = "emulated", "sm_90", 0
        self.launches: list[int] = []
        self._loaded = {}

    def load(self, variant):
        if variant not in self._loaded:
            self._loaded[variant] = ctypes.CDLL(str(build(variant, self.folder)))
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
