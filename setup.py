"""The compiled kernel, and nothing else: all other metadata stands in pyproject.toml.

The kernel is optional. Where it cannot be built the installation goes on without it, leaves the
reason in ``dysonflow/simulation/kernel/_build_failure.txt``, and the package uses torch instead.
"""

from __future__ import annotations

import platform
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNEL = "src/dysonflow/simulation/kernel"

# No contraction and no value-changing optimisation: results must not depend on the instruction set.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fvisibility=hidden", "-g0", "-w"]
VARIANTS = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"],
}


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
    """Compiles one source once for each instruction set, then links all of them together."""

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

        ext.include_dirs = [pybind11.get_include(), KERNEL]
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/std:c++17", "/O2", "/fp:precise", "/EHsc"]
        else:
            ext.extra_compile_args = list(FLAGS)
            ext.extra_link_args = ["-pthread"]
            if platform.machine().lower() in ("x86_64", "amd64"):
                ext.define_macros = [("DYSONFLOW_X86_VARIANTS", "1")]
                with ThreadPoolExecutor() as pool:
                    ext.extra_objects = list(pool.map(self._compile_variant, VARIANTS))
        super().build_extension(ext)

    def _compile_variant(self, name: str) -> str:
        (compiled,) = self.compiler.compile(
            [f"{KERNEL}/simulation.cpp"],
            output_dir=str(Path(self.build_temp) / name),
            macros=[("DYSONFLOW_ISA", name)],
            include_dirs=[KERNEL],
            extra_postargs=FLAGS + VARIANTS[name],
        )
        return str(compiled)


setup(
    cmdclass={"build_ext": BuildKernel},
    ext_modules=[
        Extension(
            "dysonflow.simulation.kernel._kernel",
            sources=[f"{KERNEL}/kernel.cpp", f"{KERNEL}/simulation.cpp"],
            depends=[f"{KERNEL}/{name}.hpp" for name in ("job", "lanes", "matrices", "random")],
            language="c++",
            optional=True,
        )
    ],
)
