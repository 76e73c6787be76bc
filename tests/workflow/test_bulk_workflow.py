"""The bulk of large matrices through the real workflow."""

import re

import numpy as np
import pytest

import dysonflow

pytestmark = pytest.mark.workflow


def configuration(**study):
    values = {"path": "w.npz", "array": "W", "learning_rate": 0.1, "batch_size": 8}
    return {"studies": {"own": {"model": "checkpoints", "hyperparameters": values} | study}}


def test_the_bulk_is_made_once_and_again_only_where_more_is_asked_for(workflow):
    rng = np.random.default_rng(7)
    matrix = rng.normal(size=(1, 2, 48, 80))
    matrix[0, 1] += 2.0
    np.savez(workflow.folder / "w.npz", W=matrix)
    workflow.configure(configuration(figures=["bulk_spectrum"]))
    done = workflow.snakemake("--cores", "1")
    assert done.returncode == 0, done.stderr
    for rule in ("read_weights", "spectra", "bulk", "figure"):
        assert re.search(rf"^{rule} +1$", done.stderr, re.M), done.stderr
    table = dysonflow.read_bulk(workflow.folder / "results", study="own")
    assert table["outliers_above"].tolist() == [0, 1]
    assert table["truncated_exponent"].isna().all() and (table["bulk_p_value"] > 1e-4).all()
    asked = configuration(figures=["bulk_spectrum"], bulk=["shuffled"])
    workflow.configure(asked)
    more = workflow.snakemake("--cores", "1", "-n")
    text = more.stdout + more.stderr
    assert re.search(r"^bulk +1$", text, re.M), text
    assert not re.search(r"^(read_weights|spectra) +1$", text, re.M), text
