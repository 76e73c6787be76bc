"""Whatever lies in a folder, a command ends in a line that says what, never in a traceback."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import yaml
from in_process import make
from limits import HANGING

from dysonflow import cli
from dysonflow.artifacts import documents, kinds, pictures
from dysonflow.artifacts.weights import write_weights
from dysonflow.errors import ArtifactError
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.results import Results

CONFIG = {
    "studies": {
        "small": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 40, "snapshots": 2, "batch_size": 8},
            "figures": [],
        }
    }
}


@pytest.fixture
def run(capsys):
    """Run the command; its status and what it says of errors, which is never a traceback."""

    def command(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return status, error.splitlines()

    return command


# --- show: files of all kinds ---------------------------------------------------------------------


def a_folder(path):
    path.mkdir()


def a_pipe(path):
    os.mkfifo(path)


def a_circle_of_links(path):
    path.symlink_to(path.name)


def an_empty_file(path):
    path.touch()


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def foreign(provenance):
    """A whole file of its kind, with another's text in the place of the provenance."""

    def write(path):
        if path.suffix == ".safetensors":
            content = {"a": np.zeros(2)}, {"dysonflow": provenance}
            path.write_bytes(safetensors.numpy.save(content[0], metadata=content[1]))
        elif path.suffix == ".parquet":
            table = pa.table({"a": [1]}).replace_schema_metadata({"dysonflow": provenance})
            pq.write_table(table, path)
        elif path.suffix == ".png":
            chunks = [(b"tEXt", b"dysonflow\0" + provenance.encode()), (b"IEND", b"")]
            parts = [
                struct.pack(">I", len(data))
                + kind
                + data
                + struct.pack(">I", zlib.crc32(kind + data))
                for kind, data in chunks
            ]
            path.write_bytes(pictures.PNG + b"".join(parts))
        else:
            path.write_text(f"text{documents.BEGIN}{provenance}{documents.END}")

    write.__name__ = f"foreign {provenance[:12]}"
    return write


TEXTS = ["", "5", "null", "[1, 2]", '"text"', '{"format": "three"}', '{"format": null}', "[" * 9999]
MADE = [a_folder, a_pipe, a_circle_of_links, an_empty_file, noise, *map(foreign, TEXTS)]


@pytest.mark.parametrize("suffix", kinds.KINDS)
@pytest.mark.parametrize("write", MADE, ids=lambda write: write.__name__)
def test_no_file_is_shown_as_a_traceback(run, tmp_path, suffix, write):
    path = tmp_path / f"a{suffix}"
    write(path)
    status, (line,) = run("show", path)
    assert status == 1 and str(path) in line


def test_a_file_that_is_none_of_ours(run, tmp_path):
    for name in ("missing.parquet", "text.txt", "missing/a.png"):
        status, (line,) = run("show", tmp_path / name)
        assert status == 1 and name in line


def show(path, **how):
    command = [sys.executable, "-m", "dysonflow", "show", path]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **how)


@pytest.fixture(scope="module")
def umlaut(tmp_path_factory):
    """An artifact whose provenance, and whose name, holds what not every terminal can show."""
    path = os.fsencode(tmp_path_factory.mktemp("umlaut")) + b"/\xc3\xa4\xff.safetensors"
    metadata = {"hyperparameters": {"path": "ä\udcff.npz"}}
    write_weights(os.fsdecode(path), {"W": np.ones((1, 1, 2, 2))}, [1], np.ones((1, 1)), metadata)
    return path


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_cannot_be_spelt_is_shown_all_the_same(umlaut, locale):
    environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = show(umlaut, stdout=subprocess.PIPE, env=os.environ | environment)
    text, error = process.communicate(timeout=HANGING)
    assert (process.returncode, error) == (0, b"")
    assert b"path: " in text and b"checksum: matches" in text


def test_a_reader_that_has_seen_enough_is_no_error(umlaut):
    read, write = os.pipe()
    os.close(read)
    process = show(umlaut, stdout=write)
    os.close(write)
    _, error = process.communicate(timeout=HANGING)
    assert (process.returncode, error) == (1, b"")


# --- verify and clean-orphans: what lies in the way -----------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make(Plan.from_config(CONFIG, Results(str(folder / "results"))))
    folder.joinpath("my.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture
def folder(made, monkeypatch):
    """A finished results folder, which others than its owner may read."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "copy")
        shutil.copytree(made, copy)
        for path in (Path(place), copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        monkeypatch.chdir(copy)
        yield Path("results")
        # Whatever a test forbade.
        for path in copy.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        os.chdir("/")


@pytest.fixture
def stranger(folder, run):
    """Where the tests run as root, who may do all: become somebody else, until the test ends."""
    # Once before, so that all is imported that the other may not read.
    assert run("verify", "--configfile", "my.yaml") == (0, [])
    audit.runs_table({}, Results())
    yield (lambda: None) if os.geteuid() else (lambda: os.seteuid(65534))
    os.seteuid(os.getuid())


COMMANDS = [["verify"], ["verify", "--delete"], ["clean-orphans"], ["clean-orphans", "--delete"]]
commands = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@commands
@pytest.mark.parametrize("place", ["", "runs", "runs/teacher_student", "studies", "logs"])
@pytest.mark.parametrize("what", ["a file", "a link to nothing"])
def test_something_in_the_place_of_a_folder(folder, run, command, place, what):
    path = folder / place
    if path.exists():
        shutil.rmtree(path)
    path.touch() if what == "a file" else path.symlink_to("nowhere")
    status, (line,) = run(*command, "--configfile", "my.yaml")
    assert status == 2
    assert line == f"dysonflow: {path}: {what}, where a folder should be; move it away"
    assert os.path.lexists(path)


@commands
def test_a_folder_in_the_place_of_a_file(folder, run, command):
    (path,) = folder.rglob("fits.parquet")
    path.unlink()
    path.mkdir()
    assert run(*command, "--configfile", "my.yaml") == (
        2,
        [f"dysonflow: {path}: a folder, where a file should be; move it away"],
    )


def test_a_file_of_another_owner_is_neither_damaged_nor_deleted(folder, run, stranger, capsys):
    (path,) = folder.rglob("weights.safetensors")
    path.chmod(0)
    stranger()
    for flags in ([], ["--delete"]):
        assert cli.main(["verify", "--configfile", "my.yaml", *flags]) == 1
        text = capsys.readouterr().out
        assert f"unreadable {path}: cannot be read: Permission denied" in text
        assert "damaged  " not in text
    assert path.exists()
    table = audit.runs_table({}, Results())
    assert table["status"].to_pylist() == ["not readable"]


@commands
def test_a_folder_of_another_owner(folder, run, stranger, command):
    path = folder / "runs" / "teacher_student"
    path.chmod(0)
    stranger()
    status, lines = run(*command, "--configfile", "my.yaml")
    assert status in (0, 2) and len(lines) == (status == 2)
    if command[0] == "verify":
        assert lines == [line for line in lines if "Permission denied" in line] != []


def test_what_may_not_be_deleted_is_named_and_the_rest_is_deleted(folder, run, stranger):
    runs = folder / "runs" / "teacher_student"
    kept, removed = old = [runs / f"old-{k}123456789ab" for k in (0, 1)]
    for path in old:
        shutil.copytree(next(runs.iterdir()), path)
        (path / "fits.parquet").write_text("damaged")
    kept.chmod(0o555)
    removed.chmod(0o777)
    runs.chmod(0o777)
    stranger()
    for command in ("verify", "clean-orphans"):
        status, (line,) = run(command, "--configfile", "my.yaml", "--delete")
        assert status == 1 and str(kept) in line and "Permission denied" in line
        assert not (removed / "fits.parquet").exists()
    assert kept.exists() and not removed.exists()


def test_a_file_that_vanishes_is_missing(folder, run, monkeypatch, capsys):
    read = kinds.read_whole

    def slowly(path):
        Path(path).unlink()
        return read(path)

    monkeypatch.setattr(kinds, "read_whole", slowly)
    assert cli.main(["verify", "--configfile", "my.yaml"]) == 0
    assert "0 files checked, 4 not made yet" in capsys.readouterr().out


def test_an_interruption_is_one_line(folder, run, monkeypatch):
    def interrupted(plan, of_several):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "verify", interrupted)
    assert run("verify", "--configfile", "my.yaml") == (130, ["dysonflow: interrupted"])


@pytest.mark.parametrize("text", ["a: [1\nb: 2", "\x00", "[" * 5000, "- 1", "&a [*a]", "\xff: !!x"])
def test_a_configuration_that_is_none_is_one_line(folder, run, text):
    Path("bad.yaml").write_text(text, encoding="latin-1")
    for name in ("bad.yaml", "results", "missing.yaml", "n" * 300, "my.yaml/a"):
        status, (line,) = run("verify", "--configfile", name)
        assert status == 2 and line.startswith(f"dysonflow: {name}: ")


def test_places_are_checked_for_the_workflow_too(tmp_path):
    (tmp_path / "results").touch()
    plan = Plan.from_config(CONFIG, Results(str(tmp_path / "results")))
    with pytest.raises(ArtifactError, match="results: a file, where a folder should be"):
        audit.check_places(plan)


def test_several_configurations_are_looked_at_together(folder, run):
    text = Path("my.yaml").read_text(encoding="utf-8")
    Path("same.yaml").write_text(text, encoding="utf-8")
    assert run("verify", "--configfile", "my.yaml", "same.yaml") == (0, [])
    config = yaml.safe_load(text)
    (name,) = config["studies"]
    config["studies"][name]["hyperparameters"]["seed"] = 7
    Path("other.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    status, (line,) = run("verify", "--configfile", "my.yaml", "other.yaml")
    assert status == 2
    assert line.startswith(f"dysonflow: other.yaml: another file has a study {name!r} too")
