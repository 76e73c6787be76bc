"""Hyperparameters: one run for equal numbers, a clear line for a bad one, times from theory."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dysonflow.errors import ConfigError
from dysonflow.models import hyperparameters_of, trained

RBM = hyperparameters_of("gaussian_rbm")
STUDENT = hyperparameters_of("teacher_student")


@pytest.mark.parametrize(
    "spelling", [0.001, "0.001", "1e-3", 1e-3, "1.0e-3", "0.0010000000000000001"]
)
def test_a_number_in_any_spelling_is_one_run(spelling):
    assert (
        RBM.from_config({"learning_rate": spelling}).name
        == RBM.from_config({"learning_rate": 1e-3}).name
    )


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, "1e0"), (0.1 + 0.2, 0.3), ("0.5", 0.5)])
def test_equal_numbers_have_equal_keys(one, other):
    assert (
        RBM.from_config({"hidden_width": one}).key == RBM.from_config({"hidden_width": other}).key
    )


def test_the_key_is_stable():
    # A changed key would orphan every run that users have trained: change it on purpose only.
    assert RBM.from_config({}).name == "lr0.1-B16-61c21f0c72c6"
    assert STUDENT.from_config({}).name == "lr0.1-B16-eps0.1-ea2ad323fabe"


def test_defaults_written_out_and_left_out_are_one_run():
    run = RBM.from_config({})
    assert RBM.from_config(run.canonical()) == run


NETWORKS = ("mlp", "char_gpt", "torch_module")
"""What these have depends on their data and their optimiser: their own tests go through all."""


@pytest.mark.parametrize("model", [model for model in trained() if model not in NETWORKS])
def test_every_hyperparameter_changes_the_key(model):
    cls = hyperparameters_of(model)
    base = cls.from_config(
        {"steps": 2000000, "burn_in": 10, "size": 3}
        if model in ("teacher_student", "dyson")
        else {"steps": 2000000, "burn_in": 10}
    )
    other = {
        "dtype": "float32",
        "sampler": "wishart",
        "data": "shared",
        "teacher_spectrum": [1, 2, 2],
        "size": 4,
        "sites": 12,
        "hidden_units": 9,
        "lags": [1, 3],
        "dynamics": "stationary",
        "centres": [1, 2, 3],
        "widths": [1, 2, 3],
        "initial_levels": [0, 1, 5],
        "initial_spectrum": [float(mode) / 3 for mode in range(10)],
        "activation": "relu",
        "second_snapshot": 12,
    }
    for name, value in base.canonical().items():
        changed = base.canonical() | {
            name: other.get(
                name,
                value + 1
                if isinstance(value, int)
                else value * 1.01
                if isinstance(value, float)
                else value,
            )
        }
        if name == "learning_rate":
            changed[name] = 0.11
        if name == "size" and "initial_levels" in changed:
            changed["initial_levels"] = "auto"
        assert cls.from_config(changed).key != base.key, name


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("learning_rate", 0, ["learning_rate = 0", "> 0"]),
        ("learning_rate", -0.1, ["learning_rate = -0.1", "> 0"]),
        ("learning_rate", "fast", ["learning_rate = 'fast'", "a number > 0"]),
        ("learning_rate", [0.1, 0.2], ["learning_rate = [0.1, 0.2]", "a number > 0"]),
        ("learning_rate", True, ["learning_rate", "boolean"]),
        ("learning_rate", float("nan"), ["learning_rate = nan", "a number > 0"]),
        ("learning_rate", None, ["learning_rate = None", "a number > 0"]),
        ("learning_rate", 7, ["learning_rate = 7", "diverges", "< "]),
        ("batch_size", 0, ["batch_size = 0", ">= 1"]),
        ("batch_size", 1.5, ["batch_size = 1.5", "a whole number >= 1"]),
        ("sampler", "metropolis", ["sampler = 'metropolis'", "gibbs or ar1 or wishart"]),
        ("steps", "many", ["steps = 'many'", "a whole number >= 1 or auto"]),
        ("steps", 10, ["steps = 10", "burn-in"]),
        ("snapshots", 0, ["snapshots = 0", ">= 1"]),
        ("rbm_mass_squared", 3.0, ["rbm_mass_squared = 3", "nothing can be learnt"]),
        ("rbm_mass_squared", 4.0 + 1e-9, ["too many to wait for"]),
        ("learning_rat", 0.1, ["learning_rat", "unknown", "did you mean learning_rate?"]),
        ("zzz", 0.1, ["zzz", "unknown", "batch_size"]),
    ],
)
def test_a_bad_value_is_one_line_with_key_value_and_range(key, value, words):
    with pytest.raises(ConfigError) as caught:
        RBM.from_config({key: value})
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher_spectrum": [1, 2, 3]}, ["teacher_spectrum", "size = 2"]),
        ({"teacher_spectrum": [1, -2]}, ["teacher_spectrum", "> 0"]),
        # 2 / (1 + (n + 1) / B).
        ({"learning_rate": 1.9, "batch_size": 4}, ["learning_rate = 1.9", "> 0 and < 1.14"]),
        ({"learning_rate": 0.801, "batch_size": 2}, ["learning_rate = 0.801", "> 0 and < 0.8"]),
    ],
)
def test_values_that_do_not_go_together(values, words):
    with pytest.raises(ConfigError) as caught:
        STUDENT.from_config(values)
    for word in words:
        assert word in str(caught.value)


def test_the_learning_rate_of_a_student_is_bounded_where_its_fluctuations_grow():
    assert STUDENT.from_config({"learning_rate": 0.799, "batch_size": 2}).contraction() < 1


def test_all_problems_of_a_point_are_reported():
    with pytest.raises(ConfigError) as caught:
        RBM.from_config({"learning_rate": 0, "batch_size": 0})
    assert len(str(caught.value).splitlines()) == 2


def test_growth_time_inverts_the_drift():
    h = RBM.from_config({"learning_rate": 0.05, "hidden_width": 1.3})
    learnt = h.fixed_points()
    start, stop = 0.01 * learnt, 0.9 * learnt
    times = h.growth_time(start, stop)
    for kappa, x0, x1, time in zip(h.kappa(), start, stop, times, strict=True):

        def drift(_, x, kappa=kappa):
            gap = 1 / kappa - 1 / (h.rbm_mass_squared - h.hidden_width**2 * x)
            return 2 * h.learning_rate * h.hidden_width**2 * x * gap

        solution = solve_ivp(drift, (0, time), [x0], rtol=1e-10, atol=1e-14)
        assert solution.y[0, -1] == pytest.approx(x1, rel=1e-7)


def test_burn_in_scales_as_one_over_learning_rate():
    # At the paper's parameters: about 1000 / a, the slowest of 10 000 replicas included.
    slow, fast = (RBM.from_config({"learning_rate": a}) for a in (0.01, 0.1))
    assert slow.burn_in == pytest.approx(10 * fast.burn_in, rel=1e-3)
    assert 500 / 0.1 < fast.burn_in < 1100 / 0.1
    spacing = np.diff(fast.snapshot_steps)
    assert spacing == pytest.approx(3 * 32 / 0.1, abs=1)


def test_an_integer_overrides_the_automatic_times():
    h = RBM.from_config({"burn_in": 0, "steps": 100, "snapshots": 5})
    assert h.snapshot_steps == [0, 25, 50, 75, 100]
    assert RBM.from_config({"burn_in": 5, "steps": 100, "snapshots": 1}).snapshot_steps == [100]


def test_modes_that_cannot_be_learnt():
    few = RBM.from_config({"hidden_units": 4})
    assert (few.fixed_points() > 0).tolist() == [True] * 4 + [False] * 6
    low = RBM.from_config({"rbm_mass_squared": 6.0})
    assert ((low.fixed_points() > 0) == (low.kappa() < 6.0)).all()
