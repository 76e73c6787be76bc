"""From the configuration to studies and runs; every mistake is found before any job starts."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dysonflow import models, theory
from dysonflow.analysis.bulk_scope import SMALLEST_SIDE, known_scales, layers_with_bulk
from dysonflow.errors import ConfigError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.readers.names import matches
from dysonflow.report import figures
from dysonflow.report.figures import Style
from dysonflow.report.roles import ROLES
from dysonflow.simulation.base import BLOCK_SIZE
from dysonflow.simulation.gradients import why_unmeasurable
from dysonflow.statistics.levels import MINIMUM_REPLICAS
from dysonflow.wording import allowed_values, breaks_lines, did_you_mean, plain

NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_]*"
RUN_PATTERN = r"[A-Za-z0-9_.+-]+"
ENDLESS = r"(.+)\1{19}$"
"""What Snakemake takes for a wildcard that grows without end."""
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MARKUP = "<[A-Za-z/!?]"
"""Beginning of what a browser takes for more than text."""
LARGEST = 2**63 - 1
"""Whole number that a column of a table holds."""
LONGEST_NAME = 100
"""Bytes of a name that becomes part of a path, as of a layer's.

File systems end at 255, and a file's name may be a study's or a run's with a suffix (`.log`), or,
for the logs of Slurm, all that tells a job from others: study, layer and figure, or model, run and
shard.
"""


NAME_RULE = (
    "a study's name is made of letters, digits and _, begins with a letter, and has at most "
    f"{LONGEST_NAME} of them"
)
CONTAINERS = {
    "model": "the name of a model",
    "studies": "at least one study: its name, and indented below it at least model",
    "hyperparameters": "names with their values, as in {replicas: 64, batch_size: 16}",
    "sweep": "names with lists of values, as in {batch_size: [16, 64]}, or a list of such grids",
    "figures": "auto, or a list of names, as in [mean_gap, sigma]",
    "bulk": "auto, none, or a list of vectors, shuffled, truncated",
    "reproduction": "roles with the name of a study each",
}
"""What a key takes that holds more than a number or one of a few words."""


class StudyConfig(BaseModel):
    """One block under `studies` in the configuration."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str
    """Name of the system, a file in `src/dysonflow/models`."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Values that all runs of the study share; the rest take their defaults."""
    sweep: dict[str, Any] | list[dict[str, Any]] = Field(default_factory=dict)
    """A grid (hyperparameter: list of values), or a list of grids and single points."""
    figures: list[str] | Literal["auto"] = "auto"
    """Figures to draw; `auto`: all that fit a stationary study, or its spectrum alone where theory
    does not say which levels there are, and those of the bulk of large matrices; of a study with
    several layers these take the place of the spectrum."""
    figure_style: Style = "screen"
    """`column`: one column of a journal, 3.4 inches wide, with text of 6 and 7 points."""
    bulk: Literal["auto", "none"] | list[Literal["vectors", "shuffled", "truncated"]] = "auto"
    """Bulk, outliers and spacings of the spectra of matrices whose shorter side is at least 32; a
    list asks for more: `vectors` (delocalisation of the singular vectors), `shuffled` (all columns
    for the matrix with its elements shuffled), `truncated` (a power law with a cut-off)."""
    bulk_scale: Scale | dict[str, Scale] | None = None
    """Standard deviation of the entries of the noise, in the unit of the weights, where it is
    known, as that of the start of training: a number for all layers, or names and patterns of
    layers to numbers, of which the first that fits a layer counts. By default it is fitted."""
    keep_weights: bool = True
    """`false`: weights are deleted once spectra, fits and figures are made of them. Another theory,
    or another analysis of the weights, then means to train again."""
    small_noise: float | None = Field(default=None, gt=0)
    """Largest learning_rate / batch_size of the runs in the laws named `..._small_noise`."""

    @field_validator("bulk_scale", mode="before")
    @classmethod
    def _positive(cls, given: Any) -> Any:
        scales = list(given.values()) if isinstance(given, Mapping) else [given]
        for scale in scales if given is not None else ():
            try:
                is_scale = not isinstance(scale, bool) and 0.0 < float(scale) < math.inf
            except (TypeError, ValueError):
                is_scale = False
            if not is_scale:
                raise ValueError(
                    "give a number > 0, or names or patterns of layers with a number > 0 each"
                )
        return given


class Config(BaseModel):
    """The whole configuration."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto`: on a GPU if one is visible. Not part of the key of a run."""
    singular_values: Literal["lapack", "gesvd", "gesvdj"] = "lapack"
    """What computes the singular values of large matrices: LAPACK, or a driver of a GPU, which
    agrees to rounding; without a GPU it is LAPACK."""
    shard_size: int = Field(default=512, ge=BLOCK_SIZE, multiple_of=BLOCK_SIZE)
    """Replicas trained by one job; a run with more is spread over several. Changes no number."""
    checkpoint_seconds: int = Field(default=60, ge=0)
    """Time between two saves of a training job's state, from which it goes on if it is killed."""
    studies: dict[str, StudyConfig] = Field(min_length=1)
    """Name of the study to its content."""
    reproduction: dict[str, str] = Field(default_factory=dict)
    """Role to name of a study: makes `results/reproduction.md`, the paper against the results."""

    @field_validator("reproduction")
    @classmethod
    def _in_order(cls, given: dict[str, str]) -> dict[str, str]:
        order = list(ROLES)
        known = sorted((role for role in given if role in ROLES), key=order.index)
        return {role: given[role] for role in [*known, *(set(given) - set(known))]}


@dataclass(frozen=True)
class Study:
    """A validated study.

    Attributes
    ----------
    name : str
        As in the configuration.
    model : str
        Name of the system.
    runs : tuple of Hyperparameters
        One for each point of the sweep, in the order of the configuration.
    figures : tuple of str
        Figures to draw: names, or layer/name where the runs have several layers.
    keep_weights : bool
        Whether weights are kept once all is made of them.
    small_noise : float or None
        Largest learning_rate / batch_size of the runs in the laws of small noise.
    bulk : tuple of str, or None
        What is asked for of the bulk beyond the default; None if there is to be none.
    figure_style : str
        What figures are drawn for: `screen`, or `column` of a journal.
    bulk_scale : float, or mapping of str to float, or None
        Known scale of the noise: of all layers, or by names and patterns of layers.
    """

    name: str
    model: str
    runs: tuple[Hyperparameters, ...]
    figures: tuple[str, ...]
    keep_weights: bool
    small_noise: float | None
    figure_style: str = "screen"
    bulk: tuple[str, ...] | None = ()
    bulk_scale: float | Mapping[str, float] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Layers of its runs, those of the first run first."""
        return tuple(dict.fromkeys(layer for run in self.runs for layer in run.layers()))

    def shows(self, kind: str) -> bool:
        """Whether a figure reads a kind of file."""
        names = {split_figure(figure)[1] for figure in self.figures}
        return any(kind in figures.FIGURES[name].inputs for name in names)

    @property
    def tests_linear_scaling(self) -> bool:
        """Whether a figure shows the tests of the linear scaling rule."""
        return self.shows("linear_scaling")

    @property
    def is_stationary(self) -> bool:
        """Whether the study is fitted.

        One that draws only figures of levels in time is not, nor one without levels to fit.
        """
        names = {split_figure(figure)[1] for figure in self.figures}
        drawn = not names or bool(names - set(figures.IN_TIME))
        return drawn and _is_fitted(self.model, self.runs)


def _has_replicas(run: Hyperparameters) -> bool:
    """Whether a run has replicas enough for errors."""
    return run.replicas >= MINIMUM_REPLICAS


def too_few_replicas(studies: Mapping[str, Study]) -> list[str]:
    """Lines on what can be made but will hold less than a user expects of it.

    Parameters
    ----------
    studies : mapping of Study
        By name.
    """
    lines = []
    for name, study in studies.items():
        few = [run for run in study.runs if not _has_replicas(run)]
        if not few or not study.is_stationary:
            continue
        fewest = min(run.replicas for run in few)
        runs = f"{len(study.runs)} run(s)"
        count = "none" if len(few) == len(study.runs) else f"{len(study.runs) - len(few)}"
        without = ", or no centres for spectra alone" if study.model == "checkpoints" else ""
        lines.append(
            f"study {name!r}: replicas = {fewest}: a fit takes at least {MINIMUM_REPLICAS} "
            f"replicas, so {count} of its {runs} will be fitted; give more{without}"
        )
    return lines


def _is_fitted(model: str, runs: Sequence[Hyperparameters]) -> bool:
    """Whether theory says, for all runs, which levels there are."""
    return theory.exists(model) and all(run.fitted for run in runs)


def split_figure(figure: str) -> tuple[str, str]:
    """Layer, empty where the runs have but one, and name of a figure of a study."""
    layer, _, name = figure.rpartition("/")
    return layer, name


def load_config(config: Mapping[str, Any]) -> Config:
    """Validate the frame of the configuration, the content of the studies aside.

    Raises
    ------
    ConfigError
        With one line for each mistake.
    """
    try:
        return Config.model_validate(dict(config))
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None


def load_studies(config: Mapping[str, Any]) -> dict[str, Study]:
    """Validate the configuration and expand all sweeps.

    Parameters
    ----------
    config : mapping
        Content of the YAML file.

    Returns
    -------
    dict of Study
        By name, in the order of the configuration.

    Raises
    ------
    ConfigError
        With one line for each mistake: study, key, value, and what is allowed.
    """
    problems: list[str] = []
    found: dict[str, Study] = {}
    for name, content in load_config(config).studies.items():
        try:
            found[name] = _expand(name, content)
        except ConfigError as error:
            problems += [f"study {name!r}: {line}" for line in str(error).splitlines()]
    problems += _two_scales(found) if not problems else []
    problems += _misplaced(load_config(config).reproduction, found) if not problems else []
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _two_scales(studies: Mapping[str, Study]) -> Iterator[str]:
    """Runs whose bulk two studies would test against different scales."""
    seen: dict[str, tuple[str, dict[str, float]]] = {}
    for name, study in studies.items():
        for run in study.runs if study.bulk is not None else ():
            scales = known_scales(run, study.bulk_scale)
            other, known = seen.setdefault(run.name, (name, scales))
            if known != scales:
                yield (
                    f"study {name!r}: bulk_scale: run {run.name} is one of study {other!r} too, "
                    "with another scale; give both the same, or one of them bulk: none"
                )
                break


def _misplaced(reproduction: Mapping[str, str], studies: Mapping[str, Study]) -> Iterator[str]:
    """What is wrong with the roles of studies."""
    for role, name in reproduction.items():
        where = f"reproduction: {role}"
        if role not in ROLES:
            yield f"{where}: unknown role{did_you_mean(role, ROLES)}"
        elif name not in studies:
            yield f"{where}: there is no study {name!r}{did_you_mean(name, studies)}"
        elif studies[name].model != ROLES[role].model:
            yield f"{where}: study {name!r} must be of model {ROLES[role].model}"
        elif ROLES[role].compares == "phases":
            if any(run.snapshot_steps[0] for run in studies[name].runs):
                yield f"{where}: a run of study {name!r} has a burn_in; leave it out"
        elif ROLES[role].compares == "increments":
            if not any(run.lags for run in studies[name].runs):
                yield f"{where}: no run of study {name!r} has lags; give some"
        elif not studies[name].is_stationary:
            yield f"{where}: study {name!r} is not fitted; let it draw more than `evolution`"


def _describe(problem: Any) -> str:
    """One line for one mistake in the frame of the configuration."""
    place = [str(part) for part in problem["loc"]]
    where = f"study {place[1]!r}: " if place[0] == "studies" and len(place) > 1 else ""
    if where and len(place) == 2:
        return (
            f"{where}{problem['input']!r} is not a study; give model, hyperparameters, "
            "sweep, indented below its name"
        )
    key = place[2] if where else place[0]
    if problem["type"] == "extra_forbidden":
        fields = StudyConfig.model_fields if where else Config.model_fields
        return f"{where}{key}: unknown key{did_you_mean(key, fields)}"
    if key == "[key]":
        return f"{where}{NAME_RULE}"
    fields = StudyConfig.model_fields if where else Config.model_fields
    # Of a list or mapping the whole is meant, however deep in it the mistake was met.
    wanted = CONTAINERS.get(key) or allowed_values(fields[key])
    if problem["type"] == "missing":
        return f"{where}{key}: missing; give {wanted}"
    if key in CONTAINERS:
        return f"{where}{key}: give {wanted}"
    if problem["type"] == "value_error":
        why = str(problem["msg"]).removeprefix("Value error, ")
        return f"{where}{key} = {problem['input']!r}: {why}"
    return f"{where}{key} = {problem['input']!r} is not allowed: give {wanted}"


def grid(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations of the listed values; a value that is no list is the same throughout.

    Raises
    ------
    ConfigError
        If a list is empty.
    """
    for name, values in sweep.items():
        if isinstance(values, list) and not values:
            raise ConfigError(f"sweep: {name} = []: an empty list sweeps nothing; give values")
    axes = [values if isinstance(values, list) else [values] for values in sweep.values()]
    return [dict(zip(sweep, point, strict=True)) for point in itertools.product(*axes)]


def _expand(name: str, content: StudyConfig) -> Study:
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > LONGEST_NAME:
        raise ConfigError(NAME_RULE)
    if re.search(ENDLESS, name):
        raise ConfigError("a study's name may not end with the same text twenty times over")
    hyperparameters = models.hyperparameters_of(content.model)
    if isinstance(content.sweep, list) and not content.sweep:
        raise ConfigError("sweep = []: an empty list sweeps nothing; give points")
    grids = content.sweep if isinstance(content.sweep, list) else [content.sweep]
    problems: list[str] = []
    runs: list[Hyperparameters] = []
    for values in grids:
        twice = sorted(set(values) & set(content.hyperparameters))
        problems += [f"{key}: given both under hyperparameters and in the sweep" for key in twice]
        try:
            points = grid(values)
            found = [hyperparameters.from_config(content.hyperparameters | p) for p in points]
            for point in found:
                point.check_sources()
            runs += found
        except ConfigError as error:
            problems += str(error).splitlines()
    for run, count in Counter(run.name for run in runs).items():
        if count > 1:
            problems.append(f"sweep: the point {run} is given {count} times; remove the copies")
    for point in runs:
        if not re.fullmatch(RUN_PATTERN, point.name) or len(point.name) > LONGEST_NAME:
            problems.append(
                f"the run would be named {point.name!r}, {len(point.name.encode())} bytes; let the "
                f"labels of {content.model} be letters, digits, _, ., + and -, so few that it has "
                f"at most {LONGEST_NAME}"
            )
        problems += _unfit_values(point)
    known = list(figures.FIGURES)
    fitted = _is_fitted(content.model, runs)
    learns = {"learning_rate", "batch_size"} <= set(hyperparameters.model_fields)
    wanted = list(figures.STATIONARY) if content.figures == "auto" else content.figures
    if content.figures == "auto" and (not fitted or not any(map(_has_replicas, runs))):
        wanted = [figure for figure in wanted if not figures.needs_fits(figure)]
    if content.figures == "auto" and not learns:
        wanted = [figure for figure in wanted if not figures.shows_laws(figure)]
    has_bulk = content.bulk != "none" and any(map(layers_with_bulk, runs))
    if content.figures == "auto" and has_bulk:
        wanted = [*wanted, *figures.BULK]
    problems += _unused_scales(content, runs, has_bulk)
    for figure in wanted:
        if figure not in known:
            problems.append(f"figures: {figure!r}: unknown figure{did_you_mean(figure, known)}")
            continue
        if figures.needs_fits(figure) and not fitted:
            why = _without(content.model)
            problems.append(f"figures: {figure!r} shows fits, and nothing is fitted {why}")
        if figures.needs_lags(figure) and not any(run.lags for run in runs):
            problems.append(
                f"figures: {figure!r} shows increments, and no run has lags; give some under "
                "hyperparameters, such as lags: [1, 4]"
            )
        if figures.needs_bulk(figure) and not has_bulk:
            problems.append(
                f"figures: {figure!r} shows a bulk, and no matrix has a shorter side of "
                f"{SMALLEST_SIDE} or more, or the study says bulk: none; leave it out"
            )
        if figures.FIGURES[figure].needs_spectrum_laws and not (
            fitted and _knows_spectrum(content.model)
        ):
            problems.append(
                f"figures: {figure!r} needs a law of all levels together, and none is known of "
                f"{content.model}: leave it out"
            )
        if "linear_scaling" in figures.FIGURES[figure].inputs:
            problems += _untestable(figure, runs)
        if "gradient_noise" in figures.FIGURES[figure].inputs:
            why_not = [why for run in runs if (why := why_unmeasurable(run))]
            problems += [f"figures: {figure!r}: {why}" for why in why_not]
        if figures.shows_laws(figure) and not learns:
            problems.append(
                f"figures: {figure!r} shows laws in learning_rate and batch_size, which "
                f"{content.model} does not have: leave it out, or give figures: auto"
            )
        only = figures.FIGURES[figure].model
        if only not in (None, content.model):
            problems.append(f"figures: {figure!r} shows {only} only, not {content.model}")
        # A figure that compares the values of a hyperparameter needs a model that has it.
        over = figures.FIGURES[figure].options.get("over")
        if over and over not in hyperparameters.model_fields:
            problems.append(f"figures: {figure!r}: {content.model} has no hyperparameter {over}")
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    study = Study(
        name,
        content.model,
        tuple(runs),
        tuple(wanted),
        content.keep_weights,
        content.small_noise,
        content.figure_style,
        {"auto": (), "none": None}[content.bulk]
        if isinstance(content.bulk, str)
        else tuple(content.bulk),
        content.bulk_scale,
    )
    if len(study.layers) > 1:
        several = [
            figure if figures.FIGURES[figure].shows_all_layers else f"{layer}/{figure}"
            for figure in wanted
            for layer in study.layers
        ]
        if content.figures == "auto" and not fitted and has_bulk:
            # The figures of the bulk show all of them at once, where a network has hundreds.
            shown = {layer for run in runs for layer in layers_with_bulk(run)}
            several = [one for one in several if split_figure(one)[0] not in shown]
        several = list(dict.fromkeys(several))
        study = replace(study, figures=tuple(several))
    return study


def _unused_scales(
    content: StudyConfig, runs: Sequence[Hyperparameters], has_bulk: bool
) -> Iterator[str]:
    """Known scales of what has no bulk."""
    if content.bulk_scale is None:
        return
    if not has_bulk:
        yield (
            f"bulk_scale = {content.bulk_scale}: no matrix has a shorter side of {SMALLEST_SIDE} "
            "or more, or the study says bulk: none; leave it out"
        )
    elif isinstance(content.bulk_scale, dict):
        layers = dict.fromkeys(layer for run in runs for layer in layers_with_bulk(run))
        for name in content.bulk_scale:
            if not any(matches(layer, name) for layer in layers):
                yield (
                    f"bulk_scale: {plain(name)!r} is no layer with a bulk"
                    f"{did_you_mean(name, layers)}"
                )


def _unfit_values(run: Hyperparameters) -> Iterator[str]:
    """What is wrong with the values of a run for the tables, the logs and the report."""
    for name, value in run.canonical().items():
        if isinstance(value, int) and value > LARGEST:
            yield f"{name} = {plain(value, longest=30)}: give a whole number <= {LARGEST}"
        if isinstance(value, str) and breaks_lines(value):
            yield f"{name} = {value!r}: holds a letter that no line can show; rename what it names"
        elif isinstance(value, str) and re.search(MARKUP, value):
            yield f"{name} = {value!r}: would be markup in the report; rename what it names"


def _without(model: str) -> str:
    """What a study whose levels are not known lacks, and what is to be done."""
    if theory.exists(model):
        return f"without {theory.load(model).scope}, or figures: auto"
    return f"without a theory of {model}: leave it out, or give figures: auto"


def _untestable(figure: str, runs: Sequence[Hyperparameters]) -> Iterator[str]:
    """Why the linear scaling rule cannot be tested over some runs."""
    points = {(getattr(run, "learning_rate", 0), getattr(run, "batch_size", 0)) for run in runs}
    if len(points) == 1:
        yield (
            f"figures: {figure!r} compares learning rates and batch sizes, and all runs have the "
            "same: sweep them, or leave it out"
        )
    fewest = min((run.replicas for run in runs), default=MINIMUM_REPLICAS)
    if fewest < MINIMUM_REPLICAS:
        yield (
            f"figures: {figure!r} takes its errors from whole replicas, at least "
            f"{MINIMUM_REPLICAS} of them; replicas = {fewest}"
        )


def _knows_spectrum(model: str) -> bool:
    return theory.exists(model) and theory.load(model).knows_spectrum


def shards(run: Hyperparameters, shard_size: int) -> list[range]:
    """Replicas of each training job of a run."""
    starts = range(0, run.replicas, shard_size)
    return [range(first, min(first + shard_size, run.replicas)) for first in starts]


def all_runs(studies: Mapping[str, Study]) -> dict[str, Hyperparameters]:
    """All runs of all studies by name; a point that two studies share is one run."""
    return {run.name: run for study in studies.values() for run in study.runs}
