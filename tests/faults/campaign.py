"""Kill the workflow at random moments, many times, and see what a plain re-run makes of it.

    python tests/faults/campaign.py --kills 50

Each round is a study in an empty folder. The whole process group of snakemake (jobs included) is
sent SIGKILL after a random time, while a file is being written, or in a stage drawn at random; then
the lock is removed, as its message says, and the same command given again, until a run ends by
itself.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from dysonflow.artifacts import kinds
from dysonflow.errors import ArtifactError
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.results import Results

ROOT = Path(__file__).parents[2]
CONFIG = {
    "device": "cpu",
    "checkpoint_seconds": 0,
    "shard_size": 64,
    "studies": {
        "killed": {
            "model": "teacher_student",
            "hyperparameters": {"snapshots": 4},
            # Long enough to be killed in training; the last is trained in two shards.
            "sweep": [
                {"batch_size": [8, 16], "replicas": 40, "burn_in": 40000, "steps": 44000},
                {"batch_size": 32, "replicas": 128},
            ],
            "figures": ["sigma"],
        }
    },
}
HINT = "--unlock"
HANGING = 3600
"""Seconds after which a process is taken to hang, on the slowest machine."""


class Folder:
    """The workflow in a folder, started in a process group of its own."""

    def __init__(self, path, config=CONFIG):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.path.joinpath("my.yaml").write_text(yaml.safe_dump(config))
        self.results = self.path / "results"
        self.plan = Plan.from_config(config, Results(str(self.results)))

    def start(self, *arguments):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", str(self.path), "--configfile", str(self.path / "my.yaml")]
        return subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments):
        process = self.start(*(arguments or ("--cores", "2")))
        _, text = process.communicate(timeout=HANGING)
        return process.returncode, text

    def artifacts(self):
        """Paths of all artifacts."""
        return [Path(artifact.path) for artifact in self.plan.artifacts()]

    def finished(self):
        """Artifacts that Snakemake holds for finished, with what tells a new file from an old."""
        marks = {path.name for path in self.path.glob(".snakemake/incomplete/*")}
        found = {}
        for path in self.artifacts():
            name = str(path.relative_to(self.path))
            if path.exists() and mark_of(name) not in marks:
                status = path.stat()
                found[name] = (status.st_ino, status.st_mtime_ns)
        return found

    def running(self):
        """Rules whose jobs are in progress."""
        marks = [path.name for path in self.path.glob(".snakemake/incomplete/*")]
        names = [base64.urlsafe_b64decode(mark).decode() for mark in marks]
        rules = {"shards/": "train_shard", "weights.": "train", "spectra.": "spectra"}
        rules |= {"fits.": "fit", "scaling.": "scaling", "figures/": "figure", "runs.p": "runs"}
        rules |= {"report.": "report_page"}
        return {rule for name in names for part, rule in rules.items() if part in name}

    def half_files(self):
        """Final names under which there is not a whole file."""
        broken = []
        for path in self.artifacts():
            if path.exists():
                try:
                    kinds.read_whole(path)
                except ArtifactError as error:
                    # A figure is four files, the PNG file last: the others may be newer.
                    if path.suffix != ".png":
                        broken.append(str(error))
        return broken

    def data(self):
        """Digest of what the tables, weights and plotted numbers hold."""
        found = {}
        for path in self.artifacts():
            name = str(path.relative_to(self.path))
            if path.suffix == ".html":
                # The report holds the times of the jobs.
                continue
            if path.suffix == ".png":
                numbers = path.with_suffix(".csv").read_bytes()
                found[name] = hashlib.sha256(numbers).hexdigest()
            else:
                found[name] = kinds.read_whole(path)["data"]
        return found


def mark_of(name):
    return base64.urlsafe_b64encode(name.encode()).decode()


def kill(process):
    """SIGKILL to the whole process group; waits until all of it is gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


STAGES = ("checkpoint", "train", "spectra", "fit", "scaling", "figure")


def wait_for(process, seconds, condition):
    """Wait until the condition holds, the process ends or the time is over; whether it holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return True
    return False


def wait_for_moment(folder, process, generator):
    """Wait for the moment to kill: any time, a file half written, or a stage not yet finished."""
    how = generator.choice(["time", "write", "stage", "stage"])
    if how == "time":
        # Soon after the start, or late enough to meet the last stages too.
        time.sleep(generator.uniform(0, generator.choice([8, 20])))
    elif how == "write":
        time.sleep(generator.uniform(0, 6))
        wait_for(process, 20, lambda: any(folder.results.rglob("*.partial")))
    else:
        stage = generator.choice(STAGES)
        if stage == "checkpoint":
            wait_for(process, 30, lambda: any(folder.results.rglob("*.checkpoint")))
        else:
            wait_for(process, 30, lambda: stage in folder.running())
        time.sleep(generator.uniform(0, 2))


def round_of_kills(path, reference, kills, generator, counts, config=CONFIG):
    """One study from an empty folder to its end, killed up to `kills` times on the way."""
    folder = Folder(path, config)
    problems = []
    killed = 0
    while True:
        before = folder.finished()
        process = folder.start("--cores", "2")
        if killed < kills:
            wait_for_moment(folder, process, generator)
            if process.poll() is None:
                running = folder.running()
                kill(process)
                killed += 1
                counts["kills"] += 1
                counts["kills in the middle of a write"] += bool(
                    any(folder.results.rglob("*.partial"))
                )
                counts["kills with a checkpoint to go on from"] += bool(
                    any(folder.results.rglob("*.checkpoint"))
                )
                for rule in running or {"no job"}:
                    counts[f"kills during {rule}"] += 1
                broken = folder.half_files()
                counts["half files under a final name"] += len(broken)
                problems += broken
                counts["finished files made again"] += lost(before, folder.finished(), problems)
                locked, text = folder.run()
                if locked and HINT in text:
                    counts["locks left behind"] += 1
                    folder.run("--unlock")
                elif locked:
                    problems.append(f"a re-run failed without saying what to do: {text[-800:]}")
                else:
                    # The lock had not been taken yet, and that run went through.
                    break
                continue
        _, text = process.communicate(timeout=HANGING)
        if process.returncode:
            problems.append(f"the re-run failed: {text[-2000:]}")
        counts["finished files made again"] += lost(before, folder.finished(), problems)
        break
    if folder.data() != reference:
        problems.append(f"{path}: the final tables differ")
        counts["final tables that differ"] += 1
    report = audit.verify(folder.plan)
    problems += [f"{path}: {text}" for path, text in {**report.damaged, **report.stale}.items()]
    counts["rounds"] += 1
    kept = ("*.checkpoint", "*.unfinished", "*.partial")
    left = [path for pattern in kept for path in folder.results.rglob(pattern)]
    counts["checkpoints or half files left at the end"] += len(left)
    return problems


def lost(before, after, problems):
    """Finished files that were made again."""
    again = [name for name in before if after.get(name) != before[name]]
    problems.extend(f"made again: {name}" for name in again)
    return len(again)


def campaign(path, kills, seed, per_round=6):
    """Kill `kills` times; returns counts and problems."""
    path = Path(path)
    undisturbed = Folder(path / "undisturbed")
    status, text = undisturbed.run()
    if status:
        raise RuntimeError(text)
    reference = undisturbed.data()
    generator = random.Random(seed)
    counts: Counter = Counter()
    problems: list[str] = []
    while counts["kills"] < kills:
        wanted = min(per_round, kills - counts["kills"])
        folder = path / f"round{counts['rounds']}"
        problems += round_of_kills(folder, reference, wanted, generator, counts)
        print(dict(counts), problems, file=sys.stderr, flush=True)
    return counts, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        counts, problems = campaign(folder, arguments.kills, arguments.seed)
    print(json.dumps(dict(sorted(counts.items())), indent=2))
    print(f"{time.monotonic() - began:.0f} s, {len(problems)} problems")
    print(*problems, sep="\n")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
