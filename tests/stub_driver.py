"""A driver of GPUs without a GPU (stub_driver.cpp), and the surroundings in which it is found.

    python tests/stub_driver.py FOLDER COMMAND...

runs a command that sees one card, which is this processor; it can do what the tests of tests/gpu
ask of the kernel. Driver and code lie in the folder.
"""

import os
import subprocess
import sys
from pathlib import Path

import emulated_card
import small_kernels

from dysonflow.simulation.kernel import gpu, nvrtc

ARCHITECTURE = "sm_90"


def surroundings(folder: Path, variants=(), **settings: str) -> dict[str, str]:
    """Variables for a process that is to see the card.

    Parameters
    ----------
    folder : Path
        Where the driver and all that is compiled go.
    variants : sequence of nvrtc.Variant
        What the card can run; it takes no code but this.
    settings : str
        STUB_DRIVER_ and what stub_driver.cpp lists, in small letters without that.
    """
    driver = folder / "libcuda.so.1"
    if not driver.exists():
        source = Path(__file__).with_suffix(".cpp")
        command = [
            emulated_card.compiler(),
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-o",
            str(driver),
        ]
        subprocess.run([*command, str(source), "-ldl"], check=True)
    cache = folder / "cache"
    libraries = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    found = {"LD_LIBRARY_PATH": ":".join(libraries), "XDG_CACHE_HOME": str(cache)}
    found |= {f"STUB_DRIVER_{name.upper()}": value for name, value in settings.items()}
    for variant in variants:
        # In the place of machine code the cache holds the path of what does the same here.
        code = b"stub:" + bytes(emulated_card.build(variant, folder, optimised=True)) + b"\0"
        path = cache / "dysonflow" / nvrtc.file_name(variant, gpu.layout(), ARCHITECTURE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(nvrtc.sealed(code))
    return found


def main() -> None:
    folder, *command = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    found = surroundings(Path(folder).resolve(), small_kernels.variants())
    os.execvpe(command[0], command, os.environ | found)


if __name__ == "__main__":
    main()
