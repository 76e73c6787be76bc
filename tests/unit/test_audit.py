"""Seals, and what is found in a results folder; without Snakemake."""

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from in_process import make
from safetensors.numpy import save_file

import dysonflow
from dysonflow import cli
from dysonflow.artifacts import files as files_module
from dysonflow.artifacts import kinds, pictures, provenance, seals, tables, weights
from dysonflow.errors import ArtifactError, NewerFormatError, OlderFormatError
from dysonflow.planning import audit, sources
from dysonflow.planning.graph import Artifact, Plan
from dysonflow.results import Results

CONFIG = {
    "studies": {
        "small": {
            "model": "teacher_student",
            "hyperparameters": {"replicas": 40, "snapshots": 2},
            "sweep": {"batch_size": [8, 16]},
            "figures": ["sigma"],
        }
    }
}


def plan_of(results="results"):
    return Plan.from_config(CONFIG, Results(str(results)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make(plan_of(folder / "results"))
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    Path("config").mkdir()
    Path("config/config.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return Path("results")


def verify():
    report = audit.verify(plan_of())
    assert report.checked == 8
    return report


def files(results, name):
    return sorted(results.glob(f"**/{name}"))


def test_all_is_as_it_should_be(folder):
    report = verify()
    assert not (report.damaged or report.stale or report.newer or report.notes or report.missing)
    assert cli.main(["verify"]) == 0


@pytest.mark.parametrize("suffix", ["safetensors", "parquet", "png"])
def test_a_flipped_bit_anywhere_is_found(folder, suffix):
    path = files(folder, f"*.{suffix}")[0]
    raw = path.read_bytes()
    # Every byte of header and footer, and a sample of what is between.
    positions = {*range(200), *range(len(raw) - 200, len(raw)), *range(0, len(raw), 97)}
    for position in sorted(positions):
        flipped = bytearray(raw)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(ArtifactError, match=r"damaged .*verify --delete.*`snakemake` makes it"):
            kinds.read_whole(path)


def test_a_change_of_the_files_beside_a_figure_is_found(folder):
    (csv,) = files(folder, "sigma.csv")
    csv.write_text(csv.read_text().replace("1", "2", 1))
    (damaged,) = verify().damaged.items()
    assert damaged[0] == csv.with_suffix(".png") and "sigma.csv: missing or changed" in damaged[1]


def test_damage_is_listed_and_deleted_on_demand(folder, capsys):
    path = files(folder, "weights.safetensors")[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert cli.main(["verify"]) == 1
    text = capsys.readouterr().out
    assert f"damaged  {path}" in text and "1 damaged, 0 stale" in text
    assert path.exists()
    assert cli.main(["verify", "--delete"]) == 0
    assert not path.exists() and len(files(folder, "*.parquet")) == 5


def test_the_command_that_deletes_looks_at_the_same_files(folder, capsys):
    shutil.copy("config/config.yaml", "my own.yaml")
    path = files(folder, "spectra.parquet")[0]
    path.write_bytes(path.read_bytes()[:-1])
    given = ["verify", "--configfile", "my own.yaml"]
    assert cli.main(given) == 1
    said = capsys.readouterr().out
    assert "`dysonflow verify --configfile 'my own.yaml' --delete` deletes them" in said
    for words in ("1 files deleted; run snakemake", "nothing to delete"):
        assert cli.main([*given, "--delete"]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith(words)


def test_a_line_on_a_file_stays_short():
    now = Artifact("report.html", {"studies": {f"study{n}": "run" * 500 for n in range(9)}})
    text = audit._difference(now, {"studies": {}})
    assert text.startswith("made with study0 = None, now runrun") and len(text) < 500
    assert text.endswith("; and 6 more")


def test_a_file_from_the_future_is_listed(folder, capsys):
    path = files(folder, "spectra.parquet")[0]
    later = time.time() + 3600
    os.utime(path, (later, later))
    assert cli.main(["verify"]) == 1
    assert f"ahead    {path}: its time stamp, " in capsys.readouterr().out
    path.touch()
    assert cli.main(["verify"]) == 0


def test_damage_in_a_shared_cache_is_deleted_there(folder, tmp_path):
    path = files(folder, "weights.safetensors")[0]
    shared = tmp_path / "shared"
    shutil.move(path, shared)
    path.symlink_to(shared)
    shared.write_bytes(shared.read_bytes()[:-1])
    assert str(shared) in verify().damaged[path]
    assert cli.main(["verify", "--delete"]) == 0
    assert not path.is_symlink() and not shared.exists()


def test_other_source_is_found_from_its_stage_on(folder, monkeypatch):
    source = sources.source

    def edited(stage, *names):
        return source(stage, *names) if stage in ("train", "spectra") else "0" * 16

    monkeypatch.setattr(sources, "source", edited)
    stale = verify().stale
    assert sorted({path.name for path in stale}) == ["fits.parquet", "scaling.parquet", "sigma.png"]
    assert all("made by other source" in text for text in stale.values())


def test_other_hyperparameters_are_named(folder):
    first, second = files(folder, "weights.safetensors")
    shutil.copy(first, second)
    stale = verify().stale
    assert stale[second].startswith("made with other run")
    # The spectra beside it were made from other weights.
    assert "another weights.safetensors" in stale[second.with_name("spectra.parquet")]
    # So were the fits, which read the weights for the directions of the eigenvectors.
    assert "made from another" in stale[second.with_name("fits.parquet")]
    assert len(stale) == 3


def test_other_versions_are_reported(folder, monkeypatch):
    here = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: here | {"torch": "99.0", "numpy": "98"})
    report = verify()
    assert report.notes == [
        f"8 files were made with numpy {here['numpy']}; here is 98",
        f"8 files were made with torch {here['torch']}; here is 99.0",
    ]
    assert not report.stale


def test_a_newer_layout_is_no_damage(folder, monkeypatch, capsys):
    later = plan_of(folder / "newer")
    with monkeypatch.context() as newer:
        newer.setattr(files_module, "FORMAT", files_module.FORMAT + 1)
        make(later)
        audit.write_runs({}, later.results, later.results.runs_table)
    with pytest.raises(NewerFormatError, match="runs.parquet: written by a newer dysonflow"):
        audit.check_folder(later.results)
    audit.check_folder(Results())
    with pytest.raises(ArtifactError, match="written by a newer dysonflow .* update dysonflow"):
        dysonflow.read_fits(folder / "newer")
    assert cli.main(["verify", "--delete", "--results", str(folder / "newer")]) == 1
    assert "newer    " in capsys.readouterr().out
    assert len(files(folder / "newer", "*.parquet")) == 6
    lines = audit.unrecorded(later)
    assert "update dysonflow" in lines[0]


def test_a_hyperparameter_that_was_renamed_is_still_read(folder):
    path = files(folder, "fits.parquet")[0]
    metadata = tables.read_metadata(path)
    values = metadata["hyperparameters"]
    values["epsilon"] = values.pop("noise_scale")
    table = pq.read_table(path)
    names = ["epsilon" if name == "noise_scale" else name for name in table.column_names]
    old = table.rename_columns(names).replace_schema_metadata(None)
    columns = {name: old.column(name) for name in names}
    tables.write_table(columns, old.schema, path, metadata)
    fits = dysonflow.read_fits()
    assert fits["epsilon"].notna().sum() == 1 and fits["noise_scale"].notna().sum() == 1
    assert "epsilon = 0.1, now None; noise_scale = None, now 0.1" in verify().stale[path]
    assert audit.runs_table({}, Results()).num_rows == 2


@pytest.mark.parametrize("suffix", ["safetensors", "parquet", "png"])
def test_an_older_layout_is_one_line_with_the_command_that_helps(folder, suffix, capsys):
    older = plan_of(folder / "older")
    with pytest.MonkeyPatch.context() as before:
        before.setattr(files_module, "FORMAT", files_module.FORMAT - 1)
        make(older)
        audit.write_runs({}, older.results, older.results.runs_table)
    path = files(folder / "older", f"*.{suffix}")[0]
    with pytest.raises(OlderFormatError, match=r"`snakemake` makes it anew .*verify --delete"):
        kinds.read_whole(path)
    # Snakemake makes such files anew, so that they do not stop it.
    audit.check_folder(older.results)
    assert audit.runs_table({}, older.results)["status"].to_pylist() == ["of an older layout"] * 2
    assert cli.main(["verify", "--results", str(folder / "older")]) == 1
    text = capsys.readouterr().out
    assert "0 damaged, 8 stale, 0 of a newer" in text


def test_results_without_a_record_are_compared_with_the_source(folder, monkeypatch):
    assert audit.unrecorded(plan_of()) == []
    monkeypatch.setattr(sources, "source", lambda *names: "0" * 16)
    assert len(audit.unrecorded(plan_of())) == 8


def test_show_prints_all_there_is_to_know(folder, capsys):
    path = files(folder, "weights.safetensors")[0]
    assert cli.main(["show", str(path), str(files(folder, "sigma.png")[0])]) == 0
    text = capsys.readouterr().out
    for name in (
        "seed: 0",
        "dtype: float64",
        "device: cpu",
        "seconds: ",
        "git_commit: ",
        "torch: ",
    ):
        assert name in text
    assert text.count("source: ") == 2 and text.count("checksum: matches") == 2
    assert cli.main(["show", "nothing.parquet"]) == 1


def shown(capsys, *paths):
    """Status of `dysonflow show`, first lines of what it shows, and errors."""
    status = cli.main(["show", *map(str, paths)])
    out, err = capsys.readouterr()
    return status, [line for line in out.splitlines() if not line.startswith(" ")], err


def test_show_takes_what_a_user_points_at(folder, capsys):
    weights = files(folder, "weights.safetensors")[0]
    run = [str(path) for path in sorted(weights.parent.iterdir())]
    assert len(run) == 3 and shown(capsys, weights.parent) == (0, run, "")
    # The picture holds what is known of the files beside it.
    (picture,) = files(folder, "sigma.png")
    beside = [picture.with_suffix(suffix) for suffix in pictures.COMPANIONS]
    for points_at in ([picture.parent], beside):
        assert shown(capsys, *points_at) == (0, [str(picture)], "")
    status, paths, text = shown(capsys, folder)
    assert (status, paths) == (1, []) and "no artifact of dysonflow lies in this folder" in text


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "data.csv", "report.html", "README.md", "x.png", "x.parquet", "x.safetensors"],
)
def test_nobody_is_told_to_delete_a_file_of_others(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if name == "x.parquet":
        pd.DataFrame({"a": [1]}).to_parquet(name)
    elif name == "x.safetensors":
        save_file({"a": np.zeros(3)}, name)
    else:
        Path(name).write_bytes(pictures.PNG if name == "x.png" else b"<html></html>\n")
    status, paths, text = shown(capsys, name)
    assert (status, paths) == (1, []) and text.startswith(f"{name}: ")
    assert "not an artifact" in text or "if the workflow made it" in text
    assert "delete it" not in text


def test_files_of_others_in_a_results_folder_stay(folder, capsys):
    first = files(folder, "weights.safetensors")[0]
    others = {
        folder / "runs/mine/best_model/weights.safetensors": "not named like a run",
        folder / "runs/mine/old-0123456789ab/notes/today.txt": "notes in the folder of a run",
    }
    for path, text in others.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    copy = folder / "runs/mine/old-0123456789ab" / first.name
    shutil.copy(first, copy)
    for name in ("weights.safetensors.checkpoint", ".weights.safetensors.host.12.partial"):
        copy.with_name(name).touch()
    assert cli.main(["verify", "--delete"]) == 0
    assert cli.main(["clean-orphans", "--delete"]) == 0
    assert "today.txt: not of dysonflow" in capsys.readouterr().out
    left = sorted(path for path in (folder / "runs/mine").rglob("*") if path.is_file())
    assert left == sorted(others)


def test_the_table_of_runs_has_hyperparameters_and_status(folder):
    first, second = plan_of().studies["small"].runs
    place = Path(plan_of().results.files_of(first)["weights"]).parent
    shutil.copytree(place, folder / "runs/teacher_student/old-0123456789ab")
    Path(plan_of().results.files_of(second)["fits"]).unlink()
    results = Results()
    audit.write_runs({"a": [first, second], "b": [second]}, results, results.runs_table)
    runs = dysonflow.read_runs().set_index("key")
    assert runs.loc[first.key, "status"] == "fitted"
    assert runs.loc[second.key, "status"] == "diagonalised"
    assert list(runs.loc[second.key, "studies"]) == ["a", "b"]
    assert list(runs.loc["0123456789ab", "studies"]) == []
    assert runs["batch_size"].tolist() == [8, 16, 8]
    assert runs["seconds"].notna().all() and pd.isna(runs.loc[first.key, "sampler"])


def test_the_runs_of_one_study_are_read(folder):
    plan = plan_of()
    first, second = plan.studies["small"].runs
    audit.write_runs({"a": [first, second], "b": [second]}, plan.results, plan.results.runs_table)
    assert set(dysonflow.read_fits(study="b")["run"]) == {second.name}
    assert set(dysonflow.read_spectra(study="a")["run"]) == {first.name, second.name}
    with pytest.raises(FileNotFoundError, match="no study 'c'; valid: a, b"):
        dysonflow.read_fits(study="c")


def test_orphans_are_deleted_only_on_demand(folder, capsys):
    more = folder / "runs/teacher_student/old-0123456789ab"
    shutil.copytree(files(folder, "weights.safetensors")[0].parent, more)
    assert cli.main(["verify"]) == 0
    assert "11 files checked" in capsys.readouterr().out
    assert cli.main(["clean-orphans"]) == 0
    text = capsys.readouterr().out
    assert str(more) in text and "1 runs" in text
    assert "nothing deleted: `dysonflow clean-orphans --delete` deletes them" in text
    assert more.exists()
    assert cli.main(["clean-orphans", "--delete"]) == 0
    assert not more.exists() and verify().missing == 0
    assert cli.main(["clean-orphans", "--configfile", "nothing.yaml"]) == 2


def test_shards_give_the_same_bytes_in_all_stages(tmp_path):
    values = {"replicas": 448, "snapshots": 2, "lags": [1, 3]}
    study = {"model": "teacher_student", "hyperparameters": values, "figures": []}
    found = []
    for size in (512, 192, 64):
        config = {"shard_size": size, "studies": {"a1": study}}
        plan = Plan.from_config(config, Results(str(tmp_path / str(size))))
        (run,) = plan.runs.values()
        assert len(plan.shard_files(run)) == -(-448 // size)
        make(plan)
        paths = [artifact.path for artifact in plan.artifacts() if artifact.needed]
        found.append([kinds.read_whole(path)["data"] for path in paths])
    assert found[0] == found[1] == found[2]


def test_the_digest_of_the_data_does_not_see_the_metadata(tmp_path):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        array = np.arange(4.0).reshape(1, 1, 2, 2)
        weights.write_weights(
            tmp_path / name, {"W": array}, np.array([1]), np.ones((1, 1)), {"seconds": seconds}
        )
    first, second = (weights.read_metadata(tmp_path / name) for name in "ab")
    assert first["data"] == second["data"]
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    dead = tmp_path / f".file.{platform.node()}.{process.pid}.partial"
    elsewhere = tmp_path / f".file.another.{process.pid}.partial"
    for path in (dead, elsewhere):
        path.write_text("half")
    with files_module.atomic(tmp_path / "file") as path:
        path.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([elsewhere, tmp_path / "file"])


def test_a_file_without_a_place_for_the_seal_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="no place"):
        seals.seal(tmp_path / "file")
    assert pictures.COMPANIONS == (".pdf", ".csv", ".rst")
