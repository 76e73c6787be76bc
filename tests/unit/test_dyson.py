"""Dyson Brownian motion: one law by three dynamics, order at any step, Hermite zeros, bad input.

Statistical tests allow five standard errors, or the p-value of that, with fixed seeds.
"""

import io
import math

import numpy as np
import pandas as pd
import pytest
from gases import FALSE_ALARM
from in_process import make_run
from scipy import integrate, stats

import dysonflow
from dysonflow.analysis.scaling import scaling_laws
from dysonflow.artifacts.tables import read_table
from dysonflow.errors import ConfigError
from dysonflow.models import hyperparameters_of, load
from dysonflow.models.dyson import (
    CompiledLevels,
    DysonSimulation,
    potential,
    step_coefficients,
)
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import load_studies
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.results import Results
from dysonflow.simulation import ensemble
from dysonflow.simulation.base import Block
from dysonflow.simulation.devices import CPU, Device
from dysonflow.simulation.implementation import choose, place_of
from dysonflow.simulation.implicit_levels import ordered_levels
from dysonflow.simulation.kernel import library
from dysonflow.simulation.kernel.dyson import DysonKernel
from dysonflow.statistics.coulomb_gas import hermite_zeros, log_vandermonde, mean_pair_gap, sample

DYSON = hyperparameters_of("dyson")
FIVE_SIGMA = 5.0
INDICES = (0.5, 1, 2, 4)
REPLICAS = 500
needs_kernel = pytest.mark.skipif(
    not library.knows("dyson"), reason="there is no compiled kernel, or an older one"
)


def configured(**values):
    return DYSON.from_config({"burn_in": 0, "steps": 1000, "snapshots": 1} | values)


def simulated(steps, replicas=REPLICAS, **values):
    """Levels of replicas side by side after some steps."""
    block = DysonSimulation.start(configured(**values), Block(0, replicas))
    block.advance(steps)
    return block.now()


def gap_ratios(levels):
    gap = np.diff(levels, axis=1)
    return np.minimum(gap[:, 1:], gap[:, :-1]) / np.maximum(gap[:, 1:], gap[:, :-1])


@pytest.fixture(scope="module")
def stationary():
    """Four levels at time 3, where all but 0.3 % of the start is forgotten."""
    found = {}
    for beta in INDICES:
        for dynamics in ("matrix", "levels", "stationary"):
            h = {"beta": beta, "dynamics": dynamics, "time_step": 0.02}
            found[beta, dynamics] = simulated(150, **h)
    return found


@pytest.mark.parametrize("beta", INDICES)
@pytest.mark.parametrize("dynamics", ["matrix", "levels", "stationary"])
def test_the_sum_of_squares_is_that_of_the_gas(stationary, beta, dynamics):
    square = (stationary[beta, dynamics] ** 2).sum(axis=1)
    error = square.std(ddof=1) / math.sqrt(len(square))
    assert abs(square.mean() - (4 / beta + 6)) < FIVE_SIGMA * error


@pytest.mark.parametrize("beta", INDICES)
@pytest.mark.parametrize("dynamics", ["matrix", "levels", "stationary"])
def test_gaps_and_their_ratios_are_those_of_exact_samples(stationary, beta, dynamics):
    levels = stationary[beta, dynamics]
    exact = sample(4, beta, 20_000, np.random.default_rng(1), sigma=beta**-0.5)
    for observable in (
        lambda x: x[:, 2] - x[:, 1],
        lambda x: x[:, 3],
        lambda x: gap_ratios(x).mean(axis=1),
    ):
        assert stats.ks_2samp(observable(levels), observable(exact)).pvalue > FALSE_ALARM


@pytest.mark.parametrize("beta", [0.5, 1, 4, "infinity"])
@pytest.mark.parametrize("time_step", [1e-3, 1.0, 1e6])
def test_levels_keep_their_order_at_any_step_and_equal_ones_separate(beta, time_step):
    h = {"beta": beta, "time_step": time_step, "size": 6, "initial_levels": [1, 1, 1, 1, 1, 1]}
    block = DysonSimulation.start(configured(**h), Block(0, 20))
    assert np.isinf(block.loss()).all()
    for _ in range(5):
        block.advance(1)
        assert (np.diff(block.now(), axis=1) > 0).all() and np.isfinite(block.loss()).all()


@pytest.mark.parametrize("start", [[-1e8, 0, 1, 1e8], [1e8, 1e8, 1e8, 1e8]])
def test_far_levels_end_at_their_rounding(start):
    # The equation of the step cannot be solved to better than that, and need not be.
    levels = simulated(20, 64, beta=1, initial_levels=start)
    assert (np.diff(levels, axis=1) > 0).all()
    decayed = np.array(start) * math.exp(-0.2)
    assert (np.abs(levels - decayed) < 10).all()


def test_the_implicit_step_solves_its_equation_one_replica_at_a_time():
    rng = np.random.default_rng(2)
    stiffness, force = rng.uniform(1, 300, 5), 100 * rng.standard_normal((40, 5))
    start = np.sort(rng.standard_normal((40, 5)), axis=1)
    y = ordered_levels(stiffness, force, start)
    distance = y[:, :, None] - y[:, None, :]
    distance[:, range(5), range(5)] = np.inf
    inverse = 1 / distance
    residual = stiffness * y - inverse.sum(axis=2) - force
    assert (np.diff(y, axis=1) > 0).all()
    # In the unit of the slope of the left-hand side, that is as an error of y.
    assert np.abs(residual / (stiffness + (inverse**2).sum(axis=2))).max() < 1e-13
    for replica in (0, 17):
        alone = slice(replica, replica + 1)
        assert (ordered_levels(stiffness, force[alone], start[alone]) == y[alone]).all()
    other = ordered_levels(stiffness, force, start * [1, 2, 3, 4, 5] + [0, 9, 99, 999, 9999])
    np.testing.assert_allclose(other, y, rtol=1e-11, atol=1e-12)


@needs_kernel
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("beta", [0.5, 2, "infinity"])
@pytest.mark.parametrize("start", ["auto", "equal"])
def test_the_kernel_takes_the_same_step(size, beta, start):
    h = configured(
        size=size,
        beta=beta,
        time_step=0.05,
        confinement=0.7,
        initial_levels=[0.5] * size if start == "equal" else "auto",
    )
    coefficients, replicas, steps = step_coefficients(h), 21, 4
    noise = np.random.default_rng(4).standard_normal((replicas, steps, size))
    levels = np.tile(h.start(), (replicas, 1))
    stiffness, memory, pull, kick = coefficients
    for step in range(steps):
        force = memory * levels + pull + kick * noise[:, step]
        guess = levels + (0.1 * np.arange(size) if start == "equal" and step == 0 else 0.0)
        levels = ordered_levels(stiffness, force, guess)
    for name in library.instruction_sets():
        kernel = DysonKernel(
            coefficients=coefficients, levels=h.start(), replicas=replicas, instruction_set=name
        )
        kernel.advance(steps, noise=noise)
        np.testing.assert_allclose(kernel.weights[:, 0], levels, rtol=1e-12, atol=1e-12)


@needs_kernel
def test_the_kernel_has_the_law_of_the_gas():
    h = configured(beta=2, time_step=0.02)
    block = CompiledLevels.start(h, Block(0, 4 * REPLICAS))
    block.advance(150)
    levels = block.layers()["M"][:, 0]
    exact = sample(4, 2, 20_000, np.random.default_rng(1), sigma=0.5**0.5)
    for observable in (lambda x: x[:, 2] - x[:, 1], lambda x: gap_ratios(x).mean(axis=1)):
        assert stats.ks_2samp(observable(levels), observable(exact)).pvalue > FALSE_ALARM
    squares = (levels**2).sum(axis=1)
    assert abs(squares.mean() - 8) < FIVE_SIGMA * squares.std() / math.sqrt(len(squares))


@needs_kernel
def test_the_kernel_goes_on_bit_for_bit_and_serves_the_levels_alone(monkeypatch):
    h = configured(beta=1.5)
    block, other = (CompiledLevels.start(h, Block(3, 20)) for _ in range(2))
    block.advance(7)
    other.load(block.state())
    for one in (block, other):
        one.advance(5)
    assert block.step == other.step == 12
    assert block.layers()["M"].tobytes() == other.layers()["M"].tobytes()
    system = load("dyson")
    assert choose(system, CPU, h).is_compiled
    found = choose(system, CPU, configured(dynamics="matrix"))
    assert found.simulation is DysonSimulation and not found.is_compiled
    assert found.name == "numpy (the compiled kernel has no dynamics: matrix)"
    monkeypatch.setattr(library, "knows", lambda name: False)
    assert "older than this model" in choose(system, CPU, h).name


@pytest.mark.parametrize(("size", "theta"), [(1, 1.0), (2, 1.0), (4, 1.0), (7, 2.5), (20, 0.3)])
def test_at_infinite_index_levels_run_into_the_hermite_zeros(size, theta):
    values = {"beta": "infinity", "size": size, "confinement": theta, "time_step": 0.1}
    run = DYSON.from_config({**values, "snapshots": 1, "replicas": 1})
    levels = ensemble.train_in_memory(DysonSimulation, run, log=io.StringIO()).weights[0, 0, 0]
    zeros = np.polynomial.hermite.hermgauss(size)[0] / math.sqrt(theta)
    np.testing.assert_allclose(levels, zeros, atol=1e-8)
    assert (levels**2).sum() == pytest.approx(size * (size - 1) / 2 / theta)


def test_without_confinement_the_orbit_grows_by_its_mean_curvature():
    start, errors = [-1.0, 0.5], []
    for steps in (100, 200):
        h = configured(
            **{"beta": "infinity", "confinement": 0, "size": 2, "initial_levels": start},
            time_step=0.5 / steps,
        )
        block = DysonSimulation.start(h, Block(0, 1))
        volume = [-block.loss()[0]]
        for _ in range(steps):
            block.advance(1)
            volume.append(-block.loss()[0])
        assert (np.diff(volume) > 0).all()
        # The square of the gap grows by 4 t, the centre stays.
        assert block.now().sum() == pytest.approx(sum(start))
        errors.append(abs(np.diff(block.now())[0, 0] - math.sqrt(1.5**2 + 4 * 0.5)))
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.1)


def test_the_matrix_follows_the_same_flow_from_an_arbitrary_start():
    values = {"beta": "infinity", "time_step": 0.002, "initial_levels": [-2, -1, 0.5, 3]}
    flow = simulated(250, 1, **values)[0]
    found = simulated(250, 200, dynamics="matrix", **values)
    error = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    # Both have an error of first order in the step.
    assert (np.abs(found.mean(axis=0) - flow) < FIVE_SIGMA * error + 0.004).all()
    assert (found.std(axis=0) < 0.1).all()


@pytest.mark.parametrize("dynamics", ["matrix", "levels"])
def test_the_centre_of_mass_is_forgotten_at_the_rate_of_the_confinement(dynamics):
    h = configured(dynamics=dynamics, size=3, beta=2, confinement=0.8, time_step=0.05)
    block = DysonSimulation.start(h, Block(0, 1000))
    block.advance(60)
    before = block.now().mean(axis=1)
    block.advance(10)
    after = block.now().mean(axis=1)
    expected = math.exp(-0.8 * 0.5)
    found = np.corrcoef(before, after)[0, 1]
    assert abs(found - expected) < FIVE_SIGMA * (1 - expected**2) / math.sqrt(len(before))
    # Its variance is sigma^2 / n, of a sum of so many squares.
    variance = 1 / (2 * 0.8 * 3)
    assert abs(after.var(ddof=1) / variance - 1) < FIVE_SIGMA * math.sqrt(2 / len(after))


@pytest.mark.parametrize(
    ("centres", "widths"), [([0.0, 0.3], [1.0, 0.5]), ([0.5, -0.5], [0.6, 0.9])]
)
def test_unequal_centres_and_widths_have_the_law_of_the_gas(centres, widths):
    values = {"size": 2, "beta": 2, "centres": centres, "widths": widths, "time_step": 0.02}
    levels = simulated(300, 1000, **values)

    def weight(y, x):
        confined = (x - centres[0]) ** 2 / widths[0] ** 2 + (y - centres[1]) ** 2 / widths[1] ** 2
        return (y - x) ** 2 * math.exp(-confined / 2)

    def mean(observable):
        return integrate.dblquad(
            lambda y, x: observable(x, y) * weight(y, x), -7, 7, lambda x: x, 9, epsrel=1e-6
        )[0]

    total = mean(lambda x, y: 1.0)
    for observable in (
        lambda x, y: x,
        lambda x, y: y,
        lambda x, y: (y - x) ** 2,
        lambda x, y: x * y,
    ):
        found = observable(levels[:, 0], levels[:, 1])
        error = found.std(ddof=1) / math.sqrt(len(found))
        assert abs(found.mean() - mean(observable) / total) < FIVE_SIGMA * error


@pytest.mark.parametrize("dynamics", ["matrix", "levels", "stationary"])
def test_an_interrupted_run_goes_on_bit_for_bit(dynamics):
    h = configured(dynamics=dynamics, beta=1.5)
    block = DysonSimulation.start(h, Block(3, 20))
    block.advance(7)
    other = DysonSimulation.start(h, Block(3, 20))
    other.load(block.state())
    for one in (block, other):
        one.advance(2)
        one.advance(3)
    assert block.step == other.step == 12
    assert block.layers()["M"].tobytes() == other.layers()["M"].tobytes()
    assert block.loss().tobytes() == other.loss().tobytes()


@pytest.mark.parametrize("dynamics", ["matrix", "levels", "stationary"])
def test_shards_change_no_number(dynamics):
    run = configured(dynamics=dynamics, replicas=70, steps=5, snapshots=2)
    simulation, log = load("dyson").simulation, io.StringIO()
    whole = ensemble.train_in_memory(simulation, run, log=log).weights
    tail = ensemble.train_in_memory(simulation, run, log=log, members=range(64, 70)).weights
    assert (whole[64:] == tail).all()
    if dynamics == "matrix":
        assert (whole == whole.swapaxes(2, 3)).all()


def test_a_graphics_card_is_left_to_others():
    card = Device("cuda", "some card")
    assert place_of(load("dyson"), card) == CPU
    assert place_of(load("teacher_student"), card) == card


@pytest.mark.parametrize("spelling", ["infinity", "inf", math.inf, "Infinity"])
def test_infinity_in_any_spelling_is_one_run(spelling):
    run = DYSON.from_config({"beta": spelling})
    assert run.canonical()["beta"] == "infinity" and math.isinf(run.dyson_index)
    assert run.key == DYSON.from_config({"beta": "infinity"}).key
    assert DYSON.from_config(run.canonical()) == run
    assert run.name.startswith("betainfinity-")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"beta": 0}, ["beta = 0", "> 0 or infinity"]),
        ({"beta": -1}, ["beta = -1", "> 0 or infinity"]),
        ({"beta": "huge"}, ["beta = 'huge'", "> 0 or infinity"]),
        (
            {"dynamics": "matrix", "initial_levels": [0, 0, 1, 2]},
            ["time_step = 0.01", "initial_levels, 0:", "set initial_levels apart", "levels"],
        ),
        ({"dynamics": "matrix", "time_step": 0.07}, ["time_step = 0.07", "at most 0.062"]),
        (
            {"dynamics": "matrix", "time_step": 0.07, "initial_levels": [-9, -3, 3, 9]},
            ["time_step = 0.07", "at rest, 1.05", "at most 0.069"],
        ),
        ({"centres": [1, 2]}, ["centres = [1.0, 2.0]", "size = 4"]),
        ({"initial_levels": []}, ["initial_levels = []", "give 4"]),
        ({"widths": [1, 1, 0, 1]}, ["widths", "> 0"]),
        ({"widths": [1, 1, 1, 1], "beta": "infinity"}, ["widths", "give confinement"]),
        ({"widths": [1, 1, 1, 1], "dynamics": "stationary"}, ["widths", "dynamics: levels"]),
        ({"centres": [1, 1, 1, 1], "dynamics": "matrix"}, ["centres", "dynamics: levels"]),
        ({"confinement": 0}, ["burn_in = auto", "confinement > 0"]),
        ({"confinement": 0, "dynamics": "stationary"}, ["confinement = 0", "stationary"]),
    ],
)
def test_a_bad_value_is_one_line_with_key_value_and_fix(values, words):
    with pytest.raises(ConfigError) as error:
        DYSON.from_config(values)
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_fits_are_those_of_the_index_of_the_run():
    values = {"beta": 2, "dynamics": "stationary", "replicas": 400, "size": 3, "snapshots": 2}
    run = dysonflow.train("dyson", values, progress=io.StringIO())
    (row,) = dysonflow.fit(run).to_dict("records")
    assert row["dyson_index_theory"] == 2.0 and row["dyson_index_error"] > 0
    assert row["sigma_theory"] == pytest.approx(math.sqrt(0.5))
    for name in ("centre", "sigma", "gap", "dyson_index"):
        assert abs(row[f"pull_{name}"]) < FIVE_SIGMA
    away = (row["dyson_index"] - 2.0) / row["dyson_index_error"]
    # The pull of a logarithm.
    assert row["pull_dyson_index"] == pytest.approx(away, abs=0.1)
    assert row["density_p_value"] > FALSE_ALARM
    assert math.isnan(row["stochasticity"]) and math.isnan(row["variable"])
    assert row["quantity"] == "eigenvalue of M"


def test_the_gap_of_a_pair_is_that_of_its_index():
    for beta in INDICES:
        gap = np.diff(sample(2, beta, 20_000, np.random.default_rng(3)), axis=1)
        error = gap.std() / math.sqrt(len(gap))
        assert abs(gap.mean() - mean_pair_gap(beta)) < FIVE_SIGMA * error
    assert mean_pair_gap(1) == pytest.approx(math.sqrt(math.pi))


def test_levels_at_rest_are_flagged_and_still_have_spectra():
    values = {"beta": "infinity", "replicas": 40, "dynamics": "stationary", "snapshots": 1}
    run = dysonflow.train("dyson", values, progress=io.StringIO())
    spectra = dysonflow.spectra(run)
    found = spectra.pivot(index="replica", columns="index", values="eigenvalue").to_numpy()
    np.testing.assert_allclose(found, np.tile(hermite_zeros(4), (40, 1)), atol=1e-12)
    assert np.isinf(spectra["beta"]).all()
    (row,) = dysonflow.fit(run).to_dict("records")
    assert "beta = infinity" in row["flag"] and math.isnan(row["sigma"])


def test_unequal_centres_are_not_fitted():
    values = {"centres": [0, 0, 1, 1], "replicas": 2, "snapshots": 1, "burn_in": 0, "steps": 1}
    run = dysonflow.train("dyson", values, progress=io.StringIO())
    with pytest.raises(ConfigError, match="nothing to fit"):
        dysonflow.fit(run)


def test_the_potential_is_confinement_less_log_vandermonde():
    h = configured(centres=[0, 1, 2, 3], widths=[1, 1, 1, 2], beta=2)
    levels = np.array([[0.0, 1.0, 2.0, 5.0]])
    expected = 0.5 * (5 - 3) ** 2 / (2 * 2**2) - log_vandermonde(levels)
    np.testing.assert_allclose(potential(h, levels), expected)


def test_figures_of_runs_that_learn_nothing_are_drawn(tmp_path):
    start = {"burn_in": 0, "steps": 40, "snapshots": 21, "replicas": 2, "time_step": 0.1}
    pairs = {"size": 2, "dynamics": "stationary", "replicas": 60, "snapshots": 1}
    flow = {**start, "initial_levels": [0, 0, 0, 2]}
    config = {
        "one": {"model": "dyson", "hyperparameters": pairs, "sweep": {"beta": [0.5, 2]}},
        "two": {"model": "dyson", "hyperparameters": flow, "sweep": {"beta": [1, "infinity"]}},
    }
    config["two"]["figures"] = ["dyson_levels", "hermite_zeros", "spectrum"]
    plan = Plan.from_config({"studies": config}, Results(str(tmp_path)))
    for run in plan.runs.values():
        make_run(plan, run, io.StringIO())
    kinds = {"one": ("spectra", "fits"), "two": ("spectra",)}

    def numbers(study, figure):
        files = {kind: plan.run_files(study, kind) for kind in kinds[study]}
        drawing = draw_figure(figure, StudyData(study, plan.studies[study].runs, **files), {})
        return pd.concat(drawing.numbers)

    assert set(numbers("one", "dyson_index")["curve"]) == {"stationary"}
    # Of the index 1/2 there is no surmise.
    gaps = numbers("one", "gap_distribution")
    (surmise,) = {name for name in gaps["curve"] if name.startswith("wigner")}
    assert surmise.endswith("= 2$")
    for figure in ("block_density", "pulls", "spectrum"):
        assert len(numbers("one", figure))
    flow = numbers("two", "hermite_zeros")
    climbed = flow[flow["curve"] == "log Vandermonde less confinement"]["y"].dropna()
    assert len(climbed) == 20 and (climbed.diff().dropna() > 0).all()
    distance = flow[flow["curve"] == "largest distance"]["y"]
    assert distance.iloc[-1] < 0.1 < distance.iloc[0]
    levels = numbers("two", "dyson_levels")
    assert {f"level {i}" for i in range(4)} <= set(levels["curve"])
    laws = scaling_laws("one", read_table(plan.run_files("one", "fits")), 1.0, ["beta"])
    assert laws == []
    with pytest.raises(ConfigError, match="no run has beta = infinity"):
        (run, _) = plan.studies["two"].runs
        spectra = [plan.results.files_of(run)["spectra"]]
        draw_figure("hermite_zeros", StudyData("mine", [run], spectra=spectra), {})


def test_figures_of_laws_are_for_models_that_learn():
    study = {"model": "dyson", "hyperparameters": {"steps": 1, "burn_in": 0, "snapshots": 1}}
    auto = load_studies({"studies": {"one": study}})["one"]
    assert "pulls" in auto.figures and "mean_gap" not in auto.figures
    with pytest.raises(ConfigError, match="learning_rate and batch_size, which dyson"):
        load_studies({"studies": {"one": {**study, "figures": ["mean_gap"]}}})
    with pytest.raises(ConfigError, match="shows dyson only, not teacher_student"):
        load_studies({"studies": {"one": {"model": "teacher_student", "figures": ["dyson_index"]}}})
