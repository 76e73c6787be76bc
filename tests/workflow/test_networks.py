"""Networks on the user's own data through the real workflow, to the test of linear scaling."""

import numpy as np
import pytest

import dysonflow

pytestmark = pytest.mark.workflow


def test_own_data_go_through_the_workflow_and_an_edited_file_is_another_run(workflow):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 4))
    data = workflow.folder / "my.npz"
    np.savez(data, inputs=inputs, targets=inputs[:, :2] + 0.3 * rng.normal(size=(40, 2)))
    study = {
        "model": "mlp",
        "hyperparameters": {
            "data": "my.npz",
            "widths": [4, 3, 2],
            "loss": "squared_error",
            "optimiser": "nesterov",
            "learning_rate": 0.01,
            "burn_in": 20,
            "steps": 60,
            "snapshots": 4,
            "replicas": 40,
        },
        "sweep": {"batch_size": [4, 8]},
        "figures": ["linear_scaling"],
    }
    workflow.configure({"device": "cpu", "studies": {"net": study}})
    done = workflow.snakemake("--cores", "1")
    assert done.returncode == 0, done.stderr
    results = workflow.folder / "results"
    table = dysonflow.read_linear_scaling(results, study="net")
    assert set(table["layer"]) == {"", "W1", "W2"}
    assert (results / "figures" / "net" / "linear_scaling.png").is_file()
    assert (results / "studies" / "net" / "linear_scaling.html").is_file()
    assert dysonflow.read_runs(results)["optimiser"].unique().tolist() == ["nesterov"]
    # The file is an input of training; what is in it decides.
    data.touch()
    again = workflow.snakemake("-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    np.savez(data, inputs=inputs, targets=inputs[:, :3])
    refused = workflow.snakemake("-n")
    lines = [line for line in refused.stderr.splitlines() if line.startswith("config:")]
    assert refused.returncode != 0 and len(lines) == 1
    assert "my.npz has 3 targets in a row; end with 3" in lines[0]
