"""One line for each failure that says what to change."""

import pytest

from dysonflow.planning.advice import advice

SUBMITTED = "Job 4 has been submitted with SLURM jobid 17 (log: {file})."
FAILED = "    message: SLURM-job '17' failed, SLURM status is: '{status}'. Detailed failure"
FILE = "/x/.snakemake/slurm_logs/rule_train/teacher_student_lr0.1/17.log"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("sbatch: error: invalid partition specified: nope\nsbatch: error: B", ["nope", "slurm_p"]),
        (
            "error: Batch job submission failed: Invalid account or account/partition combination",
            ["slurm_account"],
        ),
        ("error: Requested time limit is invalid (missing or exceeds some limit)", ["runtime"]),
        ("error: Requested node configuration is not available", ["mem_mb", "gpu_model"]),
        ("error: Memory specification can not be satisfied", ["mem_mb"]),
        ("error: Invalid generic resource (gres) specification", ["gpu_model"]),
    ],
)
def test_a_refused_job_names_the_setting_once(message, words):
    (line,) = advice(f"SLURM sbatch failed. The error message was '{message}'.\n{message}\n")
    assert line.startswith("slurm: ") and "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("TIMEOUT", "runtime"),
        ("OUT_OF_MEMORY", "mem_mb"),
        ("CANCELLED", "run the command again"),
        ("NODE_FAIL", "node"),
        ("PREEMPTED", "slurm_partition"),
    ],
)
def test_a_job_that_ended_names_rule_reason_and_setting(status, word):
    log = SUBMITTED.format(file=FILE) + "\n" + FAILED.format(status=status)
    (line,) = advice(log, read=lambda _: "")
    assert line.startswith(f"slurm: job 17 (rule train, {status}) ")
    assert word in line


def test_memory_is_told_from_the_log_of_the_job():
    log = SUBMITTED.format(file=FILE) + "\n" + FAILED.format(status="FAILED")
    text = "slurmstepd-n1: error: StepId=17.0 exceeded memory limit (6 > 5), being killed"
    (line,) = advice(log, read=lambda path: text if path == FILE else "")
    assert "raise mem_mb of rule train" in line


def test_a_line_of_the_job_itself_is_repeated():
    log = SUBMITTED.format(file=FILE) + "\n" + FAILED.format(status="FAILED")
    own = "dysonflow: device = 'cuda': no GPU is visible here; or set device: auto or cpu"
    assert advice(log, read=lambda _: f"x\n{own}\n") == [own]


def test_nothing_is_said_where_nothing_is_known():
    assert advice("Error in rule train") == []
    assert advice(FAILED.format(status="FAILED")) == []


@pytest.mark.parametrize(
    "line",
    [
        "ImportError: libscipy_openblas-6.so: failed to map segment from shared object",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 4.07 MiB for an array",
        "RuntimeError: can't start new thread",
        "MemoryError",
        "pyarrow.lib.ArrowMemoryError: malloc of size 64 failed",
        "OSError: [Errno 12] Cannot allocate memory",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
        "Command 'set -euo pipefail;  python x.py' died with <Signals.SIGKILL: 9>.",
    ],
)
def test_too_little_memory_is_called_that(line):
    (found,) = advice(f"Logfile results/logs/fit.log:\n{line}\n{line}\n")
    assert "too little memory" in found and "--cores" in found and "ulimit -v" in found
