"""The bulk of large matrices: laws, calibration in small, hard cases, and the stage as a whole."""

import importlib.util
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import powerlaw
import pytest
from in_process import make
from matplotlib.text import Text
from scipy.stats import kstest

import dysonflow
from dysonflow import models
from dysonflow.analysis.bulk import BULK_FIELDS, EDGE_FLAGS, describe
from dysonflow.analysis.bulk_scope import EXTRAS, layers_with_bulk
from dysonflow.analysis.columns import hyperparameter_fields
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.errors import ConfigError
from dysonflow.planning import audit, sources
from dysonflow.planning.graph import Plan
from dysonflow.report import figures
from dysonflow.report.figures._page import Page
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.results import Results
from dysonflow.statistics import power_law_tail, spacings, spiked, tracy_widom
from dysonflow.statistics.marchenko_pastur import MarchenkoPastur
from dysonflow.statistics.matrix_norms import matrix_norms
from dysonflow.statistics.noise_bulk import fit_bulk
from dysonflow.statistics.singular_vectors import delocalisation

FIVE_SIGMA = 5.7e-7
FILE = Path(__file__).parents[2] / "benchmarks" / "bulk_calibration.py"


@pytest.fixture(scope="module")
def calibration():
    spec = importlib.util.spec_from_file_location("bulk_calibration", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sides", [(100, 20), (60, 60), (61, 60), (1000, 3)])
def test_marchenko_pastur_is_a_law(sides):
    law = MarchenkoPastur(*sides, 1.3)
    low, high = law.edges
    angle = np.linspace(math.pi, 0.0, 20001)
    x = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle)
    inside = x[1:-1]
    area = np.concatenate(
        [[0.0], np.cumsum(np.diff(inside) * law.density(0.5 * (inside[1:] + inside[:-1])))]
    )
    np.testing.assert_allclose(law.cdf(inside) - law.cdf(inside[0]), area, atol=2e-4)
    np.testing.assert_allclose(law.cdf([0.9 * low - 1, 1.1 * high]), [0.0, 1.0])
    np.testing.assert_allclose(law.cdf(law.quantile([0.1, 0.5, 0.9])), [0.1, 0.5, 0.9], atol=1e-5)
    mean = np.trapezoid(1.0 - law.cdf(x), x) + low
    np.testing.assert_allclose(mean, 1.3**2 * sides[0], rtol=1e-3)


def test_modes_of_the_law_are_its_chebyshev_averages():
    law = MarchenkoPastur(50, 20)
    x = law.quantile((np.arange(20000) + 0.5) / 20000)
    expected = law.expected_modes() - np.array([0.0, 0.5, 0.0, 0.5, 0.0, 0.5])
    np.testing.assert_allclose(law.modes(x, 6) / 20000 * 20, expected, atol=2e-3)


def test_tracy_widom_has_its_moments_and_edelman_s_law():
    s = np.linspace(-9.9, 12.0, 20001)
    density = np.gradient(tracy_widom.cdf(s), s)
    mean = np.trapezoid(s * density, s)
    variance = np.trapezoid((s - mean) ** 2 * density, s)
    np.testing.assert_allclose(
        [mean, variance], [tracy_widom.MEAN, tracy_widom.VARIANCE], atol=5e-6
    )
    # Quantiles of Bejan (2005), table 2.
    np.testing.assert_allclose(tracy_widom.sf([0.9793, 2.0234]), [0.05, 0.01], rtol=2e-4)
    far = tracy_widom.sf([7.9, 8.0, 8.1, 30.0, 1e6])
    assert (np.diff(far) < 0).all() and far[-1] == 0.0 and far[3] > 0.0
    x = np.array([1e-4, 0.3, 1.0, 3.0])
    found = tracy_widom.lower_p_values(x / 50, 50, 50)
    np.testing.assert_allclose(found, -np.expm1(-0.5 * x - np.sqrt(x)), atol=1e-10)


def wishart(rng, n, p, count):
    """Eigenvalues of Gaussian W^T W, from the bidiagonal model of Dumitriu and Edelman (2002)."""
    found = []
    for _ in range(count):
        below = np.sqrt(rng.chisquare(np.arange(p - 1, 0, -1)))
        bidiagonal = np.diag(np.sqrt(rng.chisquare(n - np.arange(p)))) + np.diag(below, -1)
        found.append(np.linalg.svd(bidiagonal, compute_uv=False)[::-1] ** 2)
    return np.array(found)


@pytest.mark.parametrize("sides", [(48, 48), (52, 48), (200, 40)])
def test_p_values_of_pure_noise_are_uniform(sides):
    rng = np.random.default_rng(17)
    found = [fit_bulk(x, *sides) for x in wishart(rng, *sides, 400)]
    largest = [one.p_above[0] if len(one.above) else one.next_above for one in found]
    smallest = [one.p_below[0] if len(one.below) else one.next_below for one in found]
    for p_values in (largest, smallest, [one.fit.p_value for one in found]):
        assert kstest(p_values, "uniform").pvalue > FIVE_SIGMA
    # 0.01 of 400, five Poisson errors.
    assert sum(len(one.above) > 0 for one in found) < 4 + 5 * 2
    away = np.array([(one.law.scale - 1.0) / one.scale_error for one in found])
    assert abs(away.mean()) < 5 / 20 and abs(away.std() - 1.0) < 5 / math.sqrt(800)
    spacing = [spacings.surmise_p_value(spacings.unfold(one.bulk, one.law.cdf)) for one in found]
    assert kstest(spacing, "uniform").pvalue > FIVE_SIGMA
    ratios = [spacings.mean_gap_ratio(one.bulk) for one in found]
    mean = np.mean([ratio.value for ratio in ratios])
    scatter = np.std([ratio.value for ratio in ratios])
    assert abs(mean - spacings.GOE) < 5 * scatter / 20 + 0.005
    assert abs(scatter / np.mean([ratio.error for ratio in ratios]) - 1.0) < 0.25


def test_a_known_scale_is_taken_and_refuses_another():
    x = wishart(np.random.default_rng(3), 200, 50, 1)[0]
    known = fit_bulk(x, 200, 50, scale=1.0)
    assert known.law.scale == 1.0 and known.scale_error == 0.0 and not len(known.above)
    wrong = fit_bulk(x, 200, 50, scale=0.9)
    assert wrong.fit.p_value < 1e-6 or len(wrong.above) > 2
    low = fit_bulk(x, 200, 50, scale=1.1)
    assert known.fit.p_value > FIVE_SIGMA > low.fit.p_value


def test_with_a_known_scale_p_values_are_uniform_and_the_trace_is_tested():
    spectra = wishart(np.random.default_rng(23), 120, 60, 400)
    known = [fit_bulk(x, 120, 60, scale=1.0) for x in spectra]
    assert known[0].fit.dof == fit_bulk(spectra[0], 120, 60).fit.dof + 1
    largest = [one.p_above[0] if len(one.above) else one.next_above for one in known]
    smallest = [one.p_below[0] if len(one.below) else one.next_below for one in known]
    for p_values in (largest, smallest, [one.fit.p_value for one in known]):
        assert kstest(p_values, "uniform").pvalue > FIVE_SIGMA
    # 5 % is seven errors of a fitted scale, and then nearly all of them are refused.
    error = fit_bulk(spectra[0], 120, 60).scale_error
    for wrong in (1.0 - 7 * error, 1.0 + 7 * error):
        refused = [fit_bulk(x, 120, 60, scale=wrong).fit.p_value < 1e-3 for x in spectra[:100]]
        assert np.mean(refused) > 0.9


@pytest.mark.parametrize("factor", [1e-3, 0.3, 3.0, 1e3])
def test_a_known_scale_that_is_far_off_is_said_to_be_none(factor):
    matrix = np.random.default_rng(4).normal(size=(50, 40))
    row = describe(matrix, eigenvalues(matrix), scale=factor)
    assert row["scale"] == factor and row["is_scale_known"]
    assert "no Marchenko-Pastur bulk" in row["flag"] and "hardly a bulk" in row["flag"]


@pytest.mark.parametrize("times", [1.7, 4.0])
def test_a_planted_signal_is_found_with_its_strength(times, calibration):
    rng = np.random.default_rng(8)
    n, p = 120, 60
    strength = times * spiked.threshold(n, p)
    found, overlaps = [], []
    for _ in range(120):
        left, right = rng.normal(size=n), rng.normal(size=p)
        left, right = left / np.linalg.norm(left), right / np.linalg.norm(right)
        matrix = rng.normal(size=(n, p)) + strength * np.outer(left, right)
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
        overlaps.append([(u[:, 0] @ left) ** 2, (v[0] @ right) ** 2])
        found.append(spiked.signals(s[:1], n, p))
    position = spiked.position(strength, n, p)
    signal = spiked.signals([position], n, p)
    np.testing.assert_allclose(signal.strength, strength)
    pulls = np.array([(one.strength[0] - strength) / one.error[0] for one in found])
    assert abs(np.mean(pulls)) < 5 / math.sqrt(120) and abs(np.std(pulls) - 1.0) < 0.35
    expected = np.array([signal.overlap_left[0], signal.overlap_right[0]])
    scatter = np.std(overlaps, axis=0) / math.sqrt(120)
    assert (np.abs(np.mean(overlaps, axis=0) - expected) < 5 * scatter + 0.02).all()


def test_power_rises_at_the_threshold(calibration):
    seen = {row["strength"]: row["seen"] for row in calibration.power(15, sizes=(64,))}
    assert seen[0.8] < 0.3 and seen[2.0] > 0.9 and seen[3.0] == 1.0


def test_hard_cases(calibration):
    rows = {row["case"]: row for row in calibration.hard_cases(4)}
    right = [
        *("noise", "one value 1000 x the edge", "30 % of the entries zero"),
        *("30 % of the columns zero", "rank 20 and noise", "rank 60 and noise"),
        "rank 100 and noise",
    ]
    for name in right:
        row = rows[name]
        assert abs(row["scale"] - 1.0) < 5 * row["scale_error"], name
        assert row["bulk_p_value"] > 1e-4, name
    assert rows["one value 1000 x the edge"]["outliers_above"] == 1
    assert rows["30 % of the columns zero"]["zero_columns"] > 40
    for rank in (20, 60, 100):
        assert abs(rows[f"rank {rank} and noise"]["outliers_above"] - rank) <= 2
    for name in ("AR(1), rho 0.3", "AR(1), rho 0.7", "product of rank 50", "Cauchy"):
        assert "no Marchenko-Pastur bulk" in rows[name]["flag"]


def test_heavy_tails_are_flagged_by_their_kurtosis(calibration):
    (row,) = calibration.uniformity(6, ["sparse 10 %"], (48,), aspects=(0.5,))
    assert row["flagged"] == 1.0
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(60, 40))
    matrix[3, 4] = 40.0
    row = describe(matrix, eigenvalues(matrix))
    assert row["largest_entry"] > 1.0 and EDGE_FLAGS["entry"] in row["flag"]
    assert row["outliers_above"] == 1


# --- spacings, tails, vectors, norms --------------------------------------------------------------


def test_independent_levels_are_told_from_random_matrices():
    rng = np.random.default_rng(2)
    levels = np.sort(rng.random(2000))
    ratio = spacings.mean_gap_ratio(levels)
    assert abs(ratio.value - spacings.POISSON) < 5 * ratio.error
    assert (spacings.GOE - ratio.value) / ratio.error > 5
    assert spacings.surmise_p_value(2000 * levels) < FIVE_SIGMA
    variance = spacings.number_variance(2000 * levels, 2.0)
    assert abs(variance.value - 2.0) < 5 * variance.error
    x = wishart(rng, 700, 600, 1)[0]
    unfolded = spacings.unfold(x, MarchenkoPastur(700, 600).cdf)
    assert 0.02 < spacings.unfolding_error(unfolded) < 0.12
    variance = spacings.number_variance(unfolded)
    assert abs(variance.value - spacings.number_variance_goe(4.0)) < 5 * variance.error
    assert math.isnan(spacings.mean_gap_ratio([1.0, 2.0, 4.0]).value)


def test_the_tail_is_that_of_powerlaw():
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.random(20), 1.0 + rng.pareto(1.5, 70)])
    own = power_law_tail.fit_tail(x)
    other = powerlaw.Fit(x[x >= own.start], xmin=own.start, verbose=0).power_law
    np.testing.assert_allclose(
        [own.exponent, own.error], [other.alpha, other.standard_err], rtol=1e-6
    )
    np.testing.assert_allclose(own.distance, other.D, atol=1.5 / own.count)
    assert power_law_tail.fit_tail(np.ones(50)) is None
    assert power_law_tail.fit_tail(np.arange(5.0)) is None


def test_a_cut_off_is_found_where_there_is_one():
    rng = np.random.default_rng(6)
    x = 1.0 + rng.pareto(1.0, 4000)
    bent = x[rng.random(4000) < np.exp(-0.2 * (x - 1.0))]
    found = power_law_tail.fit_truncated(7.0 * bent, 7.0)
    assert abs(found.exponent - 2.0) < 5 * found.exponent_error
    assert abs(found.rate - 0.2 / 7.0) < 5 * found.rate_error
    assert found.p_value < FIVE_SIGMA
    assert power_law_tail.fit_truncated(x[:1000], 1.0).p_value > FIVE_SIGMA


def test_uniform_vectors_pass_and_localised_ones_do_not():
    rng = np.random.default_rng(9)
    p_values = []
    for _ in range(200):
        vectors = np.linalg.qr(rng.normal(size=(48, 30)))[0]
        p_values.append(delocalisation(vectors).p_value)
    assert kstest(p_values, "uniform").pvalue > FIVE_SIGMA
    localised = delocalisation(np.eye(48)[:, :3])
    assert localised.p_value < FIVE_SIGMA
    np.testing.assert_allclose(localised.participation, 1 / 48)
    assert math.isnan(delocalisation(np.zeros((5, 0))).p_value)


def test_norms_and_ranks():
    found = matrix_norms([2.0, 2.0, 0.0])
    np.testing.assert_allclose(found.frobenius_norm, math.sqrt(8))
    assert found.spectral_norm == 2.0
    np.testing.assert_allclose([found.stable_rank, found.effective_rank], 2.0)
    np.testing.assert_allclose(found.entropy, math.log(2.0))
    assert matrix_norms([0.0, 0.0]).stable_rank == 0.0
    np.testing.assert_allclose(matrix_norms([1e-300, 1e-300]).stable_rank, 2.0)


# --- single matrices ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.zeros((40, 40)), "all weights are zero"),
        (np.ones((40, 50)), "1 eigenvalues that are not zero are no bulk"),
        (np.diag(np.r_[np.ones(2), np.zeros(38)]), "2 eigenvalues that are not zero"),
    ],
)
def test_a_matrix_without_a_bulk_says_so(matrix, words):
    row = describe(matrix, eigenvalues(matrix), EXTRAS)
    assert words in row["flag"] and "scale" not in row


def test_rounding_of_a_matrix_of_low_rank_is_no_bulk():
    rng = np.random.default_rng(7)
    low = rng.normal(size=(64, 8)) @ rng.normal(size=(8, 48))
    for matrix in (low, low.astype(np.float32)):
        row = describe(matrix, eigenvalues(matrix))
        assert row["zeros"] == 40 and row["bulk_levels"] + row["outliers_above"] <= 8
    # Noise of the same type is none of it, also beside a strong signal.
    noise = rng.normal(size=(64, 48)) + 1e3 * low / np.linalg.norm(low, 2)
    row = describe(noise.astype(np.float32), eigenvalues(noise.astype(np.float32)))
    assert row["zeros"] == 0 and abs(row["scale"] - 1.0) < 5 * row["scale_error"]


def test_a_transposed_matrix_has_the_same_bulk():
    matrix = np.random.default_rng(5).normal(size=(70, 40)).astype(np.float32)
    one, two = (describe(w, eigenvalues(w), ("vectors",)) for w in (matrix, matrix.T.copy()))
    for name in ("scale", "bulk_chi2", "gap_ratio", "largest_p_value", "tail_exponent"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5)
    name = "porter_thomas_p_value_inside_"
    np.testing.assert_allclose(one[f"{name}left"], two[f"{name}right"], rtol=1e-5)


# --- the stage ------------------------------------------------------------------------------------


@pytest.fixture
def stack(monkeypatch):
    """A system of the tests with large matrices, beside those of the package."""
    folder = str(Path(__file__).parents[1] / "systems")
    monkeypatch.setattr(models, "__path__", [*models.__path__, folder])
    # It is no source of the package, whose digests are tested elsewhere.
    monkeypatch.setattr(sources, "source", lambda *names: "0" * 16)


STUDY = {
    "model": "stack",
    "hyperparameters": {"replicas": 2, "burn_in": 0, "steps": 20, "snapshots": 2},
}


def plan_of(folder, **study):
    return Plan.from_config({"studies": {"own": STUDY | study}}, Results(str(folder)))


def test_large_layers_get_a_bulk_and_its_figures(stack, tmp_path):
    drawn = [*figures.BULK, "bulk_map_largest_p_value"]
    plan = plan_of(tmp_path, bulk=["shuffled", "vectors"], figures=drawn)
    make(plan)
    report = audit.verify(plan)
    assert not (report.stale or report.damaged or report.missing)
    (run,) = plan.runs.values()
    assert plan.results.files_of(run)["bulk"] in plan.targets()
    table = dysonflow.read_bulk(tmp_path, study=None)
    assert set(table["layer"]) == set(layers_with_bulk(run)) == {"wide", "square"}
    # Two replicas and both together, of two layers and snapshots, and shuffled.
    assert len(table) == 3 * 2 * 2 * 2
    own = table[(table["matrix"] == "weights") & (table["pooled"] == "one matrix")]
    start, end = own[own["step"] == 0], own[own["step"] == 20]
    assert (start["outliers_above_corrected"] == 0).all() and (end["outliers_above"] == 1).all()
    # The signal is 2 in every entry.
    size = np.sqrt(end["matrix_rows"] * end["matrix_columns"])
    # Beside the planted strength the noise has a mean: five times the error of both.
    pull = (end["strength"] - 2.0 * size) / end["strength_error"]
    assert (pull.abs() < 5 * math.sqrt(2)).all()
    pooled = table[(table["pooled"] == "replicas") & (table["matrix"] == "weights")]
    assert (pooled["matrices"] == 2).all() and pooled["replica"].isna().all()
    layers = own.groupby(["layer", "snapshot"])
    sums = layers["bulk_chi2"].sum()
    np.testing.assert_allclose(
        pooled.set_index(["layer", "snapshot"])["bulk_chi2"][sums.index], sums
    )
    assert end["porter_thomas_p_value_inside_left"].between(FIVE_SIGMA, 1.0).all()
    for figure in drawn:
        numbers = pd.read_csv(plan.results.figure("csv", "own", figure), comment="#")
        assert len(numbers) > 0
    data = {"bulk": [plan.results.files_of(run)["bulk"]]}
    data["spectra"] = [plan.results.files_of(run)["spectra"]]
    for figure in figures.BULK:
        kind = figures.FIGURES[figure]
        read = {name: data[name] for name in kind.inputs}
        shown = StudyData("own", [run], page=Page("column"), **read)
        drawing = draw_figure(kind.module, shown, kind.options)
        with drawing.page.look():
            drawing.figure.draw_without_rendering()
            assert drawing.figure.get_size_inches()[0] == 3.4
            frame, ink = drawing.page.frame(drawing.figure), drawing.figure.get_tightbbox()
            assert frame.x0 <= ink.x0 and frame.y0 <= ink.y0
            assert ink.x1 <= frame.x1 and ink.y1 <= frame.y1
            texts = [text for text in drawing.figure.findobj(Text) if text.get_text()]
            assert len(texts) > 5 and min(text.get_fontsize() for text in texts) >= 6
        head = drawing.header().splitlines()
        for axis in "xy":
            named = [
                line for line in head if line.startswith((f"# {axis}: ", f"# {axis} of panel"))
            ]
            assert named and all(re.fullmatch(r"[^$\\]+ \[[^]]*\]", line) for line in named)
    # In memory the same numbers, the shuffled ones included.
    trained = dysonflow.train("stack", STUDY["hyperparameters"])
    memory = dysonflow.bulk(trained, ["vectors", "shuffled"])
    pd.testing.assert_frame_equal(memory, table, check_dtype=False)


def test_small_matrices_and_those_that_ask_for_none_have_no_bulk(stack, tmp_path):
    assert plan_of(tmp_path, bulk="none").bulk == {}
    assert set(plan_of(tmp_path).studies["own"].figures) >= set(figures.BULK)
    with pytest.raises(ConfigError, match=r"'bulk_tail' shows a bulk.*bulk: none"):
        plan_of(tmp_path, bulk="none", figures=["bulk_tail"])
    small = Plan.from_config({"studies": {"small": {"model": "teacher_student"}}})
    assert small.bulk == {} and not any("bulk" in path for path in small.targets())
    run = dysonflow.train("teacher_student", {"replicas": 2, "snapshots": 1})
    with pytest.raises(ConfigError, match="no matrix whose shorter side is at least 32"):
        dysonflow.bulk(run)
    with pytest.raises(ConfigError, match="give some of vectors"):
        dysonflow.bulk(run, ["everything"])
    with pytest.raises(ConfigError, match="bulk"):
        plan_of(tmp_path, bulk=["everything"])


def test_two_studies_share_what_they_ask_for(stack, tmp_path):
    config = {"studies": {"a": STUDY | {"bulk": ["vectors"]}, "b": STUDY | {"bulk": ["truncated"]}}}
    plan = Plan.from_config(config, Results(str(tmp_path)))
    assert list(plan.bulk.values()) == [("vectors", "truncated")]


def test_a_known_scale_is_given_by_number_or_by_layer(stack, tmp_path):
    plan = plan_of(tmp_path, bulk=["shuffled"], bulk_scale={"wid*": 1.0, "*": 3.0}, figures=[])
    (run,) = plan.runs.values()
    assert plan.bulk_scales == {run.name: {"wide": 1.0, "square": 3.0}}
    make(plan)
    report = audit.verify(plan)
    assert not (report.stale or report.damaged or report.missing)
    table = dysonflow.read_bulk(tmp_path, study=None)
    start = table[(table["step"] == 0) & (table["matrix"] == "weights")]
    known = start.groupby("layer")
    assert known["is_scale_known"].all().all()
    assert (known["scale_error"].max() == 0.0).all()
    assert known["scale"].unique().explode().to_dict() == {"wide": 1.0, "square": 3.0}
    p_values = start.set_index(["layer", "pooled"])["bulk_p_value"]
    assert (p_values["wide"] > FIVE_SIGMA).all() and (p_values["square"] < FIVE_SIGMA).all()
    # The noise of the shuffled matrix is not that of the start.
    assert not table[table["matrix"] == "shuffled"]["is_scale_known"].any()
    trained = dysonflow.train("stack", STUDY["hyperparameters"])
    memory = dysonflow.bulk(trained, ["shuffled"], {"wid*": 1.0, "*": 3.0})
    pd.testing.assert_frame_equal(memory, table, check_dtype=False)
    with pytest.raises(ConfigError, match="scale = 0.*give a number > 0"):
        dysonflow.bulk(trained, scale=0.0)
    other = plan_of(tmp_path, bulk_scale=2.0, figures=[])
    assert other.bulk_scales[run.name] == {"wide": 2.0, "square": 2.0}
    assert audit.verify(other).stale


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"bulk_scale": 0}, r"bulk_scale = 0: give a number > 0, or names or patterns of layers"),
        ({"bulk_scale": {"wide": "x"}}, r"bulk_scale = \{'wide': 'x'\}: give a number > 0"),
        ({"bulk_scale": True}, "bulk_scale = True: give a number > 0"),
        ({"bulk_scale": {"wyde": 1}}, r"bulk_scale: 'wyde' is no layer with a bulk.*mean wide\?"),
        (
            {"bulk_scale": 1, "bulk": "none"},
            "bulk_scale = 1.0: no matrix .* or the study says bulk",
        ),
    ],
)
def test_a_scale_that_cannot_be_used_is_named(stack, tmp_path, study, words):
    with pytest.raises(ConfigError, match=words) as caught:
        plan_of(tmp_path, **study)
    assert len(str(caught.value).splitlines()) == 1


def test_two_studies_of_one_run_have_one_scale(stack):
    config = {"studies": {"a": STUDY | {"bulk_scale": 1.0}, "b": STUDY}}
    with pytest.raises(ConfigError, match="study 'b': bulk_scale: run .* of study 'a' too, with"):
        Plan.from_config(config)
    config["studies"]["b"] = STUDY | {"bulk": "none"}
    (scales,) = Plan.from_config(config).bulk_scales.values()
    assert scales == {"wide": 1.0, "square": 1.0}


def test_no_column_of_the_bulk_is_a_hyperparameter():
    columns = {field.name for field in BULK_FIELDS}
    for name in models.names():
        fields = hyperparameter_fields(models.hyperparameters_of(name))
        assert not columns & {field.name for field in fields}


def test_every_number_of_the_bulk_can_be_mapped_but_what_tells_a_row():
    numbers = {field.name for field in BULK_FIELDS if str(field.type) in ("double", "int64")}
    assert set(figures.MAPPED) <= numbers
