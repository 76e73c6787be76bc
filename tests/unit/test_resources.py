"""What jobs ask for: grows with the work, with each attempt, and stays above what was measured."""

import time

import pytest

from dysonflow.models import hyperparameters_of, load
from dysonflow.planning import resources
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import CPU
from dysonflow.simulation.implementation import choose
from dysonflow.simulation.kernel import library


def rbm(**values):
    return hyperparameters_of("gaussian_rbm").from_config(values)


def student(**values):
    return hyperparameters_of("teacher_student").from_config(values)


def test_what_a_step_costs_is_what_the_model_says():
    cost = rbm(sites=10, hidden_units=7, batch_size=4, gibbs_sweeps=2).cost()
    assert cost.draws == 2 * 4 * 17
    assert cost.operations == 4 * 2 * 4 * 70 + 2 * 4 * 100 + 4 * 100 * 10
    assert rbm(sampler="wishart", batch_size=1000).cost().draws == 10 * 20


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ({"sites": 8}, {"sites": 64}),
        ({"batch_size": 16}, {"batch_size": 4096}),
        ({"steps": 5_000}, {"steps": 5_000_000}),
        ({"replicas": 64, "steps": 200_000}, {"replicas": 640, "steps": 200_000}),
    ],
)
def test_training_asks_for_more_time_with_more_work(small, large):
    less, more = (rbm(burn_in=0, **values) for values in (small, large))
    asked = [resources.training(run, run.replicas) for run in (less, more)]
    assert asked[0]["runtime"] < asked[1]["runtime"]


def test_what_is_expected_is_what_the_jobs_add_up_to(monkeypatch):
    run = student(replicas=128, snapshots=4, burn_in=0, steps=10_000)
    train, spectra, fit = (
        resources.expected(stage, [run], run.replicas) for stage in ("train", "spectra", "fit")
    )
    assert train.size == 128 * 4 * 2 * 2 * 8
    assert resources.expected("train", [run], 128, is_kept=False).size == 0
    assert train.seconds == resources.expected_training_seconds(run, 128)
    halves = resources.expected("train_shard", [run], 64)
    assert 2 * (halves.seconds - resources.JOB_SECONDS) == pytest.approx(
        train.seconds - resources.JOB_SECONDS
    )
    total = sum((train, spectra, fit), resources.Expected())
    assert total.seconds == train.seconds + spectra.seconds + fit.seconds
    assert str(resources.Expected(3600 * 1.234, 2.87e8)) == "1.2 core-hours and 290 MB"
    assert str(resources.Expected(1.0, 1.0)) == "0.01 core-hours and 0.1 MB"
    assert str(resources.Expected(3.6e6, 1.26e9)) == "1000 core-hours and 1.3 GB"
    # Without the compiled kernel torch trains, which takes longer, and says so.
    long = student(replicas=64, burn_in=0, steps=10**6)
    compiled = resources.expected_training_seconds(long, 64)
    monkeypatch.setattr(library, "why_unavailable", lambda: "not built")
    assert resources.expected_training_seconds(long, 64) > 3 * compiled


@pytest.mark.skipif(not library.available(), reason="needs the compiled kernel")
@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("gaussian_rbm", {"sites": 10, "steps": 3000}),
        ("gaussian_rbm", {"sites": 10, "sampler": "wishart", "steps": 8000}),
        ("gaussian_rbm", {"sites": 48, "steps": 60}),
        ("teacher_student", {"size": 2, "steps": 20_000}),
        ("teacher_student", {"size": 32, "batch_size": 128, "steps": 60}),
    ],
)
def test_a_job_takes_about_as_long_as_is_said(model, values):
    fixed = {"burn_in": 0, "snapshots": 1, "learning_rate": 0.01, "initial_width": 0.01}
    run = hyperparameters_of(model).from_config({**values, **fixed})
    memory = ensemble.Memory(run, run.replicas)
    simulation = choose(load(model), CPU).simulation
    took = []
    for _ in range(3):
        began = time.process_time()
        ensemble.train(simulation, run, memory)
        took.append(time.process_time() - began)
    said = resources.expected_training_seconds(run, run.replicas) - resources.JOB_SECONDS
    # An estimate, in CPU time: another processor is worth a factor of several.
    assert min(took) / 10 < said < 10 * min(took)


def test_memory_does_not_grow_with_what_is_kept():
    # Snapshots go to the disk as they are taken.
    few, many = (resources.training(rbm(sites=64, snapshots=n), 512) for n in (10, 100))
    assert few["mem_mb"] == many["mem_mb"]
    wide = resources.training(rbm(sites=256), 512)
    assert wide["mem_mb"] > few["mem_mb"]


@pytest.mark.parametrize("attempt", [2, 3])
def test_every_attempt_asks_for_more(attempt):
    run = rbm()
    for needs in (
        lambda attempt: resources.training(run, 64, attempt),
        lambda attempt: resources.joining(run, attempt),
        lambda attempt: resources.table([run], attempt),
    ):
        first, later = needs(1), needs(attempt)
        assert later == {name: attempt * value for name, value in first.items()}


def test_a_gpu_is_asked_for_a_shorter_time():
    run = rbm(sites=256, burn_in=0, steps=100_000)
    cpu, cuda, auto = (resources.training(run, 64, 1, name) for name in ("cpu", "cuda", "auto"))
    assert cuda["runtime"] < cpu["runtime"] / 10
    assert auto == cpu


def test_a_study_asks_for_more_than_its_runs():
    runs = [rbm(seed=seed, replicas=512) for seed in range(10)]
    alone, together = resources.table(runs[:1]), resources.table(runs)
    extra = [asked["mem_mb"] - resources.TABLE_MB for asked in (alone, together)]
    assert extra[1] == pytest.approx(10 * extra[0], abs=10)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("gaussian_rbm", {"sites": 10}),
        ("gaussian_rbm", {"sites": 10, "sampler": "wishart"}),
        ("gaussian_rbm", {"sites": 48}),
        ("teacher_student", {"size": 2}),
        ("teacher_student", {"size": 32, "batch_size": 128}),
    ],
)
def test_a_training_job_gets_more_time_than_it_takes(model, values):
    fixed = {"burn_in": 0, "steps": 100, "snapshots": 1, "learning_rate": 0.01}
    run = hyperparameters_of(model).from_config({**values, **fixed, "initial_width": 0.01})
    # The first call imports; the best of the others is the one least disturbed by neighbours.
    memory = ensemble.Memory(run, run.replicas)
    took = min([ensemble.train(load(model).simulation, run, memory) for _ in range(4)][1:])
    # The margin without the minutes for the start, on a core that others use as well.
    assert resources.TIME_MARGIN * resources.training_seconds(run, run.replicas) > took / 10
    assert 60 * resources.training(run, run.replicas)["runtime"] > took
