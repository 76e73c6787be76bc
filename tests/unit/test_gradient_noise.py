"""Noise of the gradient: single samples, isotropy where theory has it, steps as predicted."""

import numpy as np
import pytest
import torch
from in_process import make

import dysonflow
from dysonflow import models
from dysonflow.errors import ConfigError
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.results import Results
from dysonflow.simulation.base import Block
from dysonflow.simulation.gradients import response
from dysonflow.simulation.noise import NoiseStream

TEACHER = {
    **{"data": "teacher", "loss": "squared_error", "widths": [6, 5, 3], "label_noise": 0.5},
    **{"burn_in": 0, "snapshots": 1, "steps": 1, "replicas": 3, "batch_size": 4},
}
TINY = {"width": 8, "heads": 2, "context": 6, "alphabet": 5, "dtype": "float64", "replicas": 2}


def start(model, **values):
    system = models.load(model)
    h = system.hyperparameters.from_config(values)
    return system.simulation.start(h, Block(0, h.replicas))


def noise(seed=5):
    return NoiseStream(seed, "ab", 0, torch.device("cpu"), torch.float64)


def test_gradients_of_single_samples_add_up_to_that_of_their_batch():
    count = 7
    perceptrons = start("mlp", **TEACHER | {"replicas": 1, "batch_size": count})
    alone = perceptrons.sample_gradients(0, count, noise())
    perceptrons.noise = noise()
    perceptrons.networks.differentiate(*perceptrons.batch())
    together = perceptrons.per_layer(perceptrons.networks.gradient)
    for layer, each in alone.items():
        assert each.shape[0] == count and not torch.allclose(each[0], each[1])
        torch.testing.assert_close(each.mean(dim=0), together[layer][0])
    transformers = start("char_gpt", **TINY)
    alone = transformers.sample_gradients(1, count, noise())
    windows = transformers.source.sample(noise(), 1, count, 7).expand(2, -1, -1)
    transformers.losses(windows, is_training=True).sum().backward()
    for layer, gradient in transformers.per_layer(transformers.stack.gradient).items():
        torch.testing.assert_close(alone[layer].mean(dim=0), gradient[1])


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "nesterov", "adamw"])
def test_the_response_is_the_derivative_of_the_step(optimiser):
    values = TEACHER | {"optimiser": optimiser, "learning_rate": 0.01, "betas": [0.9, 0.99]}
    simulation = start("mlp", **values)
    simulation.advance(20)
    flat = simulation.networks.parameters
    gradient = torch.linspace(-1.0, 1.0, len(flat), dtype=flat.dtype)
    found = []
    state = {name: array.copy() for name, array in simulation.state().items()}
    for change in (-1e-6, 1e-6):
        simulation.load(state)
        rate = simulation.rates.rate(21)
        parameters = {"parameters": flat}
        simulation.optimiser.update(parameters, {"parameters": gradient + change}, rate, 21)
        found.append(flat.clone())
    derivative = simulation.per_layer((found[1] - found[0]) / 2e-6)["W1"][2]
    simulation.load(state)
    mean = simulation.per_layer(gradient)["W1"][2]
    expected = -response(simulation, "W1", 2, mean)
    torch.testing.assert_close(derivative, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "values", [{"learning_rate": 0.02}, {"optimiser": "adamw", "learning_rate": 0.005}]
)
def test_singular_values_move_as_the_noise_of_single_samples_says(values):
    run = TEACHER | {"replicas": 24} | values
    frame = dysonflow.gradient_noise("mlp", run, steps=[150], samples=64, branches=24)
    assert frame.groupby("layer")["index"].count().to_dict() == {"W1": 5, "W2": 3}
    for _, rows in frame.groupby("layer"):
        one = rows.iloc[0]
        ratio, error = one["measured_over_predicted"], one["measured_over_predicted_error"]
        assert error < 0.1 and abs(ratio - 1.0) < 5 * error
        assert (rows["singular_value"].diff().dropna() > 0).all()


def test_noise_of_a_student_at_its_teacher_is_isotropic():
    """There the gradient is e x^T, with independent e and x: C is a multiple of one."""
    run = TEACHER | {"widths": [5, 4], "activation": "linear", "bias": False, "replicas": 24}
    run |= {"label_noise": 1.0, "learning_rate": 0.01, "batch_size": 32}
    frame = dysonflow.gradient_noise("mlp", run, steps=[1000], samples=64, branches=4)
    one = frame.iloc[0]
    assert one["entries"] == 20
    # What the student has not learnt adds a hundredth to the noise.
    for name, expected in {"trace": 20, "mean_anisotropy": 1, "effective_dimension": 20}.items():
        assert abs(one[name] - expected) < 5 * one[f"{name}_error"] + 0.02 * expected


WRONG = {
    "no samples": ({"samples": 2}, "samples, branches: give at least 4 of each"),
    "order": ({"steps": [5, 2]}, r"steps = \[5, 2\]: give steps >= 0 in ascending order"),
    "epochs": ({"training_samples": 64}, "sampling = shuffled: the batches of an ep"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_measured_is_one_line(case):
    values, said = WRONG[case]
    own = {key: values[key] for key in values if key in ("samples", "steps")}
    run = {**TEACHER, "label_noise": 0.0} | {k: v for k, v in values.items() if k not in own}
    with pytest.raises(ConfigError, match=said):
        dysonflow.gradient_noise("mlp", run, **({"steps": [1]} | own))
    with pytest.raises(ConfigError, match="teacher_student has no gradients of single samples"):
        dysonflow.gradient_noise("teacher_student", steps=[1])
    with pytest.raises(ConfigError, match="dropout: its noise is none of the samples"):
        dysonflow.gradient_noise("char_gpt", TINY | {"dropout": 0.1}, steps=[0])


STUDY = {
    "model": "char_gpt",
    "hyperparameters": {**TINY, "steps": 8, "snapshots": 3, "replicas": 3},
    "sweep": {"optimiser": ["sgd", "adamw"]},
    "figures": ["gradient_noise"],
}


def test_the_figure_has_its_table_made_and_verified(tmp_path):
    config = {"studies": {"noisy": STUDY}}
    plan = Plan.from_config(config, Results(str(tmp_path)))
    make(plan)
    report = audit.verify(plan)
    assert not (report.stale or report.damaged or report.missing)
    table = dysonflow.read_gradient_noise(tmp_path)
    assert sorted(table["step"].unique()) == [0, 4, 8] and table["run"].nunique() == 2
    assert table.groupby("layer")["index"].nunique().eq(8).all()
    (study,) = plan.studies.values()
    # The same numbers as without the workflow.
    values = study.runs[0].canonical()
    alone = dysonflow.gradient_noise("char_gpt", values, steps=[0, 4, 8])
    same = table[table["run"] == study.runs[0].name].reset_index(drop=True)
    np.testing.assert_array_equal(same["noise"], alone["noise"])
    caption = (tmp_path / "figures" / "noisy" / "gradient_noise.rst").read_text(encoding="utf-8")
    assert "times isotropic noise along single levels" in caption


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replicas": 65}, "replicas = 65: the noise of the gradient is measured of up to 64"),
        ({"dropout": 0.1}, "dropout: its noise is none of the samples"),
    ],
)
def test_a_study_whose_noise_cannot_be_measured_is_one_line(tmp_path, change, said):
    study = STUDY | {"hyperparameters": STUDY["hyperparameters"] | change}
    with pytest.raises(ConfigError, match=f"study 'noisy': figures: 'gradient_noise': {said}"):
        Plan.from_config({"studies": {"noisy": study}}, Results(str(tmp_path)))


def test_spacing_ratios_tell_random_matrices_from_independent_levels():
    from dysonflow.statistics.spacings import GOE, POISSON, gap_ratios

    rng = np.random.default_rng(3)
    normal = rng.standard_normal((400, 60, 60))
    matrices = np.linalg.eigvalsh(normal + normal.swapaxes(1, 2))
    independent = np.sort(rng.random((400, 60)), axis=1)
    for levels, expected in ((matrices, GOE), (independent, POISSON)):
        each = gap_ratios(levels).mean(axis=1)
        assert abs(each.mean() - expected) < 5 * each.std(ddof=1) / np.sqrt(len(each)) + 0.003
    np.testing.assert_allclose(gap_ratios(np.array([0.0, 1.0, 3.0, 4.0])), [0.5, 0.5])
