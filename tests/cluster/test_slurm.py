"""The workflow through profiles/slurm on a real Slurm of one machine.

All studies are submitted at once and each test waits for its own: a Slurm job starts Snakemake
twice, which takes most of the time.
"""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, Workflow
from one_machine import Slurm, Unavailable, until

from dysonflow.artifacts.tables import read_metadata, read_table
from dysonflow.artifacts.weights import read_tensors

pytestmark = pytest.mark.cluster

PROFILE = ROOT / "profiles" / "slurm"
SMALL = {"model": "teacher_student", "hyperparameters": {"replicas": 64, "snapshots": 2}}
ONE_RUN = {"device": "cpu", "studies": {"small": SMALL}}
# Three shards, joined; one group of spectra and fit, one of laws and figure.
STUDY = {
    "device": "cpu",
    "shard_size": 64,
    "studies": {
        "student": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 192, "snapshots": 3},
            "figures": ["mean_gap"],
        }
    },
}


class Submitted(Workflow):
    """A workflow whose jobs go to Slurm, in the background."""

    def __init__(self, folder, slurm, config):
        super().__init__(folder)
        self.slurm = slurm
        self.configure(config)

    def submit(self, *arguments, profile=PROFILE, option="--profile", retries=0):
        # What the profile says, but for the waiting.
        return self.start(
            *(option, str(profile), "--retries", str(retries), "--latency-wait", "10"),
            *("--slurm-init-seconds-before-status-checks", "2", *arguments),
        )

    def start(self, *arguments):
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", str(self.folder), "--configfile", str(self.folder / "my.yaml")]
        command += arguments
        output = self.folder.joinpath("output").open("w")
        self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        return self

    def wait(self, seconds=500):
        self.process.wait(seconds)
        return self.process.returncode

    @property
    def output(self):
        return self.folder.joinpath("output").read_text()

    @property
    def advice(self):
        """The lines that say what to change; the log of a job may hold one of them before."""
        lines = re.findall(r"^(?:slurm|dysonflow): .*", self.output, re.M)
        # The first line of a call says what it is likely to take.
        return list(dict.fromkeys(line for line in lines if "an estimate for" not in line))

    def jobs(self):
        """Its Slurm jobs, by number."""
        jobs = self.slurm.jobs()
        return {n: jobs[n] for n in sorted(jobs) if jobs[n]["WorkDir"] == str(self.folder)}

    def first(self, state):
        """Number of its first job, once that is in the given state."""

        def number():
            return next((n for n, job in self.jobs().items() if job["JobState"] == state), None)

        return until(number, f"a job in state {state}", 120)


def adapted(folder, **settings):
    """A copy of the profile with settings changed, as profiles/README.md says."""
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    for key, value in settings.items():
        if isinstance(value, dict):
            profile[key] = profile.get(key, {}) | value
        else:
            profile[key] = value
    folder.mkdir()
    folder.joinpath("config.yaml").write_text(yaml.safe_dump(profile))
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except Unavailable as reason:
            pytest.skip(f"no Slurm: {reason}")
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def flows(slurm, tmp_path_factory):
    """All studies, submitted at once; two of them are disturbed here, while they run."""

    def flow(name, config=ONE_RUN):
        return Submitted(tmp_path_factory.mktemp(name), slurm, config)

    flows = {name: flow(name) for name in ("cancelled", "hanging", "hungry", "lost")}
    flows["main"] = flow("main", STUDY)
    flows["gpu"] = flow("gpu", ONE_RUN | {"device": "cuda"})
    flows["cancelled"].submit("--until", "train", retries=1)
    # A module that hangs: the job uses no processor and runs out of its one minute.
    hanging = adapted(
        flows["hanging"].folder / "profile",
        precommand="sleep 500",
        **{"set-resources": {"train": {"runtime": 1}}},
    )
    flows["hanging"].submit("--until", "train", profile=hanging, option="--workflow-profile")
    # Too little for Python at first, enough at the second attempt.
    memory = ["--set-resources", "train:mem_mb=60*attempt**4"]
    flows["hungry"].submit("--until", "train", *memory, retries=1)
    flows["gpu"].submit("--until", "train", option="--workflow-profile")
    flows["main"].submit()
    # The same study without a cluster, to compare.
    flows["local"] = flow("local", STUDY).start("--cores", "1")
    subprocess.run(["scancel", str(flows["cancelled"].first("RUNNING"))], check=True)
    yield flows
    for each in flows.values():
        if hasattr(each, "process") and each.process.poll() is None:
            # A polite signal would wait for jobs that the cluster is about to end.
            each.process.kill()
            each.process.wait()


def test_a_cancelled_job_is_tried_again_and_asks_for_more(flows):
    flow = flows["cancelled"]
    assert flow.wait() == 0, flow.output
    first, second = flow.jobs().values()
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    assert "SLURM status is: 'CANCELLED'" in flow.output
    assert int(second["MinMemoryNode"][:-1]) == 2 * int(first["MinMemoryNode"][:-1])
    assert minutes(second) == 2 * minutes(first)


def minutes(job):
    hours, rest, _ = job["TimeLimit"].split(":")
    return 60 * int(hours) + int(rest)


def test_a_job_killed_for_memory_is_tried_again_with_more(flows):
    flow = flows["hungry"]
    assert flow.wait() == 0, flow.output
    first, second = flow.jobs().values()
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED")
    # Snakemake shows the log of Slurm only when it gives up.
    logs = flow.folder.glob(".snakemake/slurm_logs/rule_train/*/*.log")
    assert any("exceeded memory limit" in path.read_text() for path in logs)
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("60M", "960M")


def test_device_cuda_asks_for_a_gpu_and_says_where_there_is_none(flows):
    if shutil.which("nvidia-smi"):
        pytest.skip("a GPU is here: the job would not fail")
    flow = flows["gpu"]
    assert flow.wait() != 0
    (job,) = flow.jobs().values()
    assert job["TresPerJob"] == "gres:gpu:1"
    # Another line says what waits for the run.
    (line,) = [one for one in flow.advice if one.startswith("dysonflow: device = 'cuda': ")]
    assert "no GPU is visible" in line
    assert line.endswith("; or set device: auto or cpu")


def test_all_of_a_study_runs_as_slurm_jobs(flows):
    flow = flows["main"]
    assert flow.wait() == 0, flow.output
    jobs = flow.jobs().values()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    comments = [job["Comment"] for job in jobs]
    shards = [text for text in comments if text.startswith("rule_train_shard_")]
    assert sorted(text.rsplit("_", 2)[1:] for text in shards) == [
        ["0", "64"],
        ["128", "192"],
        ["64", "128"],
    ]
    # One job joins the shards; spectra and fit are one group, laws and figure another.
    others = sorted(re.match("rule_[a-z]+", text)[0] for text in comments if text not in shards)
    assert others == ["rule_analysis", "rule_drawing", "rule_join"]
    assert not any("TresPerJob" in job for job in jobs)
    # As computed, not the default of the profile.
    assert {job["MinMemoryNode"] for job in jobs if "train_shard" in job["Comment"]} == {"1501M"}


def test_the_results_are_those_of_a_local_run_bit_for_bit(flows):
    local = flows["local"]
    assert local.wait() == 0, local.output
    assert flows["main"].wait() == 0
    compared = 0
    for path in sorted(local.folder.glob("results/**/*")):
        twin = flows["main"].folder / path.relative_to(local.folder)
        if path.name in ("runs.parquet", "report.html"):
            # They tell how long each run took.
            continue
        if path.suffix == ".safetensors":
            (ours, about), (theirs, _) = read_tensors(path), read_tensors(twin)
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours), path
            assert about["device"] == "cpu"
        elif path.suffix == ".parquet":
            assert read_table([path]).equals(read_table([twin])), path
            about, theirs = read_metadata(path), read_metadata(twin)
            # Time and a commit between the two runs are no difference; another source would be.
            # Spectra tell the same of the weights that they were made from.
            for metadata in (about, theirs):
                for told in (metadata, metadata.get("weights", {})):
                    told.get("versions", {}).pop("git_commit", None)
                    told.pop("seconds", None)
            assert about == theirs
        elif path.suffix in (".csv", ".rst", ".html"):
            assert path.read_bytes() == twin.read_bytes(), path
        else:
            assert path.is_dir() or twin.exists(), twin
            continue
        compared += 1
    # Weights, spectra, fits; laws as table and HTML; numbers and caption of the figure.
    assert compared == 3 + 2 + 2


def test_a_second_submission_does_nothing(flows):
    flow = flows["main"]
    assert flow.wait() == 0
    before = len(flow.jobs())
    assert flow.submit(option="--workflow-profile").wait() == 0
    assert "Nothing to be done" in flow.output
    assert len(flow.jobs()) == before


def test_an_unknown_partition_is_one_line(flows, slurm, tmp_path):
    tmp_path.joinpath("flow").mkdir()
    flow = Submitted(tmp_path / "flow", slurm, ONE_RUN)
    default = {"default-resources": {"slurm_partition": "nope"}}
    profile = adapted(tmp_path / "profile", **default)
    assert flow.submit(profile=profile).wait() != 0
    assert flow.advice == [
        "slurm: there is no partition 'nope'; set slurm_partition in the profile; there are: main"
    ]
    assert "Traceback" not in flow.output
    assert not flow.jobs()


def test_a_job_that_runs_out_of_time_is_reported_with_the_reason(flows):
    flow = flows["hanging"]
    assert flow.wait() != 0
    ((number, job),) = flow.jobs().items()
    assert (job["JobState"], job["Reason"]) == ("TIMEOUT", "TimeLimit")
    assert "SLURM status is: 'TIMEOUT'" in flow.output
    assert flow.advice == [
        f"slurm: job {number} (rule train, TIMEOUT) ran out of time; raise runtime (minutes) of "
        "rule train under set-resources in the profile"
    ]


def test_a_job_whose_node_fails_is_tried_again_when_the_node_is_back(flows, slurm):
    # The other jobs are done: they ran on the same node.
    for name in ("main", "gpu", "cancelled", "hungry", "hanging"):
        flows[name].wait()
    flow = flows["lost"].submit("--until", "train", retries=1)
    flow.first("RUNNING")
    node = ["scontrol", "update", f"NodeName={slurm.host}"]
    subprocess.run([*node, "State=DOWN", "Reason=test"], check=True)
    # That the job ended so is the sign that the node was down: it may answer again by itself
    # (ReturnToService) before anyone looks at it.
    lost = flow.first("NODE_FAIL")
    subprocess.run([*node, "State=RESUME"], capture_output=True)
    until(lambda: slurm.node_state() in ("idle", "mix"), "the node back")
    assert flow.wait() == 0, flow.output
    assert "failed due to a node failure" in flow.output
    assert [job["JobState"] for n, job in flow.jobs().items() if n != lost] == ["COMPLETED"]
