"""Time and memory that planning a large study takes, from real dry runs.

Writes a study of each size, lets `snakemake -n` build its graph of jobs, and prints jobs, wall
time and peak memory; then what the results of such a study would take on disk.

    python benchmarks/dag.py --points 100 1000 3333 10000 --csv dag.csv
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from dysonflow.planning.studies import load_config, load_studies, shards
from dysonflow.results import RUN_FILES

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100, 1000, 3333, 10_000])
    parser.add_argument("--replicas", type=int, default=64, help="replicas of each point")
    parser.add_argument("--shard-size", type=int, default=512)
    parser.add_argument(
        "--batches", type=int, default=1, help="plan only the first of so many parts"
    )
    parser.add_argument("--csv", type=Path, help="table to write")
    options = parser.parse_args()

    rows = [
        measure(points, options.replicas, options.shard_size, options.batches)
        for points in options.points
    ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    if options.csv:
        table.to_csv(options.csv, index=False)


def study(points: int, replicas: int, shard_size: int) -> dict[str, object]:
    """Configuration of a teacher-student study with that many points: learning rates."""
    rates = [round(0.05 + 0.4 * point / points, 8) for point in range(points)]
    return {
        "device": "cpu",
        "shard_size": shard_size,
        "studies": {
            "large": {
                "model": "teacher_student",
                "hyperparameters": {"replicas": replicas},
                "sweep": {"learning_rate": rates},
            }
        },
    }


def measure(points: int, replicas: int, shard_size: int, batches: int) -> dict[str, float]:
    """Plan one study in an empty folder; one row of the table."""
    config = study(points, replicas, shard_size)
    began = time.perf_counter()
    runs = load_studies(config)["large"].runs
    parsing = time.perf_counter() - began
    # A run in several shards has a job for each of them and one that joins them.
    parts = len(shards(runs[0], load_config(config).shard_size))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.yaml")
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake"]
        if batches > 1:
            command += ["results/studies/large/scaling.parquet"]
            command += ["--batch", f"scaling=1/{batches}"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", folder]
        command += ["--configfile", str(path), "--dry-run", "--quiet", "rules"]
        began = time.perf_counter()
        # The output goes to a file: a full pipe would stop the clock of the planner.
        with Path(folder, "plan").open("w+", encoding="utf-8") as plan:
            child = subprocess.Popen(command, stdout=plan, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - began
            plan.seek(0)
            text = plan.read()
    counts = re.findall(r"^total +(\d+)$", text, re.M)
    if os.waitstatus_to_exitcode(status) or not counts:
        sys.exit(f"the dry run of {points} points failed:\n{text[-2000:]}")
    return {
        "points": points,
        "jobs": int(counts[-1]),
        "shards_of_a_run": parts,
        "batches": batches,
        "configuration_s": parsing,
        "planning_s": seconds,
        # What others do on the machine does not count in it.
        "planning_cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_memory_GB": usage.ru_maxrss * 1024 / 1e9,  # Linux counts in KiB.
        "files": points * len(RUN_FILES),
    }


if __name__ == "__main__":
    main()
