"""Eigenvalues: exact, ascending, as many as columns; tables that read back as written."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dysonflow
from dysonflow.analysis import spectra
from dysonflow.artifacts import files, tables
from dysonflow.artifacts.weights import join_weights, read_tensors, write_weights
from dysonflow.errors import ArtifactError
from dysonflow.models import hyperparameters_of

RNG = np.random.default_rng(5)
RUNS = [
    hyperparameters_of("gaussian_rbm").from_config({"replicas": 2, "snapshots": 3, "sites": 4}),
    hyperparameters_of("teacher_student").from_config({"replicas": 2, "snapshots": 3}),
]


@pytest.mark.parametrize("shape", [(4, 4), (7, 3), (3, 7)])
def test_eigenvalues_are_those_of_the_gram_matrix(shape):
    weights = RNG.normal(size=(5, 2, *shape))
    values = spectra.eigenvalues(weights)
    assert values.shape == (5, 2, shape[1])
    assert (np.diff(values) >= 0).all()
    gram = weights.swapaxes(-1, -2) @ weights
    np.testing.assert_allclose(values, np.linalg.eigvalsh(gram), atol=1e-12)
    assert (values[..., : max(shape[1] - shape[0], 0)] == 0).all()


def test_small_eigenvalues_keep_their_digits():
    basis = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    exact = np.array([1e-20, 1e-8, 1.0])
    values = spectra.eigenvalues(np.diag(np.sqrt(exact)) @ basis)
    np.testing.assert_allclose(values, exact, rtol=1e-5)


def test_a_weight_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        spectra.eigenvalues(np.full((1, 1, 2, 2), np.nan))


def write_run(folder, run):
    size = getattr(run, "sites", 2)
    weights = RNG.normal(size=(2, 3, size, size))
    step = np.array(run.snapshot_steps)
    columns = spectra.spectra_columns(run, "W", weights, step)
    path = folder / "runs" / run.MODEL / run.name / "spectra.parquet"
    schema = spectra.spectra_schema(type(run))
    tables.write_table(columns, schema, path, {"run": run.name})
    return path, weights


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.MODEL)
def test_a_run_reads_back_as_written(run, tmp_path):
    path, weights = write_run(tmp_path, run)
    values, step = spectra.read_eigenvalues(path, "W")
    np.testing.assert_array_equal(values, spectra.eigenvalues(weights))
    assert step.tolist() == run.snapshot_steps
    assert tables.read_metadata(path)["run"] == run.name


def test_all_models_open_together(tmp_path):
    for run in RUNS:
        write_run(tmp_path, run)
    frame = dysonflow.read_spectra(tmp_path)
    assert list(frame.columns[:8]) == [
        *("run", "model", "layer", "replica", "snapshot", "step", "index", "eigenvalue"),
    ]
    for run in RUNS:
        rows = frame[frame["run"] == run.name]
        assert len(rows) == 2 * 3 * getattr(run, "sites", 2)
        for name, value in run.canonical().items():
            found = rows[name].iloc[0]
            if name == "teacher_spectrum":
                assert list(found) == [value]
            else:
                assert list(found) == value if isinstance(value, list) else found == value
    assert frame.loc[frame["model"] == "teacher_student", "sites"].isna().all()
    assert frame["eigenvalue"].dtype == np.float64
    assert frame["replica"].dtype == np.int64
    only = dysonflow.read_spectra(tmp_path, model="gaussian_rbm", columns=["eigenvalue"])
    assert only.shape == (24, 1)


def test_no_column_is_large_or_untyped(tmp_path):
    schema = pq.read_schema(write_run(tmp_path, RUNS[1])[0])
    assert {str(kind) for kind in schema.types} <= {
        *(
            "string",
            "int64",
            "double",
            "list<element: double>",
            "list<item: double>",
            "list<element: int64>",
        ),
    }
    assert schema.field("eigenvalue").nullable is False


def test_an_empty_results_folder_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no spectra\.parquet.*run snakemake"):
        dysonflow.read_spectra(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "newer", "empty"])
def test_damaged_tables_are_named(damage, tmp_path):
    path, _ = write_run(tmp_path, RUNS[1])
    raw = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "flipped":
        raw[-8] ^= 0xFF
        path.write_bytes(raw)
    elif damage == "foreign":
        pd.DataFrame({"a": [1]}).to_parquet(path)
    elif damage == "newer":
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata({"dysonflow": '{"format": 99}'}), path)
    else:
        path.write_bytes(b"")
    with pytest.raises(ArtifactError) as caught:
        dysonflow.read_spectra(tmp_path)
    assert str(path) in str(caught.value)
    assert "update dysonflow" in str(caught.value) or "verify --delete" in str(caught.value)


def test_missing_rows_are_noticed(tmp_path):
    path, _ = write_run(tmp_path, RUNS[1])
    table, metadata = pq.read_table(path), tables.read_metadata(path)
    short = table.slice(0, len(table) - 1)
    stored = pq.read_metadata(path).metadata
    pq.write_table(short.replace_schema_metadata(stored), path)
    with pytest.raises(ArtifactError, match="checksum"):
        spectra.read_eigenvalues(path, "W")
    columns = {name: short.column(name) for name in short.column_names}
    tables.write_table(columns, short.schema, path, metadata)
    with pytest.raises(ArtifactError, match="rows are missing"):
        spectra.read_eigenvalues(path, "W")


def test_a_null_is_refused(tmp_path):
    run = RUNS[1]
    columns = spectra.spectra_columns(run, "W", np.ones((1, 1, 2, 2)), np.array([1]))
    columns["eigenvalue"] = pa.array([1.0, None])
    schema = spectra.spectra_schema(type(run))
    with pytest.raises(ValueError, match="eigenvalue"):
        tables.write_table(columns, schema, tmp_path / "x.parquet", {})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_clear_error(tmp_path):
    # /dev/full refuses every write as a full disk does.
    with pytest.raises(ArtifactError, match=r"cannot be written: No space left"):
        with files.atomic(tmp_path / "file"):
            with open("/dev/full", "w", encoding="utf-8") as full:
                full.write("x" * 100_000)


class TestWeights:
    """The weights file."""

    STEP = np.array([1, 2, 3])

    def test_reads_back_as_written(self, tmp_path):
        weights, loss = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3))
        write_weights(tmp_path / "w", {"W": weights}, self.STEP, loss, {"run": "x"})
        tensors, metadata = read_tensors(tmp_path / "w")
        np.testing.assert_array_equal(tensors["weights/W"], weights)
        np.testing.assert_array_equal(tensors["step"], self.STEP)
        np.testing.assert_array_equal(tensors["loss"], loss)
        assert metadata["run"] == "x"

    def test_nan_is_refused_with_its_replica(self, tmp_path):
        weights = np.ones((2, 3, 1, 1))
        weights[1, 2] = np.nan
        with pytest.raises(ValueError, match="replica 1"):
            write_weights(tmp_path / "w", {"W": weights}, self.STEP, np.ones((2, 3)), {})
        assert list(tmp_path.iterdir()) == []

    def test_shards_join_in_order(self, tmp_path):
        weights, loss = RNG.normal(size=(5, 3, 4, 4)), RNG.normal(size=(5, 3))
        paths = []
        for first, stop in [(0, 2), (2, 5)]:
            paths.append(tmp_path / f"{first}")
            metadata = {"run": "x", "members": [first, stop], "seconds": 1.0, "replica_steps": 3}
            part = slice(first, stop)
            write_weights(paths[-1], {"W": weights[part]}, self.STEP, loss[part], metadata)
        join_weights(paths, tmp_path / "whole")
        tensors, metadata = read_tensors(tmp_path / "whole")
        np.testing.assert_array_equal(tensors["weights/W"], weights)
        assert metadata["seconds"] == 2.0 and "members" not in metadata
        with pytest.raises(ArtifactError, match="begins with replica 0"):
            join_weights(paths[::-1], tmp_path / "wrong")

    @pytest.mark.parametrize("keep", [0, 4, 100, -8])
    def test_a_truncated_file_is_named(self, keep, tmp_path):
        path = tmp_path / "w"
        write_weights(path, {"W": np.ones((2, 3, 1, 1))}, self.STEP, np.ones((2, 3)), {})
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ArtifactError, match=r"w: .*damaged"):
            read_tensors(path)
