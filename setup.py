"""The compiled kernel, and nothing else: all other metadata stands in pyproject.toml.

The kernel is optional. Where it cannot be built the installation goes on without it, leaves the
reason in ``dysonflow/simulation/kernel/_build_failure.txt``, and the package uses torch instead.
"""

from __future__ import annotations

import os
import platform
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNEL = "src/dysonflow/simulation/kernel"
FACE = f"{KERNEL}/library.cpp"
"""The Python face, compiled once."""
# No contraction and no value-changing optimisation: results must not depend on the instruction set.
FLAGS = ["-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fvisibility=hidden", "-g0", "-w"]
# The face runs once a call. The loops of the machine say themselves what is to be unrolled: -O3
# makes them no faster, only slower to compile. Free of -fwrapv, which Python's own flags bring,
# their index arithmetic is simpler. The loops of the student are few enough for the usual flags,
# with which its smallest system is faster.
FACE_FLAGS = [*FLAGS, "-O1"]
SYSTEMS = {
    f"{KERNEL}/gaussian_rbm.cpp": [*FLAGS, "-O2", "-fno-wrapv"],
    f"{KERNEL}/teacher_student.cpp": [*FLAGS, "-O3", "-fwrapv"],
    f"{KERNEL}/dyson.cpp": [*FLAGS, "-O2", "-fno-wrapv"],
    f"{KERNEL}/two_layer_student.cpp": [*FLAGS, "-O2", "-fno-wrapv"],
}
LOOPS = {**SYSTEMS, f"{KERNEL}/arithmetic.cpp": [*FLAGS, "-O2"]}
"""Compiled once for each instruction set with these flags, the one that takes longest first."""
MSVC_FLAGS = ["/std:c++17", "/O2", "/fp:precise", "/EHsc"]
VARIANTS = {
    "avx512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
}
CPU_SECONDS = 58
"""What all of it takes on a processor of 2023, for the message."""


def describe(error: BaseException) -> str:
    """Say in one short line what went wrong; of a failed command, its program and exit status."""
    cause: BaseException | None = error
    while cause is not None:
        command = getattr(cause, "cmd", None)
        if command:
            return f"{command[0]} failed with exit status {getattr(cause, 'returncode', '?')}"
        cause = cause.__cause__ or cause.__context__
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200)


class BuildKernel(build_ext):
    """Compiles the loops once for each instruction set, side by side, then links all together."""

    def build_extension(self, ext: Extension) -> None:
        """Build the kernel, or leave the reason why not beside it."""
        target = Path(self.get_ext_fullpath(ext.name))
        failure = target.parent / "_build_failure.txt"
        try:
            self._build(ext)
        except Exception as error:
            reason = f"the compiled kernel was not built: {describe(error)}"
            target.parent.mkdir(parents=True, exist_ok=True)
            failure.write_text(reason + "\n", encoding="utf-8")
            print(f"warning: {reason}")
        else:
            failure.unlink(missing_ok=True)

    def _build(self, ext: Extension) -> None:
        import pybind11  # here, so that its absence is a reason like any other

        msvc = self.compiler.compiler_type == "msvc"
        x86 = not msvc and platform.machine().lower() in ("x86_64", "amd64")
        variants = VARIANTS if x86 else {"baseline": []}
        macros = [("DYSONFLOW_X86_VARIANTS", "1")] if x86 else []
        # Every unit as source, output folder, macros, header folders and flags.
        units = [
            (source, name, [("DYSONFLOW_ISA", name)], [], flags + more)
            for source, flags in LOOPS.items()
            for name, more in variants.items()
        ]
        # After the longest ones, so that it does not end last on many cores.
        units.insert(len(variants), (FACE, "face", macros, [pybind11.get_include()], FACE_FLAGS))

        def compile_unit(unit: tuple[str, str, list, list[str], list[str]]) -> str:
            source, folder, macros, headers, flags = unit
            (compiled,) = self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp) / folder),
                macros=macros,
                include_dirs=[KERNEL, *headers],
                extra_postargs=MSVC_FLAGS if msvc else flags,
            )
            return str(compiled)

        cores = min(os.cpu_count() or 1, len(units))
        print(
            f"compiling the kernel: {len(SYSTEMS)} systems x {len(variants)} instruction sets, "
            f"on {cores} cores (about {CPU_SECONDS * len(variants) // len(VARIANTS)} s of CPU)",
            flush=True,
        )
        with ThreadPoolExecutor(cores) as pool:
            ext.extra_objects = list(pool.map(compile_unit, units))
        # What is left to do is to link, again whenever one of the files is newer than the library.
        ext.depends, ext.sources = [*ext.sources, *ext.depends], []
        if not msvc:
            ext.extra_link_args = ["-pthread"]
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": BuildKernel},
    ext_modules=[
        Extension(
            "dysonflow.simulation.kernel._kernel",
            sources=[FACE, *LOOPS],
            depends=sorted(path.as_posix() for path in Path(KERNEL).glob("*.hpp")),
            language="c++",
            optional=True,
        )
    ],
)
