"""Verdicts of the document against the paper, on tables whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest
from in_process import make, make_document

from dysonflow.analysis import laws as known
from dysonflow.artifacts.documents import read_document, write_document
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.models import hyperparameters_of
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.report import html
from dysonflow.report.figures._study import StudyData
from dysonflow.report.reproduction import Table, html_page, markdown
from dysonflow.report.reproduction.checks import (
    Check,
    estimate,
    goodness,
    law,
    many_tests,
    mean_gap_over_theory,
    squares,
    with_p_value,
)
from dysonflow.report.reproduction.phases import phase_checks, power_of_time
from dysonflow.results import Results
from dysonflow.theory import load
from dysonflow.theory.teacher_student.predictions import over_training_sets


def test_the_verdict_follows_the_errors():
    for value, verdict in ((1.29, "agrees"), (1.31, "in tension"), (1.51, "differs")):
        check = estimate("x", value, 0.1, 1.0)
        assert check.verdict == verdict
        assert check.distance == pytest.approx(10.0 * (value - 1.0))
    # The error of theory counts too.
    assert estimate("x", 1.31, 0.1, 1.0, 0.1).verdict == "agrees"


@pytest.mark.parametrize(
    ("distance", "full_theory", "words"),
    [
        *((2.9, None, "agrees"), (-2.9, 9.0, "agrees"), (-3.1, None, "in tension")),
        *((3.1, -2.9, "in tension, as expected"), (-5.1, 2.9, "differs, as expected")),
        *((5.1, 3.1, "differs"), (5.1, math.nan, "differs")),
    ],
)
def test_tables_of_laws_and_this_document_have_one_set_of_words(distance, full_theory, words):
    assert known.verdict(distance, full_theory) == words
    expected = math.nan if full_theory is None else full_theory
    assert Check("x", "", "", distance, "", expected).verdict == words


def test_a_p_value_is_worth_its_two_sided_errors():
    for p_value, errors in ((0.3173105, 1.0), (0.0026998, 3.0), (5.733e-7, 5.0)):
        assert with_p_value("x", "", "", p_value).distance == pytest.approx(errors, abs=1e-3)
    assert with_p_value("x", "", "", 0.0).verdict == "differs"


def test_squares_of_standard_normal_pulls_agree_and_wide_ones_do_not():
    rng = np.random.default_rng(3)
    pulls = pd.Series([*rng.standard_normal(400), math.nan])
    assert "/400" in squares("x", pulls, "").measured
    assert squares("x", pulls, "").verdict == "agrees"
    assert squares("x", 1.5 * pulls, "").verdict == "differs"
    assert squares("x", pulls[400:], "") is None
    assert goodness("x", 400.0, 400, "").verdict == "agrees"


def test_many_tests_are_corrected_for_their_number():
    rng = np.random.default_rng(5)
    uniform = pd.Series(rng.random(2000))
    assert many_tests("x", uniform, "").verdict == "agrees"
    few = pd.Series([1e-9, *rng.random(1999)])
    found = many_tests("x", few, "")
    assert found.measured.startswith("1 of 2000") and found.verdict == "in tension"


def test_the_mean_over_theory_has_the_error_of_both():
    rng = np.random.default_rng(7)
    count, own, theirs, truth = 400, 0.02, 0.01, 1.1
    theory = rng.uniform(1.0, 3.0, count)
    total = theory * math.hypot(own, theirs)
    value = truth * theory + total * rng.standard_normal(count)
    rows = pd.DataFrame(
        {"mean_gap": value, "mean_gap_error": own * theory, "samples": 100}
        | {"mean_gap_theory": theory, "mean_gap_theory_error": theirs * theory}
    )
    check = mean_gap_over_theory("x", rows)
    error = math.hypot(own, theirs) / math.sqrt(count)
    # Twice the same seed, five errors: fails once in two million seeds.
    assert check.distance == pytest.approx((truth - 1.0) / error, abs=5.0)
    assert mean_gap_over_theory("x", rows[:0]) is None


def test_a_law_without_points_is_left_out():
    laws = pd.DataFrame(
        {
            "slope": [2.5, math.nan],
            "slope_error": [0.1, math.nan],
            "slope_theory": [2.5066, 2.5066],
            "pull_full_theory": [math.nan, math.nan],
        },
        index=["mean_gap", "sigma"],
    )
    assert law("x", laws, known.MEAN_GAP).measured == "2.50(10)"
    assert law("x", laws, known.SIGMA) is None
    assert law("x", laws, known.SIGMA_ZERO_NOISE) is None


def test_markdown_and_html_hold_the_same_cells():
    parts = ["# Title", "## Part", "some `code` & <more>", Table(["a", "b"], [["`x`", "1 < 2"]])]
    assert markdown(parts) == (
        "# Title\n\n## Part\n\nsome `code` & <more>\n\n| a | b |\n| --- | --- |\n| `x` | 1 < 2 |\n"
    )
    page = html_page(parts)
    assert "<h2>Title</h2>" in page and "<h3>Part</h3>" in page
    assert "<code>code</code> &amp; &lt;more&gt;" in page
    assert "<td><code>x</code></td><td>1 &lt; 2</td>" in page
    assert html.code("`a<b`") == "<code>a&lt;b</code>"


def test_a_document_knows_its_own_text(tmp_path):
    path = tmp_path / "text.md"
    write_document(path, "# 2.507(9)\n", {"source": "abc"})
    assert read_document(path)["source"] == "abc"
    for change in (("2.507", "2.508"), (" -->", ""), ("<!-- dysonflow ", "<!-- other ")):
        path.write_text(path.read_text().replace(*change))
        with pytest.raises(ArtifactError, match=r"text\.md"):
            read_document(path)
        write_document(path, "# 2.507(9)\n", {"source": "abc"})


def students(**values):
    return hyperparameters_of("teacher_student").from_config(values)


def test_runs_swept_in_one_hyperparameter_are_found():
    runs = [
        *[students(learning_rate=a) for a in (0.3, 0.1, 0.2)],
        *[students(learning_rate=0.1, batch_size=b) for b in (4, 8)],
        students(learning_rate=0.5, batch_size=64, noise_scale=0.05),
    ]
    data = StudyData("mine", runs)
    assert [run.learning_rate for run in data.swept("learning_rate")] == [0.1, 0.2, 0.3]
    assert [run.batch_size for run in data.swept("batch_size")] == [4, 8, 16]
    with pytest.raises(ConfigError, match="study mine: no two runs differ in noise_scale alone"):
        data.swept("noise_scale")


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("teacher_student", {"size": 3, "teacher_spectrum": [1.0, 2.0, 2.0]}),
        ("gaussian_rbm", {"sites": 6, "batch_size": 32}),
    ],
)
def test_the_expected_density_counts_every_level_and_has_the_right_means(model, values):
    h = hyperparameters_of(model).from_config(values)
    physics = load(model)
    edges = np.linspace(0.0, 12.0, 6001)
    expected = physics.expected_levels(h, "W", edges)
    blocks = physics.blocks(h, "W")
    assert expected.sum() == pytest.approx(sum(block.multiplicity for block in blocks), rel=1e-3)
    middle = 0.5 * (edges[1:] + edges[:-1])
    mean = sum(block.multiplicity * block.centre for block in blocks)
    assert (middle * expected).sum() == pytest.approx(mean, rel=1e-3)
    # E[SS] = d sigma^2 within a block, d = n + n (n - 1) / 2.
    squares_of_blocks = [
        (n + n * (n - 1) / 2) * block.sigma**2 for block in blocks for n in [block.multiplicity]
    ]
    centres = sum(block.multiplicity * block.centre**2 for block in blocks)
    found = (middle**2 * expected).sum() - centres
    assert found == pytest.approx(sum(squares_of_blocks), rel=0.02)


@pytest.mark.parametrize("model", ["teacher_student", "gaussian_rbm"])
def test_levels_and_eigenvalues_are_inverse(model):
    h = hyperparameters_of(model).from_config({"hidden_width": 0.8} if "rbm" in model else {})
    physics = load(model)
    x = np.array([0.5, 1.0, 4.0])
    found = physics.eigenvalues(h, "W", physics.levels(h, "W", x))
    assert np.sort(found) == pytest.approx(x)


def test_training_sets_scatter_about_fresh_inputs_and_less_for_large_batches():
    count, spreads = 60, []
    for batch in (16, 256):
        # Fewer steps than batches: no input is seen twice, so on average they are fresh ones.
        shared = students(data="shared", batch_size=batch, steps=400, snapshots=1)
        (fresh,) = load("teacher_student").blocks(students(batch_size=batch), "W")
        mean, spread = over_training_sets(shared, count)
        assert mean == pytest.approx(fresh.mean_gap, abs=5 * spread / math.sqrt(count))
        spreads.append(spread / mean)
    # Sample covariances fluctuate as B^-1/2; the error of a spread is 1 / sqrt(2 count) of it.
    ratio, error = spreads[0] / spreads[1], 1.0 / math.sqrt(count)
    assert math.log(ratio / 4.0) == pytest.approx(0.0, abs=5 * error)


def test_a_phase_diagram_and_a_linear_network_have_sections_of_their_own(tmp_path):
    """The statements of the papers on networks, of studies that show something at a glance."""
    students = {"replicas": 4, "steps": 3000, "snapshots": 9, "output_size": 1}
    config = {
        "studies": {
            "diagram": {
                "model": "two_layer_student",
                "hyperparameters": students,
                # Learns, stays as it is, is carried away.
                "sweep": [
                    {"initial_width": 0.5, "learning_rate": 0.5},
                    {"initial_width": 128, "learning_rate": 0.125},
                    {"initial_width": 0.5, "learning_rate": 64},
                ],
                "figures": ["regimes"],
            },
            "levels": {
                "model": "mlp",
                "hyperparameters": {
                    **{"widths": [3, 3, 3], "activation": "linear", "bias": False},
                    **{"loss": "squared_error", "data": "teacher", "label_noise": 1.0},
                    **{"teacher_singular_values": [1.0, 1.0, 2.0], "initialisation": "normal"},
                    **{"initial_width": 0.1, "replicas": 64, "snapshots": 4, "batch_size": 16},
                },
                "sweep": [
                    {"learning_rate": 0.04, "burn_in": 600, "steps": 900},
                    {"learning_rate": 0.08, "burn_in": 300, "steps": 450},
                ],
                "figures": ["spectrum"],
            },
        },
        "reproduction": {"phase_diagram": "diagram", "linear_network": "levels"},
    }
    plan = Plan.from_config(config, Results(str(tmp_path)))
    make(plan)
    make_document(plan)
    text = (tmp_path / "reproduction.md").read_text(encoding="utf-8")
    assert (
        read_document(tmp_path / "reproduction.md")["studies"].keys()
        == config["reproduction"].keys()
    )
    assert "arXiv:2412.20496; Park, Lucini, Aarts, arXiv:2509.01349" in text
    assert "arXiv:2407.16427" not in text
    assert (
        "of 3 points 1 have learnt, 1 keep the order of their start (1 frozen), 1 are carr" in text
    )
    assert "students learn up to s = 0.5, and keep their start from s = 128 on" in text
    assert "`results/figures/diagram/regimes.png`" in text
    assert "## Linear network with one hidden layer: the product of its layers" in text
    assert "Dyson index of pairs, mean over pairs and runs" in text
    report = audit.verify(plan)
    assert not report.stale and not report.damaged
    late = {"studies": {"diagram": dict(config["studies"]["diagram"])}}
    late["studies"]["diagram"]["hyperparameters"] = students | {"burn_in": 10}
    late["reproduction"] = {"phase_diagram": "diagram"}
    with pytest.raises(ConfigError, match="a run of study 'diagram' has a burn_in; leave it out"):
        Plan.from_config(late, Results(str(tmp_path)))


def test_growth_and_drift_of_a_phase_diagram_are_judged_as_they_are():
    row = {"width": 0.5, "agreeing": 1.0, "growth": 0.34, "growth_error": 0.01, "stopped": 0}
    points = pd.DataFrame(
        [
            row | {"temperature": 0.1, "regime": "learnt", "drift": 2.0},
            row | {"temperature": 0.2, "regime": "learnt", "drift": 0.5},
            row | {"temperature": 2.0, "regime": "diverged", "drift": 0.1},
            row | {"temperature": 8.0, "regime": "diverged", "drift": 0.1, "growth": 0.4},
        ]
    )
    checks = phase_checks(points)
    measured = {check.statement: check for check in checks}
    (drift,) = [one for name, one in measured.items() if name.startswith("Drift against")]
    assert "at 1 points, 1 of which have learnt; 3 of 4" in drift.measured and not drift.verdict
    (heat,) = [one for name, one in measured.items() if name.startswith("a/B is")]
    assert "0.2 over s = 0.5" in heat.measured
    assert [check.verdict for check in checks[-2:]] == ["agrees", "differs"]


def test_the_power_of_growth_is_that_of_the_largest_singular_value():
    rng = np.random.default_rng(5)
    steps = np.array([100, 200, 400, 800])
    powers = 0.4 + 0.05 * rng.normal(size=50)
    largest = 3.0 * steps ** powers[:, None]
    weights = np.zeros((50, 4, 3, 2))
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    weights[..., 0] = largest[..., None] * turned[0]
    weights[..., 1] = 1e-3 * turned[1]
    power, error = power_of_time(weights, steps)
    assert power == pytest.approx(powers.mean(), abs=1e-9)
    assert error == pytest.approx(powers.std(ddof=1) / math.sqrt(50), rel=1e-9)
    assert all(map(math.isnan, power_of_time(weights[:, :1], steps[:1])))
