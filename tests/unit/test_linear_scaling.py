"""Without a theory: widths and fluctuations of levels, exponents, runs of equal noise."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from in_process import make

import dysonflow
from dysonflow.analysis import linear_scaling as laws
from dysonflow.analysis import noise_response as response
from dysonflow.artifacts import kinds, tables
from dysonflow.artifacts.arrow import arrow_array, constant
from dysonflow.artifacts.provenance import record
from dysonflow.artifacts.weights import open_weights
from dysonflow.errors import ConfigError
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.results import Results

FIVE_SIGMA = 5.0


def test_widths_and_fluctuations_are_told_apart():
    # Where a replica is, by 0.3; what it does there, by 0.05; what all do together, and where each
    # goes to steadily, by a lot.
    rng = np.random.default_rng(0)
    shape = (200, 30, 3)
    place = 0.3 * rng.normal(size=(200, 1, 3))
    common = 5.0 * rng.normal(size=(1, 30, 3))
    steady = rng.normal(size=(200, 1, 3)) * np.linspace(-0.5, 0.5, 30)[:, None]
    levels = np.array([1.0, 2.0, 3.0]) + place + common + steady + 0.05 * rng.normal(size=shape)
    rows = pd.DataFrame(response.level_rows(levels)).set_index(["quantity", "level"])
    drift = np.square(np.linspace(-0.5, 0.5, 30)).mean()
    width = np.sqrt(0.3**2 + 0.05**2 + drift)
    expected = {response.WIDTH: width, response.FLUCTUATION: 0.05}
    for quantity, value in expected.items():
        for level in (response.ALL, 0, 1, 2):
            row = rows.loc[quantity, level]
            assert abs(row["value"] - value) < FIVE_SIGMA * row["error"]
            assert 0 < row["error"] < 0.1 * value
    mean = rows.loc[response.MEAN, 1]
    np.testing.assert_allclose(mean["value"], levels[..., 1].mean())
    np.testing.assert_allclose(mean["error"], levels[..., 1].mean(axis=1).std(ddof=1) / 200**0.5)


def test_diffusion_is_the_variance_of_a_change_per_time():
    rng = np.random.default_rng(2)
    changes = rng.normal(size=(100, 20, 2)) * [0.1, 0.2] + rng.normal(size=(1, 20, 1))
    rows = pd.DataFrame(response.diffusion_rows(changes, 0.5)).set_index("level")
    for level, value in ((0, 0.02), (1, 0.08), (response.ALL, 0.05)):
        row = rows.loc[level]
        assert abs(row["value"] - value) < FIVE_SIGMA * row["error"] < 0.5 * value


def test_errors_of_widths_are_those_without_each_replica():
    levels = np.random.default_rng(1).normal(size=(7, 4, 2))
    rows = pd.DataFrame(response.level_rows(levels)).set_index(["quantity", "level"])

    def width(values):
        return np.sqrt(values.var(axis=0, ddof=1).mean())

    without = [width(np.delete(levels, replica, axis=0)) for replica in range(7)]
    error = np.sqrt(6 / 7 * np.square(np.array(without) - np.mean(without)).sum())
    row = rows.loc[response.WIDTH, response.ALL]
    np.testing.assert_allclose([row["value"], row["error"]], [width(levels), error])


def points_of(value, optimisers=("sgd",), error=0.01, points=None, seed=0):
    """Points of one quantity over a and B, with errors as they are said to be."""
    rng = np.random.default_rng(seed)
    points = points or [(a, b) for a in (0.05, 0.1, 0.2, 0.4) for b in (4, 8, 16, 32)]
    rows = []
    for number, (a, b, optimiser) in enumerate((a, b, o) for o in optimisers for a, b in points):
        momentum = 0.9 if optimiser == "momentum" else 0.0
        rate = a / (1 - momentum)
        true = value(rate, b)
        rows.append(
            {
                "run": f"run{number}",
                "layer": "W1",
                "quantity": response.FLUCTUATION,
                "level": response.ALL,
                "value": true * (1 + error * rng.normal()),
                "error": true * error,
                "effective_rate": rate,
                "noise": rate / b,
                "learning_rate": a,
                "batch_size": b,
                "optimiser": optimiser,
                "momentum": momentum,
                "replicas": 100,
            }
        )
    return pd.DataFrame(rows)


NAMES = ["learning_rate", "batch_size", "optimiser", "momentum", "replicas"]


def found(points):
    rows = laws.linear_scaling_laws("my", points, NAMES)
    return pd.DataFrame(rows).set_index(["family", "law"])


def test_the_linear_rule_is_found_where_it_holds():
    table = found(points_of(lambda a, b: (a / b) ** 0.5)).loc[""]
    for law, value in (
        (laws.EXPONENT_A, 0.5),
        (laws.EXPONENT_B, -0.5),
        (laws.EXCHANGE, 1.0),
        (laws.EQUAL_NOISE, 1.0),
    ):
        row = table.loc[law]
        assert abs(row["value"] - value) < FIVE_SIGMA * row["error"] and row["error"] < 0.02
        assert row["expected"] == value and row["p_value"] > 1e-6
    assert table.loc[laws.EQUAL_NOISE, "holds_up_to"] == 0.4
    # The square root rule does not hold then.
    assert table.loc[laws.EQUAL_ROOT_NOISE, "p_value"] < 1e-6
    assert table.loc[laws.EQUAL_ROOT_NOISE, "fails_from"] == 0.1


def test_the_square_root_rule_is_found_where_it_holds():
    table = found(points_of(lambda a, b: (a / b**0.5) ** 0.5, ["adam"])).loc[""]
    exchange = table.loc[laws.EXCHANGE]
    assert abs(exchange["value"] - 0.5) < FIVE_SIGMA * exchange["error"] < 0.1
    assert table.loc[laws.EQUAL_ROOT_NOISE, "p_value"] > 1e-6
    assert table.loc[laws.EQUAL_NOISE, "p_value"] < 1e-6


def test_where_the_rule_ends():
    def value(a, b):
        return (a / b) ** 0.5 * (1.3 if a > 0.3 else 1.0)

    table = found(points_of(value)).loc[""]
    row = table.loc[laws.EQUAL_NOISE]
    assert (row["holds_up_to"], row["fails_from"]) == (0.2, 0.4)


def test_momentum_is_part_of_the_noise_and_adam_is_not():
    points = pd.concat(
        [
            points_of(lambda a, b: (a / b) ** 0.5, ["sgd"]),
            points_of(
                lambda a, b: (a / b) ** 0.5,
                ["momentum"],
                points=[(a / 10, b) for a in (0.05, 0.1, 0.2) for b in (4, 8, 16)],
                seed=1,
            ),
            points_of(lambda a, b: 5.0, ["adam"], seed=2),
        ],
        ignore_index=True,
    )
    points["run"] = [f"run{number}" for number in range(len(points))]
    table = found(points)
    plain = table.loc[("", laws.EQUAL_NOISE)]
    # Nine diagonals; all other runs on them are compared with the first of each.
    assert plain["points"] == 25 - 7 and plain["p_value"] > 1e-6
    adam = table.loc[("optimiser = adam, momentum = 0.0", laws.EXPONENT_A)]
    assert abs(adam["value"]) < FIVE_SIGMA * adam["error"]
    # Nothing depends on a there: what a is worth in B is not known.
    assert ("optimiser = adam, momentum = 0.0", laws.EXCHANGE) not in table.index


def test_errors_of_exponents_are_those_of_repeated_measurements():
    pulls = []
    for number in range(40):
        points = points_of(lambda a, b: a**0.7 / b**0.4, seed=number)
        table = found(points).loc[""]
        for law, value in ((laws.EXPONENT_A, 0.7), (laws.EXPONENT_B, -0.4)):
            pulls.append((table.loc[law, "value"] - value) / table.loc[law, "error"])
    # 80 standard normal numbers.
    assert abs(np.mean(pulls)) < FIVE_SIGMA / 80**0.5
    assert abs(np.var(pulls) - 1.0) < FIVE_SIGMA * (2 / 80) ** 0.5


STUDY = {
    "model": "mlp",
    "hyperparameters": {
        "data": "teacher",
        "widths": [4, 3, 2],
        "activation": "linear",
        "bias": False,
        "loss": "squared_error",
        "label_noise": 0.5,
        "replicas": 64,
        "snapshots": 8,
        "lags": [1],
    },
    "sweep": [
        {"learning_rate": 0.05, "batch_size": 8, "burn_in": 400, "steps": 800},
        {"learning_rate": 0.1, "batch_size": [8, 16], "burn_in": 200, "steps": 400},
        {"learning_rate": 0.2, "batch_size": 16, "burn_in": 100, "steps": 200},
    ],
    "figures": ["loss_curve", "singular_values", "linear_scaling"],
}


def test_networks_go_through_all_stages(tmp_path):
    plan = Plan.from_config({"studies": {"net": STUDY}}, Results(str(tmp_path)))
    make(plan)
    report = audit.verify(plan)
    assert not (report.stale or report.damaged or report.missing)
    points = dysonflow.read_noise_response(tmp_path)
    table = dysonflow.read_linear_scaling(tmp_path)
    assert set(points["layer"]) == {"", "W1", "W2", "product"}
    assert not points["bias"].any()
    run = next(iter(plan.runs.values()))
    with open_weights(plan.results.files_of(run)["weights"]) as file:
        loss = file.loss.mean()
    row = points[(points["run"] == run.name) & (points["quantity"] == response.LOSS)]
    np.testing.assert_allclose(row["value"], loss)
    quantities = {response.FLUCTUATION, response.WIDTH, response.MEAN}
    quantities |= {response.DIFFUSION}
    assert set(points.loc[points["layer"] == "product", "quantity"]) == quantities
    product = table[(table["layer"] == "product") & (table["level"] == response.ALL)]
    fluctuation = product[product["quantity"] == response.FLUCTUATION].set_index("law")
    row = fluctuation.loc[laws.EXPONENT_A]
    assert abs(row["value"] - 0.5) < FIVE_SIGMA * row["error"] and row["error"] < 0.2
    for figure in STUDY["figures"]:
        path = tmp_path / "figures" / "net" / f"{figure}.png"
        assert kinds.read_whole(path)["layer"] == ""
        assert "layer ``" not in path.with_suffix(".rst").read_text(encoding="utf-8")


def test_figures_of_all_layers_are_drawn_once():
    study = STUDY | {"figures": ["loss_curve", "spectrum"]}
    plan = Plan.from_config({"studies": {"net": study}})
    shown = [f"{layer}/spectrum" for layer in ("W1", "W2", "product")]
    assert list(plan.studies["net"].figures) == ["loss_curve", *shown]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"sweep": {"seed": [1, 2]}}, "all runs have the same: sweep them, or leave it out"),
        ({"replicas": 8}, "at least 30 of them; replicas = 8"),
    ],
)
def test_a_study_that_cannot_be_tested_is_one_line(more, line):
    values = {"learning_rate": 0.1, "burn_in": 0, "steps": 20, "widths": [4, 3]}
    values |= {"data": "teacher", "replicas": more.get("replicas", 64), "snapshots": 2}
    sweep = more.get("sweep", {"batch_size": [4, 8]})
    study = {"model": "mlp", "hyperparameters": values, "sweep": sweep}
    with pytest.raises(ConfigError, match=line) as error:
        Plan.from_config({"studies": {"net": study | {"figures": ["linear_scaling"]}}})
    assert "\n" not in str(error.value)


def test_a_number_in_one_model_and_a_list_in_another_are_read_together(tmp_path):
    paths = []
    for name, kind, values in (
        ("a", pa.float64(), [0.5, None]),
        ("b", pa.list_(pa.int64()), [[1, 2]]),
        ("c", pa.int64(), [3]),
    ):
        schema = pa.schema([pa.field("width", kind), pa.field(name, pa.int64())])
        paths.append(tmp_path / f"{name}.parquet")
        columns = {
            "width": arrow_array(values, kind),
            name: arrow_array([1] * len(values), pa.int64()),
        }
        tables.write_table(columns, schema, paths[-1], record("0" * 16, 0.0))
    table = tables.read_arrow(paths)
    assert table["width"].to_pylist() == [[0.5], None, [1.0, 2.0], [3.0]]
    assert table["a"].to_pylist() == [1, 1, None, None]
    assert tables.read_arrow([paths[0], paths[2]])["width"].to_pylist() == [0.5, None, 3.0]
    # Of a name that is a number here and a text there, all are texts.
    texts = tmp_path / "texts.parquet"
    schema = pa.schema([pa.field("width", pa.list_(pa.string()))])
    columns = {"width": arrow_array([["x", "y"], None], schema.field(0).type)}
    tables.write_table(columns, schema, texts, record("0" * 16, 0.0))
    found = tables.read_arrow([paths[0], texts])["width"].to_pylist()
    assert found == [["0.5"], None, ["x", "y"], None]


def test_truth_values_are_kept():
    values = [True, None, False] * 5
    assert arrow_array(values, pa.bool_()).to_pylist() == values
    assert constant(True, pa.bool_(), 3).to_pylist() == [True] * 3
