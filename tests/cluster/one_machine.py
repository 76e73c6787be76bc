"""A real Slurm on this machine: munge, slurmctld and slurmd on the loopback, two false GPUs."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
SETTINGS = Path("/etc/slurm")
MUNGE_PID = Path("/run/munge/munged.pid")

CONFIGURATION = """\
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Without cgroups memory is watched by sampling: a job above its request is killed within seconds.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
# squeue must remember finished jobs: there is no accounting database.
MinJobAge=86400
ReturnToService=2
KillWait=2
OverTimeLimit=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
# The node may claim more CPUs than the machine has: the jobs are short.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Unavailable(RuntimeError):
    """Why Slurm cannot be started here."""


def install() -> None:
    """Install the programs if they are missing; raise `Unavailable` where that cannot be done."""
    if all(shutil.which(program) for program in PROGRAMS):
        return
    if not shutil.which("apt-get"):
        raise Unavailable(f"needs the packages {', '.join(PACKAGES)}; apt-get is not here")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise Unavailable(f"apt-get {command[0]} failed: {done.stderr.strip()[-200:]}")


def until(condition, what: str, seconds: float = 20.0, interval: float = 0.1):
    """Wait for a true value of `condition`, and give it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(interval)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


def ask(*command: str) -> str:
    """Standard output of a command; empty if it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout


def running(pid: int) -> bool:
    """Whether a process runs, one that only waits to be collected aside."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            != "Z"
        )
    except OSError:
        return False


class Slurm:
    """The cluster: start, stop, and what it says about its jobs.

    Parameters
    ----------
    folder : Path
        For its state and logs.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        # In the environment of every job: whatever is left of one is known by it.
        self.name = f"dysonflow{os.getpid()}"
        self.saved = folder / "saved_settings"
        self.started = False
        self.munge_is_mine = False

    def start(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable("needs root to start munge and Slurm")
        # A machine that is part of a cluster already is left alone.
        if SETTINGS.joinpath("slurm.conf").exists() and "UP" in ask("scontrol", "ping"):
            raise Unavailable("a Slurm is already running here")
        install()
        self.started = True
        for name in ("state", "spool", "dev"):
            self.folder.joinpath(name).mkdir(parents=True)
        # Copies of /dev/null: Slurm only hands out their numbers.
        for number in range(2):
            os.mknod(self.folder / f"dev/gpu{number}", 0o20666, os.makedev(1, 3))
        # It must lie in /etc/slurm: nested job steps do not inherit SLURM_CONF.
        if SETTINGS.exists():
            shutil.move(SETTINGS, self.saved)
        SETTINGS.mkdir()
        text = CONFIGURATION.format(host=self.host, folder=self.folder, name=self.name)
        SETTINGS.joinpath("slurm.conf").write_text(text)
        gres = f"AutoDetect=off\nName=gpu File={self.folder}/dev/gpu[0-1]\n"
        SETTINGS.joinpath("gres.conf").write_text(gres)
        self._start_munge()
        subprocess.run(["slurmctld", "-c"], check=True)
        subprocess.run(["slurmd", "-c"], check=True)
        until(lambda: self.node_state() == "idle", "an idle node")

    def stop(self) -> None:
        """End what was started, by its process number, and put the old settings back."""
        if not self.started:
            return
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        for path in (self.folder / "slurmd.pid", self.folder / "slurmctld.pid"):
            self._end(path)
        # A node that was set down leaves the processes of its jobs running.
        for pid in self._of_jobs():
            os.kill(pid, signal.SIGKILL)
        if self.munge_is_mine:
            self._end(MUNGE_PID)
        shutil.rmtree(SETTINGS, ignore_errors=True)
        if self.saved.exists():
            shutil.move(self.saved, SETTINGS)

    @staticmethod
    def _end(path: Path) -> None:
        """End the process whose number is in a file, and wait for it."""
        if path.exists():
            pid = int(path.read_text(encoding="utf-8"))
            os.kill(pid, signal.SIGTERM)
            until(lambda: not running(pid), f"the end of {path.stem}")

    def _of_jobs(self) -> list[int]:
        """Processes that belong to a job of this cluster."""
        mark = f"SLURM_CLUSTER_NAME={self.name}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def _start_munge(self) -> None:
        if "Success" in ask("sh", "-c", "munge -n | unmunge"):
            return
        subprocess.run(
            "install -d -o munge -g munge -m 755 /run/munge && su -s /bin/sh munge -c munged",
            shell=True,
            check=True,
        )
        self.munge_is_mine = True
        until(lambda: "Success" in ask("sh", "-c", "munge -n | unmunge"), "an answer of munge")

    def node_state(self) -> str:
        return ask("sinfo", "--noheader", "--format=%t").strip()

    def jobs(self) -> dict[int, dict[str, str]]:
        """All jobs since the start, by number, with the fields of `scontrol show job`."""
        text = ask("scontrol", "--oneliner", "show", "job")
        found = [
            dict(re.findall(r"(\S+?)=(.*?)(?= +\S+=| *$)", line)) for line in text.splitlines()
        ]
        return {int(job["JobId"]): job for job in found if "JobId" in job}
