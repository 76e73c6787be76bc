"""Multilayer perceptrons: equal to plain torch, resumable, and clear about bad input."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from dysonflow import models
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.models import mlp
from dysonflow.readers import datasets
from dysonflow.simulation.base import Block
from dysonflow.simulation.ensemble import train_in_memory

SYSTEM = models.load("mlp")
TIMES = {"burn_in": 0, "steps": 20, "snapshots": 3, "replicas": 3}
TEACHER = {"data": "teacher", "loss": "squared_error", "widths": [5, 4, 3], **TIMES}


def run_of(**values):
    return SYSTEM.hyperparameters.from_config(values)


def train(h):
    return train_in_memory(SYSTEM.simulation, h, log=io.StringIO())


class Recorded(mlp.MLPSimulation):
    """A simulation that keeps its batches."""

    def batch(self):
        found = super().batch()
        if not hasattr(self, "seen"):
            self.seen = []
        self.seen.append([part.clone() for part in found])
        return found


ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "gelu": torch.nn.GELU}
OPTIMISERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
}


def module(h, starts, replica):
    """One replica as a plain torch module with its initial weights."""
    layers = []
    for number, (rows, columns) in enumerate(h.matrices(), 1):
        linear = torch.nn.Linear(columns, rows, bias=h.bias, dtype=getattr(torch, h.dtype))
        linear.weight.data = torch.from_numpy(starts[f"W{number}"][replica].copy())
        if h.bias:
            linear.bias.data.zero_()
        layers.append(linear)
        if number < len(h.matrices()) and h.activation != "linear":
            layers.append(ACTIVATIONS[h.activation]())
    return torch.nn.Sequential(*layers)


def loss_of(h, outputs, targets):
    if h.loss == "cross_entropy":
        return torch.nn.functional.cross_entropy(outputs, targets.argmax(dim=1))
    return 0.5 * torch.nn.functional.mse_loss(outputs, targets, reduction="sum") / len(outputs)


CASES = [
    *({"optimiser": name, "activation": "tanh"} for name in OPTIMISERS),
    *({"optimiser": name, "schedule": "cosine", "warmup_steps": 5} for name in OPTIMISERS),
    {"schedule": "step", "decay_steps": 6, "optimiser": "momentum", "weight_decay": 0.01},
    {"activation": "relu"},
    {"activation": "gelu", "widths": [5, 4, 4, 3]},
    {"activation": "linear", "bias": False, "widths": [5, 4, 4, 3]},
    {"loss": "cross_entropy", "training_samples": 50, "batch_size": 8},
    {"training_samples": 50, "batch_size": 8, "sampling": "independent", "label_noise": 0.1},
    {"dtype": "float32"},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_replicas_follow_plain_torch_on_the_same_batches(case):
    h = run_of(**TEACHER | case)
    simulation = Recorded.start(h, Block(0, h.replicas))
    starts = simulation.layers()
    simulation.advance(h.steps)
    cls, options = OPTIMISERS[h.optimiser]
    for replica in range(h.replicas):
        network = module(h, starts, replica)
        optimiser = cls(
            network.parameters(), lr=h.learning_rate, weight_decay=h.weight_decay, **options
        )
        for step, (inputs, targets) in enumerate(simulation.seen, 1):
            # Schedules are compared with those of torch where they are tested.
            optimiser.param_groups[0]["lr"] = h.learning_rates().rate(step)
            optimiser.zero_grad()
            loss_of(h, network(inputs[replica]), targets[replica]).backward()
            optimiser.step()
        parts = [part for part in network if isinstance(part, torch.nn.Linear)]
        close = (
            {"rtol": 1e-10, "atol": 1e-11} if h.dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}
        )
        for number, part in enumerate(parts, 1):
            found = torch.from_numpy(simulation.layers()[f"W{number}"][replica])
            torch.testing.assert_close(found, part.weight.detach(), **close)
        whole, said = simulation.evaluated
        torch.testing.assert_close(
            torch.tensor(simulation.loss()[replica]),
            loss_of(h, network(whole), said).detach().double(),
            **close,
        )


def test_the_product_is_that_of_all_layers():
    h = run_of(**TEACHER | {"activation": "linear", "widths": [5, 4, 4, 3]})
    assert list(h.layers()) == ["W1", "W2", "W3", "product"]
    found = train(h).layers
    expected = found["W3"] @ found["W2"] @ found["W1"]
    np.testing.assert_allclose(found["product"], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("training_samples", [0, 40])
def test_the_same_for_any_shards(training_samples):
    h = run_of(**TEACHER | {"replicas": 70, "training_samples": training_samples})
    whole = train(h)
    part = train_in_memory(SYSTEM.simulation, h, log=io.StringIO(), members=range(64, 70))
    for layer, weights in whole.layers.items():
        assert np.array_equal(weights[64:], part.layers[layer])
    # No two replicas share their start or their data.
    assert len(np.unique(whole.layers["W1"][:, :, 0, 0])) == 70 * 3


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("training_samples", [0, 40])
def test_an_interrupted_training_goes_on_to_the_same_bytes(optimiser, training_samples):
    h = run_of(
        **TEACHER
        | {"optimiser": optimiser, "training_samples": training_samples, "schedule": "cosine"}
    )
    first, second = (SYSTEM.simulation.start(h, Block(0, 3)) for _ in range(2))
    first.advance(7)
    second.load(first.state())
    # State is a copy: it does not move on with the simulation that it was taken from.
    first.advance(5)
    second.advance(5)
    for name, array in first.state().items():
        assert np.array_equal(array, second.state()[name]), name


def test_epochs_see_every_sample_once():
    h = run_of(**TEACHER | {"training_samples": 24, "batch_size": 4, "steps": 12})
    simulation = Recorded.start(h, Block(0, 3))
    simulation.advance(12)
    whole = np.sort(mlp.training_set(h)[0][:, 0])
    for epoch in (simulation.seen[:6], simulation.seen[6:]):
        seen = torch.cat([inputs for inputs, _ in epoch], dim=1)[:, :, 0].numpy()
        np.testing.assert_array_equal(np.sort(seen), np.tile(whole, (3, 1)))
        assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("name", "variance"),
    [("xavier", 2 / (40 + 50)), ("kaiming", 2 / 50), ("normal", 0.5**2 / 50)],
)
def test_weights_start_with_the_variance_of_the_scheme(name, variance):
    for law in ("normal", "uniform"):
        scheme = "normal" if name == "normal" else f"{name}_{law}"
        h = run_of(
            **TEACHER | {"widths": [50, 40, 2], "initialisation": scheme, "initial_width": 0.5}
        )
        weights = SYSTEM.simulation.start(h, Block(0, 3)).layers()["W1"]
        # The fourth moment of a normal law is the larger of the two.
        error = variance * np.sqrt(2 / weights.size)
        assert abs(weights.var() - variance) < 5 * error
        if scheme.endswith("uniform"):
            assert np.abs(weights).max() <= np.sqrt(3 * variance)


def test_digits_are_learnt():
    h = run_of(widths=[64, 12, 10], replicas=2, burn_in=0, steps=400, snapshots=2)
    h.check_sources()
    found = train(h)
    assert found.loss[:, 0].min() > 2 and found.loss[:, 1].max() < 0.5


def test_the_digits_are_those_of_the_key():
    raw = np.loadtxt(datasets.digits_file(), delimiter=",")
    found = datasets.digits()
    np.testing.assert_array_equal(raw[:, :-1] / 16, found.inputs)
    np.testing.assert_array_equal(raw[:, -1], found.targets)
    assert found.inputs.shape == (mlp.DIGITS_SAMPLES, mlp.DIGITS[0])
    assert run_of(**TIMES).file_digest != run_of(**TEACHER).file_digest


def test_the_teacher_is_that_of_all_points():
    one, two = (run_of(**TEACHER | {"learning_rate": a, "seed": a * 10}) for a in (0.1, 0.2))
    for first, second in zip(mlp.teacher_weights(one), mlp.teacher_weights(two), strict=True):
        assert np.array_equal(first, second)
    other = run_of(**TEACHER | {"teacher_seed": 1})
    assert not np.array_equal(mlp.teacher_weights(other)[0], mlp.teacher_weights(one)[0])


def test_label_noise_is_that_of_the_key():
    h = run_of(
        **TEACHER
        | {"label_noise": 0.5, "replicas": 64, "batch_size": 32, "steps": 1, "snapshots": 1}
    )
    simulation = SYSTEM.simulation.start(h, Block(0, 64))
    inputs, targets = simulation.batch()
    clean = mlp._targets_of_teacher(h, inputs.reshape(-1, 5).numpy())
    noise = targets.reshape(-1, 3).numpy() - clean
    assert abs(noise.var() - 0.25) < 5 * 0.25 * np.sqrt(2 / noise.size)


def test_what_does_not_apply_makes_no_other_run():
    key = run_of(**TIMES).key
    idle = {"teacher_width": 2, "label_noise": 0.1, "inputs": ["x"], "initial_width": 3}
    assert run_of(**TIMES, **idle).key == key
    assert run_of(**TIMES, bias=False).key != key
    assert run_of(**TEACHER, sampling="independent").key == run_of(**TEACHER).key


VARIED = {
    "replicas": 4,
    "snapshots": 4,
    "burn_in": 1,
    "steps": 21,
    "seed": 1,
    "dtype": "float32",
    "learning_rate": 0.2,
    "batch_size": 8,
    "optimiser": "adamw",
    "momentum": 0.5,
    "betas": [0.8, 0.999],
    "eps": 1e-7,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup_steps": 1,
    "decay_steps": 4,
    "decay_factor": 0.2,
    "widths": [5, 6, 3],
    "activation": "relu",
    "bias": False,
    "initialisation": "xavier_uniform",
    "initial_width": [1, 2],
    "loss": "cross_entropy",
    "data": "digits",
    "teacher_width": 2,
    "teacher_seed": 1,
    "label_noise": 0.1,
    "training_samples": 64,
    "sampling": "independent",
}


@pytest.mark.parametrize("name", VARIED)
def test_every_hyperparameter_changes_the_key(name):
    base = {**TEACHER, "training_samples": 40, "optimiser": "adam", "initialisation": "normal"}
    base |= {"schedule": "step", "decay_steps": 5}
    if name == "momentum":
        base["optimiser"] = "nesterov"
    if name == "data":
        base["widths"] = [64, 4, 10]
    assert run_of(**base | {name: VARIED[name]}).key != run_of(**base).key


# --- the user's own data ------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(40, 5))
OWN = {"widths": [5, 4, 3], **TIMES}


def test_own_files_are_learnt_from(place):
    labels, reals = RNG.integers(3, size=40), RNG.normal(size=(40, 3))
    np.savez("my.npz", inputs=INPUTS, targets=labels, reals=reals)
    columns = {f"x{i}": INPUTS[:, i] for i in range(5)} | {"7": labels}
    pa.parquet.write_table(pa.table(columns | {"list": list(INPUTS)}), "my.parquet")
    named = {"inputs": [f"x{i}" for i in range(5)], "targets": "7"}
    sets = [
        mlp.training_set(run_of(data="my.npz", **OWN)),
        mlp.training_set(run_of(data="my.parquet", **OWN, **named)),
        mlp.training_set(run_of(data="my.parquet", **OWN, inputs="list", targets=["7"])),
    ]
    for inputs, targets in sets:
        np.testing.assert_array_equal(inputs, INPUTS)
        np.testing.assert_array_equal(targets.argmax(axis=1), labels)
    squared = run_of(data="my.npz", targets="reals", loss="squared_error", **OWN)
    squared.check_sources()
    np.testing.assert_array_equal(mlp.training_set(squared)[1], reals)
    assert np.isfinite(train(squared).loss).all()


def test_an_edited_file_is_another_run_and_refused_in_this_one(place):
    np.savez("my.npz", inputs=INPUTS, targets=RNG.integers(3, size=40))
    planned = run_of(data="my.npz", **OWN)
    assert [str(path) for path in planned.sources] == ["my.npz"]
    np.savez("my.npz", inputs=INPUTS + 1, targets=RNG.integers(3, size=40))
    assert run_of(data="my.npz", **OWN).key != planned.key
    with pytest.raises(ConfigError, match=r"my\.npz: changed since the run was planned"):
        planned.check_sources()


def broken(row, column, value):
    found = INPUTS.copy()
    found[row, column] = value
    return found


LABELS = np.arange(40) % 3
BAD_FILES = [
    ({"inputs": broken(7, 2, np.nan), "targets": LABELS}, {}, "row 7 of 'inputs', column 2 is nan"),
    ({"inputs": INPUTS, "targets": LABELS + 1}, {}, "row 2 is of class 3, outside of 0 to 2"),
    ({"inputs": INPUTS, "targets": LABELS - 1}, {}, "row 0 is of class -1, outside of 0 to 2"),
    ({"inputs": INPUTS, "targets": LABELS + 0.5}, {}, "the targets are real numbers"),
    ({"inputs": INPUTS, "targets": np.eye(3)}, {}, "40 rows of inputs, 3 of targets"),
    ({"inputs": INPUTS, "targets": np.eye(40, dtype=int)}, {}, "40 targets in a row"),
    ({"inputs": INPUTS[:, :4], "targets": LABELS}, {}, "has 4 inputs in a row; begin with 4"),
    ({"x": INPUTS, "targets": LABELS}, {}, "'inputs': not in my.npz"),
    ({"inputs": INPUTS.astype(str), "targets": LABELS}, {}, "where numbers belong"),
    ({"inputs": INPUTS.astype(object), "targets": LABELS}, {}, "cannot be read"),
    ({"inputs": INPUTS, "targets": LABELS}, {"batch_size": 41}, "more than the 40 samples"),
    ({"inputs": INPUTS, "targets": INPUTS}, {"loss": "squared_error"}, "5 targets in a row"),
    ({"inputs": INPUTS[:0], "targets": LABELS[:0]}, {}, "there is no row in it"),
]


@pytest.mark.parametrize(("arrays", "values", "line"), BAD_FILES, ids=[b[2] for b in BAD_FILES])
def test_a_bad_file_is_one_line(place, arrays, values, line):
    np.savez("my.npz", **arrays)
    h = run_of(data="my.npz", **OWN, **values)
    with pytest.raises(ConfigError) as error:
        h.check_sources()
    assert "my.npz" in str(error.value) and line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_parquet_file_is_one_line(place):
    table = {"x": [1.0, None, 3.0], "y": [0, 1, 2], "ragged": [[1.0], [1.0, 2.0], [3.0]]}
    pa.parquet.write_table(pa.table(table), "my.parquet")
    own = {**OWN, "data": "my.parquet", "targets": "y", "batch_size": 2, "widths": [1, 3]}
    for inputs, line in (
        ("x", "my.parquet: row 1 of 'x' is nan, no number"),
        ("X", "my.parquet: there is no column 'X' in it"),
        ("ragged", "my.parquet: the lists in column 'ragged' differ in length"),
    ):
        with pytest.raises(ConfigError, match=line):
            run_of(**own | {"inputs": inputs}).check_sources()


BAD_VALUES = [
    ({"widths": [64, 0, 10]}, r"widths = \[64, 0, 10\]: every width must be a whole number >= 1"),
    ({"widths": [64, 16, 9]}, "the digits have 64 pixels and 10 classes"),
    ({"widths": [64]}, "widths = "),
    ({"data": "no.npz"}, "no.npz: cannot be read"),
    ({"data": "digit"}, "digit: cannot be read"),
    ({"initialisation": "normal", "initial_width": [1, 2, 3]}, "or a list of 2"),
    ({"data": "teacher", "label_noise": 0.1}, "a class has no normal noise"),
    ({"data": "teacher", "training_samples": 9}, "more than the 9 samples"),
    ({"batch_size": 2000}, "batch_size = 2000: more than the 1797 samples"),
    ({"bias": "maybe"}, "bias = 'maybe' is not allowed: give true or false"),
    ({"burn_in": "auto"}, "mlp does not know when it is stationary"),
]


@pytest.mark.parametrize(("values", "line"), BAD_VALUES, ids=[b[1] for b in BAD_VALUES])
def test_a_bad_value_is_one_line(place, values, line):
    with pytest.raises(ConfigError, match=line) as error:
        run_of(**TIMES | values)
    assert "\n" not in str(error.value)


def test_a_file_of_another_kind_is_one_line(place):
    (place / "my.csv").write_text("1,2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"give teacher, digits, or a file that ends in \.npz"):
        run_of(data="my.csv", **OWN).check_sources()


def test_a_run_that_diverges_names_replica_and_step():
    h = run_of(**TEACHER | {"learning_rate": 1e3, "activation": "relu", "steps": 200})
    with pytest.raises(DivergedError, match=r"replica \d+ diverged at SGD step \d+: a weight"):
        train(h)
