"""Studies: expansion of sweeps, and every mistake of a configuration in one line each."""

import pytest

from dysonflow.errors import ConfigError
from dysonflow.planning.studies import all_runs, load_studies, too_few_replicas
from dysonflow.report import figures


def study(**changes):
    return {
        "studies": {"one": {"model": "teacher_student", "sweep": {"batch_size": [4, 8]}} | changes}
    }


def test_a_grid_is_the_product_of_its_lists():
    found = load_studies(study(sweep={"batch_size": [4, 8], "learning_rate": [0.1, 0.2, 0.3]}))
    points = [(run.batch_size, run.learning_rate) for run in found["one"].runs]
    assert points == [(b, a) for b in (4, 8) for a in (0.1, 0.2, 0.3)]


def test_a_list_of_grids_and_points_is_their_union():
    sweep = [
        {"learning_rate": [0.1, 0.2], "batch_size": 4},
        {"learning_rate": 0.5, "batch_size": 64},
    ]
    runs = load_studies(study(sweep=sweep))["one"].runs
    assert [(run.learning_rate, run.batch_size) for run in runs] == [(0.1, 4), (0.2, 4), (0.5, 64)]


def test_a_point_in_two_studies_is_one_run():
    config = study()
    config["studies"]["two"] = {"model": "teacher_student", "sweep": {"batch_size": ["8.0", 16]}}
    studies = load_studies(config)
    assert len(all_runs(studies)) == 3


def test_a_name_may_be_one_letter():
    content = study()["studies"]["one"]
    assert list(load_studies({"studies": {"a": content, "B2_": content}})) == ["a", "B2_"]


def test_too_few_replicas_are_named_while_planning():
    few = load_studies(study(hyperparameters={"replicas": 29}))
    (line,) = too_few_replicas(few)
    assert line == (
        "study 'one': replicas = 29: a fit takes at least 30 replicas, so none of its 2 run(s) "
        "will be fitted; give more"
    )
    # No figure without content, unless it is asked for.
    assert few["one"].figures == ("spectrum",)
    asked = load_studies(study(hyperparameters={"replicas": 29}, figures=["sigma"]))
    assert asked["one"].figures == ("sigma",) and len(too_few_replicas(asked)) == 1
    some = load_studies(study(sweep={"replicas": [12, 30]}))
    (line,) = too_few_replicas(some)
    assert "replicas = 12" in line and "so 1 of its 2 run(s)" in line
    assert some["one"].figures == figures.STATIONARY
    evolution = study(hyperparameters={"replicas": 2, "burn_in": 0}, figures=["evolution"])
    assert too_few_replicas(load_studies(evolution)) == []
    assert too_few_replicas(load_studies(study())) == []


def test_a_study_without_sweep_is_one_run():
    assert len(load_studies(study(sweep={}))["one"].runs) == 1


def test_a_spectrum_is_swept_as_a_list_of_lists():
    runs = load_studies(study(sweep={"teacher_spectrum": [[1, 2], [2, 2]]}))["one"].runs
    assert [run.teacher_spectrum for run in runs] == [[1.0, 2.0], [2.0, 2.0]]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (study(sweep={"batch_size": [4, 0]}), ["study 'one'", "batch_size = 0", ">= 1"]),
        (
            study(sweep={"batch_sise": [4]}),
            ["study 'one'", "batch_sise", "did you mean batch_size?"],
        ),
        (study(sweep={"batch_size": []}), ["study 'one'", "batch_size = []", "empty"]),
        (study(sweep=[]), ["study 'one'", "sweep", "empty"]),
        (study(sweep={"batch_size": [4, "4"]}), ["study 'one'", "B4", "2 times"]),
        (
            study(hyperparameters={"learning_rate": [0.1]}),
            ["study 'one'", "learning_rate = [0.1]", "> 0"],
        ),
        (study(hyperparameters={"batch_size": 4}), ["study 'one'", "batch_size", "both"]),
        (study(model="teacher"), ["study 'one'", "'teacher'", "did you mean teacher_student?"]),
        (study(figures=["spektrum"]), ["study 'one'", "spektrum", "did you mean spectrum?"]),
        (study(swep={}), ["study 'one'", "swep", "did you mean sweep?"]),
        (study(small_noise=-1), ["study 'one'", "small_noise = -1", "greater than 0"]),
        ({"studies": {"one": {}}}, ["study 'one'", "model", "missing"]),
        ({"studies": {"one": 3}}, ["one", "3"]),
        ({"studies": {}}, ["studies"]),
        ({}, ["studies", "missing"]),
        ({"studdies": {}, **study()}, ["studdies", "did you mean studies?"]),
        ({"device": "tpu", **study()}, ["device = 'tpu'", "'cuda'"]),
        ({"studies": {"bad-name": study()["studies"]["one"]}}, ["bad-name", "letters"]),
        ({"studies": {"1st": study()["studies"]["one"]}}, ["1st", "begins with a letter"]),
    ],
)
def test_each_mistake_is_one_line(config, words):
    with pytest.raises(ConfigError) as caught:
        load_studies(config)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_mistakes_of_all_studies_are_reported_together():
    config = study(sweep={"batch_size": [0]})
    config["studies"]["two"] = {"model": "nothing"}
    with pytest.raises(ConfigError) as caught:
        load_studies(config)
    assert [line[:12] for line in str(caught.value).splitlines()] == [
        "study 'one':",
        "study 'two':",
    ]
