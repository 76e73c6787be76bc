"""One run without Snakemake: the same numbers as the workflow gives, and clear errors."""

import io
import subprocess
import sys

import numpy as np
import pytest
from in_process import make

import dysonflow
from dysonflow.artifacts.weights import open_weights
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.planning.graph import Plan
from dysonflow.results import Results

VALUES = {"replicas": 40, "snapshots": 3}
MODELS = {"teacher_student": VALUES, "gaussian_rbm": VALUES | {"sites": 4, "sampler": "wishart"}}


def trained(model, **values):
    return dysonflow.train(model, MODELS[model] | values, progress=io.StringIO())


@pytest.mark.parametrize("model", MODELS)
def test_the_numbers_are_those_of_the_workflow(model, tmp_path):
    study = {"model": model, "hyperparameters": MODELS[model], "figures": []}
    plan = Plan.from_config({"studies": {"one": study}}, Results(str(tmp_path)))
    make(plan)
    (of_workflow,) = plan.runs.values()
    run = trained(model)
    assert run.name == of_workflow.name
    with open_weights(plan.results.files_of(of_workflow)["weights"]) as file:
        np.testing.assert_array_equal(run.weights["W"], file.read("W"))
        np.testing.assert_array_equal(run.loss, file.loss)
        np.testing.assert_array_equal(run.step, file.step)
    assert dysonflow.spectra(run).equals(dysonflow.read_spectra(tmp_path))
    assert dysonflow.fit(run).equals(dysonflow.read_fits(tmp_path))


def test_threads_change_no_number():
    one, two = (
        dysonflow.train(
            "teacher_student", {"replicas": 200, "snapshots": 2}, threads=n, progress=io.StringIO()
        )
        for n in (1, 2)
    )
    assert one.weights["W"].tobytes() == two.weights["W"].tobytes()


def test_bad_values_are_one_line_each():
    with pytest.raises(ConfigError) as caught:
        dysonflow.train("teacher_student", {"batch_size": 0, "learning_rate": -1})
    assert len(str(caught.value).splitlines()) == 2
    with pytest.raises(ConfigError, match="unknown model; did you mean teacher_student"):
        dysonflow.train("teacher_studnet")
    with pytest.raises(ConfigError, match="no GPU is visible"):
        dysonflow.train("teacher_student", VALUES, device="cuda")


def test_a_run_prints_in_one_line():
    text = repr(trained("teacher_student"))
    assert "\n" not in text and "learning_rate=0.1" in text and "array" not in text


def test_importing_the_readers_is_cheap():
    code = (
        "import sys, dysonflow; "
        "heavy = {'torch', 'snakemake', 'scipy', 'matplotlib', 'pandas', 'pyarrow'}; "
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_command_helps(arguments):
    command = [sys.executable, "-m", "dysonflow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: dysonflow" in done.stdout and "clean-orphans" in done.stdout


def test_the_command_tells_its_version():
    done = subprocess.run(
        [sys.executable, "-m", "dysonflow", "--version"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["dysonflow", dysonflow.__version__]
    assert dysonflow.__version__[0].isdigit()


def test_verify_outside_a_checkout_says_what_it_needs(tmp_path):
    command = [sys.executable, "-m", "dysonflow", "verify"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "config/config.yaml: no such file in" in done.stderr
    assert "--configfile" in done.stderr and "Traceback" not in done.stderr


def test_a_start_beyond_all_bounds_is_told_from_a_learning_rate_that_is_too_large():
    for values, hint in (({"initial_width": 2.0}, True), ({"learning_rate": 0.3}, False)):
        with pytest.raises(DivergedError) as caught:
            trained("gaussian_rbm", **{"batch_size": 1, "steps": 3000, "burn_in": 0} | values)
        assert str(caught.value).endswith("start from smaller weights") == hint
