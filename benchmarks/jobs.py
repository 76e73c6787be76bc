"""What the jobs of a study cost beside what they compute, and what a call costs that has none.

Runs a configuration in an empty folder and prints CPU seconds, and the useful share: what the
stages compute, as their artifacts say, over cores times wall time. Then a call of `snakemake -n`
with nothing to do, in turn with the same call for a Snakefile with as many jobs, empty rules and no
package.

    python benchmarks/jobs.py --config config/config.yaml --cores 2
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dysonflow.artifacts import kinds

ROOT = Path(__file__).parents[1]
EMPTY = """
rule all:
    input: expand("{{number}}.done", number=range({jobs}))
rule job:
    output: touch("{{number}}.done")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "config.yaml")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5, help="dry runs of each kind, in turn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder / "ours")]
        ours += ["--configfile", str(options.config.resolve())]
        cpu, wall, text = measure([*ours, "--cores", str(options.cores)])
        jobs = int(re.findall(r"^total +(\d+)$", text, re.M)[0]) - 1
        useful = sum(seconds_of(path) for path in (folder / "ours" / "results").rglob("*.*"))
        share = useful / (options.cores * wall)
        print(f"{jobs} jobs: {cpu:.0f} s of CPU, {wall:.0f} s on {options.cores} cores; the stages")
        print(f"compute for {useful:.0f} s, a useful share of {share:.0%}")

        empty = folder / "empty"
        empty.mkdir()
        empty.joinpath("Snakefile").write_text(EMPTY.format(jobs=jobs), encoding="utf-8")
        theirs = ["--snakefile", str(empty / "Snakefile"), "--directory", str(empty)]
        measure([*theirs, "--cores", "1"])
        pairs = [
            (measure([*ours, "-n"])[0], measure([*theirs, "-n"])[0]) for _ in range(options.rounds)
        ]
        own, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"snakemake -n with nothing to do: {own:.2f} s of CPU, {bare:.2f} s without the package"
        )


def measure(arguments: list[str]) -> tuple[float, float, str]:
    """CPU seconds, wall seconds and output of one call of Snakemake, all its jobs included."""
    before, began = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    wall, after = time.perf_counter() - began, os.times()
    text = done.stdout + done.stderr
    if done.returncode:
        sys.exit(text[-2000:])
    children = after.children_user + after.children_system
    return children - before.children_user - before.children_system, wall, text


def seconds_of(path: Path) -> float:
    """Time that an artifact took; 0 for what is none."""
    if path.suffix not in (".safetensors", ".parquet", ".png") or path.name == "runs.parquet":
        return 0.0
    return float(kinds.peek(path)["seconds"])


if __name__ == "__main__":
    main()
