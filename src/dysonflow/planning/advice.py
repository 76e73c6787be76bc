"""What to change when jobs failed, read from Snakemake's own log: one line each."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

WHERE = "under set-resources in the profile"
REFUSED = [
    (r"invalid partition specified: (\S+?)'?$", lambda name: _unknown_partition(name)),
    (
        r"[Ii]nvalid account",
        lambda _: "the account is not known to Slurm; set slurm_account in the profile",
    ),
    (
        r"Requested time limit is invalid|[Tt]ime limit (?:exceeds|specification)",
        lambda _: (
            f"a job asks for more time than its partition gives; set runtime {WHERE}, or "
            "another slurm_partition"
        ),
    ),
    (
        r"Requested node configuration is not available|[Mm]emory specification can not be",
        lambda _: (
            "no node has what a job asks for; check mem_mb, gpu_model and slurm_partition "
            f"{WHERE} (sinfo --format='%P %m %G' shows what there is)"
        ),
    ),
    (
        r"Invalid generic resource|Invalid gres|Invalid GRES",
        lambda _: f"Slurm has no such GPU; set gpu_model {WHERE} (sinfo --format='%P %G')",
    ),
]
"""What sbatch says when it refuses a job, and what to change."""

ENDED = {
    "TIMEOUT": "ran out of time; raise runtime (minutes) of {rule} {where}",
    "OUT_OF_MEMORY": "ran out of memory; raise mem_mb of {rule} {where}",
    "CANCELLED": "was cancelled from outside (scancel, or the cluster); run the command again",
    "NODE_FAIL": "lost its node; run the command again, or raise retries in the profile",
    "PREEMPTED": "was preempted; choose another slurm_partition {where}",
    "BOOT_FAIL": "got a node that did not start; run the command again",
    "DEADLINE": "missed its deadline; raise runtime (minutes) of {rule} {where}",
}
"""How Slurm says that a job ended, and what to change."""

FAILED = [
    (
        r"^.*(?:failed to map segment from shared object|[Cc]annot allocate memory"
        r"|Unable to allocate|can't allocate memory|malloc of size \d+ failed|std::bad_alloc"
        r"|can't start new thread|blas_thread_init: pthread_create failed"
        r"|MemoryError|died with <Signals\.SIGKILL: 9>).*$",
        "a job had too little memory: run fewer side by side (--cores), or raise what limits it "
        "(ulimit -v, the container, mem_mb in the profile)",
    ),
    (
        r"Output .* has older modification time .* than input (?P<path>.+) \(\d{4}-.*clock skew",
        "{path}: its time stamp lies ahead of the clock; `touch` it and run the command again "
        "(`dysonflow verify` lists all such files)",
    ),
]
"""What a job, or Snakemake after it, says on any machine, and what to do."""

OVER_MEMORY = re.compile(r"exceeded (?:job )?memory limit|oom[-_ ]kill|Out Of Memory", re.I)


def advice(log: str, read: Callable[[str], str] | None = None) -> list[str]:
    """Lines that say which setting to change.

    Parameters
    ----------
    log : str
        Text of Snakemake's log of one call.
    read : callable, optional
        Gives the text of a file named in the log, "" if it cannot be read.

    Returns
    -------
    list of str
        One line for each cause, in the order of the log; empty if nothing is known.
    """
    found: dict[str, None] = {}
    for pattern, text in FAILED:
        for match in re.finditer(pattern, log, re.M):
            found[f"dysonflow: {text.format(**match.groupdict())}"] = None
    for pattern, words in REFUSED:
        for match in re.finditer(pattern, log, re.M):
            found[f"slurm: {words(match.groups()[0] if match.groups() else '')}"] = None
    files = dict(re.findall(r"SLURM jobid (\S+) \(log: (.+?)\)\.", log))
    for number, status in re.findall(r"SLURM-job '(\S+?)' failed.*?status is: '(\w+)'", log, re.S):
        file = files.get(number, "")
        text = (read or _text)(file)
        for line in re.findall(r"^dysonflow: .*", text, re.M):
            found[line] = None
        if OVER_MEMORY.search(text):
            # Where memory is watched by sampling, the state is only FAILED.
            status = "OUT_OF_MEMORY"
        if status in ENDED:
            kind = re.search(r"slurm_logs/(rule|group)_(\w+)", file)
            rule = f"{kind[1]} {kind[2]}" if kind else "its rule"
            what = ENDED[status].format(rule=rule, where=WHERE)
            found[f"slurm: job {number} ({rule}, {status}) {what}"] = None
    return list(found)


def report(log_files: Iterable[str]) -> None:
    """Print the advice for one call of Snakemake, from its logs, to standard error."""
    for line in advice("\n".join(_text(path) for path in log_files)):
        print(line, file=sys.stderr)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _unknown_partition(name: str) -> str:
    """The line for a partition that does not exist, with those that do."""
    try:
        known = subprocess.run(
            ["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, timeout=10
        ).stdout.split()
    except (OSError, subprocess.SubprocessError):
        known = []
    there = f"; there are: {', '.join(dict.fromkeys(known))}" if known else ""
    return f"there is no partition {name!r}; set slurm_partition in the profile{there}"
