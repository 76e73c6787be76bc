"""The studies of config/paper.yaml with fewer and smaller runs: every figure, the document."""

import math
import re

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml
from conftest import ROOT, Workflow

import dysonflow
from dysonflow.artifacts.documents import read_document
from dysonflow.planning import audit
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import load_studies
from dysonflow.report import figures
from dysonflow.results import Results

pytestmark = pytest.mark.workflow


def paper():
    return yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())


def reduced():
    """Same studies, figures and roles; a few points with a few replicas each."""
    config = paper()
    studies = config["studies"]
    for study in studies.values():
        study["hyperparameters"]["replicas"] = 128
    machine = {"learning_rate": [0.05, 0.1], "batch_size": 16}
    studies["paper_gaussian_rbm"]["sweep"] = [machine, {"learning_rate": 0.1, "batch_size": [64]}]
    studies["paper_gaussian_rbm_weak_noise"]["sweep"] = [
        {"learning_rate": 0.1, "batch_size": [64, 1024]}
    ]
    studies["paper_gaussian_rbm_weak_noise"]["small_noise"] = 0.00016
    studies["paper_gaussian_rbm"]["small_noise"] = 0.002
    studies["paper_gaussian_rbm_evolution"]["hyperparameters"] |= {"steps": 600, "snapshots": 7}
    students = [
        {"learning_rate": [0.1, 0.5], "batch_size": 16},
        {"learning_rate": 0.1, "batch_size": [4]},
        {"learning_rate": 0.1, "batch_size": 16, "noise_scale": [0.05]},
    ]
    studies["paper_teacher_student"]["sweep"] = students
    studies["paper_teacher_student_shared"]["sweep"] = {"learning_rate": [0.1, 0.5], "seed": [1, 2]}
    studies["paper_semicircle"]["sweep"] = {"size": [4, 8]}
    for name in ("paper_gaussian_rbm_motion", "paper_teacher_student_motion"):
        studies[name]["hyperparameters"] |= {"snapshots": 16, "lags": [1, 2, 3]}
        studies[name]["sweep"] = {"learning_rate": 0.1, "batch_size": 64}
    return config


@pytest.fixture(scope="module")
def finished_paper(tmp_path_factory):
    flow = Workflow(tmp_path_factory.mktemp("paper"))
    flow.configure(reduced())
    flow.run = flow.snakemake("--cores", "2")
    return flow


def test_the_paper_has_its_points_and_statistics():
    studies = load_studies(paper())
    machine = studies["paper_gaussian_rbm"]
    points = {(run.learning_rate, run.batch_size) for run in machine.runs}
    rates = {(a, 16) for a in (0.01, 0.02, 0.04, 0.06, 0.08, 0.1)}
    assert points == rates | {(0.1, batch) for batch in (4, 8, 16, 32, 64)}
    for run in machine.runs:
        assert run.replicas * run.snapshots >= 7500
        assert (run.sampler, run.gibbs_sweeps, run.sites, run.hidden_units) == ("gibbs", 3, 10, 10)
    for name in ("paper_teacher_student", "paper_teacher_student_shared"):
        assert all(run.replicas >= 3000 for run in studies[name].runs)
    drawn = {
        f"gap_distribution_{over}_pair{pair}"
        for over in ("batch_size", "learning_rate")
        for pair in (1, 2, 3, 4)
    }
    assert drawn < set(machine.figures)


def test_it_runs_to_the_end(finished_paper):
    assert finished_paper.run.returncode == 0, finished_paper.run.stderr


@pytest.mark.parametrize(
    ("study", "figure"),
    [(study.name, figure) for study in load_studies(paper()).values() for figure in study.figures],
)
def test_every_figure_of_the_paper_is_drawn(finished_paper, study, figure):
    stem = finished_paper.folder / "results" / "figures" / study / figure
    picture = matplotlib.image.imread(stem.with_suffix(".png"))
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.05
    numbers = pd.read_csv(stem.with_suffix(".csv"), comment="#")
    assert len(numbers) > 5
    assert "nan" not in stem.with_suffix(".rst").read_text()


def test_the_theory_in_a_spectrum_counts_all_levels(finished_paper):
    for figure in ("spectrum_lambda", "spectrum_x"):
        path = finished_paper.folder / "results/figures/paper_gaussian_rbm" / f"{figure}.csv"
        numbers = pd.read_csv(path, comment="#")
        for _, rows in numbers[numbers["curve"] != "centre_theory"].groupby(["panel", "curve"]):
            width = rows["x_high"] - rows["x_low"]
            assert (rows["y"] * width).sum() == pytest.approx(10.0, rel=0.01)


def test_levels_and_eigenvalues_are_one_spectrum(finished_paper):
    folder = finished_paper.folder / "results/figures/paper_gaussian_rbm"
    level, x = (
        pd.read_csv(folder / f"spectrum_{name}.csv", comment="#") for name in ("lambda", "x")
    )
    for panel in level["panel"].unique():
        mean = [
            (rows["x"] * rows["y"] * (rows["x_high"] - rows["x_low"])).sum() / 10.0
            for table in (level, x)
            for rows in [table[(table["panel"] == panel) & (table["curve"] == "theory")]]
        ]
        assert mean[0] == pytest.approx(9.0 - mean[1], abs=0.01)


@pytest.mark.parametrize(
    ("study", "figure", "block"),
    [
        ("paper_gaussian_rbm", "gap_distribution_learning_rate_pair1", 1),
        ("paper_gaussian_rbm", "gap_distribution_batch_size_pair3", 3),
        ("paper_teacher_student", "gap_distribution_batch_size_pair1", 0),
    ],
)
def test_the_line_of_raw_gaps_has_the_mean_gap_of_theory(finished_paper, study, figure, block):
    results = finished_paper.folder / "results"
    numbers = pd.read_csv(results / "figures" / study / f"{figure}.csv", comment="#")
    fits = dysonflow.read_fits(results)
    lines = numbers[numbers["curve"].str.endswith(" theory")]
    assert lines["curve"].nunique() == 2
    for curve, rows in lines.groupby("curve"):
        fit = fits[(fits["run"] == curve.removesuffix(" theory")) & (fits["block"] == block)]
        x, density = rows["x"].to_numpy(), rows["y"].to_numpy()
        theory = fit["mean_gap_theory"].item()
        assert np.trapezoid(density, x) == pytest.approx(1.0, abs=0.02)
        assert np.trapezoid(x * density, x) == pytest.approx(theory, rel=0.02)


def on_theory(points, theory):
    """Whether points lie on a line of theory: 5 sigma on chi2."""
    pull = (points["y"].to_numpy() - theory) / points["y_error"].to_numpy()
    return scipy.stats.chi2.sf(np.square(pull).sum(), len(pull)) > 5.7e-7


def numbers_of(flow, study, figure):
    path = flow.folder / "results" / "figures" / study / f"{figure}.csv"
    return pd.read_csv(path, comment="#")


def test_the_levels_lie_on_the_exact_law_and_not_on_a_scaled_one(finished_paper):
    numbers = numbers_of(finished_paper, "paper_semicircle", "semicircle")
    for name, panel in numbers.groupby("panel"):
        levels, exact = (panel[panel["curve"] == name] for name in ("levels", "exact"))
        # E[SS] = d sigma^2, in units of the radius sigma sqrt(2 n), from 128 replicas with 4
        # snapshots: SS / sigma^2 is a chi^2 of d degrees of freedom.
        n, samples = int(name.removeprefix("n=")), 128 * 4
        square = (levels["y"] * levels["x"] ** 2).sum() / levels["y"].sum()
        error = math.sqrt(2.0 / (n * (n + 1) / 2 * samples))
        assert square * 4 * n / (n + 1) == pytest.approx(1.0, abs=5 * error)
        # Where few levels are seen their spread over replicas is no error.
        levels = levels[levels["y"] > 0.1]
        for scale in (1.0, 1.2):
            law = np.interp(scale * levels["x"], exact["x"], scale * exact["y"])
            assert on_theory(levels, law) == (scale == 1.0)


def test_the_centres_lie_on_their_theory_and_not_at_kappa(finished_paper):
    numbers = numbers_of(finished_paper, "paper_gaussian_rbm", "centre")
    named = numbers["curve"].str.endswith(" theory")
    points = numbers[~named]
    keys = ["curve", "x"]
    theory = numbers[named].assign(curve=lambda rows: rows["curve"].str.removesuffix(" theory"))
    both = points.merge(theory[[*keys, "y"]], on=keys, suffixes=("", "_theory"))
    assert len(both) == len(points) == 18
    assert on_theory(both, both["y_theory"].to_numpy())
    assert not on_theory(both, 1.0)


def test_runs_on_shared_data_lie_where_their_inputs_put_them(finished_paper):
    numbers = numbers_of(finished_paper, "paper_teacher_student_shared", "shared_data")
    measured, given = (
        numbers[numbers["curve"] == name] for name in ("measured", "theory given the inputs")
    )
    assert measured["x"].tolist() == given["x"].tolist() and len(measured) == 4
    assert on_theory(measured, given["y"].to_numpy())
    assert not on_theory(measured, 1.3 * given["y"].to_numpy())


def test_the_document_names_every_study_and_is_sound(finished_paper):
    path = finished_paper.folder / "results" / "reproduction.md"
    metadata, text = read_document(path), path.read_text()
    assert set(metadata["studies"]) == set(paper()["reproduction"])
    for content in metadata["studies"].values():
        assert f"`{content['study']}`" in text
    table = [
        line for line in text.splitlines() if re.search(r"\| (agrees|in tension|differs) \|$", line)
    ]
    assert len(table) > 50
    assert not re.search(r"\bnan\b", text)
    for figure in re.findall(r"`(results/figures/[^`]+)`", text):
        assert (finished_paper.folder / figure).is_file()
    page = finished_paper.folder.joinpath("results/reproduction.html").read_text()
    assert page.count("<tr>") == text.count("\n|") - text.count("\n| ---")


def test_the_document_says_what_the_tables_say(finished_paper):
    results = finished_paper.folder / "results"
    scaling = pd.read_parquet(results / "studies/paper_teacher_student/scaling.parquet")
    row = scaling.set_index("law").loc["mean_gap_finite_step"]
    text = (results / "reproduction.md").read_text()
    section = text.split("## Teacher-student model: the scaling rule")[1].split("##")[0]
    line = next(line for line in section.splitlines() if "finite-step factor" in line)
    measured, theory, distance = (cell.strip() for cell in line.split("|")[2:5])
    digits = re.fullmatch(r"(\d+\.(\d+))\((\d+)\)", measured)
    assert float(digits[1]) == pytest.approx(row["slope"], abs=10.0 ** -len(digits[2]))
    assert int(digits[3]) == round(row["slope_error"] * 10 ** len(digits[2]))
    assert float(theory) == pytest.approx(math.sqrt(math.pi), abs=1e-4)
    assert float(distance.split()[0]) == pytest.approx(row["pull"], abs=0.06)


def test_verify_knows_the_document(finished_paper):
    results = finished_paper.folder / "results"
    # Written into the file, studies are in another order, and the report shows them in that.
    config = yaml.safe_load(finished_paper.configfile.read_text(encoding="utf-8"))
    plan = Plan.from_config(config, Results(str(results)))
    report = audit.verify(plan)
    assert not report.damaged and not report.stale
    path = results / "reproduction.md"
    sound = path.read_text()
    path.write_text(sound.replace("agrees", "differs", 1))
    try:
        report = audit.verify(plan)
        assert list(report.damaged) == [path]
    finally:
        path.write_text(sound)


def test_a_role_for_nothing_is_refused(workflow):
    for roles, message in (
        ({"teacher": "a"}, "reproduction: teacher: unknown role; did you mean teacher_student?"),
        ({"teacher_student": "a"}, "reproduction: teacher_student: there is no study 'a'"),
        ({"gaussian_rbm": "small"}, "study 'small' must be of model gaussian_rbm"),
    ):
        study = {"model": "teacher_student", "hyperparameters": {"replicas": 64}}
        workflow.configure({"studies": {"small": study}, "reproduction": roles})
        done = workflow.snakemake("-n")
        assert done.returncode != 0
        assert message in done.stderr + done.stdout


def test_a_figure_over_what_the_model_has_not_is_refused(workflow):
    study = {"model": "gaussian_rbm", "figures": ["gap_distribution_noise_scale_pair1"]}
    workflow.configure({"studies": {"small": study}})
    done = workflow.snakemake("-n")
    assert done.returncode != 0
    assert "gaussian_rbm has no hyperparameter noise_scale" in done.stderr + done.stdout


def test_all_swept_figures_have_a_file():
    assert {kind.module for kind in figures.FIGURES.values()} == {
        path.stem for path in (ROOT / "src/dysonflow/report/figures").glob("[a-z]*.py")
    }
