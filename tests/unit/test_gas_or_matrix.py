"""Gas or matrix: which law a run's levels have, their joint Dyson index, and the figure of both."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gases import FALSE_ALARM

import dysonflow
from dysonflow import stages, theory
from dysonflow.analysis.gas_or_matrix import LAWS, MeasuredSpectrum
from dysonflow.analysis.spectra import eigenvalues
from dysonflow.artifacts.weights import write_weights
from dysonflow.errors import ConfigError
from dysonflow.models import hyperparameters_of
from dysonflow.planning.studies import load_studies
from dysonflow.report.figures import FIGURES, STATIONARY
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.statistics.gas_of_blocks import sample_gas
from dysonflow.statistics.levels import InsufficientData
from dysonflow.theory.gaussian_rbm import matrix, predictions

FIVE_SIGMA = 5.0
RBM = hyperparameters_of("gaussian_rbm")
FIGURE = FIGURES["gas_against_matrix"]


def run_of(**values):
    return RBM.from_config(
        {"sites": 6, "batch_size": 16, "sampler": "wishart", "replicas": 128} | values
    )


def eigenvalues_from(run, law, seed):
    """Eigenvalues of W^T W, ascending, of levels drawn from a law of the theory."""
    laws = theory.load("gaussian_rbm").spectrum_laws(run, "W")
    rng = np.random.default_rng(seed)
    if law in laws.gases:
        drawn = sample_gas(laws.gases[law], run.replicas, run.snapshots, rng, thin=5).levels
    else:
        drawn = laws.matrices[law](run.replicas * run.snapshots, rng)[:, 0]
    levels = drawn.reshape(run.replicas, run.snapshots, -1)
    return theory.load("gaussian_rbm").eigenvalues(run, "W", levels)[..., ::-1]


class TestLaws:
    """Laws of the whole spectrum of the Gaussian machine."""

    def test_the_matrix_has_half_of_the_repulsion_of_the_gas(self):
        # First-order perturbation theory: v_ij / (c_i - c_j) against sigma_i^2 / (c_i - c_j).
        run = run_of(batch_size=400)
        laws = theory.load("gaussian_rbm").spectrum_laws(run, "W")
        gas = laws.gases["gas"]
        first, count = [own.start for own in gas.positions], np.array(gas.multiplicities)
        centre, width = np.array(gas.centres), np.array(gas.sigmas)
        variance = matrix.moments(predictions.machine(run)).variance[np.ix_(first, first)]
        gap = centre[:, None] - centre[None, :] + np.diag(np.full(len(count), np.inf))
        # What both of two modes give way to each other.
        both = width[:, None] ** 2 + width[None, :] ** 2
        assert 2 * variance[0, 1] == pytest.approx(both[0, 1] / 2, rel=1e-2)
        rng = np.random.default_rng(1)
        drawn = {
            "matrix": laws.matrices["matrix"](20_000, rng),
            "gas": sample_gas(gas, 400, 100, rng).levels,
        }
        forces = {"matrix": variance, "gas": np.broadcast_to(width[:, None] ** 2, gap.shape)}
        for law, levels in drawn.items():
            shift = (forces[law] * count / gap).sum(axis=1)
            blocks = np.stack([levels[..., own].mean(axis=(1, 2)) for own in gas.positions], -1)
            error = blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))
            moved = blocks.mean(axis=0) - centre
            # The next order is a few percent of the largest shift.
            assert (np.abs(moved - shift) < FIVE_SIGMA * error + 0.05 * np.abs(shift).max()).all()
            assert abs(moved[0] - shift[0]) < 0.2 * abs(moved[0])

    def test_drawn_levels_are_those_of_the_theory(self):
        run = run_of()
        laws = theory.load("gaussian_rbm").spectrum_laws(run, "W")
        drawn = laws.matrices["matrix"](20_000, np.random.default_rng(2))
        assert drawn.shape == (20_000, 2, 6)
        for block in predictions.blocks(run):
            centres = drawn[..., block.positions].mean(axis=(1, 2))
            error = np.hypot(centres.std() / np.sqrt(len(drawn)), block.centre_uncertainty)
            assert abs(centres.mean() - block.centre) < FIVE_SIGMA * error

    def test_only_levels_that_are_learnt_have_laws(self):
        laws = theory.load("gaussian_rbm").spectrum_laws(run_of(rbm_mass_squared=7.5), "W")
        assert laws.positions.tolist() == [0, 1, 2, 3, 4]
        assert laws.gases["gas"].multiplicities == (1, 2, 2)
        assert laws.matrices["matrix"](3, np.random.default_rng(3)).shape == (3, 2, 5)

    def test_large_matrices_have_none(self):
        run = run_of(sites=80)
        assert theory.load("gaussian_rbm").spectrum_laws(run, "W") is None
        with pytest.raises(ConfigError, match="no law of all levels"):
            MeasuredSpectrum(run, "W", np.ones((40, 8, 80)))


class TestMeasuredSpectrum:
    """Levels of a run beside the laws."""

    def test_levels_of_a_run_are_those_of_the_matrix_and_not_of_the_gas(self):
        run = run_of(learning_rate=0.2, batch_size=32)
        trained = dysonflow.train("gaussian_rbm", run.canonical(), progress=io.StringIO())
        spectrum = MeasuredSpectrum(run, "W", eigenvalues(trained.weights["W"]))
        found = spectrum.compare()
        assert found.distances["matrix"].p_value > FALSE_ALARM
        assert found.distances["gas"].p_value < FALSE_ALARM
        assert found.distances["gas_block_formula"].chi2 > found.distances["gas"].chi2
        index = spectrum.dyson_index()
        assert abs(index.dyson_index - 1.0) < FIVE_SIGMA * index.error

    @pytest.mark.parametrize("law", ["gas", "matrix"])
    def test_each_law_is_told_from_the_other(self, law):
        run = run_of()
        other = {"gas": "matrix", "matrix": "gas"}[law]
        found = MeasuredSpectrum(run, "W", eigenvalues_from(run, law, 4)).compare((law, other))
        assert found.distances[law].p_value > FALSE_ALARM
        assert found.distances[other].p_value < FALSE_ALARM
        table = pd.DataFrame(found.columns)
        assert len(table) == 3 * 6 - 1
        error = np.hypot(table["error"], table[f"{law}_error"])
        assert table[f"{law}_pull"].to_numpy() == pytest.approx(
            ((table["measured"] - table[law]) / error).to_numpy()
        )

    def test_different_modes_repel_less_than_in_the_gas_whatever_their_centres_are(self):
        run = run_of(sites=10, replicas=400)
        found = {}
        for law in ("gas", "matrix"):
            spectrum = MeasuredSpectrum(run, "W", eigenvalues_from(run, law, 7))
            found[law] = spectrum.repulsion_between()
        assert abs(found["gas"].dyson_index - 1.0) < FIVE_SIGMA * found["gas"].error
        # A half where they are far apart, and more where they are near.
        index, error = found["matrix"].dyson_index, found["matrix"].error
        assert 0.5 - FIVE_SIGMA * error < index < 1.0 - FIVE_SIGMA * error

    def test_it_is_a_function_of_the_data_and_of_the_run(self):
        run = run_of()
        x = eigenvalues_from(run, "matrix", 5)
        once, again = (MeasuredSpectrum(run, "W", x).compare(LAWS[:2]).columns for _ in range(2))
        assert once == again
        other = MeasuredSpectrum(run_of(seed=1), "W", x)
        assert other.compare(("matrix",)).columns["matrix"] != once["matrix"]

    def test_too_few_replicas_are_refused(self):
        run = run_of(replicas=20)
        with pytest.raises(InsufficientData, match="20 replicas are too few"):
            MeasuredSpectrum(run, "W", eigenvalues_from(run, "matrix", 6))


def spectra_file(run, folder, seed):
    """Spectra of a run whose levels are drawn from the matrix."""
    x = eigenvalues_from(run, "matrix", seed)
    weights = np.zeros((*x.shape, x.shape[-1]))
    weights[..., np.arange(x.shape[-1]), np.arange(x.shape[-1])] = np.sqrt(x)
    paths = [str(folder / f"{run.name}{suffix}") for suffix in (".safetensors", ".parquet")]
    loss = np.zeros((run.replicas, run.snapshots))
    write_weights(paths[0], {"W": weights}, run.snapshot_steps, loss, {"run": run.name})
    stages.spectra(run.MODEL, run.canonical(), "0", paths[0], paths[1])
    return paths[1]


def test_the_figure_holds_the_pulls_of_both_laws(tmp_path):
    runs = [run_of(batch_size=16), run_of(batch_size=64), run_of(batch_size=32, replicas=8)]
    files = [spectra_file(run, tmp_path, seed) for seed, run in enumerate(runs)]
    drawing = draw_figure(FIGURE.module, StudyData("mine", runs, files), FIGURE.options)
    table = pd.concat(drawing.numbers)
    pulls = table[table["panel"].isin(["mean", "width", "correlation"])]
    # The third run has too few replicas.
    assert len(pulls) == 2 * 2 * (3 * 6 - 1) and set(pulls["curve"]) == {"gas", "matrix"}
    error = np.hypot(pulls["measured_error"], pulls["predicted_error"])
    assert pulls["y"].to_numpy() == pytest.approx(
        ((pulls["measured"] - pulls["predicted"]) / error).to_numpy()
    )
    assert set(table[table["panel"] == "inside"]["curve"]) == {"alone", "joint"}
    assert set(table[table["panel"] == "between"]["curve"]) == {"between", "between_matrix"}
    assert "reject it in 0 of 2 runs" in drawing.caption
    assert f"Left out: run {runs[2].name}: 8 replicas are too few" in drawing.caption
    output = {kind: str(tmp_path / f"f.{kind}") for kind in ("png", "pdf", "csv")}
    output["caption"] = str(tmp_path / "f.rst")
    drawing.save(**output)
    assert all(Path(path).stat().st_size for path in output.values())


def test_a_figure_without_a_run_that_bears_it_says_why(tmp_path):
    run = run_of(replicas=8)
    data = StudyData("mine", [run], [spectra_file(run, tmp_path, 1)])
    with pytest.raises(ConfigError, match="study mine: run .* replicas are too few.*leave"):
        draw_figure(FIGURE.module, data, FIGURE.options)


def test_a_study_of_a_model_without_such_laws_is_told_so_before_anything_runs():
    study = {"model": "teacher_student", "figures": ["gas_against_matrix"]}
    with pytest.raises(ConfigError, match="none is known of teacher_student: leave it out"):
        load_studies({"studies": {"mine": study}})
    found = load_studies({"studies": {"mine": study | {"model": "gaussian_rbm"}}})
    assert found["mine"].figures == ("gas_against_matrix",)
    assert "gas_against_matrix" not in STATIONARY
