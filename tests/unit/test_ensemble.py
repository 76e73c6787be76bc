"""The ensemble: reproducible, independent replicas, clear failures, both models' laws."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from dysonflow import theory
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.artifacts.weights import WeightsWriter, open_weights
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.models import hyperparameters_of, load, trained
from dysonflow.simulation import ensemble
from dysonflow.simulation.base import Block
from dysonflow.simulation.devices import CPU as ON_CPU
from dysonflow.simulation.devices import choose_device
from dysonflow.simulation.implementation import Implementation, choose
from dysonflow.simulation.kernel import library
from dysonflow.simulation.noise import NoiseStream
from dysonflow.simulation.resume import Checkpoint, remove_all

FIVE_SIGMA = 5.0
CPU = torch.device("cpu")


needs_kernel = pytest.mark.skipif(not library.available(), reason=library.why_unavailable())
implementations = pytest.mark.parametrize(
    "implementation", ["torch", pytest.param("kernel", marks=needs_kernel)]
)


TRAINED = [name for name in trained() if name != "torch_module"]
"""The user's own network needs files of his, and has tests of its own."""
TINY = {"char_gpt": {"width": 8, "heads": 2, "blocks": 1, "context": 4, "batch_size": 2}}


def simulation_of(model, implementation):
    system = load(model)
    if implementation == "kernel" and system.compiled is None:
        pytest.skip(f"{model} has no compiled kernel")
    return system.simulation if implementation == "torch" else system.compiled


def train(model, tmp_path, implementation="torch", **values):
    run = hyperparameters_of(model).from_config(TINY.get(model, {}) | values)
    with open(tmp_path / "log", "a", encoding="utf-8") as log:
        return run, ensemble.train_in_memory(simulation_of(model, implementation), run, log=log)


SHORT = {"burn_in": 0, "steps": 20, "snapshots": 3}


def test_hyperparameters_do_not_import_torch():
    code = (
        "import sys; from dysonflow import models; from dysonflow.planning import studies; "
        "values = {'burn_in': 0, 'steps': 9}; "
        "own = [m for m in models.trained() if m not in ('torch_module',)]; "
        "[models.hyperparameters_of(m).from_config(values | {'snapshots': 2}) for m in own]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@implementations
@pytest.mark.parametrize("model", TRAINED)
def test_the_same_run_has_the_same_bytes(model, implementation, tmp_path):
    first = train(model, tmp_path, implementation, replicas=70, **SHORT)[1]
    again = train(model, tmp_path, implementation, replicas=70, **SHORT)[1]
    for layer, weights in first.layers.items():
        assert weights.tobytes() == again.layers[layer].tobytes()
    assert first.loss.tobytes() == again.loss.tobytes()


@implementations
@pytest.mark.parametrize("model", TRAINED)
def test_a_part_of_the_replicas_is_trained_as_within_the_whole(model, implementation, tmp_path):
    run, whole = train(model, tmp_path, implementation, replicas=150, **SHORT)
    simulation = simulation_of(model, implementation)
    with open(tmp_path / "log", "a", encoding="utf-8") as log:
        part = ensemble.train_in_memory(simulation, run, log=log, members=range(64, 150))
        with pytest.raises(ValueError, match="replica 10 does not start a block"):
            ensemble.train_in_memory(simulation, run, log=log, members=range(10, 150))
    for layer, weights in whole.layers.items():
        assert part.layers[layer].tobytes() == weights[64:].tobytes()


@needs_kernel
@pytest.mark.parametrize("data", ["fresh", "shared"])
@pytest.mark.parametrize("model", TRAINED)
def test_threads_change_no_number(model, data, tmp_path):
    values = {"replicas": 200, **SHORT} | ({"data": data} if model == "teacher_student" else {})
    run, one = train(model, tmp_path, "kernel", **values)
    found = choose(load(model), ON_CPU)
    assert found.name.startswith("compiled kernel") and found.is_compiled
    with open(tmp_path / "log", "a", encoding="utf-8") as log:
        two = ensemble.train_in_memory(found.simulation, run, log=log, threads=2)
    assert one.weights.tobytes() == two.weights.tobytes()


def test_without_a_kernel_torch_takes_over_and_says_why(monkeypatch):
    monkeypatch.setattr(library, "why_unavailable", lambda: "no compiler was found")
    system = load("gaussian_rbm")
    expected = Implementation(system.simulation, "torch (no compiler was found)", False)
    assert choose(system, ON_CPU) == expected


LAWS = {
    "gibbs": {"sampler": "gibbs", "gibbs_sweeps": 2},
    "ar1": {"sampler": "ar1", "gibbs_sweeps": 2},
    "wishart": {"sampler": "wishart"},
    "wishart, few samples": {"sampler": "wishart", "batch_size": 3},
    "few hidden units": {"hidden_units": 3, "gibbs_sweeps": 1, "learning_rate": 0.05},
}


@needs_kernel
@pytest.mark.parametrize("case", LAWS)
def test_kernel_and_torch_agree_in_law(case, tmp_path):
    values = {"sites": 4, "batch_size": 8, "learning_rate": 0.2, "initial_width": 0.5}
    values |= {"replicas": 512, "burn_in": 0, "steps": 300, "snapshots": 4, **LAWS[case]}
    gram = []
    for implementation in ("torch", "kernel"):
        weights = train("gaussian_rbm", tmp_path, implementation, **values)[1].weights
        gram.append(weights.swapaxes(-1, -2) @ weights)
    for moment in (lambda x: x, lambda x: (x - x.mean(axis=0)) ** 2):
        values = [moment(x) for x in gram]
        error = np.sqrt(sum(x.var(axis=0) / len(x) for x in values))
        difference = np.abs(values[0].mean(axis=0) - values[1].mean(axis=0))
        assert (difference < FIVE_SIGMA * error).all()


@implementations
@pytest.mark.parametrize("model", TRAINED)
def test_shapes_and_types(model, implementation, tmp_path):
    run, result = train(model, tmp_path, implementation, replicas=70, dtype="float32", **SHORT)
    for layer, shape in run.layers().items():
        assert result.layers[layer].shape == (70, 3, *shape)
        assert result.layers[layer].dtype == np.float32
    assert result.step.tolist() == [0, 10, 20]
    assert result.loss.shape == (70, 3)
    # A potential may be negative, a squared error may not.
    assert (np.isfinite(result.loss) if model == "dyson" else result.loss > 0).all()


def test_replicas_runs_and_blocks_share_no_random_numbers():
    streams = [
        NoiseStream(seed, key, block, CPU, torch.float64).normal(4)
        for seed, key, block in [(0, "ab", 0), (0, "ab", 1), (1, "ab", 0), (0, "ac", 0)]
    ]
    drawn = torch.stack(streams)
    assert len(drawn.unique()) == drawn.numel()


def test_bartlett_factors_have_the_moments_of_wishart_matrices():
    size, degrees, count = 3, 7, 200_000
    factor = NoiseStream(0, "0", 0, CPU, torch.float64).bartlett(count, size, degrees)
    matrix = (factor @ factor.transpose(1, 2)).numpy()
    # E[S_ij] = n d_ij, Var[S_ij] = n (1 + d_ij).
    mean_error = np.sqrt(degrees * (1 + np.eye(size)) / count)
    assert (np.abs(matrix.mean(axis=0) - degrees * np.eye(size)) < FIVE_SIGMA * mean_error).all()
    squares = (matrix - degrees * np.eye(size)) ** 2
    error = squares.std(axis=0) / math.sqrt(count)
    expected = degrees * (1 + np.eye(size))
    assert (np.abs(squares.mean(axis=0) - expected) < FIVE_SIGMA * error).all()


@pytest.mark.parametrize("sampler", ["gibbs", "ar1", "wishart"])
@pytest.mark.parametrize("batch_size", [4, 12])
def test_samples_of_the_machine_have_its_covariance(sampler, batch_size):
    run = hyperparameters_of("gaussian_rbm").from_config(
        {
            "sites": 5,
            "hidden_units": 4,
            "sampler": sampler,
            "batch_size": batch_size,
            "steps": 10**6,
        }
        | {"initial_width": 0.6, "hidden_width": 1.2, "gibbs_sweeps": 40, "burn_in": 0}
    )
    replicas = 4000
    noise = NoiseStream(3, "0", 0, CPU, torch.float64)
    machine = load("gaussian_rbm").simulation(run, replicas, noise)
    # All replicas the same machine, so that they sample one law.
    machine.weights = machine.weights[:1].expand(replicas, -1, -1).contiguous()
    samples, count = getattr(machine, f"_{sampler}_samples")()
    covariance = (samples.transpose(1, 2) @ samples / count).numpy()
    expected = torch.linalg.inv(machine.model_precision()[0]).numpy()
    error = covariance.std(axis=0) / math.sqrt(replicas)
    assert (np.abs(covariance.mean(axis=0) - expected) < FIVE_SIGMA * error).all()
    # The fluctuations of the sample covariance set the width of the gas.
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    variance = 2 * np.diagonal(expected) ** 2 / batch_size
    squares = (diagonal - np.diagonal(expected)) ** 2
    assert (
        np.abs(squares.mean(axis=0) - variance)
        < FIVE_SIGMA * squares.std(axis=0) / math.sqrt(replicas)
    ).all()


@implementations
@pytest.mark.parametrize(
    ("learning_rate", "batch_size", "size"), [(0.1, 16, 2), (0.5, 16, 2), (0.1, 4, 2), (0.2, 8, 3)]
)
def test_second_moments_of_the_student_are_exact(
    learning_rate, batch_size, size, implementation, tmp_path
):
    from dysonflow.models.teacher_student import teacher
    from dysonflow.theory.teacher_student.moments import stationary_moments

    run, result = train(
        "teacher_student",
        tmp_path,
        implementation,
        learning_rate=learning_rate,
        batch_size=batch_size,
        size=size,
        replicas=2048,
        snapshots=4,
    )
    deviation = result.weights - teacher(run)
    p, q, r = stationary_moments(run)
    i, a = 0, 1
    for measured, expected in [
        (deviation[..., i, a] ** 2, p),
        (deviation[..., i, a] * deviation[..., a, i], q),
        (deviation[..., i, i] * deviation[..., a, a], r),
        (deviation[..., i, i] ** 2, p + q + r),
    ]:
        error = measured.mean(axis=1).std() / math.sqrt(len(measured))
        assert abs(measured.mean() - expected) < FIVE_SIGMA * error


@implementations
@pytest.mark.parametrize("sampler", ["gibbs", "ar1", "wishart"])
def test_single_modes_of_the_machine_fluctuate_as_predicted(sampler, implementation, tmp_path):
    # Two sites: kappa = m^2 and m^2 + 4, far apart, so that the leading order holds.
    run, result = train(
        "gaussian_rbm",
        tmp_path,
        implementation,
        **{"sites": 2, "sampler": sampler, "learning_rate": 0.1, "batch_size": 32},
        **{"replicas": 128, "snapshots": 8, "gibbs_sweeps": 2},
    )
    physics = theory.load("gaussian_rbm")
    levels = physics.levels(run, "W", eigenvalues(result.weights))
    for block in physics.blocks(run, "W"):
        level = levels[..., block.first]
        squares = (level - level.mean()) ** 2
        error = squares.mean(axis=1).std() / math.sqrt(len(level))
        assert abs(squares.mean() - block.sigma**2) < FIVE_SIGMA * error
        mean_error = level.mean(axis=1).std() / math.sqrt(len(level))
        assert abs(level.mean() - block.centre) < FIVE_SIGMA * mean_error


@implementations
def test_shared_data_are_shared_and_fresh_data_are_not(implementation, tmp_path):
    values = {"noise_scale": 0, "initial_width": 0, "replicas": 3, **SHORT}
    shared = train("teacher_student", tmp_path, implementation, data="shared", **values)[1].weights
    fresh = train("teacher_student", tmp_path, implementation, data="fresh", **values)[1].weights
    assert (shared == shared[:1]).all()
    assert (fresh[0, -1] != fresh[1, -1]).all()


def test_training_without_noise_follows_the_drift(tmp_path):
    # A huge batch is the exact gradient up to fluctuations of relative size 1/sqrt(B).
    run, result = train(
        "gaussian_rbm",
        tmp_path,
        **{"sampler": "wishart", "batch_size": 10**8, "replicas": 4, "sites": 6},
        **{"burn_in": 0, "steps": 1500, "snapshots": 4},
    )
    physics = theory.load("gaussian_rbm")
    measured = physics.levels(run, "W", eigenvalues(result.weights))
    drift = physics.noise_free(run, "W", result.weights[:, 0], result.step)
    np.testing.assert_allclose(measured, drift, atol=2e-3)


def test_the_student_without_noise_follows_the_drift(tmp_path):
    run, result = train(
        "teacher_student",
        tmp_path,
        **{"batch_size": 10**5, "noise_scale": 0, "replicas": 4, "size": 3},
        **{"burn_in": 0, "steps": 60, "snapshots": 4},
    )
    physics = theory.load("teacher_student")
    measured = physics.levels(run, "W", eigenvalues(result.weights))
    drift = physics.noise_free(run, "W", result.weights[:, 0], result.step)
    np.testing.assert_allclose(measured, drift, atol=2e-2)


@implementations
@pytest.mark.parametrize("sampler", ["gibbs", "ar1", "wishart"])
def test_a_machine_that_diverges_names_replica_and_step(sampler, implementation, tmp_path):
    values = {"learning_rate": 0.3, "batch_size": 1, "replicas": 70, "burn_in": 0, "steps": 5000}
    with pytest.raises(DivergedError, match=r"replica \d+ diverged at SGD step \d+: K = mu"):
        train("gaussian_rbm", tmp_path, implementation, sampler=sampler, **values)


@implementations
def test_a_student_that_diverges_names_replica_and_step(implementation, tmp_path):
    # A training set of one input is a direction of curvature x^2: above 2 / a the student escapes.
    student = hyperparameters_of("teacher_student")
    values = {"data": "shared", "training_batches": 1, "batch_size": 1, "learning_rate": 0.49}
    values |= {"size": 1, "burn_in": 0, "steps": 10000, "snapshots": 2}
    from dysonflow.models.teacher_student import shared_covariances as curvature

    seed = next(
        seed
        for seed in range(1000)
        if curvature(student.from_config(values | {"seed": seed})).item() > 2.5 / 0.49
    )
    with pytest.raises(DivergedError, match="not finite") as caught:
        train("teacher_student", tmp_path, implementation, seed=seed, **values)
    assert 0 <= caught.value.replica < 64
    assert 0 < caught.value.step <= 10000


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
def test_cuda_without_a_gpu_says_what_to_change():
    with pytest.raises(ConfigError, match="set device: auto or cpu"):
        choose_device("cuda")


SYSTEMS = [
    ("gaussian_rbm", {"sites": 4, "sampler": "gibbs"}),
    ("gaussian_rbm", {"sites": 4, "sampler": "wishart", "batch_size": 64}),
    ("teacher_student", {}),
    ("teacher_student", {"data": "shared", "dtype": "float32"}),
    ("mlp", {"optimiser": "adamw", "widths": [64, 3, 10], "burn_in": 0, "steps": 60}),
]


class Killed(Exception):
    """Stands for the end of a process in the middle of training."""


@implementations
@pytest.mark.parametrize(("model", "values"), SYSTEMS)
def test_a_loaded_state_goes_on_to_the_same_bytes(model, values, implementation):
    run = hyperparameters_of(model).from_config({"replicas": 5, **values})

    def start():
        return simulation_of(model, implementation).start(run, Block(0, 5))

    undisturbed, later = start(), start()
    undisturbed.advance(7)
    state = undisturbed.state()
    assert all(isinstance(array, np.ndarray) for array in state.values())
    undisturbed.advance(13)
    later.load(state)
    later.advance(13)
    assert later.step == 20
    for name, array in undisturbed.state().items():
        assert later.state()[name].tobytes() == array.tobytes(), name
    assert undisturbed.loss().tobytes() == later.loss().tobytes()


@implementations
@pytest.mark.parametrize(("model", "values"), SYSTEMS)
def test_interrupted_training_ends_in_the_same_bytes(
    model, values, implementation, tmp_path, monkeypatch
):
    monkeypatch.setattr(ensemble, "LONGEST_STRIDE", 7)
    times = {"burn_in": 0, "steps": 60, "snapshots": 4}
    run = hyperparameters_of(model).from_config({"replicas": 150, **times, **values})
    simulation = simulation_of(model, implementation)
    whole = ensemble.train_in_memory(simulation, run)
    identity = {"run": run.name, "source": "abc"}
    advance, interruptions = simulation.advance, 0
    # 27 strides in three blocks, killed after every 13.
    for _ in range(100):
        strides = 0

        def limited(self, steps):
            nonlocal strides
            strides += 1
            if strides > 13:
                raise Killed
            advance(self, steps)

        monkeypatch.setattr(simulation, "advance", limited)
        checkpoint = Checkpoint(tmp_path / "w", identity, 0.0)
        try:
            with writer_of(tmp_path / "w", run) as writer:
                ensemble.train(simulation, run, writer, checkpoint=checkpoint)
                writer.finish(run.snapshot_steps, {})
            break
        except Killed:
            interruptions += 1
    assert interruptions == 2
    with open_weights(tmp_path / "w") as resumed:
        for layer, weights in whole.layers.items():
            assert resumed.read(layer).tobytes() == weights.tobytes()
        assert resumed.loss.tobytes() == whole.loss.tobytes()
    remove_all(tmp_path / "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def writer_of(path, run):
    return WeightsWriter(path, run.layers(), run.replicas, run.snapshots, run.dtype, {}, True)


def test_snapshots_that_changed_since_a_checkpoint_are_not_gone_on_from(tmp_path, caplog):
    times = {"burn_in": 0, "steps": 60, "snapshots": 4}
    run = hyperparameters_of("teacher_student").from_config({"replicas": 150, **times})
    simulation = load("teacher_student").simulation
    whole = ensemble.train_in_memory(simulation, run)
    checkpoint = Checkpoint(tmp_path / "w", {}, 0.0)
    with writer_of(tmp_path / "w", run) as writer:
        ensemble.train(simulation, run, writer, checkpoint=checkpoint)
    unfinished = tmp_path / "w.unfinished"
    raw = bytearray(unfinished.read_bytes())
    # A weight of the first replica; its header and what comes after the weights is written last.
    raw[-(150 * 4 * 8 + 4 * 8) - 150 * 4 * 4 * 8 + 5] ^= 1
    unfinished.write_bytes(raw)
    with writer_of(tmp_path / "w", run) as writer:
        ensemble.train(simulation, run, writer, checkpoint=checkpoint)
        assert "the snapshots before it are not there as they were written" in caplog.text
        writer.finish(run.snapshot_steps, {})
    with open_weights(tmp_path / "w") as file:
        assert file.read("W").tobytes() == whole.weights.tobytes()


def test_a_checkpoint_of_other_source_or_with_a_flipped_bit_is_ignored(tmp_path, caplog):
    state = {"first": np.array([0]), "x": np.arange(5.0)}
    checkpoint = Checkpoint(tmp_path / "w", {"run": "a", "source": "1"}, 60.0)
    assert checkpoint.read() == {} and not checkpoint.is_due
    checkpoint.write(state)
    np.testing.assert_array_equal(checkpoint.read()["x"], state["x"])
    assert Checkpoint(tmp_path / "w", {"run": "a", "source": "2"}, 60.0).read() == {}
    assert Checkpoint(tmp_path / "w", {"run": "b", "source": "1"}, 60.0).read() == {}
    raw = bytearray(checkpoint.path.read_bytes())
    raw[-3] ^= 4
    checkpoint.path.write_bytes(raw)
    assert checkpoint.read() == {}
    assert "training starts anew" in caplog.text


def test_a_checkpoint_that_cannot_be_written_does_not_stop_training(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    run = hyperparameters_of("teacher_student").from_config({"replicas": 3, "snapshots": 2})
    checkpoint = Checkpoint(tmp_path / "file" / "w", {}, 0.0)
    memory = ensemble.Memory(run, run.replicas)
    ensemble.train(load("teacher_student").simulation, run, memory, checkpoint=checkpoint)
    assert "no checkpoint" in caplog.text


def test_the_time_of_interrupted_jobs_counts(tmp_path):
    run = hyperparameters_of("teacher_student").from_config({"replicas": 3, "snapshots": 2})
    checkpoint = Checkpoint(tmp_path / "w", {}, 0.0)
    simulation, memory = load("teacher_student").simulation, ensemble.Memory(run, run.replicas)
    ensemble.train(simulation, run, memory, checkpoint=checkpoint)
    state = checkpoint.read()
    checkpoint.write(state | {"seconds": np.array([100.0])})
    assert ensemble.train(simulation, run, memory, checkpoint=checkpoint) > 100.0


def test_training_with_the_kernel_does_not_import_torch():
    code = (
        "import io, sys, dysonflow; "
        "runs = [dysonflow.train(model, {'replicas': 3}, progress=io.StringIO()) "
        "for model in ('gaussian_rbm', 'teacher_student')]; "
        "sys.exit(any('compiled' in run.implementation for run in runs) "
        "and 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_rotation_of_the_teacher_is_that_of_scipy():
    from scipy.stats import ortho_group

    from dysonflow.models.teacher_student import random_rotation

    for size in (2, 3, 10):
        theirs = ortho_group.rvs(size, random_state=np.random.default_rng(size))
        ours = random_rotation(size, np.random.default_rng(size))
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("freedom", [1, 2, 7])
def test_the_quantile_of_a_slow_start_is_that_of_chi_squared(freedom):
    from scipy.stats import chi2

    from dysonflow.models.gaussian_rbm import _chi_squared_quantile

    found = _chi_squared_quantile(1e-4, freedom)
    assert found == pytest.approx(chi2.ppf(1e-4, freedom), rel=1e-12)


@implementations
def test_the_loss_of_the_machine_is_its_divergence_from_the_field(implementation, tmp_path):
    from dysonflow.models.gaussian_rbm import precision_matrix

    values = {"replicas": 3, "sites": 4, "hidden_width": 1.2, **SHORT}
    run, result = train("gaussian_rbm", tmp_path, implementation, **values)
    field = torch.distributions.MultivariateNormal(
        torch.zeros(4, dtype=torch.float64), precision_matrix=torch.tensor(precision_matrix(run))
    )
    for replica, snapshot in np.ndindex(result.loss.shape):
        w = torch.tensor(result.weights[replica, snapshot])
        precision = run.rbm_mass_squared * torch.eye(4) - run.hidden_width**2 * w.T @ w
        machine = torch.distributions.MultivariateNormal(
            torch.zeros(4, dtype=torch.float64), precision_matrix=precision
        )
        expected = float(torch.distributions.kl_divergence(field, machine))
        assert result.loss[replica, snapshot] == pytest.approx(expected, rel=1e-9)


@implementations
def test_the_loss_of_the_student_is_half_of_its_squared_distance(implementation, tmp_path):
    from dysonflow.models.teacher_student import teacher

    run, result = train("teacher_student", tmp_path, implementation, replicas=3, size=3, **SHORT)
    distance = np.linalg.norm(result.weights - teacher(run), axis=(2, 3))
    np.testing.assert_allclose(result.loss, distance**2 / 2, rtol=1e-12)
