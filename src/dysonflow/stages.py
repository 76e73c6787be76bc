"""The stages of the workflow: read inputs, compute, write one artifact.

A stage knows its input files and its parameters and nothing else. `source` lists, for each stage,
the modules whose code decides its output.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from dysonflow import models
from dysonflow.artifacts import provenance
from dysonflow.errors import DivergedError
from dysonflow.hyperparameters import Hyperparameters
from dysonflow.report import figures

log = logging.getLogger(__name__)


@lru_cache
def source(stage: str, model: str = "", figure: str = "") -> str:
    """Digest of the source that decides the output of a stage, and of the stages before it.

    Parameters
    ----------
    stage : str
        `train`, `spectra`, `fit`, `scaling` or `figure`. The first of a model that is not trained
        reads its weights from files instead.
    model : str
        Name of the system.
    figure : str
        Name of the figure, for the last stage.
    """
    is_trained = model in models.trained()
    train = [f"dysonflow.models.{model}", "dysonflow.artifacts.weights"]
    train += ["dysonflow.simulation.ensemble"] if is_trained else []
    spectra = [*train, "dysonflow.analysis.spectra"]
    fit = [*spectra, "dysonflow.analysis.fits", f"dysonflow.theory.{model}"]
    scaling = [*fit, "dysonflow.analysis.scaling"]
    drawn = [
        *scaling,
        *([f"dysonflow.report.figures.{figures.FIGURES[figure].module}"] if figure else []),
    ]
    roots = {"train": train, "spectra": spectra, "fit": fit, "scaling": scaling, "figure": drawn}
    kernel = provenance.PACKAGE / "simulation" / "kernel"
    compiled = kernel.iterdir() if is_trained else []
    files = [
        f"simulation/kernel/{path.name}" for path in compiled if path.suffix in (".cpp", ".hpp")
    ]
    files += ["report/figures/dysonflow.mplstyle"] if stage == "figure" else []
    # Of this module only the stage itself and those before it: the others do not run.
    before = list(roots)[: list(roots).index(stage) + 1]
    first = ["join", "train"] if is_trained else ["read_checkpoints"]
    functions = [f"{__name__}.{name}" for name in ["_parse", *first, *before[1:]]]
    return provenance.source_digest(roots[stage], files, functions=functions)


@lru_cache
def source_of_reproduction(models: tuple[str, ...]) -> str:
    """Digest of the source that decides the document, and the tables of these models."""
    own = provenance.source_digest(
        ["dysonflow.report.reproduction"], functions=[f"{__name__}.reproduction"]
    )
    digests = [own, *(source("scaling", model) for model in sorted(set(models)))]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def _parse(model: str, hyperparameters: Mapping[str, Any]) -> Hyperparameters:
    return models.hyperparameters_of(model).from_config(hyperparameters)


def _metadata(run: Hyperparameters, source: str, **more: Any) -> dict[str, Any]:
    return {
        "run": run.run,
        "model": run.MODEL,
        "hyperparameters": run.canonical(),
        "source": source,
        "versions": provenance.versions(),
        "device": "cpu",
        **more,
    }


def peek(path: str | Path) -> dict[str, Any]:
    """Provenance of an artifact by its suffix: weights, table, or the PNG file of a figure."""
    from dysonflow.artifacts import documents, tables, weights
    from dysonflow.report.figures import embedded

    kinds: dict[str, Any] = {
        ".safetensors": weights.peek,
        ".png": embedded,
        ".md": documents.read_document,
        ".html": documents.read_document,
    }
    return dict(kinds.get(Path(path).suffix, tables.peek)(path))


def made_from(paths: Sequence[str | Path]) -> str:
    """One checksum of the data of the artifacts that a stage reads."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(str(peek(path).get("data")).encode())
    return digest.hexdigest()


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)


def train(
    model: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    device: str,
    output: str,
    progress: TextIO | None = None,
    threads: int = 1,
    members: Sequence[int] | None = None,
    checkpoint_seconds: float = 60.0,
) -> None:
    """Train a run, or the shard of it with the replicas `members`; write the weights.

    Raises
    ------
    DivergedError
        With replica, step and hyperparameters.
    """
    from dysonflow.artifacts import weights
    from dysonflow.simulation import compiled, ensemble
    from dysonflow.simulation.resume import Checkpoint, remove_all

    run = _parse(model, hyperparameters)
    log.info("run %s: %s", run.run, run.canonical())
    replicas = range(*members) if members is not None else range(run.replicas)
    on_cpu = ensemble.choose_device(device).type == "cpu"
    simulation, implementation = compiled.choose(models.load(model), on_cpu, threads)
    # Torch has one thread, so more than one block side by side would not be faster there.
    threads = threads if implementation.startswith("compiled") else 1
    log.info("implementation: %s", implementation)
    identity = _metadata(run, source, members=[replicas.start, replicas.stop])
    identity["device"] = ensemble.device_name(ensemble.choose_device(device))
    identity |= {"implementation": implementation, "threads": threads}
    del identity["versions"]["git_commit"]
    checkpoint = Checkpoint(output, identity, checkpoint_seconds)
    try:
        result = ensemble.train(simulation, run, device, progress, replicas, threads, checkpoint)
    except DivergedError as error:
        raise DivergedError(
            error.replica, error.step, f"{error.reason} (hyperparameters: {run.canonical()})"
        ) from None
    steps = len(replicas) * int(result.step[-1])
    rate = steps / result.seconds
    log.info("device %s, %.3g replica-steps/s, %.1f s", result.device, rate, result.seconds)
    extra = {} if members is None else {"members": list(members)}
    metadata = _metadata(
        run,
        source,
        device=result.device,
        implementation=implementation,
        seconds=round(result.seconds, 3),
        replica_steps=steps,
        **extra,
    )
    weights.write_weights(output, result.weights, result.step, result.loss, metadata)
    remove_all(output)


def join(shards: Sequence[str], output: str) -> None:
    """Join the shards of a run; write its weights."""
    from dysonflow.artifacts import weights
    from dysonflow.simulation.resume import remove_all

    weights.join_weights(shards, output)
    remove_all(output)
    log.info("%d shards joined", len(shards))


def read_checkpoints(
    model: str, hyperparameters: Mapping[str, Any], source: str, output: str
) -> None:
    """Write the weights of a run that was trained elsewhere, read from the user's own files."""
    from dysonflow.artifacts import weights
    from dysonflow.readers import arrays as array_files

    began = time.perf_counter()
    run = _parse(model, hyperparameters)
    log.info("run %s: %s", run.run, run.canonical())
    values, step = models.load(model).read(run)
    files = run.sources
    log.info("run %s: weights of shape %s from %d files", run.run, values.shape, len(files))
    metadata = _metadata(run, source, **array_files.record(files), seconds=_since(began))
    loss = np.full(values.shape[:2], np.nan)
    weights.write_weights(output, values, step, loss, metadata)


def spectra(
    model: str, hyperparameters: Mapping[str, Any], source: str, weights: str, output: str
) -> None:
    """Write the eigenvalues of W^T W of all snapshots of a run."""
    from dysonflow.analysis import spectra as spectra_module
    from dysonflow.artifacts.tables import write_table
    from dysonflow.artifacts.weights import read_weights

    began = time.perf_counter()
    run = _parse(model, hyperparameters)
    tensors, _ = read_weights(weights)
    columns = spectra_module.spectra_columns(run, tensors["weights"], tensors["step"])
    log.info("run %s: %d eigenvalues", run.run, len(columns["eigenvalue"]))
    metadata = _metadata(run, source, made_from=made_from([weights]), seconds=_since(began))
    write_table(columns, spectra_module.spectra_schema(type(run)), output, metadata)


def fit(
    model: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    spectra: str,
    weights: str,
    output: str,
) -> None:
    """Write the fits of all blocks of a run."""
    from dysonflow.analysis.fits import fit_run, fits_schema
    from dysonflow.analysis.spectra import read_eigenvalues
    from dysonflow.artifacts.tables import write_table
    from dysonflow.artifacts.weights import read_weights

    began = time.perf_counter()
    run = _parse(model, hyperparameters)
    eigenvalues, _ = read_eigenvalues(spectra)
    tensors, _ = read_weights(weights)
    columns = fit_run(run, eigenvalues, tensors["weights"])
    for block, flag in enumerate(columns["flag"].to_pylist()):
        if flag:
            log.warning("run %s, block %d: %s", run.run, block, flag)
    metadata = _metadata(
        run, source, made_from=made_from([spectra, weights]), seconds=_since(began)
    )
    write_table(columns, fits_schema(type(run)), output, metadata)


def scaling(
    study: str,
    model: str,
    runs: Sequence[str],
    small_noise: float | None,
    source: str,
    fits: Sequence[str],
    output: str,
    table: str,
) -> None:
    """Write the laws of a study, as Parquet and as an HTML table for the report."""
    from dysonflow import theory
    from dysonflow.analysis.scaling import html_table, scaling_laws
    from dysonflow.artifacts import tables

    began = time.perf_counter()
    slope = theory.load(model).SLOPE
    names = list(models.hyperparameters_of(model).model_fields)
    rows = scaling_laws(study, tables.read_table(fits), slope, names, small_noise)
    schema = tables.SCALING_SCHEMA
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    metadata = {
        "study": study,
        "model": model,
        "runs": list(runs),
        "small_noise": small_noise,
        "source": source,
        "versions": provenance.versions(),
        "device": "cpu",
        "made_from": made_from(fits),
        "seconds": _since(began),
    }
    tables.write_table(columns, schema, output, metadata)
    with tables.atomic(table) as path:
        path.write_text(html_table(rows))


def figure(
    name: str,
    study: str,
    model: str,
    runs: Sequence[Mapping[str, Any]],
    source: str,
    inputs: Mapping[str, Any],
    output: Mapping[str, str],
) -> None:
    """Draw one figure of a study.

    Parameters
    ----------
    name, study, model : str
        Of the figure, the study and the system.
    runs : sequence of mapping
        Hyperparameters of the study's runs.
    source : str
        Digest of the source.
    inputs : mapping
        Paths of `spectra`, `fits`, `weights` (one for each run) and `scaling`, as far as the
        figure reads them.
    output : mapping
        Paths `png`, `pdf`, `csv` and `caption`.
    """
    from dysonflow.report.figures._study import StudyData

    began = time.perf_counter()
    data = StudyData(study, [_parse(model, values) for values in runs], **inputs)
    drawing = figures.load(name).draw(data, **figures.FIGURES[name].options)
    read = [files if isinstance(files, list) else [files] for files in inputs.values()]
    metadata = {
        "figure": name,
        "study": study,
        "model": model,
        "runs": [run.run for run in data.runs],
        "source": source,
        "versions": provenance.versions(),
        "device": "cpu",
        "made_from": made_from([path for files in read for path in files]),
        "seconds": _since(began),
    }
    drawing.save(**output, metadata=metadata)
    log.info("%s: %d points", name, int(np.sum([len(table) for table in drawing.numbers])))


def reproduction(
    studies: Mapping[str, Mapping[str, Any]],
    source: str,
    inputs: Mapping[str, Sequence[str]],
    output: str,
    page: str,
) -> None:
    """Write the document that compares the results with the paper, as Markdown and HTML.

    Parameters
    ----------
    studies : mapping
        Role to `study` (its name), `runs` and `figures` (their names).
    source : str
        Digest of the source.
    inputs : mapping
        Paths of `weights`, `spectra` and `fits` of all runs and of `scaling` of all studies, in the
        order of `studies`.
    output, page : str
        Targets.
    """
    import pandas as pd

    from dysonflow.artifacts import documents, tables
    from dysonflow.report.reproduction import document, html_page, markdown
    from dysonflow.report.reproduction.study import StudyTables

    began = time.perf_counter()
    found, first = {}, 0
    for number, (role, content) in enumerate(studies.items()):
        own = slice(first, first + len(content["runs"]))
        first = own.stop
        weights, spectra, fits = (list(inputs[k][own]) for k in ("weights", "spectra", "fits"))
        trained = [peek(path) for path in weights]
        cost = pd.DataFrame(
            {
                "training": [run["seconds"] for run in trained],
                "replica_steps": [run.get("replica_steps", 0) for run in trained],
                "analysis": [
                    peek(one)["seconds"] + peek(two)["seconds"]
                    for one, two in zip(spectra, fits, strict=True)
                ],
            }
        )
        laws = tables.read_table([inputs["scaling"][number]]).set_index("law")
        found[role] = StudyTables(
            content["study"], tables.read_table(fits), laws, content["figures"], cost
        )
    parts = document(found)
    metadata = {
        "studies": {role: dict(content) for role, content in studies.items()},
        "source": source,
        "versions": provenance.versions(),
        "device": "cpu",
        "made_from": made_from([*inputs["fits"], *inputs["scaling"]]),
        "seconds": _since(began),
    }
    documents.write_document(page, html_page(parts), metadata)
    documents.write_document(output, markdown(parts), metadata)


def runs(studies: Mapping[str, Any], output: str) -> None:
    """Write the table of all runs: which study names each, its hyperparameters, how far it is."""
    from dysonflow.planning import audit

    named = {
        study: [_parse(model, values) for values in points]
        for study, (model, points) in studies.items()
    }
    audit.write_runs(named, Path(output).parent, output)
