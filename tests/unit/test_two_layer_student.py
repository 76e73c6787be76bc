"""The student of two layers: gradient, equality of implementations, divergence as data, figures.

Statistical tests allow five standard errors with fixed seeds.
"""

import io
import math
import re
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from in_process import make, make_run, make_weights

import dysonflow
from dysonflow import stages
from dysonflow.analysis import regimes
from dysonflow.artifacts.tables import read_table
from dysonflow.artifacts.weights import open_weights
from dysonflow.errors import ConfigError
from dysonflow.models import hyperparameters_of, load
from dysonflow.models import two_layer_student as model
from dysonflow.planning.graph import Plan
from dysonflow.planning.reference import json_schema
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.results import Results
from dysonflow.simulation import ensemble, reference
from dysonflow.simulation.base import Block
from dysonflow.simulation.kernel import library
from dysonflow.simulation.kernel.two_layer_student import TwoLayerStudentKernel, tanh
from dysonflow.simulation.resume import Checkpoint

STUDENT = hyperparameters_of("two_layer_student")
ACTIVATIONS = {
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "linear": (lambda x: x, np.ones_like),
}
FIVE_SIGMA = 5.0
ROOT = Path(__file__).resolve().parents[2]
needs_kernel = pytest.mark.skipif(
    not library.knows("two_layer_student"), reason="there is no compiled kernel, or an older one"
)
KERNEL = pytest.param("compiled", marks=needs_kernel)


def configured(**values):
    return STUDENT.from_config({"steps": 1000, "replicas": 8} | values)


def simulated(how, h, replicas=None, steps=None):
    block = getattr(load("two_layer_student"), how).start(h, Block(0, replicas or h.replicas))
    block.advance(h.steps if steps is None else steps)
    return block


def steps_of_the_reference(h, weights, inputs):
    """Weights (K, L) after training on inputs (steps, B, n_in)."""
    learnt = model.teacher(h)
    function, derivative = ACTIVATIONS[h.activation]
    for batch in inputs:
        weights = reference.two_layer_student_step(
            weights,
            batch,
            first=learnt.first,
            teacher=learnt.weights,
            readout=learnt.readout,
            activation=function,
            derivative=derivative,
            learning_rate=h.learning_rate,
        )
    return weights


def kernel_of(h, replicas, weights, **changes):
    learnt = model.teacher(h)
    return TwoLayerStudentKernel(
        first=learnt.first,
        teacher=learnt.weights,
        readout=learnt.readout,
        activation=h.activation,
        learning_rate=h.learning_rate,
        batch_size=h.batch_size,
        limit=model.LIMITS[h.dtype],
        replicas=replicas,
        dtype=h.dtype,
        weights=weights,
        **changes,
    )


# --- the equations --------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_is_that_of_autograd(activation, outputs):
    h = configured(activation=activation, output_size=outputs)
    samples, learnt = model.test_set(h), model.teacher(h)
    weights = np.random.default_rng(1).standard_normal((h.hidden_size, h.feature_size))
    variable = torch.tensor(weights, requires_grad=True)
    function = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda x: x}[activation]
    hidden = function(torch.tensor(samples.features) @ variable.T)
    error = hidden @ torch.tensor(learnt.readout).T - torch.tensor(samples.outputs)
    loss = 0.5 * (error**2).sum(dim=1).mean()
    loss.backward()
    assert samples.loss(weights) == pytest.approx(loss.item(), rel=1e-12)
    assert np.allclose(samples.gradient(weights), variable.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_a_step_goes_down_the_gradient_of_its_batch():
    h = configured(batch_size=7, output_size=2)
    rng = np.random.default_rng(2)
    inputs = rng.standard_normal((7, h.input_size))
    weights = rng.standard_normal((h.hidden_size, h.feature_size))
    expected = weights - h.learning_rate * model.Samples(h, inputs).gradient(weights)
    found = steps_of_the_reference(h, weights, inputs[np.newaxis])
    assert np.allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_the_teacher_has_no_loss_and_overlaps_with_itself():
    h = configured()
    weights = model.teacher(h).weights
    assert model.test_set(h).loss(weights) == 0.0
    assert np.all(model.test_set(h).gradient(weights) == 0.0)
    assert model.overlap(h, np.stack([weights, -3 * weights])) == pytest.approx([1.0, -1.0])


def test_runs_of_one_seed_have_one_teacher_and_others_another():
    one, two = configured(learning_rate=0.1), configured(learning_rate=8, initial_width=4)
    other = configured(seed=1)
    assert np.array_equal(model.teacher(one).weights, model.teacher(two).weights)
    assert not np.array_equal(model.teacher(one).weights, model.teacher(other).weights)


def test_widths_are_over_the_root_of_the_fan_in():
    h = configured(teacher_width=3, hidden_size=400, feature_size=300, input_size=200)
    learnt = model.teacher(h)
    for layer in (learnt.first, learnt.weights):
        variance = 9 / layer.shape[1]
        error = variance * math.sqrt(2 / layer.size)
        assert abs(np.square(layer).mean() - variance) < FIVE_SIGMA * error


# --- the same noise gives the same values ---------------------------------------------------------


@needs_kernel
@pytest.mark.parametrize(
    "instruction_set", library.instruction_sets() if library.available() else []
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("features", "hidden", "inputs", "outputs", "batch"),
    [(32, 16, 3, 1, 4), (1, 1, 1, 1, 1), (5, 7, 2, 3, 6), (9, 3, 4, 8, 13)],
)
def test_kernel_equals_the_reference(
    features, hidden, inputs, outputs, batch, activation, dtype, instruction_set
):
    h = configured(
        feature_size=features, hidden_size=hidden, input_size=inputs, output_size=outputs,
        batch_size=batch, activation=activation, dtype=dtype, learning_rate=0.05,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    replicas, steps = 19, 6
    start = rng.standard_normal((replicas, hidden, features)).astype(dtype)
    noise = rng.standard_normal((replicas, steps, batch * inputs)).astype(dtype)
    kernel = kernel_of(h, replicas, start, threads=2, instruction_set=instruction_set)
    kernel.advance(2, noise=noise[:, :2])
    kernel.advance(steps - 2, noise=noise[:, 2:])
    tolerance = 1e-11 if dtype == "float64" else 2e-4
    for r in (0, 7, 18):
        batches = noise[r].reshape(steps, batch, inputs).astype(np.float64)
        expected = steps_of_the_reference(h, start[r].astype(np.float64), batches)
        scale = np.abs(expected).max()
        assert np.abs(kernel.weights[r] - expected).max() < tolerance * scale


@pytest.mark.parametrize("how", ["simulation", KERNEL])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_training_set_is_gone_through_in_order(how, activation):
    h = configured(
        data="shared", training_batches=5, activation=activation, output_size=2, batch_size=3,
        learning_rate=0.02,
    )  # fmt: skip
    block = simulated(how, h, steps=0)
    start = block.layers()["W"].copy()
    # Strides that end within the set and go beyond its end.
    for steps in (3, 1, 9):
        block.advance(steps)
    rng = model._shared_stream(h, model.TRAINING_SET)
    inputs = rng.standard_normal((5, 3, h.input_size))[np.arange(13) % 5]
    for r in (0, 5):
        expected = steps_of_the_reference(h, start[r], inputs)
        assert np.allclose(block.layers()["W"][r], expected, rtol=1e-11, atol=1e-12)


def test_torch_equals_the_reference_given_its_noise():
    h = configured(learning_rate=0.05)
    block = simulated("simulation", h, steps=0)
    start, state = block.layers()["W"].copy(), block.state()
    block.advance(5)
    after = block.layers()["W"].copy()
    block.load(state)
    inputs = np.stack([block.noise.normal(8, h.batch_size, h.input_size) for _ in range(5)])
    for r in range(8):
        expected = steps_of_the_reference(h, start[r], inputs[:, r])
        assert np.allclose(after[r], expected, rtol=1e-11, atol=1e-12)


@needs_kernel
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tanh_is_right_to_two_and_a_half_units_in_the_last_place(dtype):
    rng = np.random.default_rng(4)
    scales = (1e-30, 1e-8, 1e-3, 0.1, 0.4, 1, 3, 9)
    x = np.concatenate([scale * rng.standard_normal(5000) for scale in scales]).astype(dtype)
    x = np.append(x, np.array([0.0, -0.0, 12.0, -25.0, np.inf, -np.inf], dtype))
    exact = np.tanh(x.astype(np.longdouble))
    unit = np.spacing(np.abs(exact).astype(dtype)).astype(np.longdouble)
    for name in library.instruction_sets():
        found = tanh(x, dtype, name)
        assert (np.abs(found.astype(np.longdouble) - exact) / unit).max() < 2.5
        assert np.array_equal(np.signbit(found), np.signbit(x))


# --- the same law ---------------------------------------------------------------------------------


@needs_kernel
def test_kernel_and_torch_have_one_law():
    h = configured(learning_rate=0.4, replicas=512)
    moments = []
    for how in ("simulation", "compiled"):
        block = simulated(how, h, steps=60)
        weights = block.layers()["W"]
        levels = np.linalg.svd(weights, compute_uv=False)
        moments.append(np.column_stack([block.loss(), levels, model.overlap(h, weights)]))
    one, two = moments
    for power in (1, 2):
        a, b = one**power, two**power
        error = np.sqrt((a.var(axis=0) + b.var(axis=0)) / len(a))
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < FIVE_SIGMA * error).all()


@needs_kernel
def test_threads_instruction_sets_and_blocks_change_no_number():
    h = configured(replicas=80)
    whole = simulated("compiled", h, steps=50).layers()["W"]
    kernel = load("two_layer_student").compiled
    threads = kernel.start(h, Block(0, 80, threads=2))
    later = kernel.start(h, Block(1, 16))
    for block in (threads, later):
        block.advance(20)
        block.advance(30)
    assert np.array_equal(threads.layers()["W"], whole)
    assert np.array_equal(later.layers()["W"], whole[64:])
    learnt = model.teacher(h)
    fused = [name for name in library.instruction_sets() if name != "baseline"]
    found = []
    for name in fused:
        one = TwoLayerStudentKernel(
            first=learnt.first, teacher=learnt.weights, readout=learnt.readout, activation="tanh",
            learning_rate=0.1, batch_size=4, limit=1e100, replicas=10, instruction_set=name,
        )  # fmt: skip
        one.advance(20)
        found.append(one.weights)
    assert all(np.array_equal(found[0], other) for other in found[1:])


# --- divergence is data ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("how", ["simulation", KERNEL])
def test_a_replica_that_diverges_stands_still(how, dtype):
    steps = {"float64": 105, "float32": 16}[dtype]
    h = configured(activation="linear", learning_rate=0.5, replicas=20, dtype=dtype)
    block = simulated(how, h, steps=steps)
    at, weights = block.diverged(), block.layers()["W"]
    assert (at >= 0).any()
    assert (at < 0).any()
    assert (at < steps).all()
    assert np.isfinite(weights).all()
    assert np.isfinite(block.loss()).all()
    stands = at >= 0
    state = block.state()
    block.advance(50)
    assert np.array_equal(block.layers()["W"][stands], weights[stands])
    assert np.array_equal(block.diverged()[stands], at[stands])
    again = getattr(load("two_layer_student"), how).start(h, Block(0, 20))
    again.load({name: np.array(value) for name, value in state.items()})
    again.advance(50)
    assert np.array_equal(again.layers()["W"], block.layers()["W"])
    assert np.array_equal(again.diverged(), block.diverged())


@needs_kernel
def test_the_step_of_divergence_is_that_of_the_reference():
    h = configured(activation="linear", learning_rate=4)
    rng = np.random.default_rng(5)
    start = rng.standard_normal((3, 16, 32))
    noise = rng.standard_normal((3, 300, 12))
    kernel = kernel_of(h, 3, start)
    kernel.advance(300, noise=noise)
    readout = model.teacher(h).readout
    for r in range(3):
        at = int(kernel.diverged[r])
        assert at > 0
        inputs = noise[r].reshape(300, 4, 3)
        before = steps_of_the_reference(h, start[r], inputs[:at])
        assert np.allclose(kernel.weights[r], before, rtol=1e-8)
        for step, beyond in ((at - 1, False), (at, True)):
            samples = model.Samples(h, inputs[step])
            weights = steps_of_the_reference(h, start[r], inputs[:step])
            delta = samples._errors(weights)[1] @ readout
            assert (np.abs(delta).max() > model.LIMITS["float64"]) == beyond


def test_a_diverged_replica_is_a_column_of_the_spectra():
    values = {"activation": "linear", "learning_rate": 0.5, "steps": 105, "replicas": 20}
    run = dysonflow.train("two_layer_student", values | {"snapshots": 3}, progress=io.StringIO())
    assert 0 < (run.diverged >= 0).sum() < 20
    table = dysonflow.spectra(run)
    assert np.isfinite(table["eigenvalue"]).all()
    by_replica = table.groupby("replica")["diverged_at"].first()
    for replica, at in enumerate(run.diverged):
        assert by_replica.isna()[replica] if at < 0 else by_replica[replica] == at


def test_interrupted_training_goes_on_with_who_diverged(tmp_path):
    h = configured(activation="linear", learning_rate=0.25, steps=160, snapshots=4, replicas=70)
    simulation = load("two_layer_student").compiled
    if not library.knows("two_layer_student"):
        simulation = load("two_layer_student").simulation
    whole = ensemble.train_in_memory(simulation, h, log=io.StringIO())

    class Interrupted(Exception):
        pass

    memory = ensemble.Memory(h, h.replicas)
    put, count = memory.put, 0

    def stopping(*arguments):
        nonlocal count
        count += 1
        if count == 7:
            raise Interrupted
        return put(*arguments)

    memory.put = stopping
    checkpoint = Checkpoint(tmp_path / "weights", {}, 0.0)
    quiet = io.StringIO()
    with pytest.raises(Interrupted):
        ensemble.train(simulation, h, memory, log=quiet, checkpoint=checkpoint)
    memory.put = put
    memory.diverged[:] = -7
    ensemble.train(simulation, h, memory, log=quiet, checkpoint=checkpoint)
    assert np.array_equal(memory.diverged, whole.diverged)
    assert np.array_equal(memory.layers["W"], whole.layers["W"])


def test_shards_are_joined_with_who_diverged(tmp_path):
    values = {"activation": "linear", "learning_rate": 0.5, "steps": 105, "replicas": 80}
    study = {"model": "two_layer_student", "hyperparameters": values | {"snapshots": 2}}
    found = []
    for size in (64, 128):
        config = {"studies": {"one": study | {"figures": []}}, "shard_size": size}
        plan = Plan.from_config(config, Results(str(tmp_path / str(size))))
        (run,) = plan.runs.values()
        make_run(plan, run, io.StringIO())
        with open_weights(plan.results.files_of(run)["weights"]) as file:
            found.append(file.diverged)
        table = read_table([plan.results.files_of(run)["spectra"]])
        stopped = table.groupby("replica")["diverged_at"].max().notna().to_numpy()
        assert np.array_equal(stopped, found[-1] >= 0)
    assert np.array_equal(*found)
    assert 0 < (found[0] >= 0).sum() < 80


# --- regimes and figures --------------------------------------------------------------------------


def test_regimes_partition_the_replicas():
    found = regimes.regimes(
        loss=np.array([0.001, 0.5, 0.5, 0.5, 0.001, 0.5]),
        start_overlap=np.array([0.1, 0.99, 0.9, 0.1, 0.9, 0.99]),
        displacement=np.array([9.0, 0.1, 0.4, 2.0, 0.1, 0.1]),
        diverged_at=np.array([-1, -1, -1, -1, 10, -1]),
        untaught=1.0,
    )
    names = [regimes.REGIMES[i] for i in found]
    assert names == ["learnt", "frozen", "kept", "diverged", "diverged", "frozen"]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_drift_and_noise_are_those_of_random_batches(activation):
    h = configured(activation=activation, batch_size=3, initial_width=2)
    samples, rng = model.test_set(h), np.random.default_rng(6)
    weights = rng.standard_normal((1, h.hidden_size, h.feature_size)) / 4
    left, _, right = np.linalg.svd(weights[0], full_matrices=False)
    count = 40_000
    chosen = rng.integers(len(samples.features), size=(count, h.batch_size))
    delta = samples.deltas(weights[0])[chosen]
    features = samples.features[chosen]
    kicks = ((delta @ left) * (features @ right.T)).mean(axis=1)
    noise = kicks.var(axis=0).sum()
    drift = np.square(kicks.mean(axis=0)).sum() - noise / count
    # The test set is one of many: what its mean has by chance is no drift.
    drift -= noise * h.batch_size / (len(samples.features) - 1)
    expected = math.sqrt(drift / noise)
    found = regimes.signal_to_noise(samples, weights, h.batch_size)[0]
    # The ratio of single steps has the error of a mean: about 1 / sqrt(count).
    assert abs(found - expected) < FIVE_SIGMA * max(1.0, expected) / math.sqrt(count)


@pytest.mark.parametrize(("power", "moved"), [(2, lambda t: t), (1, lambda t: t**0.5)])
def test_the_power_of_time_tells_drift_from_diffusion(power, moved):
    class Moving:
        snapshots = 4

        def read(self, layer, snapshots):
            rows = np.tile(np.eye(3), (500, 4, 1, 1)) * np.arange(10, 13)
            return rows[:, snapshots]

        def read_lagged(self, layer, lag, snapshots):
            before = self.read(layer, snapshots)
            sign = np.random.default_rng(7).choice([-1.0, 1.0], size=before.shape[:2])
            return before + moved((10, 1000)[lag]) * 1e-3 * sign[..., None, None] * np.eye(3)

    h = configured(replicas=500, snapshots=2, lags=[10, 300])
    squares = regimes.mean_squared_moves(h, Moving())
    assert np.log(squares[1] / squares[0]) / math.log(100) == pytest.approx(power)


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """A small phase diagram, and the numbers of its figures by name."""
    values = {"replicas": 32, "steps": 1200, "snapshots": 3, "lags": [5, 50]}
    sweep = {"learning_rate": [0.125, 8, 128], "initial_width": [0.25, 8, 256]}
    study = {"model": "two_layer_student", "hyperparameters": values, "sweep": sweep}
    figures = ["phase_diagram", "regimes", "regime_levels", "drift_and_diffusion"]
    config = {"studies": {"phases": study | {"figures": figures}}}
    plan = Plan.from_config(config, Results(str(tmp_path_factory.mktemp("phases"))))
    for run in plan.runs.values():
        make_weights(plan, run, io.StringIO())
        files = plan.results.files_of(run)
        values = plan.run_params("spectra", run)
        stages.spectra(run.MODEL, **values, weights=files["weights"], output=files["spectra"])
    files = {kind: plan.run_files("phases", kind) for kind in ("weights", "spectra")}
    data = StudyData("phases", plan.studies["phases"].runs, **files)
    numbers = {name: pd.concat(draw_figure(name, data, {}).numbers) for name in figures}
    return plan, numbers


def test_the_map_of_regimes_has_the_corners_that_it_must(phases):
    shares = phases[1]["regimes"]
    by_point = shares.pivot(index=["x", "panel"], columns="curve", values="y")
    assert np.allclose(by_point.sum(axis=1), 1.0)
    assert by_point["frozen"][256, "a/B = 0.03125"] == 1.0
    assert by_point["diverged"][0.25, "a/B = 32"] == 1.0
    assert by_point["diverged"][256, "a/B = 0.03125"] == 0.0


def test_the_maps_show_medians_of_the_replicas(phases):
    plan, shown = phases[0], phases[1]["phase_diagram"]
    assert len(shown) == 6 * 9
    assert shown["y_error"].notna().all()
    run = next(r for r in plan.runs.values() if (r.learning_rate, r.initial_width) == (8, 8))
    with open_weights(plan.results.files_of(run)["weights"]) as file:
        loss = np.median(file.loss[:, -1])
        largest = np.linalg.svd(file.read("W")[:, -1], compute_uv=False)[:, 0]
    here = shown[(shown["x"] == 8) & (shown["curve"] == "a/B = 2")].set_index("panel")["y"]
    assert here["loss"] == pytest.approx(loss)
    assert here["largest"] == pytest.approx(np.median(largest))


def test_the_other_figures_of_the_phases_show_their_numbers(phases):
    levels = phases[1]["regime_levels"]
    assert levels["curve"].nunique() == 16
    assert (levels["low"] <= levels["high"]).all()
    drift = phases[1]["drift_and_diffusion"]
    assert set(drift["panel"]) == {"gradients of single samples", "increments"}
    assert np.isfinite(drift["y"]).all()


def test_the_configuration_of_the_phase_diagram_is_valid():
    config = yaml.safe_load((ROOT / "config" / "phase_diagram.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(config, json_schema())
    plan = Plan.from_config(config)
    runs = plan.studies["phase_diagram"].runs
    assert len(runs) == 12 * 12
    assert min(run.replicas for run in runs) >= 10
    assert min(run.steps for run in runs) >= 10**6
    assert len(plan.runs) == sum(len(study.runs) for study in plan.studies.values())


def test_snapshots_of_the_released_protocol_are_those_after_epoch_5000_k_plus_1():
    """The study that stands as a comment in the configuration; an epoch has 1000 steps."""
    text = (ROOT / "config" / "phase_diagram.yaml").read_text(encoding="utf-8")
    commented = re.search(r"((?:^  # .*\n)+)", text[text.index("  # phase_released_long") :], re.M)
    config = yaml.safe_load(text.replace(commented[1], commented[1].replace("  # ", "  ")))
    assert len(config["studies"]["phase_released_long"]["sweep"]["learning_rate"]) == 12
    runs = Plan.from_config(config).studies["phase_released_long"].runs
    assert len(runs) == 144
    expected = [0, *(1000 * (5000 * k + 1) for k in range(20))]
    for run in runs:
        assert run.snapshot_steps == run.frame_steps == expected
        assert (run.data, run.training_batches, run.output_size) == ("shared", 1000, 1)
    short = Plan.from_config(config).studies["phase_released"].runs[0]
    assert short.snapshot_steps == [0, *(1000 * (50 * k + 1) for k in range(20))]


@pytest.mark.parametrize("how", [KERNEL])
def test_weights_are_kept_at_a_second_snapshot_that_is_late(how):
    values = {"steps": 130, "snapshots": 4, "second_snapshot": 10, "replicas": 2}
    h = configured(**values)
    run = dysonflow.train("two_layer_student", values, progress=io.StringIO())
    np.testing.assert_array_equal(run.step, [0, 10, 70, 130])
    block = simulated(how, h, steps=10)
    np.testing.assert_allclose(run.weights["W"][:, 1], block.layers()["W"], rtol=1e-12)
    assert h.key != configured(**values | {"second_snapshot": 20}).key
    assert "second_snapshot" in h.canonical()
    for wrong in ({"second_snapshot": 129}, {"burn_in": 10}, {"snapshots": 2}):
        with pytest.raises(ConfigError, match=r"second_snapshot = \d+: give a step after burn_in"):
            configured(**values | wrong)


@pytest.mark.parametrize(
    ("values", "sweep", "line"),
    [
        ({}, {"batch_size": [4, 8], "learning_rate": [1, 2]}, "two runs have the initial width"),
        ({"burn_in": 5}, {}, "leave burn_in out"),
    ],
)
def test_studies_without_a_plane_are_named(tmp_path, values, sweep, line):
    values = {"replicas": 2, "steps": 10, "snapshots": 2} | values
    study = {"model": "two_layer_student", "hyperparameters": values, "sweep": sweep}
    config = {"studies": {"one": study | {"figures": ["regimes"]}}}
    plan = Plan.from_config(config, Results(str(tmp_path)))
    with pytest.raises(ConfigError, match=line):
        make(plan)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"hidden_size": 0}, "hidden_size"),
        ({"feature_size": 0}, "feature_size"),
        ({"activation": "sigmoid"}, "activation"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"initial_width": -0.5}, "initial_width"),
        ({"data": "frozen"}, "data"),
        ({"steps": "auto", "learning_rate": 1e-9}, "too many to wait for"),
    ],
)
def test_bad_input_is_named(values, line):
    with pytest.raises(ConfigError, match=line):
        configured(**values)


def test_studies_begin_at_the_start_by_default():
    h = configured(snapshots=3)
    assert h.snapshot_steps == [0, 500, 1000]
