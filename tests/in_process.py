"""What the workflow makes, made in this process, without Snakemake."""

from pathlib import Path

from dysonflow import stages
from dysonflow.planning.studies import split_figure


def make_weights(plan, run, log):
    """Weights of a run, trained in one part, in shards that are joined, or read."""
    values = plan.run_params("train", run)
    output = plan.results.files_of(run)["weights"]
    origin = plan.origin(run)
    if origin == "read_weights":
        stages.read_weights(run.MODEL, **values, output=output)
    elif origin == "train":
        stages.train(run.MODEL, **values, device="cpu", output=output, progress=log)
    else:
        parts = plan.shard_files(run)
        for path in parts:
            members = [int(part) for part in Path(path).stem.split("-")]
            stages.train(
                run.MODEL, **values, device="cpu", output=path, progress=log, members=members
            )
        stages.join(parts, output)
        for path in parts:
            Path(path).unlink()


def make_run(plan, run, log):
    """Weights, spectra, increments of its lags and, where a study wants them, fits of a run."""
    make_weights(plan, run, log)
    files = plan.results.files_of(run)
    values = plan.run_params("spectra", run)
    stages.spectra(run.MODEL, **values, weights=files["weights"], output=files["spectra"])
    if run.chooses_layers:
        stages.layers(run.MODEL, **plan.run_params("layers", run), output=files["layers"])
    if run.lags:
        values = plan.run_params("increments", run)
        stages.increments(run.MODEL, **values, weights=files["weights"], output=files["increments"])
    if run.name in plan.bulk:
        values = plan.run_params("bulk", run)
        stages.bulk(run.MODEL, **values, **plan.fit_inputs(run), output=files["bulk"])
    if run.name in plan.noisy:
        values = plan.run_params("gradient_noise", run)
        stages.gradient_noise(run.MODEL, **values, output=files["gradient_noise"])
    if run.name in plan.fitted:
        values = plan.run_params("fit", run)
        stages.fit(run.MODEL, **values, **plan.fit_inputs(run), output=files["fits"])


def make_figure(plan, study, figure):
    """One figure of a study."""
    output = {
        kind: plan.results.figure(kind, study, figure) for kind in ("png", "pdf", "csv", "caption")
    }
    inputs = plan.figure_inputs(study, figure)
    stages.figure(study=study, **plan.figure_params(study, figure), inputs=inputs, output=output)
    assert split_figure(figure)[1] == plan.figure_params(study, figure)["figure"]


def make_linear_scaling(plan, study):
    """The tests of the linear scaling rule over a study."""
    results = plan.results
    stages.linear_scaling(
        study,
        **plan.linear_scaling_params(study),
        inputs=plan.linear_scaling_inputs(study),
        output={
            "laws": results.linear_scaling(study),
            "points": results.noise_response(study),
            "page": results.linear_scaling_page(study),
        },
    )


def make(plan):
    """All artifacts of a plan but the table of runs and the document."""
    Path(plan.results.root).mkdir(parents=True, exist_ok=True)
    with open(Path(plan.results.root) / "log", "a", encoding="utf-8") as log:
        for run in plan.runs.values():
            make_run(plan, run, log)
    for study in plan.studies.values():
        if study.is_stationary:
            stages.scaling(
                study.name,
                **plan.scaling_params(study.name),
                fits=plan.run_files(study.name, "fits"),
                output=plan.results.scaling(study.name),
                table=plan.results.scaling_page(study.name),
            )
        if study.tests_linear_scaling:
            make_linear_scaling(plan, study.name)
        for figure in study.figures:
            make_figure(plan, study.name, figure)


def make_document(plan):
    """The document that compares the results with the papers."""
    stages.reproduction(
        **plan.reproduction_params(),
        inputs=plan.reproduction_inputs(),
        output=plan.results.document,
        page=plan.results.document_page,
    )
