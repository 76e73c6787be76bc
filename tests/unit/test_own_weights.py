"""Weights from the user's own files: every format and order of axes, and every bad file."""

import math
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from in_process import make_run, make_weights

import dysonflow
from dysonflow import cli, models, stages, theory
from dysonflow.analysis import fits, spectra
from dysonflow.analysis.columns import hyperparameter_fields
from dysonflow.artifacts import kinds
from dysonflow.artifacts.weights import open_weights
from dysonflow.errors import ConfigError
from dysonflow.planning import audit, sources
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import Study, load_studies
from dysonflow.readers import arrays
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.results import Results
from dysonflow.simulation.ensemble import Memory

RATE, BATCH, SCALE = 0.1, 4, 0.3
SIGMA = SCALE * math.sqrt(RATE / BATCH)
CHECKPOINTS = models.hyperparameters_of("checkpoints")


def read_of(run):
    """Weights and steps of a run, read from its files into memory."""
    memory = Memory(run, run.replicas)
    step = models.load("checkpoints").read(run, memory.put)
    return memory.layers["W"], step


GIVEN = {"array": "w", "learning_rate": RATE, "batch_size": BATCH}


def pairs(replicas=50, snapshots=3, seed=0):
    """GOE pairs of width SIGMA about 2, shape (replica, snapshot, 2, 2)."""
    normal = np.random.default_rng(seed).standard_normal((replicas, snapshots, 2, 2))
    return 2.0 * np.eye(2) + SIGMA * (normal + normal.swapaxes(2, 3)) / 2.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(path, **arrays):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if path.endswith(".npz"):
        np.savez_compressed(path, **arrays)
    elif path.endswith(".safetensors"):
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        safetensors.numpy.save_file(arrays, path)
    else:
        torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path)


def run_of(path, **values):
    return CHECKPOINTS.from_config({**GIVEN, "path": path, **values})


def read(path, **values):
    return read_of(run_of(path, **values))


def refused(path, **values):
    with pytest.raises(ConfigError) as caught:
        run_of(path, **values)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "pth", "bin", "ckpt"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_values_come_back_from_every_format(suffix, dtype):
    stored = pairs().astype(dtype)
    save(f"a.{suffix}", other=np.zeros(3), w=stored)
    run = run_of(f"a.{suffix}")
    assert (run.replicas, run.snapshots, run.rows, run.columns) == (50, 3, 2, 2)
    assert run.dtype == ("float64" if dtype == "float64" else "float32")
    weights, step = read_of(run)
    assert weights.dtype == run.dtype
    np.testing.assert_array_equal(weights, stored)
    assert step.tolist() == [1, 2, 3]


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_bfloat16_is_widened(suffix):
    stored = torch.from_numpy(pairs()).to(torch.bfloat16)
    writer = safetensors.torch.save_file if suffix == "safetensors" else torch.save
    writer({"w": stored}, f"a.{suffix}")
    np.testing.assert_array_equal(read(f"a.{suffix}")[0], stored.float().numpy())


def test_other_byte_order_and_order_in_memory():
    np.savez("a.npz", w=np.asfortranarray(pairs()).astype(">f8"))
    np.testing.assert_array_equal(read("a.npz")[0], pairs())


def test_old_and_nested_torch_files():
    inner = {"model": {"fc1.weight": torch.from_numpy(pairs())}, "layers": [torch.zeros(2, 2)]}
    for name, new in (("new.pt", True), ("old.pt", False)):
        torch.save(inner, name, _use_new_zipfile_serialization=new)
        np.testing.assert_array_equal(read(name, array="model/fc1.weight")[0], pairs())
        assert read(name, array="layers/0", axes=["row", "column"])[0].shape == (1, 1, 2, 2)


@pytest.mark.parametrize(
    "axes",
    [
        ["replica", "snapshot", "row", "column"],
        ["column", "row", "snapshot", "replica"],
        ["snapshot", "replica", "column", "row"],
        ["row", "replica", "snapshot", "column"],
    ],
)
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_any_order_of_axes(axes, suffix):
    stored = np.random.default_rng(1).standard_normal((5, 4, 3, 2))
    order = [["replica", "snapshot", "row", "column"].index(axis) for axis in axes]
    save(f"a.{suffix}", w=stored.transpose(order))
    run = run_of(f"a.{suffix}", axes=axes, first_snapshot=1)
    assert (run.replicas, run.snapshots, run.rows, run.columns) == (5, 3, 3, 2)
    np.testing.assert_array_equal(read_of(run)[0], stored[:, 1:])


def test_files_are_put_in_order_by_replica_and_snapshot():
    stored = pairs(11, 3)
    for replica in range(11):
        for j, step in enumerate((5, 100, 20)):
            save(f"run{replica}/w{step}.npz", w=stored[replica, [0, 2, 1][j]].T)
    run = run_of("run{replica}/w{snapshot}.npz", axes=["column", "row"])
    assert (run.burn_in, run.steps, run.replicas, run.snapshots) == (5, 100, 11, 3)
    weights, step = read_of(run)
    np.testing.assert_array_equal(weights, stored)
    assert step.tolist() == [5, 20, 100]
    late = run_of("run{replica}/w{snapshot}.npz", axes=["column", "row"], first_snapshot=-2)
    assert (late.burn_in, late.snapshots, len(late.sources)) == (20, 2, 22)
    np.testing.assert_array_equal(read_of(late)[0], stored[:, 1:])
    # Times given by hand take the place of the numbers in the names.
    given = run_of("run{replica}/w{snapshot}.npz", axes=["row", "column"], burn_in=10, steps=30)
    assert read_of(given)[1].tolist() == [10, 20, 30]


def test_files_without_placeholders_are_replicas_in_natural_order():
    stored = pairs(12)
    for replica in range(12):
        save(f"seed{replica}.pt", w=stored[replica])
    weights, step = read("seed*.pt", axes=["snapshot", "row", "column"])
    np.testing.assert_array_equal(weights, stored)
    assert step.tolist() == [1, 2, 3]


def test_snapshots_in_files_and_replicas_in_the_array():
    stored = pairs(4, 3)
    for snapshot, word in enumerate(["early", "late", "mid"]):
        save(f"{word}.npz", w=stored[:, snapshot])
    weights, step = read("{snapshot}.npz", axes=["replica", "row", "column"])
    np.testing.assert_array_equal(weights, stored)
    assert step.tolist() == [1, 2, 3]


def test_the_last_snapshot():
    save("a.npz", w=pairs(5, 6))
    run = run_of("a.npz", first_snapshot=-1)
    assert (run.snapshots, run.burn_in, run.steps) == (1, 6, 6)
    weights, step = read_of(run)
    np.testing.assert_array_equal(weights, pairs(5, 6)[:, 5:])
    assert step.tolist() == [6]


def test_a_name_that_spells_a_number():
    torch.save({"0": torch.from_numpy(pairs())}, "1e5.pt")
    run = run_of("1e5.pt", array="0")
    assert run.canonical()["array"] == "0"
    np.testing.assert_array_equal(read_of(run)[0], pairs())


# --- runs, keys and tables ------------------------------------------------------------------------


def test_a_resolved_run_needs_no_file(folder):
    save("a.npz", w=pairs())
    run = run_of("a.npz", centres=[2, 2], noise_scale=SCALE)
    (folder / "a.npz").unlink()
    again = CHECKPOINTS.from_config(run.canonical())
    assert again == run and again.name == run.name
    assert again.layers() == {"W": (2, 2)}
    with pytest.raises(ConfigError, match="no such file"):
        run_of("a.npz")


def test_every_hyperparameter_changes_the_key():
    save("a.npz", w=pairs(), v=pairs())
    save("b.npz", w=pairs())
    base = run_of("a.npz", centres=[2, 2], noise_scale=SCALE).canonical()
    other = {
        **{"path": "b.npz", "array": "v", "axes": ["replica", "snapshot", "column", "row"]},
        **{"replicas": 49, "snapshots": 2, "rows": 3, "burn_in": 0, "steps": 9, "seed": 1},
        **{"dtype": "float32", "first_snapshot": 1, "learning_rate": 0.2, "batch_size": 5},
        **{"level": "eigenvalue", "centres": [1, 2], "noise_scale": 0.1},
        **{"theory": "teacher_student"},
    }
    # Files are read as they are: there are no lags. The rest is of whole networks.
    networks = {"layers", "fused", "heads", "key_value_heads", "split", "lora", "matrices"}
    assert set(other) | {"columns", "lags"} | networks == set(base)
    key = CHECKPOINTS.from_config(base).key
    for name, value in other.items():
        assert CHECKPOINTS.from_config(base | {name: value}).key != key, name


def test_the_same_weights_have_the_spectra_of_a_trained_run():
    student = models.hyperparameters_of("teacher_student").from_config(
        {"replicas": 40, "snapshots": 3}
    )
    with open("log", "w", encoding="utf-8") as log:
        stages.train("teacher_student", student.canonical(), "0", "cpu", "s.safetensors", log)
    with open_weights("s.safetensors") as file:
        trained = file.read("W")
        theirs = spectra.spectra_columns(student, "W", trained, file.step)
    run = run_of("s.safetensors", array="weights/W")
    weights, step = read_of(run)
    ours = spectra.spectra_columns(run, "W", weights, step)
    for name in ("replica", "snapshot", "index", "eigenvalue"):
        assert ours[name].equals(theirs[name]), name


def plan_of(*runs, results="results"):
    """A plan with one study for each run, which draws nothing."""
    studies = {
        f"s{k}": Study(f"s{k}", run.MODEL, (run,), (), True, None) for k, run in enumerate(runs)
    }
    return Plan(studies, {}, Results(str(results)))


def test_tables_of_two_models_are_read_together(folder):
    save("a.npz", w=pairs())
    student = models.hyperparameters_of("teacher_student").from_config(
        {"replicas": 40, "snapshots": 2}
    )
    plain = run_of("a.npz")
    fitted = run_of("a.npz", centres=[2, 2], noise_scale=SCALE)
    plan = plan_of(student, plain, fitted)
    results = Path(plan.results.root)
    for run in plan.runs.values():
        make_run(plan, run, None)
    file = plan.results.files_of(plain)["weights"]
    with open_weights(file) as weights:
        assert np.isnan(weights.loss).all() and weights.loss.shape == (50, 3)
        assert list(weights.metadata["sources"]) == ["a.npz"]
    # Spectra and fits may be made where the files are not.
    (folder / "a.npz").unlink()
    for run in (plain, fitted):
        files = plan.results.files_of(run)
        values = plan.run_params("spectra", run)
        stages.spectra(run.MODEL, **values, weights=files["weights"], output=files["spectra"])
    stages.fit(
        "checkpoints",
        **plan.run_params("fit", fitted),
        **plan.fit_inputs(fitted),
        output=files["fits"],
    )
    spectrum = dysonflow.read_spectra(results)
    one = spectrum[spectrum["run"] == plain.name].iloc[0]
    assert one["path"] == "a.npz" and list(one["centres"]) == [] and math.isnan(one["noise_scale"])
    assert list(one["axes"]) == ["replica", "snapshot", "row", "column"]
    table = dysonflow.read_fits(results)
    assert set(table["model"]) == {"teacher_student", "checkpoints"}
    row = table[table["model"] == "checkpoints"].iloc[0]
    assert row["sigma"] == pytest.approx(SIGMA, abs=5 * row["sigma_error"])
    assert row["mean_gap_theory"] == pytest.approx(math.sqrt(math.pi) * SIGMA)
    assert np.isnan(row["angle_p_value"]) and row["surmise_p_value"] > 1e-3
    assert list(row["centres"]) == [2.0, 2.0]
    runs = audit.runs_table({"one": list(plan.runs.values())}, plan.results).to_pandas()
    assert sorted(runs["status"]) == ["diagonalised", "fitted", "fitted"]


def test_a_single_snapshot_has_no_autocorrelation_time():
    run = run_of_pairs(snapshots=1)
    columns = fits.fit_run(run, "W", spectra.eigenvalues(read_of(run)[0]))
    assert columns["autocorrelation_time"].to_pylist() == [None]
    assert columns["sigma"].to_pylist()[0] > 0


def run_of_pairs(snapshots=3, **values):
    save("a.npz", w=pairs(snapshots=snapshots))
    return run_of("a.npz", **{"centres": [2, 2], "noise_scale": SCALE, **values})


def test_a_source_that_changed_is_stale(folder, capsys):
    run = run_of_pairs()
    make_weights(plan_of(run), run, None)
    values = {**GIVEN, "path": "a.npz", "centres": [2, 2], "noise_scale": SCALE}
    config = {"studies": {"own": {"model": "checkpoints", "hyperparameters": values}}}
    report = audit.verify(Plan.from_config(config))
    assert not report.stale and not report.damaged
    save("a.npz", w=pairs(seed=1))
    (text,) = audit.verify(Plan.from_config(config)).stale.values()
    assert text == "made from another a.npz than the one there is now"
    (folder / "a.npz").unlink()
    (folder / "my.yaml").write_text(str(config))
    assert cli.main(["verify", "--configfile", "my.yaml"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_many_files_have_one_checksum():
    for replica in range(40):
        save(f"{replica}.npz", w=pairs(1, 1)[0, 0])
    run = run_of("*.npz", axes=["row", "column"])
    stages.read_weights("checkpoints", run.canonical(), "0", "w.safetensors")
    recorded = kinds.read_whole("w.safetensors")["sources"]
    assert recorded["files"] == 40 and len(recorded["sha256"]) == 64


# --- theory ---------------------------------------------------------------------------------------


def test_blocks_are_those_of_equal_centres():
    save("a.npz", w=np.zeros((2, 1, 3, 3)))
    run = run_of("a.npz", centres=[1, 2, 2], noise_scale=SCALE)
    one, two = theory.load(run.MODEL).blocks(run, "W")
    assert (one.multiplicity, one.centre, two.multiplicity, two.first) == (1, 1.0, 2, 1)
    assert one.sigma == two.sigma == two.finite_step_variable == pytest.approx(SIGMA)
    assert math.isnan(one.mean_gap)


def test_the_teacher_student_theory_is_that_of_the_model():
    run = run_of_pairs(theory="teacher_student")
    student = models.hyperparameters_of("teacher_student").from_config(
        {"learning_rate": RATE, "batch_size": BATCH, "noise_scale": SCALE, "teacher_spectrum": 2}
    )
    assert theory.load(run.MODEL).blocks(run, "W") == theory.load(student.MODEL).blocks(
        student, "W"
    )


@pytest.mark.parametrize(("level", "power"), [("singular_value", 0.5), ("eigenvalue", 1.0)])
def test_the_level_may_be_an_eigenvalue(level, power):
    run = run_of_pairs(level=level, centres=[2, 2] if power < 1 else [4, 4])
    physics = theory.load(run.MODEL)
    values = spectra.eigenvalues(read_of(run)[0])
    levels = physics.levels(run, "W", values)
    np.testing.assert_allclose(levels, values**power)
    np.testing.assert_allclose(physics.eigenvalues(run, "W", levels), values)
    word = level.split("_")[0]
    assert word in physics.level_name(run, "W") and word in physics.level_label(run, "W")


def test_digests_do_not_depend_on_the_trainer():
    text = sources.source("train", "checkpoints")
    assert text != sources.source("train", "teacher_student")
    assert sources.source("spectra", "checkpoints") != text


# --- studies --------------------------------------------------------------------------------------


def study(**changes):
    values = {**GIVEN, "path": "a.npz"}
    return {"studies": {"own": {"model": "checkpoints", "hyperparameters": values} | changes}}


def test_without_centres_there_is_only_a_spectrum():
    save("a.npz", w=pairs())
    found = load_studies(study())["own"]
    assert found.figures == ("spectrum",) and not found.is_stationary
    with pytest.raises(ConfigError) as caught:
        load_studies(study(figures=["spectrum", "mean_gap"]))
    assert "'mean_gap' shows fits" in str(caught.value) and "\n" not in str(caught.value)


def test_files_are_looked_for_where_every_number_is_given(folder):
    save("a.npz", w=pairs())
    values = run_of("a.npz").canonical()
    load_studies({"studies": {"own": {"model": "checkpoints", "hyperparameters": values}}})
    (folder / "a.npz").unlink()
    with pytest.raises(ConfigError, match="study 'own': path = 'a.npz': no such file"):
        load_studies({"studies": {"own": {"model": "checkpoints", "hyperparameters": values}}})


def test_with_centres_all_figures_are_drawn():
    save("a.npz", w=pairs())
    found = load_studies(study(sweep={"centres": [[2, 2]], "noise_scale": SCALE}))["own"]
    assert found.is_stationary and "mean_gap" in found.figures


def blocks_about(centres, replicas, seed):
    normal = np.random.default_rng(seed).standard_normal((replicas, 2, len(centres), len(centres)))
    return np.diag(centres) + SIGMA * (normal + normal.swapaxes(2, 3)) / 2.0


def test_runs_of_one_study_may_have_other_blocks(folder):
    # A pair, a pair between others, too few replicas, no pair at all.
    centres = [[2.0, 2.0], [1.0, 2.0, 2.0, 4.0], [2.0, 2.0], [1.0, 3.0]]
    runs = []
    for k, (levels, replicas) in enumerate(zip(centres, (50, 50, 5, 50), strict=True)):
        save(f"{k}.npz", w=blocks_about(levels, replicas, k))
        runs.append(run_of(f"{k}.npz", centres=levels, noise_scale=SCALE))
    paths = {"spectra": [], "fits": []}
    plan = plan_of(*runs)
    for run in runs:
        make_run(plan, run, None)
        for kind, found in paths.items():
            found.append(plan.results.files_of(run)[kind])
    data = StudyData("mixed", runs, **paths)
    assert [data.pair_numbers(run) for run in runs] == [[0], [1], [], []]
    assert data.with_pairs() == runs[:2]
    for name, curves in (("gap_distribution", 7), ("block_density", 6), ("spectrum", 9)):
        assert len(draw_figure(name, data, {}).numbers) == curves, name
    # Runs of the same noise are shown side by side, not one for all.
    assert len(data.representative(3)) == 3


# --- what is refused ------------------------------------------------------------------------------


class Malicious:
    """Leaves a file behind if it is ever unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("suffix", ["npz", "pt", "pth", "bin", "ckpt"])
@pytest.mark.parametrize("how", ["inside", "bare"])
def test_a_pickle_is_refused_and_never_executed(suffix, how, folder):
    path = f"a.{suffix}"
    if how == "bare":
        with open(path, "wb") as stream:
            pickle.dump(Malicious(), stream, protocol=2)
    elif suffix == "npz":
        array = np.empty(1, dtype=object)
        array[0] = Malicious()
        np.savez(path, w=array)
    else:
        torch.save({"w": torch.zeros(1, 1, 2, 2), "x": Malicious()}, path)
    message = refused(path)
    assert path in message and "pickle" in message and "never opened" in message
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.98])
def test_a_truncated_file_is_named(suffix, part, folder):
    path = folder / f"a.{suffix}"
    save(path.name, w=pairs())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(part * len(raw))])
    assert f"a.{suffix}: cannot be read" in refused(path.name)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("content", [b"hello world " * 20, b"PK\x03\x04 no zip", b"\x00" * 200])
def test_a_foreign_file_is_named(suffix, content, folder):
    (folder / f"a.{suffix}").write_bytes(content)
    assert f"a.{suffix}: cannot be read" in refused(f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["npz", "pt"])
def test_another_zip_file_is_no_checkpoint(suffix):
    with zipfile.ZipFile(f"a.{suffix}", "w") as archive:
        archive.writestr("w.npy", "nothing of the kind")
    assert f"a.{suffix}: cannot be read" in refused(f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_an_unknown_array_lists_those_there_are(suffix):
    save(f"a.{suffix}", fc1=pairs(), fc2=pairs())
    message = refused(f"a.{suffix}", array="bias")
    assert "array = 'bias'" in message and "fc1, fc2" in message
    assert "did you mean fc1?" in refused(f"a.{suffix}", array="fc1.")


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64"])
def test_other_types_are_refused(suffix, dtype):
    save(f"a.{suffix}", w=pairs().astype(dtype))
    message = refused(f"a.{suffix}")
    assert "array 'w' has dtype" in message and "float64" in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"path": "b*.npz"}, ["path = 'b*.npz'", "no such file"]),
        ({"path": "{batch}.npz"}, ["path", "{batch} is unknown"]),
        ({"path": "a.hdf5"}, ["suffix '.hdf5'", ".safetensors"]),
        ({"path": 3}, ["path = 3", "a text"]),
        ({"axes": ["row", "column"]}, ["axes", "(50, 3, 2, 2)", "4 axes"]),
        ({"axes": ["replica", "snapshot", "row", "row"]}, ["axes", "row and column"]),
        ({"axes": ["replica", "snapshot", "row", "time"]}, ["axes", "not allowed", "snapshot"]),
        ({"axes": ["replica", "row"]}, ["axes", "row and column"]),
        ({"replicas": 49}, ["replicas = 49", "hold 50"]),
        ({"snapshots": 4}, ["snapshots = 4", "hold 3"]),
        ({"columns": 4}, ["columns = 4", "hold 2"]),
        ({"first_snapshot": 3}, ["first_snapshot = 3", "holds 3", "< 3"]),
        ({"first_snapshot": -4}, ["first_snapshot = -4", ">= -3"]),
        ({"learning_rate": 0}, ["learning_rate = 0", "> 0"]),
        ({"batch_size": 0}, ["batch_size = 0", ">= 1"]),
        ({"centres": [2, 2]}, ["noise_scale: missing", "> 0"]),
        ({"noise_scale": -1}, ["noise_scale = -1", "a number > 0"]),
        ({"centres": [2], "noise_scale": 1}, ["centres = [2.0]", "1 for the 2 levels"]),
        ({"centres": [2, 1], "noise_scale": 1}, ["centres", "ascending"]),
        ({"centres": [-2, 1], "noise_scale": 1}, ["centres", ">= 0"]),
        (
            {"centres": [0, 1], "noise_scale": 1, "theory": "teacher_student"},
            ["theory", "centres > 0"],
        ),
        (
            {
                **{"centres": [4, 4], "noise_scale": 1, "theory": "teacher_student"},
                "level": "eigenvalue",
            },
            ["theory", "singular values"],
        ),
        (
            {
                **{"centres": [2, 2], "noise_scale": 1, "theory": "teacher_student"},
                "learning_rate": 1.9,
            },
            ["learning_rate = 1.9", "grow without bound"],
        ),
    ],
)
def test_a_bad_value_is_one_line(values, words, folder):
    save("a.npz", w=pairs())
    (folder / "a.hdf5").touch()
    message = refused(**{"path": "a.npz", **values})
    for word in words:
        assert word in message, message


def test_what_is_required():
    save("a.npz", w=pairs())
    with pytest.raises(ConfigError) as caught:
        CHECKPOINTS.from_config({})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["path"]
    with pytest.raises(ConfigError, match="learning_rate: missing; with centres"):
        run_of("a.npz", learning_rate=None, centres=[2, 2], noise_scale=SCALE)


def test_a_missing_combination_is_named():
    for name in ("r1s1", "r1s2", "r2s1"):
        save(f"{name}.npz", w=pairs()[0, 0])
    assert "r2s2.npz is missing" in refused("r{replica}s{snapshot}.npz", axes=["row", "column"])


def test_files_that_are_not_told_apart_are_named():
    for name in ("a1", "b1"):
        save(f"{name}.npz", w=pairs()[0, 0])
    message = refused("?{snapshot}.npz", axes=["row", "column"])
    assert "a1.npz and b1.npz" in message and "{replica}" in message


def test_an_axis_of_both_files_and_array_is_refused():
    for name in ("1", "2"):
        save(f"{name}.npz", w=pairs())
    for path, axis in (("{replica}.npz", "replica"), ("{snapshot}.npz", "snapshot")):
        assert f"{axis} is told apart by the files" in refused(path)
    assert "replica is told apart by the files" in refused("*.npz")


def test_files_of_other_shape_are_named():
    save("1.npz", w=pairs()[0, 0])
    save("2.npz", w=pairs()[0, 0, :1])
    message = refused("{replica}.npz", axes=["row", "column"])
    assert "2.npz: array 'w' has shape (1, 2), that of 1.npz (2, 2)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(value):
    broken = pairs()
    broken[7, 2, 0, 1] = value
    save("a.npz", w=broken)
    with pytest.raises(ConfigError, match=r"a.npz: .* replica 7, snapshot 2 is not finite"):
        read("a.npz", first_snapshot=1)
    for replica in range(9):
        save(f"r{replica}.pt", w=broken[replica])
    with pytest.raises(ConfigError, match=r"r7.pt: .* replica 7, snapshot 2 is not finite"):
        read("r*.pt", axes=["snapshot", "row", "column"])


def test_a_file_that_shrank_since_it_was_planned():
    run = run_of_pairs()
    save("a.npz", w=pairs(20))
    with pytest.raises(ConfigError, match="replicas = 50: the files of a.npz hold 20"):
        read_of(CHECKPOINTS.from_config(run.canonical()))


def test_columns_of_every_kind_have_a_type():
    fields = {field.name: field for field in hyperparameter_fields(CHECKPOINTS)}
    kinds = {name: str(fields[name].type) for name in ("path", "axes", "centres", "noise_scale")}
    assert kinds == {
        "path": "string",
        "axes": "list<item: string>",
        "centres": "list<item: double>",
        "noise_scale": "double",
    }
    assert [name for name, field in fields.items() if field.nullable] == [
        *("heads", "key_value_heads", "learning_rate", "batch_size", "noise_scale")
    ]


# --- what is hostile ------------------------------------------------------------------------------


AXES3 = ["snapshot", "row", "column"]


def npy_of(shape, content=b"", descr="<f8"):
    """An array file that says what it likes of its shape."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def archive(path, how=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", how) as file:
        for name, content in members.items():
            file.writestr(name, content)


@pytest.mark.parametrize("shape", ["(1000000, 1000, 1000, 1)", "(2, 2, 2, 1)", "(-1, -1, 2, 2)"])
def test_a_shape_that_is_not_that_of_the_numbers(shape):
    archive("a.npz", **{"w.npy": npy_of(shape, bytes(32))})
    assert "as its shape" in refused("a.npz")


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_unpacks_to_much_more_than_weights_do(how, monkeypatch):
    monkeypatch.setattr(arrays, "ALWAYS", 2**16)
    archive("a.npz", how, **{"w.npy": npy_of("(9, 10000, 1, 1)", bytes(720_000))})
    assert re.search(r"7200\d\d bytes of array 'w' out of \d+ are no weights", refused("a.npz"))


def test_many_zeros_are_weights_all_the_same():
    np.savez_compressed("a.npz", w=np.zeros((500, 100, 4, 4)))
    assert run_of("a.npz").replicas == 500


def test_a_tensor_with_more_numbers_than_its_file():
    torch.save({"w": torch.zeros(1).expand(1000, 1000, 1000, 1000)}, "a.pt")
    assert "not all in it" in refused("a.pt")
    torch.save({"w": torch.zeros(9, 9, 9, 9, device="meta")}, "a.pt")
    assert "without values" in refused("a.pt")


def test_a_compressed_torch_file_is_refused():
    save("b.pt", w=pairs())
    with zipfile.ZipFile("b.pt") as file:
        members = {name: file.read(name) for name in file.namelist()}
    archive("a.pt", zipfile.ZIP_DEFLATED, **members)
    assert "compressed" in refused("a.pt")


def test_a_torch_file_that_makes_memory_out_of_nothing():
    # bytearray(10**12), which torch would fill with zeros.
    body = b"\x80\x02}X\x01\x00\x00\x00wcbuiltins\nbytearray\n(\x8a\x06\x00\x10\xa5\xd4\xe8\x00tRs."
    archive("a.pt", **{"a/data.pkl": body, "a/byteorder": b"little", "a/version": b"3\n"})
    assert "bytearray" in refused("a.pt")


def test_lists_within_themselves_and_each_other():
    circle = []
    circle.append(circle)
    tower = [torch.from_numpy(pairs())]
    for _ in range(50):
        tower = [tower, tower, tower]
    torch.save({"circle": circle, "tower": tower, "w": torch.from_numpy(pairs())}, "a.pt")
    np.testing.assert_array_equal(read("a.pt")[0], pairs())
    np.testing.assert_array_equal(read("a.pt", array="/".join(["tower", *"0" * 51]))[0], pairs())


def test_names_in_a_file_do_not_break_the_line():
    names = ["\x1b[2J\nw", "w" * 60_000, *(f"w{k}" for k in range(3000))]
    archive("a.npz", **{f"{name}.npy": b"" for name in names})
    message = refused("a.npz", array="nothing")
    assert message.isprintable() and len(message) < 1000 and "and 2982 more" in message


def test_links_in_circles_are_followed_once(folder):
    save("runs/a/w1.npz", w=pairs()[0])
    save("runs/a/b/w2.npz", w=pairs()[0])
    for name in ("one", "two", "three"):
        (folder / "runs" / "a" / name).symlink_to(folder / "runs")
    run = run_of("runs/**/w{replica}.npz", axes=AXES3)
    assert [str(path) for path in run.sources] == ["runs/a/w1.npz", "runs/a/b/w2.npz"]
    assert len(run_of("**/w?.npz", axes=AXES3).sources) == 2
    assert len(run_of(f"../{folder.name}/runs/**", axes=AXES3).sources) == 2


def test_what_is_no_file_is_never_opened(folder):
    os.mkfifo("pipe.npz")
    (folder / "folder.npz").mkdir()
    for name in ("pipe", "folder"):
        assert f"{name}.npz is a folder, a pipe or the like" in refused(f"{name}.npz")
    (folder / "circle.npz").symlink_to("circle.npz")
    assert "circle.npz is a folder, a pipe or the like" in refused("c{replica}.npz")


@pytest.mark.parametrize(
    "name", ["a\nb.npz", "a\x1b[2J.npz", "a\u2028.npz", os.fsdecode(b"a\xff.npz")]
)
def test_a_name_that_no_line_can_show_is_refused(name):
    save(name, w=pairs())
    assert "cannot be shown" in refused("*.npz")
    # Half a letter is no text of a configuration in the first place.
    assert ("give a text" if "\udcff" in name else "cannot be shown") in refused(name)


def test_braces_in_a_name_and_brackets_in_a_pattern():
    save("a{1}.npz", w=pairs())
    assert "holds braces" in refused("*.npz")
    assert "bad character range" in refused("[z-a]{replica}.npz")
    os.rename("a{1}.npz", "a\\1[x].npz")
    assert run_of("a[\\]1[[]x].npz").replicas == 50
    save("a\\1[x].npz", w=pairs()[0])
    assert run_of("{replica}[\\]?[[]x].npz", axes=AXES3).replicas == 1


def test_a_number_that_is_no_step():
    for step in ("1" * 30, "2"):
        save(f"w{step}.npz", w=pairs(1, 1)[0, 0])
    run = run_of("w{snapshot}.npz", axes=["row", "column"])
    assert (run.burn_in, run.steps) == (1, 2)


@pytest.mark.parametrize(
    ("array", "words"), [("w\n", "no line"), ("w\udcff", "no line"), ("</script>", "markup")]
)
def test_a_name_with_no_place_in_the_report_is_refused(array, words):
    torch.save({array: torch.from_numpy(pairs())}, "a.pt")
    study = {"model": "checkpoints", "hyperparameters": {**GIVEN, "path": "a.pt", "array": array}}
    with pytest.raises(ConfigError) as caught:
        load_studies({"studies": {"own": study}})
    line = str(caught.value)
    assert line.startswith("study 'own': array = ") and words in line and line.isprintable()
