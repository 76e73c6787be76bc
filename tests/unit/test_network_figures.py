"""Figures of networks over training: the bulk of the start, who leaves it, entropies."""

import math

import numpy as np
import pytest

from dysonflow import models, stages
from dysonflow.artifacts.weights import write_weights
from dysonflow.report.figures import singular_values, spacing_ratios
from dysonflow.report.figures._bulk import short
from dysonflow.report.figures._layers import some_of
from dysonflow.report.figures._study import StudyData, draw_figure
from dysonflow.report.figures.outlier_times import edges, leaving
from dysonflow.report.figures.spacing_ratios import mean_ratios


def test_one_random_matrix_in_a_thousand_has_a_value_beyond_the_threshold():
    rng, (rows, columns) = np.random.default_rng(4), (24, 40)
    values = np.linalg.svd(0.3 * rng.standard_normal((3000, rows, columns)), compute_uv=False)
    low, high, threshold = edges(values, rows, columns)
    assert high == pytest.approx(0.3 * (math.sqrt(24) + math.sqrt(40)), rel=1e-2)
    assert low == pytest.approx(0.3 * (math.sqrt(40) - math.sqrt(24)), rel=1e-2)
    beyond = int((values[:, 0] > threshold).sum())
    # Three are expected; Johnstone's law of matrices as small as these is right to some tenths.
    assert 0 < beyond < 3 + 5 * math.sqrt(3)
    assert edges(values[..., ::-1], columns, rows) == pytest.approx((low, high, threshold))


def test_a_level_leaves_when_it_is_outside_for_good():
    steps = np.array([0, 10, 20, 30])
    values = np.array([[[0.0, 2.0], [2.0, 2.0], [0.0, 2.0], [2.0, 0.5]]])
    found = leaving(values, steps, 1.0)
    np.testing.assert_array_equal(found, [[30.0, np.nan]])
    np.testing.assert_array_equal(leaving(values, steps, -1.0), [[0.0, 0.0]])


def test_ratios_of_one_replica_have_an_error_of_their_levels():
    levels = np.sort(np.random.default_rng(1).random((5, 3, 30)), axis=2)
    mean, error = mean_ratios(levels)
    alone, own = mean_ratios(levels[:1])
    assert mean.shape == error.shape == alone.shape == own.shape == (3,)
    # Four numbers and less tell an error within a factor of two.
    assert (error < 2 * own / math.sqrt(5)).all() and (error > own / math.sqrt(5) / 2).all()


@pytest.fixture
def study(tmp_path):
    """A transformer whose weights are drawn: one matrix has a large value from step 20 on."""
    h = models.hyperparameters_of("char_gpt").from_config(
        {"width": 8, "heads": 2, "blocks": 1, "steps": 40, "snapshots": 5, "replicas": 3}
    )
    rng = np.random.default_rng(0)
    weights = {
        layer: 0.1 * rng.standard_normal((3, 5, *shape)).astype(np.float32)
        for layer, shape in h.layers().items()
    }
    weights["block0.key"][:, 2:, 0, 0] += 5.0
    loss = np.linspace(3.0, 1.7, 15).reshape(5, 3).T
    files = {"weights": str(tmp_path / "w.safetensors"), "spectra": str(tmp_path / "s.parquet")}
    write_weights(files["weights"], weights, h.snapshot_steps, loss, {"run": h.name})
    stages.spectra(h.MODEL, h.canonical(), "0", files["weights"], files["spectra"])
    return StudyData("net", [h], **{kind: [path] for kind, path in files.items()})


def test_the_step_of_leaving_is_in_caption_and_numbers(study):
    from dataclasses import replace

    drawing = draw_figure("outlier_times", replace(study, layer="block0.key"), {})
    assert "1 of 8 levels leave in at least half of the replicas" in drawing.caption
    assert "the first at step 20 (20 to 20 over replicas; snapshots lie 10" in drawing.caption
    (marked,) = (table for table in drawing.numbers if table["curve"].iloc[0] == "leaves 7")
    assert marked["x"].tolist() == [20]
    none = draw_figure("outlier_times", replace(study, layer="block0.query"), {})
    assert "no level leaves by step 40" in none.caption


def test_the_loss_stands_beside_the_entropies_of_its_source(study):
    drawing = draw_figure("loss_curve", study, {})
    lines = {table["curve"].iloc[0]: table["y"].iloc[0] for table in drawing.numbers}
    expected = study.runs[0].reference_losses()
    assert {name: lines[name] for name in expected} == expected
    for name, value in expected.items():
        assert f"From the {name}, {value:.4g}, they differ by" in drawing.caption


def test_all_layers_with_three_levels_have_a_panel_of_ratios(study):
    drawing = draw_figure("spacing_ratios", study, {})
    assert {table["panel"].iloc[0] for table in drawing.numbers} == set(study.runs[0].layers())
    assert "chi2" in drawing.caption and "for 6 layers" in drawing.caption


@pytest.mark.parametrize(
    ("name", "module"), [("singular_values", singular_values), ("spacing_ratios", spacing_ratios)]
)
def test_of_many_layers_some_are_drawn_and_the_caption_says_so(study, monkeypatch, name, module):
    layers = list(study.runs[0].layers())
    assert "layers, spread evenly" not in draw_figure(name, study, {}).caption
    monkeypatch.setattr(module, "MOST_LAYERS", 3)
    drawing = draw_figure(name, study, {})
    assert f"Drawn are 3 of {len(layers)} layers, spread evenly" in drawing.caption
    shown = [panel for panel in drawing.figure.axes if panel.get_visible() and panel.lines]
    assert len(shown) == 3
    assert some_of(layers, 3)[0] == layers[0] and some_of(layers, 3)[-1] == layers[-1]


def test_a_long_name_of_a_layer_is_cut_where_a_part_begins():
    assert short("transformer.h.10.attn.q_proj", 20) == "..h.10.attn.q_proj"
    assert short("fc1") == "fc1" and short("a" * 40, 20) == f"..{'a' * 18}"
