"""The graph of artifacts: what a configuration makes, from what, and what each file says of itself.

The rules of the workflow take their inputs from here, and the audit of a results folder its
expectations, so that neither can forget what the other knows.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Self

from dysonflow import models
from dysonflow.analysis.bulk_scope import EXTRAS, known_scales, layers_with_bulk
from dysonflow.artifacts import kinds
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.planning import sources
from dysonflow.planning.studies import (
    Config,
    Study,
    all_runs,
    load_config,
    load_studies,
    shards,
    split_figure,
)
from dysonflow.readers import arrays
from dysonflow.report import figures
from dysonflow.report.roles import ROLES
from dysonflow.results import BULK, FITS, INCREMENTS, SPECTRA, WEIGHTS, Results

Paths = dict[str, list[str]]
NOTHING = r"(?!)"
"""Regular expression that matches no name."""


@dataclass(frozen=True)
class Artifact:
    """A file that the workflow would make now, and what its provenance would then say.

    Attributes
    ----------
    path : str
        Where.
    expected : mapping
        Part of its provenance.
    inputs : sequence of str
        What it is made from.
    needed : bool
        Whether it is missed where it is not there.
    made_from : callable
        Gives the checksum of the inputs that the provenance holds.
    """

    path: str
    expected: Mapping[str, Any]
    inputs: Sequence[str] = ()
    needed: bool = True
    made_from: Callable[[Sequence[str]], str] = kinds.made_from


@dataclass(frozen=True)
class Plan:
    """All that a configuration asks for.

    Attributes
    ----------
    studies : mapping of Study
        By name.
    reproduction : mapping
        Role to name of a study, in the document that compares the results with the paper.
    results : Results
        Where the files lie.
    shard_size : int
        Replicas that one job trains.
    """

    studies: Mapping[str, Study]
    reproduction: Mapping[str, str]
    results: Results = field(default_factory=Results)
    shard_size: int = Config.model_fields["shard_size"].default

    @classmethod
    def from_config(cls, config: Mapping[str, Any], results: Results | None = None) -> Self:
        """Plan of a whole configuration.

        Raises
        ------
        ConfigError
            With one line for each mistake.
        """
        settings = load_config(config)
        return cls(
            load_studies(config), settings.reproduction, results or Results(), settings.shard_size
        )

    @cached_property
    def runs(self) -> dict[str, Hyperparameters]:
        """All runs by name; a point that two studies share is one run."""
        return all_runs(self.studies)

    @cached_property
    def fitted(self) -> set[str]:
        """Names of the runs that are fitted."""
        return {
            run.name for study in self.studies.values() if study.is_stationary for run in study.runs
        }

    @cached_property
    def bulk(self) -> dict[str, tuple[str, ...]]:
        """Names of the runs whose bulk is described, and what is asked for beyond the default."""
        found: dict[str, set[str]] = {}
        for study in self.studies.values():
            for run in study.runs if study.bulk is not None else ():
                if layers_with_bulk(run):
                    found.setdefault(run.name, set()).update(study.bulk or ())
        return {
            name: tuple(extra for extra in EXTRAS if extra in asked)
            for name, asked in found.items()
        }

    @cached_property
    def bulk_scales(self) -> dict[str, dict[str, float]]:
        """Names of the runs whose bulk is described, and the known scales of their layers."""
        return {
            run.name: known_scales(run, study.bulk_scale)
            for study in self.studies.values()
            for run in study.runs
            if study.bulk is not None and run.name in self.bulk
        }

    @cached_property
    def noisy(self) -> set[str]:
        """Names of the runs the noise of whose gradient some figure shows."""
        return {
            run.name
            for study in self.studies.values()
            if study.shows("gradient_noise")
            for run in study.runs
        }

    @cached_property
    def temporary(self) -> set[str]:
        """Names of the runs whose weights no study keeps."""
        kept = {
            run.name for study in self.studies.values() if study.keep_weights for run in study.runs
        }
        return set(self.runs) - kept

    # --- how the weights of a run come about ------------------------------------------------------

    def origin(self, run: Hyperparameters) -> str:
        """Rule that makes the weights of a run: `train`, `join` or `read_weights`."""
        if not models.load(run.MODEL).is_trained:
            return "read_weights"
        return "join" if run.replicas > self.shard_size else "train"

    @cached_property
    def _groups(self) -> dict[tuple[str, bool], list[str]]:
        """Names of the runs by the origin of their weights, and whether these are temporary."""
        found: dict[tuple[str, bool], list[str]] = {}
        for name, run in self.runs.items():
            found.setdefault((self.origin(run), name in self.temporary), []).append(name)
        return found

    def runs_pattern(self, origin: str, temporary: bool) -> str:
        """Regular expression of the runs whose weights come about in a way; for a rule.

        Parameters
        ----------
        origin : str
            As of `origin`.
        temporary : bool
            Those whose weights are deleted after use, or those whose are kept.
        """
        groups = self._groups
        wanted = (origin, temporary)
        if wanted not in groups:
            return NOTHING
        if wanted != max(groups, key=lambda group: len(groups[group])):
            return "|".join(re.escape(name) for name in groups[wanted])
        # Nearly always all runs: to try thousands of names for each of them would take minutes.
        others = [re.escape(name) for group in groups if group != wanted for name in groups[group]]
        return f"(?!(?:{'|'.join(others)})/)[^/]+" if others else "[^/]+"

    def shard_files(self, run: Hyperparameters) -> list[str]:
        """Weights of the parts that a run is trained in."""
        return [
            self.results.shard(run.MODEL, run.name, part.start, part.stop)
            for part in shards(run, self.shard_size)
        ]

    # --- inputs -----------------------------------------------------------------------------------

    def run_files(self, study: str, kind: str, layer: str = "") -> list[str]:
        """Files of the runs of a study, in the order of the configuration.

        Parameters
        ----------
        study : str
            Its name.
        kind : str
            `weights`, `spectra`, `fits`, `increments` of the runs with lags, or `bulk` of those
            with large matrices.
        layer : str
            Only of runs that have this layer; of all if empty.
        """
        runs = self.runs_with(study, layer)
        if kind == "increments":
            runs = [run for run in runs if run.lags]
        if kind == "bulk":
            runs = [run for run in runs if run.name in self.bulk]
        return [self.results.files_of(run)[kind] for run in runs]

    def runs_with(self, study: str, layer: str = "") -> list[Hyperparameters]:
        """Runs of a study that have a layer; all of them if `layer` is empty."""
        runs = self.studies[study].runs
        return [run for run in runs if not layer or layer in run.layers()]

    def fit_inputs(self, run: Hyperparameters) -> dict[str, str]:
        """What fits and bulk of a run are made from."""
        files = self.results.files_of(run)
        return {kind: files[kind] for kind in ("spectra", "weights")}

    def figure_inputs(self, study: str, figure: str) -> Paths:
        """What a figure of a study reads, by kind."""
        layer, name = split_figure(figure)
        found: Paths = {}
        for kind in figures.FIGURES[name].inputs:
            if kind == "scaling":
                found[kind] = [self.results.scaling(study)]
            elif kind == "linear_scaling":
                found[kind] = [
                    self.results.linear_scaling(study),
                    self.results.noise_response(study),
                ]
            else:
                found[kind] = self.run_files(study, kind, layer)
        return found

    def reproduction_inputs(self) -> Paths:
        """What the document that compares the results with the paper reads, by kind."""
        of = {
            kind: [name for role, name in self.reproduction.items() if ROLES[role].compares == kind]
            for kind in ("fits", "increments", "phases")
        }
        found = {
            kind: [path for name in names for path in self.run_files(name, kind)]
            for kind, names in (
                *((kind, of["fits"]) for kind in ("weights", "spectra", "fits")),
                ("increments", of["increments"]),
            )
        }
        found["phases"] = [path for one in of["phases"] for path in self.run_files(one, "weights")]
        return found | {"scaling": [self.results.scaling(name) for name in of["fits"]]}

    def report_inputs(self) -> Paths:
        """What the report shows, by kind: figures, the document, tables by the stem of their name.

        Weights are not read, for they may be deleted; their spectra tell how they came about.
        """
        found: Paths = {}
        for artifact in self._shown():
            path = PurePosixPath(artifact.path)
            if path.suffix == ".safetensors":
                continue
            if artifact.path == self.results.document:
                path = PurePosixPath(self.results.document_page)
            kind = "figures" if path.suffix == ".png" else path.stem
            found.setdefault(kind, []).append(str(path))
        return found

    def targets(self) -> list[str]:
        """What `rule all` asks for."""
        wanted: dict[str, None] = {}
        for study in self.studies.values():
            for figure in study.figures:
                wanted[self.results.figure("png", study.name, figure)] = None
            if study.is_stationary:
                wanted[self.results.scaling(study.name)] = None
                # Also where all that is made from them is up to date: a deleted one comes back.
                wanted |= dict.fromkeys(self.run_files(study.name, "fits"))
            if study.tests_linear_scaling:
                wanted[self.results.linear_scaling(study.name)] = None
            wanted |= dict.fromkeys(self.run_files(study.name, "spectra"))
            wanted |= dict.fromkeys(
                self.results.files_of(run)["layers"] for run in study.runs if run.chooses_layers
            )
            wanted |= dict.fromkeys(
                self.results.files_of(run)["increments"] for run in study.runs if run.lags
            )
            wanted |= dict.fromkeys(self.run_files(study.name, "bulk"))
        document = [self.results.document] if self.reproduction else []
        return [*wanted, *document, self.results.report, self.results.runs_table]

    # --- what the files say of themselves ---------------------------------------------------------

    def run_params(self, stage: str, run: Hyperparameters) -> dict[str, Any]:
        """Parameters of a stage of a run."""
        params = {"hyperparameters": run.canonical(), "source": sources.source(stage, run.MODEL)}
        if stage == "bulk":
            params |= {
                "extras": list(self.bulk[run.name]),
                "scales": self.bulk_scales[run.name],
            }
        return params

    def scaling_params(self, study: str) -> dict[str, Any]:
        """Parameters of the laws of a study."""
        found = self.studies[study]
        return {
            "model": found.model,
            "runs": [run.name for run in found.runs],
            "small_noise": found.small_noise,
            "source": sources.source("scaling", found.model),
        }

    def linear_scaling_inputs(self, study: str) -> Paths:
        """What the tests of the linear scaling rule are made from, by kind."""
        return {kind: self.run_files(study, kind) for kind in ("spectra", "weights")}

    def linear_scaling_params(self, study: str) -> dict[str, Any]:
        """Parameters of the tests of the linear scaling rule over a study."""
        found = self.studies[study]
        return {
            "model": found.model,
            "runs": [run.canonical() for run in found.runs],
            "source": sources.source("linear_scaling", found.model),
        }

    def figure_params(self, study: str, figure: str) -> dict[str, Any]:
        """Parameters of a figure of a study."""
        layer, name = split_figure(figure)
        model = self.studies[study].model
        return {
            "figure": name,
            "module": figures.FIGURES[name].module,
            "layer": layer or self._only_layer(study),
            "model": model,
            "options": dict(figures.FIGURES[name].options),
            "style": self.studies[study].figure_style,
            "runs": [run.canonical() for run in self.runs_with(study, layer)],
            "source": sources.source("figure", model, name),
        }

    def _only_layer(self, study: str) -> str:
        """The layer of a study whose runs have but one; empty where a figure shows all of them."""
        layers = self.studies[study].layers
        return layers[0] if len(layers) == 1 else ""

    def reproduction_params(self) -> dict[str, Any]:
        """Parameters of the document: its studies by their role, and the source."""
        shown = {
            role: {
                "study": self.studies[name].name,
                "runs": [
                    run.name
                    for run in self.studies[name].runs
                    if run.lags or ROLES[role].compares != "increments"
                ],
                "figures": list(self.studies[name].figures),
            }
            for role, name in self.reproduction.items()
        }
        used = tuple(self.studies[name].model for name in self.reproduction.values())
        return {"studies": shown, "source": sources.source_of_reproduction(used)}

    def report_params(self) -> dict[str, Any]:
        """Parameters of the report: its studies, and the source."""
        studies = {
            name: {"model": study.model, "runs": [run.name for run in study.runs]}
            for name, study in self.studies.items()
        }
        made = tuple(str(artifact.expected["source"]) for artifact in self._shown())
        return {"studies": studies, "source": sources.source_of_report(made)}

    def artifacts(self) -> Iterator[Artifact]:
        """All files that say what they were made from, inputs first."""
        yield from self._shown()
        # The report is made last, and nothing is lost without it.
        yield Artifact(
            self.results.report,
            self.report_params(),
            _flat(self.report_inputs().values()),
            needed=False,
        )

    def _shown(self) -> Iterator[Artifact]:
        """All of them but the report, which shows them."""
        for run in self.runs.values():
            yield from self._of_run(run)
        for study in self.studies.values():
            if study.is_stationary:
                yield Artifact(
                    self.results.scaling(study.name),
                    {"study": study.name, **self.scaling_params(study.name)},
                    self.run_files(study.name, "fits"),
                )
            if study.tests_linear_scaling:
                params = self.linear_scaling_params(study.name)
                for path in (
                    self.results.linear_scaling(study.name),
                    self.results.noise_response(study.name),
                ):
                    yield Artifact(
                        path,
                        {
                            "study": study.name,
                            **params,
                            "runs": [run.name for run in study.runs],
                        },
                        _flat(self.linear_scaling_inputs(study.name).values()),
                    )
            for figure in study.figures:
                params = self.figure_params(study.name, figure)
                runs = self.runs_with(study.name, split_figure(figure)[0])
                yield Artifact(
                    self.results.figure("png", study.name, figure),
                    {"study": study.name, **params, "runs": [run.name for run in runs]},
                    _flat(self.figure_inputs(study.name, figure).values()),
                )
        if self.reproduction:
            inputs = self.reproduction_inputs()
            yield Artifact(
                self.results.document,
                self.reproduction_params(),
                _flat([inputs[kind] for kind in ("fits", "scaling", "increments", "phases")]),
            )

    def _of_run(self, run: Hyperparameters) -> Iterator[Artifact]:
        files = self.results.files_of(run)

        def said(stage: str) -> dict[str, Any]:
            return {"run": run.name, **self.run_params(stage, run)}

        read = [str(path) for path in run.sources]
        yield Artifact(
            files["weights"],
            said("train"),
            read,
            run.name not in self.temporary,
            arrays.digest if read else kinds.made_from,
        )
        yield Artifact(files["spectra"], said("spectra"), [files["weights"]])
        if run.chooses_layers:
            yield Artifact(files["layers"], said("layers"), read, made_from=arrays.digest)
        if run.lags:
            yield Artifact(files["increments"], said("increments"), [files["weights"]])
        if run.name in self.bulk:
            yield Artifact(files["bulk"], said("bulk"), list(self.fit_inputs(run).values()))
        if run.name in self.noisy:
            digest = arrays.digest if read else kinds.made_from
            yield Artifact(files["gradient_noise"], said("gradient_noise"), read, made_from=digest)
        if run.name in self.fitted:
            yield Artifact(files["fits"], said("fit"), list(self.fit_inputs(run).values()))


def _flat(parts: Iterable[Iterable[str]]) -> list[str]:
    return [path for part in parts for path in part]


STATUS = {
    WEIGHTS: "trained",
    SPECTRA: "diagonalised",
    INCREMENTS: "diagonalised",
    BULK: "diagonalised",
    FITS: "fitted",
}
"""How far a run is whose last file is this."""
