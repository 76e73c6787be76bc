"""Killed, without space, read-only, with damaged files: what a plain re-run makes of it."""

import copy
import os
import random
import re
import subprocess
from collections import Counter

import campaign
import pytest

from dysonflow import cli
from dysonflow.planning import audit

pytestmark = pytest.mark.workflow

CONFIG = copy.deepcopy(campaign.CONFIG)
CONFIG["studies"]["killed"]["sweep"][0]["batch_size"] = 8
BIG = {
    "device": "cpu",
    "studies": {
        "big": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 128, "snapshots": 300},
            "figures": ["spectrum"],
        }
    },
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = campaign.Folder(tmp_path_factory.mktemp("undisturbed"), CONFIG)
    status, text = folder.run()
    assert status == 0, text
    return folder


def test_killed_at_random_moments(undisturbed, tmp_path):
    counts: Counter = Counter()
    generator = random.Random(os.environ.get("PYTEST_SEED", 4))
    reference = undisturbed.data()
    problems = campaign.round_of_kills(tmp_path, reference, 6, generator, counts, CONFIG)
    assert problems == []
    assert counts["kills"] >= 1
    for bad in ("half files under a final name", "finished files made again"):
        assert counts[bad] == 0
    assert counts["checkpoints or half files left at the end"] == 0


def flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 16
    path.write_bytes(raw)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def test_damaged_artifacts_are_found_and_made_again(undisturbed, capsys):
    folder, reference = undisturbed, undisturbed.data()
    target = ["--results", str(folder.results), "--configfile", str(folder.path / "my.yaml")]
    assert cli.main(["verify", *target]) == 0
    kinds = ["weights.safetensors", "spectra.parquet", "fits.parquet", "scaling.parquet"]
    kinds += ["sigma.csv"]
    # The later of two files, so that every kind of damage meets another run.
    files = [sorted(folder.results.rglob(kind))[-1] for kind in kinds]
    for path, damage in zip(files, [flip, truncate] * 3, strict=False):
        damage(path)
    capsys.readouterr()
    assert cli.main(["verify", *target]) == 1
    listed = capsys.readouterr().out
    for path in files:
        assert str(path) in listed
    # What is needed again cannot be made from what is damaged, and says so.
    (missing,) = [files[1].with_name("fits.parquet")]
    missing.unlink()
    status, text = folder.run("--cores", "1", str(missing.relative_to(folder.path)))
    assert status != 0
    assert re.search(r"dysonflow: results/\S+spectra.parquet: damaged .*verify --delete", text)
    assert not missing.exists()
    # The remedy, and then a plain re-run.
    assert cli.main(["verify", *target, "--delete"]) == 0
    status, text = folder.run()
    assert status == 0, text
    assert folder.data() == reference
    assert cli.main(["verify", *target]) == 0


class SmallDisk:
    """A disk of its own for the results of a workflow."""

    def __init__(self, place):
        self.place = place
        place.mkdir(parents=True)
        self.mount("size=1M", "-t", "tmpfs", "tmpfs")

    def mount(self, options, *what):
        subprocess.run(["mount", "-o", options, *what, str(self.place)], check=True)

    def remount(self, options):
        self.mount(f"remount,{options}")


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid():
        pytest.skip("needs root, to mount a small disk")
    try:
        disk = SmallDisk(tmp_path / "results")
    except subprocess.CalledProcessError:
        pytest.skip("this container may not mount")
    yield disk
    subprocess.run(["umount", str(disk.place)], check=True)


def test_a_full_disk_and_a_read_only_one(small_disk, tmp_path):
    folder = campaign.Folder(tmp_path, BIG)
    status, text = folder.run("--cores", "1")
    assert status != 0
    assert re.search(r"weights.safetensors: cannot be written: No space left .*free some", text)
    assert not any(folder.results.rglob("weights*"))
    assert not any(folder.results.rglob("*.partial"))

    small_disk.remount("size=1700k")
    status, text = folder.run("--cores", "1")
    assert status != 0
    assert re.search(r"spectra.parquet: cannot be written: .*No space left .*free some", text), text
    finished = folder.finished()
    assert [os.path.basename(name) for name in finished] == ["weights.safetensors"]

    small_disk.remount("size=64M,ro")
    status, text = folder.run("--cores", "1")
    assert status != 0
    assert "Read-only file system" in text
    assert folder.finished() == finished

    small_disk.remount("rw")
    status, text = folder.run("--cores", "1")
    assert status == 0, text
    assert finished.items() <= folder.finished().items()
    assert "No space left" not in text
    report = audit.verify(folder.plan)
    assert not (report.damaged or report.stale or report.missing)
