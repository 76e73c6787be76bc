"""Studies: expansion of sweeps, and every mistake of a configuration in one line each."""

import pytest

from dysonflow import models
from dysonflow.errors import ConfigError
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import LONGEST_NAME, all_runs, load_studies, too_few_replicas
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
        (
            study(sweep={"steps": 10**900}, hyperparameters={"burn_in": 0}),
            ["study 'one'", "steps = 10000", "<= 9223372036854775807"],
        ),
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
        (study(small_noise=-1), ["study 'one'", "small_noise = -1", "give a number > 0"]),
        ({"studies": {"one": {}}}, ["study 'one'", "model", "missing"]),
        ({"studies": {"one": 3}}, ["one", "3 is not a study", "indented"]),
        ({"studies": None}, ["studies: give at least one study"]),
        ({"studies": {7: {"model": "mlp"}}}, ["'7'", "begins with a letter"]),
        (study(sweep={"batch_size": [1], 0.2: None}), ["sweep: give names with lists of values"]),
        (study(figures="mean_gap"), ["figures: give auto, or a list of names"]),
        (study(hyperparameters=[1]), ["hyperparameters: give names with their values"]),
        ({"shard_size": 65, **study()}, ["shard_size = 65", ">= 64 and a multiple of 64"]),
        ({"studies": {}}, ["studies"]),
        ({}, ["studies", "missing"]),
        ({"studdies": {}, **study()}, ["studdies", "did you mean studies?"]),
        ({"device": "tpu", **study()}, ["device = 'tpu'", "give auto or cpu or cuda"]),
        ({"studies": {"bad-name": study()["studies"]["one"]}}, ["bad-name", "letters"]),
        ({"studies": {"newline\n": study()["studies"]["one"]}}, ["newline", "letters"]),
        ({"studies": {"n" * 101: study()["studies"]["one"]}}, ["nnn", "at most 100"]),
        ({"studies": {"run" + "01" * 20: study()["studies"]["one"]}}, ["run0101", "twenty times"]),
        ({"studies": {"n" * 300: study()["studies"]["one"]}}, ["nnn", "at most 100"]),
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


@pytest.mark.parametrize("label", ["l" * 90, "é" * 45, "a/b", "{run}", "a b"])
def test_the_name_of_a_run_is_that_of_a_file(monkeypatch, label):
    field = models.hyperparameters_of("teacher_student").model_fields["batch_size"]
    monkeypatch.setitem(field.json_schema_extra, "label", label)
    with pytest.raises(ConfigError, match=r"study 'one': the run would be named .*labels of teach"):
        load_studies(study())


def test_the_longest_names_are_shorter_than_file_systems_allow(monkeypatch):
    student = models.hyperparameters_of("teacher_student")
    field = student.model_fields["batch_size"]
    given = study(sweep={"batch_size": [1_000_000]})["studies"]["one"]
    (before,) = load_studies({"studies": {"one": given}})["one"].runs
    longest = LONGEST_NAME - len(before.name) + len(field.json_schema_extra["label"])
    monkeypatch.setitem(field.json_schema_extra, "label", "l" * longest)
    long_name = "n" * (LONGEST_NAME - 1) + "m"
    plan = Plan.from_config({"studies": {long_name: given}})
    ((name, run),) = plan.runs.items()
    assert len(name) == LONGEST_NAME
    # As the plugin for Slurm names its logs: all wildcards of a job.
    joined = [f"{run.MODEL}_{name}_9999936_10000000"]
    joined += [f"{long_name}_{'l' * 100}_{figure}" for figure in figures.FIGURES]
    logs = [plan.results.log("scaling", study) for study in plan.studies]
    logs += [plan.results.log("train", run.MODEL, name)]
    for path in [*plan.targets(), *logs, *joined]:
        assert max(len(part) for part in path.split("/")) <= 255
