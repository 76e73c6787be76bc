"""What jobs ask for: grows with the work, with each attempt, and stays above what was measured."""

import pytest

from dysonflow.models import hyperparameters_of
from dysonflow.planning import resources
from dysonflow.simulation import ensemble


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
    from dysonflow.models import load

    fixed = {"burn_in": 0, "steps": 100, "snapshots": 1, "learning_rate": 0.01}
    run = hyperparameters_of(model).from_config({**values, **fixed, "initial_width": 0.01})
    # The first call imports; the best of the others is the one least disturbed by neighbours.
    memory = ensemble.Memory(run, run.replicas)
    took = min([ensemble.train(load(model).simulation, run, memory) for _ in range(4)][1:])
    # The margin without the minutes for the start, on a core that others use as well.
    assert resources.TIME_MARGIN * resources.training_seconds(run, run.replicas) > took / 10
    assert 60 * resources.training(run, run.replicas)["runtime"] > took
