"""The stages of the workflow: read inputs, compute, write one artifact.

A stage knows its input files and its parameters and nothing else.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from dysonflow import models
from dysonflow.artifacts import kinds
from dysonflow.artifacts.provenance import Clock, record
from dysonflow.errors import DivergedError
from dysonflow.hyperparameters import Hyperparameters

log = logging.getLogger(__name__)


def _parse(model: str, hyperparameters: Mapping[str, Any]) -> Hyperparameters:
    run = models.hyperparameters_of(model).from_config(hyperparameters)
    log.info("run %s: %s", run.name, run.canonical())
    return run


def _said(run: Hyperparameters) -> dict[str, Any]:
    """What every artifact of a run says of it."""
    return {
        "run": run.name,
        "model": run.MODEL,
        "hyperparameters": run.canonical(),
        "layers": list(run.layers()),
    }


def _lists(inputs: Mapping[str, Sequence[str] | str]) -> dict[str, list[str]]:
    """Paths by kind, each as a list: Snakemake hands on a single path bare."""
    return {
        kind: [paths] if isinstance(paths, str) else list(paths) for kind, paths in inputs.items()
    }


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
    from dysonflow.artifacts.weights import WeightsWriter
    from dysonflow.simulation import ensemble
    from dysonflow.simulation.gpu_errors import explained
    from dysonflow.simulation.implementation import choose, choose_place
    from dysonflow.simulation.resume import Checkpoint, remove_all

    run = _parse(model, hyperparameters)
    run.check_sources()
    replicas = range(*members) if members is not None else range(run.replicas)
    system = models.load(model)
    place = choose_place(system, device, run)
    implementation = choose(system, place, run)
    # Torch has one thread, so more than one block side by side would not be faster there.
    threads = threads if implementation.is_compiled else 1
    log.info("implementation: %s", implementation.name)
    how = {
        **_said(run),
        "device": place.name,
        "implementation": implementation.name,
        **({} if members is None else {"members": list(members)}),
    }
    metadata = record(source, 0.0, **how)
    # Another commit, or another member of the same shard, is no other training.
    identity = {**metadata, "versions": {**metadata["versions"], "git_commit": ""}}
    identity |= {"threads": threads, "members": [replicas.start, replicas.stop]}
    checkpoint = Checkpoint(output, identity, checkpoint_seconds)
    shape = (run.layers(), len(replicas), run.snapshots, run.dtype)
    with WeightsWriter(
        output,
        *shape,
        metadata,
        resumable=True,
        lags=len(run.lags),
        keeps_diverged=run.KEEPS_DIVERGED,
    ) as writer:
        try:
            with explained(place, len(replicas)):
                seconds = ensemble.train(
                    implementation.simulation,
                    run,
                    writer,
                    place,
                    progress,
                    replicas,
                    threads,
                    checkpoint,
                )
        except DivergedError as error:
            remove_all(output)
            raise DivergedError(
                error.replica, error.step, f"{error.reason} (hyperparameters: {run.canonical()})"
            ) from None
        steps = len(replicas) * run.frame_steps[-1]
        log.info("device %s, %.3g replica-steps/s, %.1f s", place.name, steps / seconds, seconds)
        for replica in (writer.diverged >= 0).nonzero()[0]:
            number, step = replicas.start + replica, writer.diverged[replica]
            log.warning("run %s: replica %d diverged at step %d", run.name, number, step)
        made = record(source, seconds, replica_steps=steps, **how)
        writer.finish(run.snapshot_steps, made)
    remove_all(output)


def join(shards: Sequence[str], output: str) -> None:
    """Join the shards of a run; write its weights."""
    from dysonflow.artifacts.weights import join_weights
    from dysonflow.simulation.resume import remove_all

    join_weights(shards, output)
    remove_all(output)
    log.info("%d shards joined", len(shards))


def read_weights(model: str, hyperparameters: Mapping[str, Any], source: str, output: str) -> None:
    """Write the weights of a run that was trained elsewhere, read from the user's own files."""
    from dysonflow.artifacts.weights import WeightsWriter
    from dysonflow.readers import arrays

    clock = Clock()
    run = _parse(model, hyperparameters)
    read = models.load(model).read
    if read is None:
        raise ValueError(f"{model} is trained, not read")
    files = run.sources
    log.info("run %s: weights in %d files", run.name, len(files))
    with arrays.unchanged(files):
        found = {**_said(run), **arrays.record(files)}
        shape = (run.layers(), run.replicas, run.snapshots, run.dtype)
        with WeightsWriter(output, *shape, record(source, 0.0, **found)) as writer:
            step = read(run, writer.put)
            writer.finish(step, record(source, clock.seconds, **found))


def layers(model: str, hyperparameters: Mapping[str, Any], source: str, output: str) -> None:
    """Write what becomes of each tensor of the user's own networks: read, or why not."""
    from dysonflow.analysis.layers import LAYERS_SCHEMA, layers_columns
    from dysonflow.artifacts.tables import write_table
    from dysonflow.models.checkpoints import CheckpointHyperparameters
    from dysonflow.readers import arrays

    clock = Clock()
    run = _parse(model, hyperparameters)
    if not isinstance(run, CheckpointHyperparameters):
        raise ValueError(f"{model} reads no networks")
    lines = run.held().lines
    columns = layers_columns(run, lines)
    made_from = arrays.record(run.sources)["made_from"]
    metadata = record(source, clock.seconds, **_said(run), made_from=made_from)
    write_table(columns, LAYERS_SCHEMA, output, metadata)
    log.info("run %s: %d of %d are layers", run.name, sum(one.used for one in lines), len(lines))


def spectra(
    model: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    weights: str,
    output: str,
    singular_values: str = "lapack",
) -> None:
    """Write the eigenvalues of W^T W of all layers and snapshots of a run."""
    from dysonflow.analysis import spectra as spectra_module
    from dysonflow.analysis.decompositions import chosen
    from dysonflow.artifacts.tables import table_writer
    from dysonflow.artifacts.weights import open_weights

    clock = Clock()
    run = _parse(model, hyperparameters)
    said = _said(run)
    # The weights may be deleted, and how they came about is still to be told.
    of_weights = {name: what for name, what in kinds.peek(weights).items() if name not in said}
    of_weights["file"] = Path(weights).name
    made_from = kinds.made_from([weights])
    metadata = record(source, 0.0, **said, weights=of_weights, made_from=made_from)
    decompose, device = chosen(singular_values)
    if device.kind != "cpu":
        metadata |= {"device": device.name, "implementation": singular_values}
    schema = spectra_module.spectra_schema(type(run))
    with (
        open_weights(weights) as file,
        table_writer(output, schema, metadata) as writer,
    ):
        for columns in spectra_module.spectra_parts(run, file, decompose):
            writer.write(columns)
            log.info("run %s: %d eigenvalues", run.name, len(columns["eigenvalue"]))
        metadata["seconds"] = clock.seconds


def fit(
    model: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    spectra: str,
    weights: str,
    output: str,
) -> None:
    """Write the fits of all blocks of all layers of a run."""
    import pyarrow as pa

    from dysonflow.analysis.fits import fit_run, fits_schema
    from dysonflow.analysis.spectra import read_eigenvalues
    from dysonflow.artifacts.arrow import texts
    from dysonflow.artifacts.tables import table_writer
    from dysonflow.artifacts.weights import open_weights

    clock = Clock()
    run = _parse(model, hyperparameters)
    read = kinds.made_from([spectra, weights])
    metadata = record(source, 0.0, **_said(run), made_from=read)
    with (
        open_weights(weights) as file,
        table_writer(output, fits_schema(type(run)), metadata) as writer,
    ):
        for layer in run.layers():
            values, _ = read_eigenvalues(spectra, layer)
            columns = fit_run(run, layer, values, file)
            for block, flag in enumerate(texts(pa.chunked_array([columns["flag"]]))):
                if flag:
                    log.warning("run %s, layer %s, block %d: %s", run.name, layer, block, flag)
            writer.write(columns)
        metadata["seconds"] = clock.seconds


def increments(
    model: str, hyperparameters: Mapping[str, Any], source: str, weights: str, output: str
) -> None:
    """Write drift, diffusion and repulsion of all layers and lags of a run."""
    import pyarrow as pa

    from dysonflow.analysis.increments import increments_run, increments_schema
    from dysonflow.artifacts.arrow import texts
    from dysonflow.artifacts.tables import table_writer
    from dysonflow.artifacts.weights import open_weights

    clock = Clock()
    run = _parse(model, hyperparameters)
    metadata = record(source, 0.0, **_said(run), made_from=kinds.made_from([weights]))
    with (
        open_weights(weights) as file,
        table_writer(output, increments_schema(type(run)), metadata) as writer,
    ):
        for layer in run.layers():
            columns = increments_run(run, layer, file)
            for flag in dict.fromkeys(texts(pa.chunked_array([columns["flag"]]))):
                if flag:
                    log.warning("run %s, layer %s: %s", run.name, layer, flag)
            writer.write(columns)
        metadata["seconds"] = clock.seconds


def bulk(
    model: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    extras: Sequence[str],
    scales: Mapping[str, float],
    spectra: str,
    weights: str,
    output: str,
) -> None:
    """Write bulk, outliers and spacings of the spectra of all large layers of a run."""
    from dysonflow.analysis.bulk import bulk_columns, bulk_schema
    from dysonflow.analysis.spectra import read_eigenvalues
    from dysonflow.artifacts.tables import table_writer
    from dysonflow.artifacts.weights import open_weights

    clock = Clock()
    run = _parse(model, hyperparameters)
    read = kinds.made_from([spectra, weights])
    asked = {"extras": list(extras), "scales": dict(scales)}
    metadata = record(source, 0.0, **_said(run), **asked, made_from=read)
    with (
        open_weights(weights) as file,
        table_writer(output, bulk_schema(type(run)), metadata) as writer,
    ):
        writer.write(
            bulk_columns(
                run, lambda layer: read_eigenvalues(spectra, layer)[0], file, extras, scales
            )
        )
        metadata["seconds"] = clock.seconds


def gradient_noise(
    model: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    output: str,
) -> None:
    """Train a run once more, in memory, and write the noise of its gradient at some snapshots."""
    from dysonflow.analysis.gradient_noise import (
        gradient_noise_parts,
        gradient_noise_schema,
        measured_steps,
    )
    from dysonflow.artifacts.tables import table_writer

    clock = Clock()
    run = _parse(model, hyperparameters)
    run.check_sources()
    simulation = models.load(model).simulation
    if simulation is None:
        raise ValueError(f"{model} is not trained, so that there are no gradients")
    metadata = record(source, 0.0, **_said(run))
    with table_writer(output, gradient_noise_schema(type(run)), metadata) as writer:
        for columns in gradient_noise_parts(run, simulation, measured_steps(run)):
            writer.write(columns)
            step, layer = columns["step"][0].as_py(), columns["layer"][0].as_py()
            log.info("run %s, layer %s, SGD step %d", run.name, layer, step)
        metadata["seconds"] = clock.seconds


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
    from dysonflow.analysis.columns import hyperparameter_fields
    from dysonflow.analysis.scaling import SCALING_SCHEMA, scaling_laws
    from dysonflow.artifacts import tables
    from dysonflow.artifacts.files import atomic
    from dysonflow.report.scaling_page import scaling_page

    clock = Clock()
    slope = theory.load(model).slope
    names = [field.name for field in hyperparameter_fields(models.hyperparameters_of(model))]
    found = tables.read_table(fits)
    rows = scaling_laws(study, found, slope, names, small_noise)
    columns = {name: [row.get(name) for row in rows] for name in SCALING_SCHEMA.names}
    metadata = record(
        source,
        clock.seconds,
        study=study,
        model=model,
        runs=list(runs),
        small_noise=small_noise,
        blocks=len(found),
        flags={text: int(count) for text, count in found["flag"].value_counts().items() if text},
        made_from=kinds.made_from(fits),
    )
    tables.write_table(columns, SCALING_SCHEMA, output, metadata)
    with atomic(table) as path:
        path.write_text(scaling_page(study, rows), encoding="utf-8")


def linear_scaling(
    study: str,
    model: str,
    runs: Sequence[Mapping[str, Any]],
    source: str,
    inputs: Mapping[str, Sequence[str] | str],
    output: Mapping[str, str],
) -> None:
    """Write whether only learning rate over batch size counts in a study.

    Parameters
    ----------
    study, model : str
        Names of the study and of the system.
    runs : sequence of mapping
        Hyperparameters of the study's runs.
    source : str
        Digest of the source.
    inputs : mapping
        Paths of `spectra` and `weights`, one for each run.
    output : mapping
        Paths `laws`, `points` and `page`.
    """
    import pyarrow as pa

    from dysonflow.analysis import linear_scaling as laws
    from dysonflow.analysis import noise_response
    from dysonflow.artifacts import tables
    from dysonflow.artifacts.files import atomic
    from dysonflow.report.linear_scaling_page import linear_scaling_page

    clock = Clock()
    read = _lists(inputs)
    shown = [_parse(model, values) for values in runs]
    rows = []
    for run, spectra, weights in zip(shown, read["spectra"], read["weights"], strict=True):
        rows += list(noise_response.run_points(run, spectra, weights))
    schema = noise_response.points_schema(type(shown[0]))
    columns = noise_response.points_columns(schema, rows)
    points = pa.table(columns, schema=schema).to_pandas()
    found = laws.linear_scaling_laws(study, points, list(type(shown[0]).model_fields))
    metadata = record(
        source,
        clock.seconds,
        study=study,
        model=model,
        runs=[run.name for run in shown],
        made_from=kinds.made_from([path for paths in read.values() for path in paths]),
    )
    tables.write_table(columns, schema, output["points"], metadata)
    fields = laws.LINEAR_SCALING_SCHEMA
    table = {name: [row.get(name) for row in found] for name in fields.names}
    tables.write_table(table, fields, output["laws"], metadata)
    with atomic(output["page"]) as path:
        path.write_text(linear_scaling_page(study, found), encoding="utf-8")


def figure(
    figure: str,
    module: str,
    study: str,
    model: str,
    layer: str,
    options: Mapping[str, Any],
    style: str,
    runs: Sequence[Mapping[str, Any]],
    source: str,
    inputs: Mapping[str, Sequence[str] | str],
    output: Mapping[str, str],
) -> None:
    """Draw one figure of a study.

    Parameters
    ----------
    figure, module, study, model, layer : str
        Names of the figure, of the file that draws it, of the study, the system and the weight
        matrix that is shown.
    options : mapping
        Keyword arguments of the figure's `draw`.
    style : str
        What it is drawn for, a `dysonflow.report.figures.Style`.
    runs : sequence of mapping
        Hyperparameters of the study's runs.
    source : str
        Digest of the source.
    inputs : mapping
        Paths of `spectra`, `fits`, `weights` (one for each run) and `scaling` (one), as far as the
        figure reads them.
    output : mapping
        Paths `png`, `pdf`, `csv` and `caption`.
    """
    from dysonflow.report.figures._page import Page
    from dysonflow.report.figures._study import StudyData, draw_figure

    clock = Clock()
    read = _lists(inputs)
    files: dict[str, Any] = dict(read)
    if "scaling" in read:
        (files["scaling"],) = read["scaling"]
    shown = [_parse(model, values) for values in runs]
    data = StudyData(study, shown, layer=layer, page=Page(style), **files)
    drawing = draw_figure(module, data, options)
    metadata = record(
        source,
        clock.seconds,
        figure=figure,
        module=module,
        study=study,
        model=model,
        layer=layer,
        options=dict(options),
        style=style,
        runs=[run.name for run in shown],
        made_from=kinds.made_from([path for paths in read.values() for path in paths]),
    )
    drawing.save(**output, metadata=metadata)
    log.info("%s: %d points", figure, sum(len(table) for table in drawing.numbers))


def reproduction(
    studies: Mapping[str, Mapping[str, Any]],
    source: str,
    inputs: Mapping[str, Sequence[str] | str],
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
        Paths of `weights`, `spectra` and `fits` of all runs and of `scaling` of all studies that
        are fitted, of `increments` of the runs whose motion is compared, and of the weights of
        those whose phases are, `phases`, in the order of `studies`.
    output, page : str
        Targets.
    """
    import pandas as pd

    from dysonflow.artifacts import documents, tables
    from dysonflow.report.reproduction import document, html_page, markdown
    from dysonflow.report.reproduction.phases import phase_tables
    from dysonflow.report.reproduction.study import MotionTables, StudyTables
    from dysonflow.report.roles import ROLES

    clock = Clock()
    files = _lists(inputs)
    found, first = {}, 0
    of = {
        kind: {role: one for role, one in studies.items() if ROLES[role].compares == kind}
        for kind in ("fits", "increments", "phases")
    }
    for number, (role, content) in enumerate(of["fits"].items()):
        own = slice(first, first + len(content["runs"]))
        first = own.stop
        weights, spectra, fits = (files[k][own] for k in ("weights", "spectra", "fits"))
        trained = [kinds.peek(path) for path in weights]
        cost = pd.DataFrame(
            {
                "training": [run["seconds"] for run in trained],
                "replica_steps": [run.get("replica_steps", 0) for run in trained],
                "analysis": [
                    kinds.peek(one)["seconds"] + kinds.peek(two)["seconds"]
                    for one, two in zip(spectra, fits, strict=True)
                ],
            }
        )
        laws = tables.read_table([files["scaling"][number]]).set_index("law")
        found[role] = StudyTables(
            content["study"], tables.read_table(fits), laws, content["figures"], cost
        )
    phases, first = {}, 0
    for role, content in of["phases"].items():
        paths = files["phases"][first : first + len(content["runs"])]
        first += len(paths)
        runs: list[Any] = [
            (_parse(ROLES[role].model, kinds.peek(path)["hyperparameters"]), path) for path in paths
        ]
        phases[role] = phase_tables(content["study"], runs, content["figures"])
    moving, first = {}, 0
    for role, content in of["increments"].items():
        own = slice(first, first + len(content["runs"]))
        first = own.stop
        moving[role] = MotionTables(
            content["study"], tables.read_table(files["increments"][own]), content["figures"]
        )
    parts = document(found, moving, phases)
    metadata = record(
        source,
        clock.seconds,
        studies={role: dict(content) for role, content in studies.items()},
        made_from=kinds.made_from(
            [path for kind in ("fits", "scaling", "increments", "phases") for path in files[kind]]
        ),
    )
    documents.write_document(page, html_page(parts), metadata)
    documents.write_document(output, markdown(parts), metadata)


def report_page(
    studies: Mapping[str, Mapping[str, Any]],
    source: str,
    inputs: Mapping[str, Sequence[str] | str],
    output: str,
) -> None:
    """Write the page that tells what was run, what came out, and what it was made from.

    Parameters
    ----------
    studies : mapping
        Name to `model` and `runs`, their names.
    source : str
        Digest of the source.
    inputs : mapping
        Paths by what they hold: `figures`, `reproduction` (the document as HTML), or the stem of
        the name of a table.
    output : str
        Target.
    """
    from dysonflow.artifacts import documents
    from dysonflow.report.page import report_page

    clock = Clock()
    files = _lists(inputs)
    text = report_page(studies, files)
    metadata = record(
        source,
        clock.seconds,
        studies={name: dict(content) for name, content in studies.items()},
        made_from=kinds.made_from([path for paths in files.values() for path in paths]),
    )
    documents.write_document(output, text, metadata)
    log.info("%.1f MB", Path(output).stat().st_size / 1e6)


def runs(studies: Mapping[str, Any], output: str) -> None:
    """Write the table of all runs: which study names each, its hyperparameters, how far it is."""
    from dysonflow.planning import audit
    from dysonflow.results import Results

    named = {
        study: [_parse(model, values) for values in points]
        for study, (model, points) in studies.items()
    }
    audit.write_runs(named, Results(str(Path(output).parent)), output)
