"""The real workflow on weights from the user's own files."""

import os
import re
import time

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from conftest import Workflow

import dysonflow
from dysonflow.artifacts.weights import read_tensors
from dysonflow.report import figures

pytestmark = pytest.mark.workflow
RATE, SCALE = 0.1, 0.2


def levels_about(centres, sigma, shape, seed):
    """Symmetric noise of width sigma about a diagonal matrix; more than Snakemake's 100 kB."""
    normal = np.random.default_rng(seed).standard_normal((*shape, len(centres), len(centres)))
    return np.diag(centres) + sigma * (normal + normal.swapaxes(-1, -2)) / 2.0


def write(folder, batch, seed=0):
    sigma = SCALE * np.sqrt(RATE / batch)
    np.savez(folder / f"B{batch}.npz", W=levels_about([2.0, 2.0], sigma, (700, 6), seed))


def configuration():
    return {
        "studies": {
            "own": {
                "model": "checkpoints",
                "hyperparameters": {
                    **{"array": "W", "learning_rate": RATE, "noise_scale": SCALE},
                    **{"centres": [2, 2], "first_snapshot": -2},
                },
                "sweep": [
                    {"batch_size": 4, "path": "weights/B4.npz"},
                    {"batch_size": 16, "path": "weights/B16.npz"},
                ],
                "figures": [*figures.STATIONARY, "evolution"],
            },
            # One file a snapshot, one replica, nothing known of the levels.
            "plain": {
                "model": "checkpoints",
                "hyperparameters": {
                    **{"array": "w", "learning_rate": RATE, "batch_size": 8},
                    **{"path": "net/step{snapshot}.safetensors", "axes": ["row", "column"]},
                },
                "figures": "auto",
            },
            # No two levels are equal, and too few replicas to fit them.
            "apart": {
                "model": "checkpoints",
                "hyperparameters": {
                    **{"array": "w", "learning_rate": RATE, "batch_size": 8},
                    **{"path": "few/{replica}.safetensors", "axes": ["snapshot", "row", "column"]},
                    **{"centres": [1, 2, 3], "noise_scale": SCALE, "level": "eigenvalue"},
                },
                "figures": list(figures.STATIONARY),
            },
        }
    }


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    import safetensors.numpy

    flow = Workflow(tmp_path_factory.mktemp("own"))
    for name in ("weights", "net", "few"):
        (flow.folder / name).mkdir()
    for batch in (4, 16):
        write(flow.folder / "weights", batch)
    for step in (10, 200, 30):
        path = flow.folder / "net" / f"step{step}.safetensors"
        values = levels_about([1.0, 2.0, 3.0], 0.1, (), step)[:, :2]
        safetensors.numpy.save_file({"w": np.ascontiguousarray(values)}, path)
    for replica in range(5):
        path = flow.folder / "few" / f"{replica}.safetensors"
        safetensors.numpy.save_file({"w": levels_about([1.0, 1.4, 1.7], 0.05, (4,), replica)}, path)
    flow.configure(configuration())
    flow.run = flow.snakemake("--cores", "2")
    return flow


def test_it_runs_to_the_end(own):
    assert own.run.returncode == 0, own.run.stderr
    assert not re.search(r"^train", own.run.stderr, re.M)
    assert re.search(r"^read_weights +4$", own.run.stderr, re.M)
    # Said before anything is read, and once more at the end.
    first, last = (own.run.stderr.index(text) for text in ("config: study", "dysonflow: study"))
    assert own.run.stderr[first:].startswith(
        "config: study 'apart': replicas = 5: a fit takes at least 30 replicas, so none of its 1 "
        "run(s) will be fitted; give more, or no centres for spectra alone\n"
    )
    assert own.run.stderr[last:].startswith(
        "dysonflow: study 'apart': all 3 fits carry a flag, 3 of them: not fitted: 5 replicas are "
        "too few: at least 30 are needed (column `flag` of the fits)\n"
    )
    assert first < own.run.stderr.index("Job stats") < last
    assert own.run.stderr.count("'apart'") == 2


def test_the_fits_are_those_of_the_noise(own):
    table = dysonflow.read_fits(own.folder / "results")
    pairs = table[table["multiplicity"] == 2].sort_values("batch_size")
    assert pairs["batch_size"].tolist() == [4, 16]
    for name in ("sigma", "mean_gap", "centre"):
        assert (abs(pairs[name] - pairs[f"{name}_theory"]) < 5 * pairs[f"{name}_error"]).all()
    assert pairs["samples"].tolist() == [1400, 1400]
    assert table[table["multiplicity"] == 1]["flag"].str.contains("too few").all()
    laws = dysonflow.read_scaling(own.folder / "results", "own").set_index("law")
    assert laws.loc["sigma_in_batch_size", "exponent"] == pytest.approx(0.5, abs=0.05)


def test_steps_come_from_the_file_names(own):
    spectra = dysonflow.read_spectra(own.folder / "results")
    plain = spectra[spectra["path"].str.startswith("net")]
    assert sorted(plain["step"].unique()) == [10, 30, 200]
    assert plain["replica"].unique().tolist() == [0] and len(plain) == 6


@pytest.mark.parametrize(
    ("study", "names"),
    [
        ("own", [*figures.STATIONARY, "evolution"]),
        ("plain", ["spectrum"]),
        ("apart", figures.STATIONARY),
    ],
)
def test_every_figure_is_drawn(own, study, names):
    folder = own.folder / "results" / "figures" / study
    assert {path.stem for path in folder.glob("*.png")} == set(names)
    for name in names:
        assert matplotlib.image.imread(folder / f"{name}.png")[..., :3].std() > 0.02
        text = (folder / f"{name}.rst").read_text()
        assert study in text and "nan" not in text
    assert len(pd.read_csv(folder / "spectrum.csv", comment="#")) > 100


def test_a_touched_file_is_not_read_again(own):
    path = own.folder / "weights" / "B4.npz"
    time.sleep(1.1)
    path.touch()
    planned = own.snakemake("-n")
    assert "Nothing to be done" in planned.stdout + planned.stderr, planned.stdout


def test_an_edited_file_is_read_again(own):
    before = {
        path: read_tensors(path)[1]["data"] for path in own.folder.glob("results/runs/*/*/w*")
    }
    time.sleep(1.1)
    write(own.folder / "weights", 4, seed=1)
    planned = own.snakemake("-n")
    for rule in ("read_weights", "spectra", "fit", "scaling"):
        assert re.search(rf"^{rule} +1$", planned.stdout + planned.stderr, re.M), planned.stderr
    done = own.snakemake("--cores", "2")
    assert done.returncode == 0, done.stderr
    changed = [path for path, data in before.items() if read_tensors(path)[1]["data"] != data]
    assert [path.parent.name.startswith("lr0.1-B4-") for path in changed] == [True]
    again = own.snakemake("-n")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_missing_file_stops_before_any_job(workflow):
    config = configuration()
    del config["studies"]["plain"], config["studies"]["apart"]
    workflow.configure(config)
    failed = workflow.snakemake("--cores", "1")
    assert failed.returncode != 0 and "Traceback" not in failed.stderr
    lines = [line for line in failed.stderr.splitlines() if line.startswith("config:")]
    assert lines == [
        f"config: study 'own': path = 'weights/B{batch}.npz': no such file in {workflow.folder}"
        for batch in (4, 16)
    ]
    assert not os.path.exists(workflow.folder / "results")


def test_a_weight_that_is_not_finite_is_one_line(workflow):
    folder = workflow.folder / "weights"
    folder.mkdir()
    for batch in (4, 16):
        write(folder, batch)
    with np.load(folder / "B16.npz") as archive:
        broken = archive["W"].copy()
    broken[3, 5, 0, 0] = np.nan
    np.savez(folder / "B16.npz", W=broken)
    config = configuration()
    config["studies"] = {"own": config["studies"]["own"]}
    workflow.configure(config)
    failed = workflow.snakemake("--cores", "1")
    assert "dysonflow: weights/B16.npz: a weight of replica 3, snapshot 5 is not" in failed.stderr
    assert len(list(workflow.folder.glob("results/runs/*/*/fits.parquet"))) == 1
