"""Starts that are given: their weights, what is refused, and how noise leaves one that is unstable.

Statistical tests have fixed seeds and a false-alarm rate of 5 sigma.
"""

import io

import numpy as np
import pandas as pd
import pytest
from in_process import make
from scipy import stats

import dysonflow
from dysonflow.errors import ConfigError
from dysonflow.models.gaussian_rbm import SYSTEM, GaussianRBMHyperparameters, precision_matrix
from dysonflow.planning.graph import Plan
from dysonflow.report.figures import FIGURES
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.results import Results
from dysonflow.simulation.ensemble import train_in_memory
from dysonflow.statistics.first_passage import first_passage
from dysonflow.theory.gaussian_rbm import THEORY

FIVE_SIGMA = 5.7e-7
LOST = {"sites": 3, "hidden_units": 1, "initial_spectrum": [0, 2, 0], "burn_in": 0}


@pytest.mark.parametrize(
    ("sampler", "rate", "batch", "replicas"),
    # Many where a step is cheap: enough for a variance of the noise that is a quarter off.
    [("wishart", 0.1, 4, 4096), ("gibbs", 0.1, 16, 512), ("ar1", 0.05, 64, 512)],
)
def test_noise_leaves_a_lost_mode_as_the_law_says(sampler, rate, batch, replicas):
    values = {"learning_rate": rate, "batch_size": batch, "sampler": sampler}
    times = {"steps": round(200 / rate), "snapshots": 101, "replicas": replicas}
    run = dysonflow.train("gaussian_rbm", LOST | values | times)
    h = run.hyperparameters
    levels = h.sites * h.rbm_mass_squared - (run.weights["W"] ** 2).sum(axis=(2, 3))
    law = THEORY.escape(h, "W")
    passed = first_passage(levels, run.step, law.threshold)
    assert np.isfinite(passed).all()
    assert stats.kstest(passed, law.probability).pvalue > FIVE_SIGMA
    error = passed.std(ddof=1) / np.sqrt(len(passed))
    assert abs(passed.mean() - law.mean) < 5.0 * error
    # Sharp enough for a variance of the noise that is a quarter, or three quarters, off.
    wrong = 1.25 if replicas > 1000 else 1.75
    assert 0.5 * np.log(wrong) / law.rate > 5.0 * error


def test_the_mean_is_that_of_the_law():
    law = THEORY.escape(GaussianRBMHyperparameters(**LOST, steps=100), "W")
    steps = np.arange(20_000)
    assert law.mean == pytest.approx((1.0 - law.probability(steps)).sum() - 0.5, abs=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"sites": 3, "initial_spectrum": [1, 2, 2], "burn_in": 0, "steps": 100},
        LOST | {"initial_spectrum": [0, 1, 0], "steps": 100},
        LOST | {"initial_spectrum": [5, 0, 0], "steps": 100},
        {"sites": 4, "hidden_units": 1, "burn_in": 0, "steps": 9, "initial_spectrum": [0, 0, 0, 1]},
    ],
    ids=["random", "a unit for each", "not at rest", "nothing lost", "several may win"],
)
def test_other_starts_have_no_law_of_escape(values):
    assert THEORY.escape(GaussianRBMHyperparameters(**values), "W") is None


@pytest.mark.parametrize("simulation", [SYSTEM.simulation, SYSTEM.compiled])
def test_the_modes_start_with_the_given_spectrum(simulation):
    spectrum = [1.0, 0.0, 4.0, 2.0, 0.5]
    values = {"sites": 5, "initial_spectrum": spectrum, "burn_in": 0, "steps": 1, "snapshots": 2}
    h = GaussianRBMHyperparameters(**values, replicas=3)
    weights = train_in_memory(simulation, h, log=io.StringIO()).weights[:, 0]
    modes = np.linalg.eigh(precision_matrix(h))[1]
    found = modes.T @ (weights.transpose(0, 2, 1) @ weights) @ modes
    assert np.allclose(found, np.diag(spectrum), atol=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"initial_spectrum": [1, 2]}, "one eigenvalue for each of the 3 modes"),
        ({"initial_spectrum": [1, -2, 0]}, "allowed are values >= 0 and <"),
        ({"initial_spectrum": [1, 9, 0]}, "< rbm_mass_squared / hidden_width"),
        ({"initial_spectrum": [1, 1, 0], "hidden_units": 1}, "2 modes are not 0"),
        ({"initial_spectrum": [1, 1, 0], "steps": "auto", "burn_in": "auto"}, "no automatic value"),
    ],
)
def test_a_start_that_cannot_be_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        GaussianRBMHyperparameters.from_config({"sites": 3, "burn_in": 0, "steps": 10} | values)


def test_a_run_with_a_random_start_keeps_its_name():
    assert GaussianRBMHyperparameters().name == "lr0.1-B16-61c21f0c72c6"


def test_the_figure_shows_measured_times_beside_the_law(tmp_path):
    study = {
        "model": "gaussian_rbm",
        "hyperparameters": LOST | {"replicas": 64, "steps": 2000, "snapshots": 41},
        "sweep": {"batch_size": [4, 16]},
        "figures": ["escape"],
    }
    plan = Plan.from_config({"studies": {"lost": study}}, Results(str(tmp_path)))
    make(plan)
    files = plan.figure_inputs("lost", "escape")
    data = StudyData("lost", plan.studies["lost"].runs, **files)
    drawing = draw_figure(FIGURES["escape"].module, data, FIGURES["escape"].options)
    numbers = pd.concat(drawing.numbers)
    means = numbers[numbers["panel"] == "mean"]
    assert (means[means["curve"] != "theory"]["p_value"] > FIVE_SIGMA).all()
    assert "p = " in drawing.caption
