"""Packages that an environment lacks, and the wheels that bring them to a machine without network.

    python tests/gpu/wheels.py fetch --python 3.12 --folder .gpu-wheels
    python tests/gpu/wheels.py lacking --folder .gpu-wheels

`fetch` runs where the package is installed with all that it needs, and downloads the same versions
for another Python. `lacking` runs on the other machine, and prints the wheels that are to be
installed there; what it has itself, if it is new enough, is left as it is.
"""

import argparse
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

try:
    from packaging.requirements import Requirement
    from packaging.tags import sys_tags
    from packaging.utils import canonicalize_name, parse_wheel_filename
except ImportError:
    # pip has a copy.
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.tags import sys_tags
    from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[2]
LARGE = ("torch", "nvidia-cuda-nvrtc")
LARGE += ("matplotlib", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy")
"""Left to the other machine unless told otherwise: large and usual. torch built with CUDA brings
the compiler nvrtc itself (nvidia/*/lib/libnvrtc.so*)."""
FURTHER = ("pytest>=8",)
"""For the tests."""
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]
LIMIT = 60 * 2**20
"""Bytes of all wheels together."""


def requirements() -> tuple[list[Requirement], list[Requirement]]:
    """What all checks need; and what the kernels need, on a GPU and to be compiled for a CPU."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = whole["project"]
    needed = [*project["dependencies"], *FURTHER]
    of_kernels = [*project["optional-dependencies"]["gpu"], *whole["build-system"]["requires"]]
    return [Requirement(text) for text in needed], [Requirement(text) for text in of_kernels]


def applies(requirement: Requirement, extras: set[str], python: str | None = None) -> bool:
    """Whether a requirement counts, on this Python or another one."""
    if requirement.marker is None:
        return True
    version = {"python_version": python, "python_full_version": f"{python}.0"} if python else {}
    return any(requirement.marker.evaluate({**version, "extra": e}) for e in {"", *extras})


def fetch(folder: Path, python: str, there: set[str]) -> int:
    """Download what another Python needs, in the versions of this one; returns the bytes."""
    wanted: dict[str, str] = {}
    needed, of_kernels = requirements()
    pending = [(one, set(one.extras)) for one in [*needed, *of_kernels]]
    while pending:
        requirement, extras = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in there or name in wanted or not applies(requirement, set(), python):
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            # What only builds, or belongs to the other Python alone.
            wanted[name] = pinned(name)
            continue
        wanted[name] = found.version
        for text in found.requires or []:
            more = Requirement(text)
            if applies(more, extras, python):
                pending.append((more, set(more.extras)))
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    number = python.replace(".", "")
    target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    target += ["--abi", f"cp{number}", "--abi", "abi3", "--abi", "none"]
    for platform in PLATFORMS:
        target += ["--platform", platform]
    into = [*pip, "download", "--no-deps", "--dest", str(folder), *target]

    def left() -> list[str]:
        return [
            f"{name}=={version}"
            for name, version in sorted(wanted.items())
            if next(there_is(folder, name, version, python), None) is None
        ]

    # All at once, which fails as a whole where one of them gives its source alone.
    if left() and subprocess.run([*into, *left()], stderr=subprocess.DEVNULL).returncode:
        for one in left():
            if subprocess.run([*into, one], stderr=subprocess.DEVNULL).returncode:
                build = [*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), one]
                subprocess.run(build, check=True)
    return sum(path.stat().st_size for path in folder.glob("*.whl"))


def pinned(name: str) -> str:
    """Version of a package in constraints.txt."""
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        own, _, version = line.partition("==")
        if canonicalize_name(own) == name:
            return version
    sys.exit(f"wheels.py: {name} is neither installed here nor pinned; run `make setup` first")


def there_is(folder: Path, name: str, version: str, python: str) -> Iterator[Path]:
    """Wheels of a version of a package that another Python can install."""
    number = int(python.split(".")[1])
    for path in folder.glob("*.whl"):
        own, its, _, tags = parse_wheel_filename(path.name)
        if own != name or str(its) != version:
            continue
        for tag in tags:
            cpython = tag.interpreter.removeprefix("cp")
            stable = tag.abi == "abi3" and cpython[1:].isdigit() and int(cpython[1:]) <= number
            if tag.interpreter.startswith("py") or stable or cpython == f"3{number}":
                yield path
                break


def lacking(folder: Path) -> tuple[list[Path], list[str], list[str]]:
    """Wheels to install here; requirements that neither this machine nor a wheel meets, and those
    among them without which only a kernel is missing."""
    tags = set(sys_tags())
    carried: dict[str, tuple[Path, str]] = {}
    for path in sorted(folder.glob("*.whl")):
        name, version, _, its = parse_wheel_filename(path.name)
        if its & tags:
            carried[name] = path, str(version)
    chosen: dict[str, Path] = {}
    unmet: dict[str, None] = {}
    unmet_of_kernels: dict[str, None] = {}
    seen: set[tuple[str, str, frozenset[str]]] = set()
    needed, of_kernels = requirements()
    pending = [(one, set(one.extras)) for one in [*needed, *of_kernels]]
    while pending:
        requirement, extras = pending.pop()
        name = canonicalize_name(requirement.name)
        key = (name, str(requirement.specifier), frozenset(extras))
        if key in seen or not applies(requirement, set()):
            continue
        seen.add(key)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found and name not in chosen and is_met(requirement, found.version):
            texts = found.requires or []
        elif name in carried and is_met(requirement, carried[name][1]):
            chosen[name] = carried[name][0]
            texts = requires_of(carried[name][0])
        elif name == "nvidia-cuda-nvrtc" and has_nvrtc():
            # Under another name, such as nvidia-cuda-nvrtc-cu12.
            continue
        else:
            have = f" (here is {found.version})" if found else ""
            short = unmet_of_kernels if requirement in of_kernels else unmet
            short[f"{requirement.name}{requirement.specifier}{have}"] = None
            continue
        for text in texts:
            more = Requirement(text)
            if applies(more, extras):
                pending.append((more, set(more.extras)))
    return list(chosen.values()), list(unmet), list(unmet_of_kernels)


def has_nvrtc() -> bool:
    """Whether a torch that was built with CUDA has brought its compiler."""
    return any(any(Path(place).glob("nvidia/*/lib/libnvrtc.so*")) for place in sys.path if place)


def is_met(requirement: Requirement, version: str) -> bool:
    """Whether a version is one of those that a requirement allows."""
    return requirement.specifier.contains(version, prereleases=True)


def requires_of(wheel: Path) -> list[str]:
    """What a wheel says that it needs."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    return Parser().parsestr(text).get_all("Requires-Dist") or []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["fetch", "lacking"])
    parser.add_argument("--folder", type=Path, default=ROOT / ".gpu-wheels")
    parser.add_argument("--python", default="3.12", help="version of the other machine's Python")
    parser.add_argument(
        "--there", nargs="*", default=LARGE, help="packages that the other machine has"
    )
    options = parser.parse_args()
    if options.what == "fetch":
        size = fetch(options.folder, options.python, {canonicalize_name(n) for n in options.there})
        count = len(list(options.folder.glob("*.whl")))
        print(f"{options.folder}: {count} wheels, {size / 2**20:.1f} MiB")
        if size > LIMIT:
            sys.exit(
                f"wheels.py: more than {LIMIT / 2**20:.0f} MiB; name in --there what the other "
                "machine has"
            )
        return
    wheels, unmet, unmet_of_kernels = lacking(options.folder)
    print("\n".join(map(str, wheels)))
    for lines, so in ((unmet, ""), (unmet_of_kernels, ", so that a kernel may be missing")):
        for line in lines:
            print(f"wheels.py: neither here nor in {options.folder}: {line}{so}", file=sys.stderr)
    sys.exit(bool(unmet))


if __name__ == "__main__":
    main()
