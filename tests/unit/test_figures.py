"""Figures: what they import, what they are made from, and the layer that they show."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import make
from matplotlib.text import Text

import dysonflow
from dysonflow import models, stages
from dysonflow.artifacts.pictures import COMPANIONS, read_metadata
from dysonflow.artifacts.weights import write_weights
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.hyperparameters import Hyperparameters, quantity
from dysonflow.planning import audit, sources
from dysonflow.planning.graph import Plan
from dysonflow.report.figures import FIGURES, IN_TIME, STATIONARY, _law, needs_fits, spectrum
from dysonflow.report.figures._page import Page
from dysonflow.report.figures._study import StudyData, colours, draw_figure, name_of, plain
from dysonflow.results import Results

FOLDER = Path(dysonflow.__file__).parent / "report" / "figures"


def test_every_figure_has_a_file_and_every_file_a_figure():
    files = {path.stem for path in FOLDER.glob("[a-z]*.py")}
    assert {kind.module for kind in FIGURES.values()} == files
    assert {*STATIONARY, *IN_TIME} <= set(FIGURES)
    assert not any(needs_fits(name) for name in IN_TIME)


def imported(statement):
    """Which slow packages a statement imports, in a fresh interpreter."""
    code = (
        f"import sys\n{statement}\n"
        "slow = ('matplotlib', 'pandas', 'scipy.stats', 'torch', 'pyarrow.dataset')\n"
        "print(*[name for name in slow if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_planning_figures_imports_nothing_slow():
    assert imported("import dysonflow.report.figures") == set()


def test_no_figure_imports_more_than_it_draws_with():
    names = ", ".join(sorted({kind.module for kind in FIGURES.values()}))
    assert imported(f"from dysonflow.report.figures import {names}") == {"matplotlib", "pandas"}


def test_the_list_of_figures_is_part_of_none(monkeypatch):
    read, parse = [], sources.ParsedFiles.parse

    def watched(self, path, function=""):
        read.append(path)
        return parse(self, path, function)

    monkeypatch.setattr(sources.ParsedFiles, "parse", watched)
    sources.source.__wrapped__("figure", "teacher_student", "pulls")
    assert FOLDER / "pulls.py" in read
    assert FOLDER / "__init__.py" not in read and FOLDER / "mean_gap.py" not in read


class DeepHyperparameters(Hyperparameters):
    """A system of two layers without a theory."""

    MODEL = "deep"

    rate: float = quantity(0.1, symbol=r"\eta", gt=0)
    """Step size."""
    mode: str = quantity("warm", symbol="m")
    """A word."""
    widths: list[float] = quantity([1.0, 2.5], symbol="w")
    """Several numbers."""

    def weight_shapes(self):
        return [("first", 4, 3), ("second", 2, 4)]


@pytest.fixture
def run(monkeypatch):
    hyperparameters_of = models.hyperparameters_of
    monkeypatch.setattr(
        models,
        "hyperparameters_of",
        lambda name: DeepHyperparameters if name == "deep" else hyperparameters_of(name),
    )
    return DeepHyperparameters.from_config(
        {"replicas": 20, "snapshots": 3, "burn_in": 0, "steps": 10}
    )


def made(run, folder):
    """Files of weights and spectra of a run."""
    rng = np.random.default_rng(1)
    weights = {
        name: rng.standard_normal((run.replicas, run.snapshots, *shape))
        for name, shape in run.layers().items()
    }
    paths = {"weights": str(folder / "w.safetensors"), "spectra": str(folder / "s.parquet")}
    loss = np.zeros((run.replicas, run.snapshots))
    write_weights(paths["weights"], weights, run.snapshot_steps, loss, {"run": run.name})
    stages.spectra(
        "deep", run.canonical(), "0", **{"weights": paths["weights"]}, output=paths["spectra"]
    )
    return paths


def test_values_in_a_legend_are_those_with_a_symbol(run):
    assert name_of(run) == r"$\eta = 0.1$, $m$ = warm, $w$ = [1.0, 2.5]"


@pytest.mark.parametrize("name", ["spectrum", "evolution"])
def test_figures_that_need_no_fits_need_no_theory_and_name_the_layer(run, tmp_path, name):
    paths = made(run, tmp_path)
    kind = FIGURES[name]
    for layer, levels in (("first", 3), ("second", 4)):
        target = tmp_path / layer
        output = {
            what: str(target) + suffix
            for what, suffix in (
                ("png", ".png"),
                ("pdf", ".pdf"),
                ("csv", ".csv"),
                ("caption", ".rst"),
            )
        }
        stages.figure(
            name,
            kind.module,
            "mine",
            "deep",
            layer,
            kind.options,
            "screen",
            [run.canonical()],
            "0",
            {what: [paths[what]] for what in kind.inputs},
            output,
        )
        metadata = read_metadata(output["png"])
        assert (metadata["layer"], metadata["options"]) == (layer, dict(kind.options))
        caption = Path(output["caption"]).read_text(encoding="utf-8")
        assert f"``mine``, layer ``{layer}``" in caption and "theory" not in caption
        files = {what: [paths[what]] for what in kind.inputs}
        drawing = draw_figure(kind.module, StudyData("mine", [run], layer=layer, **files), {})
        assert drawing.figure.get_suptitle() == f"layer {layer}"
        if name == "evolution":
            assert len(drawing.numbers) == levels
    csv = Path(output["png"]).with_suffix(COMPANIONS[1])
    csv.write_text(csv.read_text(encoding="utf-8") + "0", encoding="utf-8")
    with pytest.raises(ArtifactError, match="missing or changed"):
        read_metadata(output["png"])


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A small study with pairs, and what each of its figures reads."""
    folder = tmp_path_factory.mktemp("student")
    study = {
        "model": "teacher_student",
        "hyperparameters": {"replicas": 40, "snapshots": 3, "lags": [1, 2]},
        "sweep": {"batch_size": [2, 64]},
        "figures": ["sigma", "linear_scaling"],
    }
    plan = Plan.from_config({"studies": {"small": study}}, Results(str(folder)))
    make(plan)
    return plan


def drawn(plan, figure, style="screen"):
    files = {
        kind: paths[0] if kind == "scaling" else paths
        for kind, paths in plan.figure_inputs("small", figure).items()
    }
    data = StudyData("small", plan.studies["small"].runs, page=Page(style), **files)
    return draw_figure(FIGURES[figure].module, data, FIGURES[figure].options)


SHOWN = [
    name
    for name in FIGURES
    if not name.startswith("gap_distribution_")
    and "learning_rate" not in FIGURES[name].options.values()
    # No law of all levels together is known of students.
    and not FIGURES[name].needs_spectrum_laws
    and FIGURES[name].model is None
    # Students of two levels have no ratio of spacings, nor gradients of single samples.
    and name not in ("spacing_ratios", "gradient_noise")
    # Its matrices are too small for a bulk, whose figures are tested with the bulk.
    and "bulk" not in FIGURES[name].inputs
]


@pytest.mark.parametrize("figure", SHOWN)
def test_a_figure_fits_the_column_of_a_journal_and_can_be_read(student, figure):
    drawing = drawn(student, figure, "column")
    with drawing.page.look():
        drawing.figure.draw_without_rendering()
        assert drawing.figure.get_size_inches()[0] == 3.4
        frame, ink = drawing.page.frame(drawing.figure), drawing.figure.get_tightbbox()
        assert frame.x0 <= ink.x0 and frame.y0 <= ink.y0
        assert ink.x1 <= frame.x1 and ink.y1 <= frame.y1
        texts = [text for text in drawing.figure.findobj(Text) if text.get_text()]
        assert len(texts) > 5
        assert min(text.get_fontsize() for text in texts) >= 6


@pytest.mark.parametrize("figure", SHOWN)
def test_plotted_numbers_say_what_they_are(student, figure):
    drawing = drawn(student, figure)
    head = drawing.header().splitlines()
    assert all(line.startswith("# ") for line in head)
    for axis in "xy":
        named = [line for line in head if line.startswith((f"# {axis}: ", f"# {axis} of panel "))]
        assert named and all(re.fullmatch(r"[^$\\]+ \[[^]]*\]", line) for line in named)


@pytest.mark.parametrize(
    ("label", "text"),
    [
        (r"mean gap $\langle S\rangle$", "mean gap <S>"),
        (r"$s = S / \langle S \rangle$", "s = S / <S>"),
        (r"$\sqrt{\alpha/B}\,\epsilon$ $\times$ factor", "sqrt{alpha/B} epsilon x factor"),
        ("SGD step", "SGD step"),
    ],
)
def test_labels_of_axes_are_told_without_latex(label, text):
    assert plain(label) == text


def test_names_of_curves_do_not_depend_on_what_was_fitted(student):
    for figure in ("mean_gap", "gap_against_sigma", "block_density", "centre"):
        for table in drawn(student, figure).numbers:
            for name in table["curve"]:
                # The only number in a name is that of the mode, which no fit changes.
                assert not re.search(r"\d", name.replace("kappa = 2", "").split(" (pair)")[0]), name
    names = {name for table in drawn(student, "mean_gap").numbers for name in table["curve"]}
    assert names == {"kappa = 2", "kappa = 2, full theory", "leading-order theory", "fit"}


def test_points_that_would_pile_up_at_zero_are_spread_by_their_logarithm(student):
    figure = drawn(student, "mean_gap").figure
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}
    near = pd.Series([1.0, 2.0])
    assert _law._ends(near) == (0.0, 2.1)
    assert _law._ends(near**3)[0] > 0


def test_the_style_is_one_reason_to_draw_again(student):
    plan = replace(
        student,
        studies={"small": replace(student.studies["small"], figure_style="column")},
    )
    stale = audit.verify(plan).stale
    assert sorted(path.name for path in stale) == ["linear_scaling.png", "sigma.png"]


def contrast_on_white(colour):
    """Contrast ratio of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 1.05 / (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_every_colour_stands_out_on_white(count):
    found = colours(count)
    assert len(set(found)) == count
    assert min(map(contrast_on_white, found)) >= 3.0


def test_a_narrow_peak_has_eight_bins():
    rng = np.random.default_rng(3)
    centre, width = np.array([1.0, 1.003, 5.0, 9.0]), np.array([1e-4, 1e-4, 1.0, 1e-2])
    values = np.sort(centre + width * rng.standard_normal((200, 4, 4)), axis=-1)
    edges = spectrum.bins(values, 0.0, 10.0)
    assert (np.diff(edges) > 0).all() and edges[0] == 0.0 and edges[-1] >= 10.0
    assert np.diff(edges).max() <= 10.0 / spectrum.BINS * (1 + 1e-9)
    flat = values.reshape(-1, 4)
    for mean, spread in zip(flat.mean(axis=0), flat.std(axis=0), strict=True):
        assert ((edges > mean - 2 * spread) & (edges < mean + 2 * spread)).sum() >= 8
    assert len(edges) < 3 * spectrum.BINS
    # Levels that do not fluctuate have nothing to be divided.
    assert len(spectrum.bins(np.ones((3, 2, 2)), 0.0, 2.0)) == spectrum.BINS + 1


def test_a_system_of_one_layer_does_not_name_it():
    student = models.hyperparameters_of("teacher_student").from_config({})
    data = StudyData("mine", [student])
    assert (data.layer, data.title) == ("W", "``mine``")


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A plan with all figures of the motion of students, made in this process."""
    config = {
        "studies": {
            "moving": {
                "model": "teacher_student",
                "hyperparameters": {"replicas": 64, "snapshots": 16, "lags": [1, 2]},
                "sweep": {"data": ["fresh", "shared"]},
                "figures": ["motion", "motion_index"],
            },
            "watched": {
                "model": "teacher_student",
                "hyperparameters": {
                    **{"replicas": 256, "burn_in": 150, "steps": 250, "snapshots": 101}
                },
                "figures": ["paths", "autocorrelation"],
            },
        }
    }
    plan = Plan.from_config(config, Results(str(tmp_path_factory.mktemp("moving"))))
    make(plan)
    return plan


@pytest.mark.parametrize(
    ("study", "figure", "curves"),
    [
        ("moving", "motion", {"measured", "theory"}),
        ("moving", "motion_index", {"moments", "free"}),
        ("watched", "paths", {"level 0", "level 1"}),
        ("watched", "autocorrelation", {"centre 2", "centre 2 theory"}),
    ],
)
def test_figures_of_the_motion_show_what_was_measured(moving, study, figure, curves):
    numbers = pd.read_csv(moving.results.figure("csv", study, figure), comment="#")
    assert set(numbers["curve"]) == curves
    if figure == "motion":
        shown = numbers[numbers["panel"] == "push"].pivot(
            index="x", columns="curve", values=["y", "y_error"]
        )
        away = (shown["y"]["measured"] - shown["y"]["theory"]) / shown["y_error"]["measured"]
        assert away.abs().max() < 5.0
    if figure == "autocorrelation":
        caption = Path(moving.results.figure("caption", study, figure)).read_text(encoding="utf-8")
        p_values = [float(p) for p in re.findall(r"kappa = 2: ([0-9.e-]+[0-9])", caption)]
        assert len(p_values) == 2 and min(p_values) > 6e-7


def test_a_study_of_the_motion_is_not_fitted(moving):
    assert not any(study.is_stationary for study in moving.studies.values())
    assert moving.fitted == set()


def test_a_figure_of_increments_wants_lags():
    study = {"model": "teacher_student", "figures": ["motion"]}
    with pytest.raises(ConfigError, match=r"'motion' shows increments, and no run has lags"):
        Plan.from_config({"studies": {"still": study}})


def test_points_beyond_the_theory_are_drawn_without_a_fitted_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = {"model": "teacher_student", "figures": ["mean_gap"]}
    study["hyperparameters"] = {"learning_rate": 0.5, "batch_size": 2, "snapshots": 2}
    plan = Plan.from_config({"studies": {"far": study}})
    make(plan)
    laws = dysonflow.read_scaling("results").set_index("law")
    assert laws.loc["mean_gap", "points"] == 0 and laws.loc["mean_gap", "verdict"] == ""
    numbers = Path(plan.results.figure("csv", "far", "mean_gap")).read_text("utf-8")
    assert "full theory" in numbers and "fit, slope" not in numbers
