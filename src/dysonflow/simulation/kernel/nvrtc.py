"""Machine code of the kernel for a GPU: compiled from its source at run time, kept on disk.

The compiler is NVRTC, a library: no CUDA toolkit, no step at installation. It comes as the wheel
``nvidia-cuda-nvrtc`` or with torch. It is asked for machine code of one architecture rather than
for PTX, which a driver older than NVRTC would refuse to read.

Nothing is contracted or approximated (no fused multiply-add but those that the source asks for,
IEEE division and root, denormal numbers kept), so a thread computes the bits of a lane of a CPU.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dysonflow.artifacts.cache_folder import cache_folder
from dysonflow.artifacts.files import atomic
from dysonflow.errors import ArtifactError

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
FAMILIES = {
    "gibbs": "gaussian_rbm",
    "ar1": "gaussian_rbm",
    "wishart": "gaussian_rbm",
    "teacher_student": "teacher_student",
    "dyson": "dyson",
    "two_layer_student": "two_layer_student",
}
"""The source file of each system, in the order of the enumeration `System`."""
REALS = {"float64": "double", "float32": "float"}
LARGEST_CONSTANT = {"gaussian_rbm": 16, "teacher_student": 10}
"""Up to this N it is a constant of the loops; beyond it, and for others, one code serves all."""
ALL_REGISTERS = 255
"""That a thread can have."""
SEAL_BYTES = 32
"""Of the checksum before the machine code in a file of the cache."""


@dataclass(frozen=True)
class Variant:
    """What the compiler makes one piece of machine code for.

    Attributes
    ----------
    system : str
        One of `FAMILIES`.
    dtype : str
        `float64` or `float32`.
    constant : int
        N where it is a constant of the loops, else 0.
    noise_given : bool
        Whether the random numbers come with the job, as in tests.
    vector_bytes : int
        Size of the lanes of a thread. 8: one float64 or two float32 replicas.
    registers : int
        Most registers of a thread; of all of them the compiler uses as many as it likes.
    """

    system: str
    dtype: str
    constant: int = 0
    noise_given: bool = False
    vector_bytes: int = 8
    registers: int = ALL_REGISTERS

    @property
    def lanes(self) -> int:
        """Replicas of a thread."""
        return self.vector_bytes // (8 if self.dtype == "float64" else 4)

    @property
    def macros(self) -> dict[str, str]:
        """What `gpu.hpp` is told."""
        return {
            "DYSONFLOW_GPU": "1",
            "DYSONFLOW_ISA": "gpu",
            "DYSONFLOW_SYSTEM": self.system,
            "DYSONFLOW_REAL": REALS[self.dtype],
            "DYSONFLOW_FIXED": str(self.constant),
            "DYSONFLOW_NOISE_GIVEN": str(int(self.noise_given)),
            "DYSONFLOW_VECTOR_BYTES": str(self.vector_bytes),
            "DYSONFLOW_ALL_REGISTERS": str(int(self.registers >= ALL_REGISTERS)),
        }


def constant_for(system: str, rows: int, columns: int) -> int:
    """`Variant.constant` for weights of a shape."""
    largest = LARGEST_CONSTANT.get(FAMILIES[system], 0)
    return columns if rows == columns <= largest else 0


def why_unavailable() -> str:
    """Why nothing can be compiled here; empty if NVRTC is there."""
    try:
        nvrtc_version()
    except ImportError as error:
        return f"{_first_line(error)}; pip install 'dysonflow[gpu]' brings what is missing"
    except Exception as error:
        # Each release of the loader has its own classes of errors.
        return (
            f"NVRTC is not there ({_first_line(error)}); install nvidia-cuda-nvrtc, of the major "
            "version of cuda-bindings"
        )
    return ""


@cache
def nvrtc_version() -> tuple[int, int]:
    """Version of NVRTC, as of the CUDA toolkit that it belongs to.

    Raises
    ------
    ImportError
        If the bindings are not installed.
    Exception
        If the library is not there; of the class that the bindings have for that.
    """
    from cuda.bindings import nvrtc

    error, major, minor = nvrtc.nvrtcVersion()
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(str(error))
    return major, minor


def nvrtc_name() -> str:
    """The compiler with its version, for people."""
    return "NVRTC {}.{}".format(*nvrtc_version())


def architectures() -> list[str]:
    """Architectures that NVRTC knows, such as `sm_90`."""
    from cuda.bindings import nvrtc

    error, count = nvrtc.nvrtcGetNumSupportedArchs()
    if error == nvrtc.nvrtcResult.NVRTC_SUCCESS:
        error, known = nvrtc.nvrtcGetSupportedArchs()
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(str(error))
    return [f"sm_{number}" for number in known[:count]]


def machine_code(variant: Variant, layout: str, architecture: str) -> bytes:
    """Machine code (cubin) of a variant, from the cache if it is there.

    A file of the cache that is damaged is made anew; where none can be written, the next process
    compiles again.

    Parameters
    ----------
    variant : Variant
        What to compile.
    layout : str
        Assertions on the layout of the job, which the compiler checks.
    architecture : str
        Such as `sm_90`.

    Raises
    ------
    RuntimeError
        If the compiler refuses the source, with its log.
    """
    folder = cache_folder()
    path = None if folder is None else folder / file_name(variant, layout, architecture)
    if path is not None:
        found = _read(path)
        if found:
            return found
    code = compiled(variant, layout, architecture)
    if path is not None:
        try:
            with atomic(path) as temporary:
                temporary.write_bytes(sealed(code))
        except ArtifactError as error:
            log.warning("the kernel will be compiled again the next time: %s", error)
    return code


def compiled(variant: Variant, layout: str, architecture: str, in_haste: bool = False) -> bytes:
    """Machine code of a variant, freshly compiled; parameters and errors as of `machine_code`.

    With `in_haste` nothing is optimised, which takes a tenth of the time: for tests.
    """
    from cuda.core import Program

    log.info("compiling %s for %s", variant, architecture)
    try:
        program = Program(source(variant, layout), "c++", options(variant, architecture, in_haste))
        return bytes(program.compile("cubin").code)
    except Exception as error:
        # Of a class that the bindings do not make public.
        raise RuntimeError(f"{nvrtc_name()} refuses {variant}: {error}") from error


def options(variant: Variant, architecture: str, in_haste: bool = False) -> Any:
    """What the compiler is asked for, as `cuda.core.ProgramOptions`; parameters of `compiled`."""
    from cuda.core import ProgramOptions

    return ProgramOptions(
        name=f"dysonflow_{variant.system}",
        std="c++17",
        arch=architecture,
        fma=False,
        ftz=False,
        prec_div=True,
        prec_sqrt=True,
        device_as_default_execution_space=True,
        max_register_count=variant.registers,
        define_macro=list(variant.macros.items()),
        include_path=str(FOLDER),
        disable_warnings=True,
        ofast_compile="max" if in_haste else None,
    )


def source(variant: Variant, layout: str) -> str:
    """What is compiled; all else is included."""
    return f'#include "{FAMILIES[variant.system]}.cpp"\n{layout}\n'


def file_name(variant: Variant, layout: str, architecture: str) -> str:
    """Where machine code is kept in the cache: under all that decides it; as of `machine_code`."""
    parts = [repr(variant), layout, architecture, str(nvrtc_version())]
    parts += [f"{path.name}\n{text}" for path, text in _sources(FAMILIES[variant.system])]
    # Also what this file asks the compiler for.
    parts.append(Path(__file__).read_text(encoding="utf-8"))
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"kernel/{variant.system}-{architecture}-{key[:32]}.cubin"


@cache
def _sources(family: str) -> list[tuple[Path, str]]:
    """A source file and all that it includes, with their text."""
    found: dict[Path, str] = {}
    pending = [FOLDER / f"{family}.cpp"]
    while pending:
        path = pending.pop()
        if path not in found:
            found[path] = path.read_text(encoding="utf-8")
            names = re.findall(r'#\s*include\s*"([^"]+)"', found[path])
            pending += [path.with_name(name) for name in names]
    return sorted(found.items())


def sealed(code: bytes) -> bytes:
    """Machine code as a file of the cache holds it, behind its checksum."""
    return hashlib.sha256(code).digest() + code


def _read(path: Path) -> bytes:
    """Machine code in a file of the cache; empty if there is none that is whole."""
    try:
        raw = path.read_bytes()
    except OSError:
        return b""
    code = raw[SEAL_BYTES:]
    if not code or sealed(code) != raw:
        log.warning("%s is damaged: compiled again", path)
        return b""
    return code


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
