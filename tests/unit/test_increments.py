"""Drift, diffusion and repulsion from increments: exact cases, controls, machines, bad input.

Statistical tests have fixed seeds and a false-alarm rate of 5 sigma.
"""

import io

import numpy as np
import pytest
from scipy import special

import dysonflow
from dysonflow import models
from dysonflow.errors import ConfigError
from dysonflow.simulation.ensemble import train_in_memory
from dysonflow.statistics import increments, two_levels
from dysonflow.statistics.kick import Kick
from dysonflow.theory.gaussian_rbm import motion as motion_of_machine

SIGMAS = 5.0
SAMPLES, PER_REPLICA, SIZE = 12_000, 100, 4
REPLICA = np.arange(SAMPLES) // PER_REPLICA
RELAXED = 0.01
"""Relaxation rate times lag of the matrix processes below."""


def goe(rng, samples=SAMPLES):
    """GOE matrices with off-diagonal variance 1."""
    normal = rng.standard_normal((samples, SIZE, SIZE))
    return (normal + normal.transpose(0, 2, 1)) / np.sqrt(2.0)


def gue(rng, samples=SAMPLES):
    """GUE matrices with diagonal variance 2 and real and imaginary parts of variance 1."""
    normal = rng.standard_normal((2, samples, SIZE, SIZE))
    complex_ = normal[0] + 1j * normal[1]
    return (complex_ + complex_.conj().transpose(0, 2, 1)) / np.sqrt(2.0)


def relax(x, noise):
    """Levels of an Ornstein-Uhlenbeck process of matrices, before and after."""
    keep = np.exp(-RELAXED)
    kicked = keep * x + np.sqrt(1.0 - keep**2) * noise
    return np.linalg.eigvalsh(x), np.linalg.eigvalsh(kicked)


def motion(kind):
    rng = np.random.default_rng(20240723)
    keep = np.exp(-RELAXED)
    kick = np.sqrt(2.0 * (1.0 - keep**2)) * rng.standard_normal((SAMPLES, SIZE))
    if kind == "goe":
        return relax(goe(rng), goe(rng))
    if kind == "gue":
        return relax(gue(rng), gue(rng))
    if kind == "diagonal noise":
        before = np.linalg.eigvalsh(goe(rng))
        return before, np.sort(keep * before + kick, axis=1)
    # Levels wide apart on average: triples of close levels are rare, as under repulsion.
    before = np.sort(6.0 * rng.standard_normal((SAMPLES, SIZE)), axis=1)
    return before, np.sort(keep * before + kick, axis=1)


def moments(before):
    keep = np.exp(-RELAXED)
    index = np.arange(SIZE)
    mean = np.zeros((SAMPLES, SIZE, SIZE))
    mean[:, index, index] = (keep - 1.0) * before
    variance = np.full((SAMPLES, SIZE, SIZE), 1.0 - keep**2)
    variance[:, index, index] *= 2.0
    diagonal = np.zeros_like(variance)
    diagonal[:, index, index] = variance[:, index, index]
    return Kick(mean, variance, diagonal)


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0, 4.0, 12.0])
def test_the_distance_of_two_levels_after_isotropic_noise_is_that_of_rice(gap):
    # Var d = 4 v: (g + d, 2 o) is a point of the plane about (g, 0), its distance has Rice's law.
    width = np.sqrt(2.0)
    q = gap**2 / (4.0 * width**2)
    rice = (
        width * np.sqrt(np.pi / 2) * ((1 + 2 * q) * special.ive(0, q) + 2 * q * special.ive(1, q))
    )
    gap, one = np.array([gap]), np.array([1.0])
    push, distance = two_levels.push(gap, 0 * one, 2.0 * one, 0.5 * one)
    assert distance[0] == pytest.approx(rice, abs=4e-4 * width)
    assert push[0] == pytest.approx(0.5 * (rice - gap[0]), abs=2e-4 * width)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_far_levels_are_pushed_as_dyson_says(beta):
    gap, one = np.array([30.0, 200.0]), np.ones(2)
    push, _ = two_levels.push(gap, 0 * one, 0.01 * one, 0.5 * one, beta)
    assert push == pytest.approx(beta * 0.5 / gap, rel=5e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "beta"), [("goe", 1.0), ("gue", 2.0), ("diagonal noise", 0.0), ("independent", 0.0)]
)
def test_repulsion_of_matrix_processes_and_controls(kind, beta):
    before, after = motion(kind)
    known = increments.fit_with_moments(before, after, REPLICA, moments(before))
    free = increments.fit_free(before, after, REPLICA)
    assert abs(known.repulsion - beta) < SIGMAS * known.repulsion_error
    assert abs(known.drift - 1.0) < SIGMAS * known.drift_error
    # Triples of close levels change the variance by about a hundredth.
    assert abs(known.diffusion - 1.0) < SIGMAS * known.diffusion_error + 0.01
    assert known.repulsion_error < 0.1
    index = free.coefficients
    assert abs(index.dyson_index - beta) < SIGMAS * index.dyson_index_error
    assert index.dyson_index_error < 0.2
    assert abs(free.rate - RELAXED) < SIGMAS * free.rate_error


def test_errors_are_those_of_repeated_measurements():
    # 12 measurements of 10 replicas each: chi-squared about their mean, both tails at 5 sigma.
    before, after = motion("goe")
    kick = moments(before)
    found = []
    for part in np.split(np.arange(SAMPLES), 12):
        own = Kick(kick.mean[part], kick.variance[part], kick.covariance[part])
        replica = REPLICA[part] - REPLICA[part[0]]
        found.append(increments.fit_with_moments(before[part], after[part], replica, own))
    for name in ("drift", "diffusion", "repulsion"):
        value = np.array([getattr(one, name) for one in found])
        error = np.array([getattr(one, f"{name}_error") for one in found])
        chi2 = (((value - value.mean()) / error) ** 2).sum()
        assert special.chdtrc(len(found) - 1, chi2) > 3e-7, name
        assert special.chdtr(len(found) - 1, chi2) > 3e-7, name


MACHINES = [
    ("gaussian_rbm", {"sampler": "wishart"}),
    ("gaussian_rbm", {"sampler": "ar1"}),
    ("teacher_student", {"data": "fresh"}),
    ("teacher_student", {"data": "shared"}),
]


@pytest.mark.parametrize(("model", "values"), MACHINES, ids=str)
def test_machines_move_as_their_exact_moments_say(model, values):
    common = {"replicas": 64, "snapshots": 24, "learning_rate": 0.1, "lags": [1, 5]}
    if model == "gaussian_rbm":
        common |= {"batch_size": 64}
    run = dysonflow.train(model, common | values, progress=io.StringIO())
    table = dysonflow.increments(run)
    known = table[table["method"] == "moments"]
    assert list(known["lag"]) == [1, 5]
    assert (table["flag"] == "").all()
    for name in ("drift", "diffusion", "repulsion", "dyson_index"):
        # The next order in the noise is below 0.03 there (docs/motion.md).
        off = known[name] / known[f"{name}_theory"] - 1.0
        error = known[f"{name}_error"] / known[f"{name}_theory"].abs()
        assert (off.abs() < SIGMAS * error + 0.03).all(), name
    assert (known["repulsion_error"] < 0.25 * known["repulsion_theory"]).all()


@pytest.mark.parametrize("dynamics", ["matrix", "levels"])
@pytest.mark.parametrize("beta", [1, 2, 4])
def test_dyson_brownian_motion_shows_its_own_index(dynamics, beta):
    values = {"beta": beta, "dynamics": dynamics, "size": 4, "time_step": 0.001}
    values |= {"replicas": 64, "snapshots": 100, "burn_in": 4000, "steps": 24_000, "lags": [5]}
    if dynamics == "matrix":
        # Each step costs a diagonalisation.
        values |= {"snapshots": 20, "burn_in": 400, "steps": 800, "time_step": 0.002}
    run = dysonflow.train("dyson", values, progress=io.StringIO())
    table = dysonflow.increments(run).set_index("method")
    for method, row in table.iterrows():
        assert abs(row["dyson_index"] - beta) < SIGMAS * row["dyson_index_error"], method
    known = table.loc["moments"]
    assert known["dyson_index_theory"] == pytest.approx(beta)
    assert abs(known["pull_repulsion"]) < SIGMAS
    assert known["dyson_index_error"] < 0.2 * beta


def test_a_large_kick_with_a_mean_off_the_diagonal_has_the_variance_that_is_expected():
    # Two pairs of equal centres; the matrix is drawn back to them, so that the mean of the kick has
    # entries off the diagonal. The kick is 0.2, half of the width of the levels.
    rng = np.random.default_rng(7)
    kick, width = 0.2, 0.4
    centres = np.diag([0.0, 0.0, 2.0, 2.0])
    off = width * goe(rng)
    levels, basis = np.linalg.eigh(centres + off)
    mean = -((kick / width) ** 2) * basis.transpose(0, 2, 1) @ off @ basis
    diagonal = np.zeros_like(off)
    diagonal[:, range(SIZE), range(SIZE)] = levels
    after = np.linalg.eigvalsh(diagonal + mean + kick * goe(rng))
    variance = np.broadcast_to(kick**2 * (1.0 + np.eye(SIZE)), off.shape)
    moments = Kick(mean, variance, variance * np.eye(SIZE))
    found = increments.fit_with_moments(levels, after, REPLICA, moments)
    for name in ("drift", "diffusion", "repulsion"):
        error = getattr(found, f"{name}_error")
        assert error < 0.03
        assert abs(getattr(found, name) - 1.0) < SIGMAS * error
    assert found.diffusion_error < 0.007


def test_noise_of_few_samples_needs_its_kurtosis():
    # Covariances of 4 samples of a Gaussian, as the machine's gradient has them, at close levels.
    rng = np.random.default_rng(11)
    samples, batch = 100_000, 4
    levels = np.zeros((samples, 2))
    levels[:, 1] = rng.uniform(0.5, 3.0, samples)
    v = rng.standard_normal((samples, 2, batch))
    noise = (v @ v.transpose(0, 2, 1) / batch - np.eye(2)) * np.sqrt(batch)
    drift = rng.normal(0.0, 0.3, (samples, 2, 1)) * np.eye(2)
    after = np.linalg.eigvalsh(noise + drift + levels[:, :, None] * np.eye(2))
    variance = np.broadcast_to(1.0 + np.eye(2), noise.shape)
    replica = np.arange(samples) // 100
    found = {
        excess: increments.fit_with_moments(
            levels, after, replica, Kick(drift, variance, variance * np.eye(2), excess)
        )
        for excess in (0.0, motion_of_machine.SAMPLE_EXCESS / batch)
    }
    gaussian, sampled = found.values()
    assert abs(gaussian.repulsion - 1.0) > SIGMAS * gaussian.repulsion_error
    assert abs(sampled.repulsion - 1.0) < abs(gaussian.repulsion - 1.0) / 3.0


def test_the_mean_step_of_a_machine_is_the_one_that_many_steps_have():
    # One student, advanced by one step 4000 times from the same weights.
    from dysonflow.models.teacher_student import teacher
    from dysonflow.theory.teacher_student import motion as students

    h = models.hyperparameters_of("teacher_student").from_config({"learning_rate": 0.3})
    rng = np.random.default_rng(5)
    weights = teacher(h) + 0.1 * rng.standard_normal((2, 2))
    kick = students.kick(h, weights[None], np.zeros(1, dtype=int), 2)
    now = np.broadcast_to(weights, (40_000, 2, 2))
    for _ in range(2):
        inputs = rng.standard_normal((len(now), h.batch_size, 2))
        c = inputs.transpose(0, 2, 1) @ inputs / h.batch_size
        noise = rng.standard_normal((len(now), 2, 2))
        noise = (noise + noise.transpose(0, 2, 1)) * h.noise_scale / np.sqrt(2 * h.batch_size)
        now = now + h.learning_rate * ((teacher(h) - now) @ c + noise)
    _, basis = np.linalg.eigh(weights.T @ weights)
    change = basis.T @ (now.transpose(0, 2, 1) @ now - weights.T @ weights) @ basis
    error = change.std(axis=0) / np.sqrt(len(now))
    assert (np.abs(change.mean(axis=0) - kick.mean[0]) < SIGMAS * error).all()
    # The quadratic part of the change is left out of the variance.
    assert change.var(axis=0) == pytest.approx(kick.variance[0], rel=0.05)


def test_lagged_frames_are_the_snapshots_of_a_run_that_stops_there():
    system = models.load("teacher_student")
    values = {"replicas": 40, "snapshots": 3, "burn_in": 10, "steps": 50, "lags": [1, 7]}
    run = system.hyperparameters.from_config(values)
    assert run.frame_steps == [10, 11, 17, 30, 31, 37, 50, 51, 57]
    found = train_in_memory(system.compiled or system.simulation, run, log=io.StringIO())
    assert found.lagged["W"].shape == (40, 3, 2, 2, 2)
    # No frame changes the random numbers of the next: the same run, one frame after another.
    simulation = (system.compiled or system.simulation).start(
        run, dysonflow.simulation.base.Block(0, 40)
    )
    for frame, step in enumerate(run.frame_steps):
        simulation.advance(step - simulation.step)
        snapshot, lag = divmod(frame, 3)
        there = found.lagged["W"][:, snapshot, lag - 1] if lag else found.weights[:, snapshot]
        assert np.array_equal(simulation.layers()["W"], there)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lags": [4, 1]}, r"lags = \[4, 1\]: give every lag once, the smallest first: \[1, 4\]"),
        ({"lags": [1, 1]}, "give every lag once"),
        ({"lags": [0]}, "lags"),
        ({"lags": [20], "burn_in": 0, "steps": 40}, "overlaps the next snapshot, 20 SGD steps"),
        ({"lags": [1], "replicas": 8}, "at least 30 of them; replicas = 8"),
    ],
)
def test_bad_lags_are_refused(values, message):
    cls = models.hyperparameters_of("teacher_student")
    with pytest.raises(ConfigError, match=message):
        cls.from_config({"replicas": 64, "snapshots": 3, "burn_in": 0, "steps": 400} | values)


def test_a_run_without_lags_keeps_its_name():
    cls = models.hyperparameters_of("gaussian_rbm")
    assert cls.from_config({"lags": []}).name == cls.from_config({}).name
    assert cls.from_config({"lags": [1]}).name != cls.from_config({}).name
