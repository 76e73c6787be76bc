"""Fits and laws: right on simulated gases, honest where nothing can be fitted."""

import numpy as np
import pandas as pd
import pytest

from dysonflow import theory
from dysonflow.analysis import fits, scaling, scaling_tests
from dysonflow.analysis.laws import (
    LAWS,
    MEAN_GAP,
    MEAN_GAP_FINITE_STEP,
    MEAN_GAP_SMALL_NOISE,
    at_small_noise,
)
from dysonflow.models import hyperparameters_of
from dysonflow.models.teacher_student import teacher as teacher_of
from dysonflow.report.scaling_page import scaling_page
from dysonflow.statistics import angles, coulomb_gas
from dysonflow.statistics.lines import fit_line
from dysonflow.theory.blocks import multiplets
from dysonflow.theory.tails import GAP_SIMULATIONS, unit_mean_gap

FIVE_SIGMA = 5.0
RBM = hyperparameters_of("gaussian_rbm")
STUDENT = hyperparameters_of("teacher_student")


def simulated_run(run, replicas, snapshots, rng, scale=1.0):
    """Eigenvalues whose levels are drawn from the gas that theory predicts."""
    physics = theory.load(run.MODEL)
    blocks = physics.blocks(run, "W")
    count = sum(block.multiplicity for block in blocks)
    levels = np.empty((replicas, snapshots, count))
    for block in blocks:
        if block.flag:
            levels[..., block.positions] = block.centre
            continue
        drawn = coulomb_gas.sample(
            block.multiplicity, 1.0, replicas * snapshots, rng, block.centre, scale * block.sigma
        )
        levels[..., block.positions] = drawn.reshape(replicas, snapshots, -1)
    if run.MODEL == "gaussian_rbm":
        return ((run.rbm_mass_squared - levels) / run.hidden_width**2)[..., ::-1]
    return levels**2


def frame(run, eigenvalues):
    return pd.DataFrame({k: v.to_pylist() for k, v in fits.fit_run(run, "W", eigenvalues).items()})


@pytest.mark.parametrize(
    "run",
    [
        RBM.from_config({"learning_rate": 0.01, "batch_size": 256, "hidden_width": 1.2}),
        STUDENT.from_config({"size": 5, "teacher_spectrum": [1, 1, 3, 3, 3]}),
    ],
    ids=lambda run: run.MODEL,
)
def test_estimates_recover_the_theory_that_was_simulated(run):
    table = frame(run, simulated_run(run, 400, 4, np.random.default_rng(1)))
    assert table["multiplicity"].sum() == (10 if run.MODEL == "gaussian_rbm" else 5)
    assert (table["flag"] == "").all()
    assert (table["samples"] == 1600).all()
    for name in ("centre", "sigma", "mean_gap"):
        rows = table[table[f"{name}_theory"].notna()]
        theory_value = rows[f"{name}_theory"]
        if name == "mean_gap" and run.MODEL == "teacher_student":
            # The gas is drawn with sigma, which contains the common shift of all levels.
            theory_value = rows["sigma_theory"] * rows["multiplicity"].map(unit_mean_gap)
        pull = (rows[name] - theory_value) / rows[f"{name}_error"]
        assert (pull.abs() < FIVE_SIGMA).all()
    pairs = table[table["multiplicity"] == 2]
    assert (((pairs["gap_ratio"] - 1) / pairs["gap_ratio_error"]).abs() < FIVE_SIGMA).all()


@pytest.mark.parametrize("spectrum", [[2, 2, 5], [1, 2, 2]])
def test_angles_of_a_pair(spectrum):
    run = STUDENT.from_config({"size": 3, "teacher_spectrum": spectrum})
    first = spectrum.index(2)
    basis, position = theory.load(run.MODEL).pair_plane(run, "W", first)
    teacher = teacher_of(run)
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, np.pi, 500)
    # Lower the level along a known direction of the plane: it becomes the pair's lower level.
    direction = np.cos(angle)[:, None] * basis[:, 0] + np.sin(angle)[:, None] * basis[:, 1]
    weights = teacher - 0.1 * direction[:, :, None] * direction[:, None, :]
    np.testing.assert_allclose(angles.pair_angles(weights, basis, position), angle, atol=1e-9)


def test_fits_test_the_law_of_each_block():
    run = RBM.from_config({"learning_rate": 0.01, "batch_size": 256})
    table = frame(run, simulated_run(run, 200, 2, np.random.default_rng(4)))
    pairs = table[table["multiplicity"] == 2]
    beta = (pairs["dyson_index"] - 1) / pairs["dyson_index_error"]
    assert (beta.abs() < FIVE_SIGMA).all()
    assert (pairs[["surmise_p_value", "density_p_value"]] > 1e-4).all(axis=None)
    assert table["angle_p_value"].isna().all()
    single = table[table["multiplicity"] == 1]
    assert single["dyson_index"].isna().all() and single["surmise_p_value"].isna().all()
    time = (table["autocorrelation_time"] - 0.5) / table["autocorrelation_time_error"]
    assert (time.abs() < FIVE_SIGMA).all()


def test_a_wrong_width_is_noticed():
    run = RBM.from_config({"learning_rate": 0.01, "batch_size": 256})
    table = frame(run, simulated_run(run, 400, 4, np.random.default_rng(1), scale=1.2))
    assert ((table["sigma"] - table["sigma_theory"]) / table["sigma_error"] > FIVE_SIGMA).all()


def test_gap_ratio_error_covers():
    rng = np.random.default_rng(7)
    pulls = []
    for _ in range(400):
        ratio, error = fits.gap_ratio(coulomb_gas.sample(2, 1.0, 400, rng).reshape(100, 4, 2))
        pulls.append((ratio - 1) / error)
    # 400 pulls of variance 1: their variance is known to sqrt(2/400), 5 sigma of it is 0.35.
    assert np.mean(pulls) == pytest.approx(0, abs=FIVE_SIGMA / 20)
    assert np.var(pulls) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize(
    ("values", "learnt", "words"),
    [
        ({"rbm_mass_squared": 6.0}, 5, "kappa >= rbm_mass_squared"),
        ({"hidden_units": 4}, 4, "hidden_units = 4"),
    ],
)
def test_modes_that_are_not_learnt_say_so(values, learnt, words):
    run = RBM.from_config(values)
    table = frame(run, simulated_run(run, 40, 2, np.random.default_rng(2)))
    assert table["multiplicity"].sum() == 10
    fitted = table[table["flag"] == ""]
    assert fitted["multiplicity"].sum() == learnt
    assert fitted["sigma"].notna().all()
    rest = table[table["flag"] != ""]
    assert rest["flag"].str.contains(words).all()
    assert rest[["centre", "sigma", "mean_gap", "sigma_theory"]].isna().all(axis=None)


def test_too_few_replicas_are_flagged_not_fitted():
    run = STUDENT.from_config({})
    table = frame(run, simulated_run(run, 5, 2, np.random.default_rng(3)))
    assert table["flag"].str.contains("not fitted").all()
    assert table["sigma"].isna().all()


def test_levels_that_do_not_fluctuate_are_flagged():
    run = STUDENT.from_config({"noise_scale": 0})
    table = frame(run, np.full((40, 2, 2), 4.0))
    assert table["flag"].str.contains("do not fluctuate").all()


def test_multiplets_group_equal_centres():
    assert multiplets(np.array([1.0, 1.0 + 1e-12, 2.0, 3.0, 3.0, 3.0])) == [(0, 2), (2, 1), (3, 3)]
    kappa = RBM.from_config({}).kappa()
    assert [count for _, count in multiplets(kappa)] == [1, 2, 2, 2, 2, 1]


def test_mean_gap_of_three_levels():
    # Against another sampler: full 3 x 3 matrices instead of tridiagonal ones.
    rng = np.random.default_rng(11)
    matrix = rng.normal(size=(100_000, 3, 3))
    levels = np.linalg.eigvalsh((matrix + matrix.swapaxes(1, 2)) / 2)
    gap = (levels[:, 2] - levels[:, 0]) / 2
    error = gap.std() * np.sqrt(1 / 100_000 + 1 / GAP_SIMULATIONS)
    assert abs(gap.mean() - unit_mean_gap(3)) < FIVE_SIGMA * error


class TestScaling:
    """Lines through the origin and exponents."""

    def test_recovers_slope_and_exponent_with_honest_errors(self):
        rng = np.random.default_rng(3)
        x = np.geomspace(0.01, 1, 30)
        slopes, exponents, p_values = [], [], []
        for _ in range(400):
            y = 2.5 * x * (1 + 0.05 * rng.normal(size=x.size))
            line = fit_line(x, y, 0.05 * y, np.ones(30))
            slopes.append((line.slope - 2.5) / line.slope_error)
            exponents.append((line.exponent - 0.5) / line.exponent_error)
            p_values.append(line.p_value)
        for pulls in (slopes, exponents):
            assert np.mean(pulls) == pytest.approx(0, abs=FIVE_SIGMA / 20)
            assert np.var(pulls) == pytest.approx(1, abs=0.35)
        assert np.mean(p_values) == pytest.approx(0.5, abs=FIVE_SIGMA * 12**-0.5 / 20)

    def test_exponent_of_another_power(self):
        x = np.geomspace(0.01, 1, 10)
        line = fit_line(x, 3 * x**1.4, 0.01 * x, np.ones(10))
        assert line.exponent == pytest.approx(0.7, abs=1e-9)
        assert line.p_value < 1e-10

    def test_one_point_has_no_exponent(self):
        line = fit_line(*(np.array([one]) for one in (1.0, 2.0, 0.1, 1.0)))
        assert line.slope == 2.0
        assert np.isnan(line.exponent) and np.isnan(line.p_value)

    @pytest.mark.parametrize("bad", [np.array([]), np.array([0.0]), np.array([-1.0])])
    def test_refuses_what_has_no_logarithm(self, bad):
        with pytest.raises(ValueError, match="positive"):
            fit_line(bad, bad, bad, np.ones_like(bad))

    def test_every_law_has_a_row_for_each_layer_in_the_order_of_the_list(self):
        rng = np.random.default_rng(4)
        run = RBM.from_config({"learning_rate": 0.01, "batch_size": 64})
        one = frame(run, simulated_run(run, 100, 4, rng))
        two = frame(run, simulated_run(run, 100, 4, rng)).assign(layer="second")
        given = (np.sqrt(2 * np.pi), list(RBM.model_fields), 1e-4)
        rows = scaling.scaling_laws("s", pd.concat([one, two]), *given)
        assert [row["layer"] for row in rows] == ["W"] * len(LAWS) + ["second"] * len(LAWS)
        assert [row["law"] for row in rows] == 2 * [law.name for law in LAWS]
        # A layer has the laws that it has alone.
        alone = scaling.scaling_laws("s", two, *given)
        assert rows[len(LAWS) :] == alone != rows[: len(LAWS)]
        assert set().union(*rows) <= set(scaling.SCALING_SCHEMA.names)
        for row, law in zip(rows, LAWS, strict=False):
            expected = given[0] if law.slope is None else law.slope
            assert row.get("slope_theory", expected) == expected
        several, single = scaling_page("s", rows), scaling_page("s", alone)
        assert '<th scope="col">layer</th>' in several and "<td>second</td>" in several
        assert "layer" not in single and several.count("<tr>") == 2 * single.count("<tr>") - 1

    def test_laws_are_told_apart_by_name_and_by_what_they_say(self):
        assert len({law.name for law in LAWS}) == len(LAWS)
        said = {(law.quantity, law.kind, law.variable, law.small_noise) for law in LAWS}
        assert len(said) == len(LAWS)
        for law in LAWS:
            assert law.text.endswith(".")
            assert bool(law.free) == (law.kind == "exponent")
        assert at_small_noise(MEAN_GAP) is MEAN_GAP_SMALL_NOISE
        assert at_small_noise(MEAN_GAP_FINITE_STEP) is None

    def test_laws_of_a_simulated_study(self):
        rng = np.random.default_rng(4)
        tables = []
        for batch_size in (64, 128, 256):
            run = RBM.from_config({"learning_rate": 0.01, "batch_size": batch_size})
            tables.append(frame(run, simulated_run(run, 100, 4, rng)))
        rows = scaling.scaling_laws(
            "s", pd.concat(tables), np.sqrt(2 * np.pi), list(RBM.model_fields), small_noise=1e-4
        )
        laws = pd.DataFrame(rows).set_index("law")
        assert laws.loc["mean_gap", "points"] == 12
        assert laws.loc["mean_gap_small_noise", "points"] == 8
        for law in ("mean_gap_finite_step", "sigma_finite_step", "gap_over_sigma"):
            assert abs(laws.loc[law, "pull"]) < FIVE_SIGMA
            assert laws.loc[law, "p_value"] > 1e-6
            exponent = laws.loc[law, "exponent"] - 0.5
            assert abs(exponent) < FIVE_SIGMA * laws.loc[law, "exponent_error"]

    def test_the_extrapolation_finds_the_limit_of_zero_noise(self):
        rng = np.random.default_rng(6)
        stochasticity = np.tile(np.geomspace(1e-4, 1e-2, 12), 2)
        centre = np.repeat([4.0, 5.0], 12)
        curve = 2.5 * (1 - np.where(centre == 4, 20, 35) * stochasticity)
        pulls = []
        for _ in range(400):
            value = curve * (1 + 0.02 * rng.normal(size=24))
            one = np.ones(24)
            points = (one, value, 0.02 * value, one)
            row = scaling_tests.zero_noise_row(*points, stochasticity, centre, 2.5)
            pulls.append(row["pull"])
        assert np.mean(pulls) == pytest.approx(0, abs=FIVE_SIGMA / 20)
        assert np.var(pulls) == pytest.approx(1, abs=0.35)

    def test_exponents_are_common_to_groups_of_different_size(self):
        rng = np.random.default_rng(8)
        x = np.tile(np.geomspace(1, 64, 7), 2)
        group = np.repeat(["a", "b"], 7)
        pulls = []
        for _ in range(400):
            value = np.where(group == "a", 1.0, 9.0) * x**0.5 * (1 + 0.02 * rng.normal(size=14))
            points = (x, value, 0.02 * value, np.ones(14))
            pulls.append(scaling_tests.exponent_row(*points, group)["pull"])
        assert np.mean(pulls) == pytest.approx(0, abs=FIVE_SIGMA / 20)
        assert np.var(pulls) == pytest.approx(1, abs=0.35)

    def test_runs_of_equal_stochasticity_part_by_the_finite_step(self):
        rng = np.random.default_rng(9)
        runs = [
            STUDENT.from_config({"learning_rate": a, "batch_size": b, "replicas": 2})
            for a, b in [(0.1, 4), (0.4, 16)]
        ]
        tables = pd.concat(frame(run, simulated_run(run, 1000, 4, rng)) for run in runs)
        names = list(STUDENT.model_fields)
        for variable, part in (("variable", True), ("finite_step_variable", False)):
            pairs = scaling_tests.same_stochasticity_pairs(tables, names, variable)
            assert pairs["learning_rate"].tolist() == [0.4]
            row = scaling_tests.same_stochasticity_row(pairs)
            assert (abs(row["pull"]) > FIVE_SIGMA) == part

    def test_ratios_to_the_same_run_share_its_error(self):
        rng = np.random.default_rng(10)
        sizes = {"learning_rate": [0.05, 0.1, 0.2], "batch_size": [8, 16, 32]}
        found = []
        for _ in range(150):
            sigma = 1.0 + 0.02 * rng.standard_normal(3)
            table = pd.DataFrame(
                sizes
                | {"sigma": sigma, "sigma_error": 0.02 * sigma, "variable": 1.0, "block": 0}
                | {"stochasticity": 0.00625, "samples": 100}
            )
            names = ["learning_rate", "batch_size"]
            pairs = scaling_tests.same_stochasticity_pairs(table, names, "variable")
            found.append(scaling_tests.same_stochasticity_row(pairs))
        assert np.var([row["pull"] for row in found]) == pytest.approx(
            1, abs=FIVE_SIGMA * (2 / 150) ** 0.5
        )
        p_values = [row["p_value"] for row in found]
        assert np.mean(p_values) == pytest.approx(0.5, abs=FIVE_SIGMA * (12 * 150) ** -0.5)

    def test_a_study_without_pairs_has_laws_without_numbers(self):
        run = STUDENT.from_config({"size": 3})
        table = frame(run, simulated_run(run, 100, 4, np.random.default_rng(5)))
        rows = scaling.scaling_laws("s", table, 1.0, list(STUDENT.model_fields))
        assert all(row["points"] == 0 and "slope" not in row for row in rows)
