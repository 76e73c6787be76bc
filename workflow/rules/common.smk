import sys
from pathlib import Path

from dysonflow import models, stages
from dysonflow.planning import advice, audit, resources
from dysonflow.report import figures
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.planning.studies import all_runs, load_config, load_studies, shards

try:
    SETTINGS = load_config(config)
    STUDIES = load_studies(config)
except ConfigError as error:
    # One line for each mistake, without the traceback that an exception here would print.
    sys.exit("\n".join(f"config: {line}" for line in str(error).splitlines()))

RUNS = all_runs(STUDIES)
# Making a name takes a hash; every figure of a study asks for all of them.
NAMES = {study.name: [run.run for run in study.runs] for study in STUDIES.values()}

try:
    audit.check_folder(Path("results"))
except ArtifactError as error:
    sys.exit(f"results: {error}, or give another folder with --directory")

# Results that came without their .snakemake folder would be taken for up to date, whatever made
# them.
if workflow.is_main_process:
    unknown = audit.unrecorded(STUDIES, Path("results"))
    if unknown:
        more = [f"and {len(unknown) - 5} more"] if len(unknown) > 5 else []
        sys.exit(
            "\n".join(
                [
                    *[f"results: {line}" for line in unknown[:5] + more],
                    "results: there is no record of these files in .snakemake; bring it along, or "
                    "`dysonflow verify --delete` deletes what is out of date or damaged",
                ]
            )
        )


wildcard_constraints:
    model="[a-z_]+",
    run=r"[^/]+-[0-9a-f]{12}",
    study="|".join(STUDIES),
    figure="|".join(figures.FIGURES),
    first=r"\d+",
    stop=r"\d+",


def run_files(study, artifact):
    """Paths of one artifact for all runs of a study, in the order of the configuration."""
    folder = f"results/runs/{STUDIES[study].model}"
    return [f"{folder}/{run}/{artifact}" for run in NAMES[study]]


def shard_files(wildcards):
    """Shards that a run is trained in; none if one job trains all of it."""
    parts = shards(RUNS[wildcards.run], SETTINGS.shard_size)
    folder = f"results/runs/{wildcards.model}/{wildcards.run}/shards"
    names = [f"{folder}/{part.start}-{part.stop}.safetensors" for part in parts]
    return names if len(names) > 1 else []


TRAINED = models.trained()
READ = [name for name in models.names() if name not in TRAINED]


# What a job asks of a cluster; local runs pay no heed to it. A retry asks for more.


def needs_of_training(wildcards, attempt):
    """Memory and time of a training job, or of one that only joins shards."""
    run = RUNS[wildcards.run]
    if hasattr(wildcards, "first"):
        replicas = int(wildcards.stop) - int(wildcards.first)
    elif run.replicas > SETTINGS.shard_size:
        return resources.joining(run, attempt)
    else:
        replicas = run.replicas
    return resources.training(run, replicas, attempt, SETTINGS.device)


def memory_of_training(wildcards, attempt):
    return needs_of_training(wildcards, attempt)["mem_mb"]


def runtime_of_training(wildcards, attempt):
    return needs_of_training(wildcards, attempt)["runtime"]


def memory_of_reading(wildcards, attempt):
    return resources.reading(RUNS[wildcards.run], attempt)["mem_mb"]


def runtime_of_reading(wildcards, attempt):
    return resources.reading(RUNS[wildcards.run], attempt)["runtime"]


def gpus_of_training(wildcards):
    """One GPU where the configuration asks for it; none for a job that only joins shards."""
    joins = (
        not hasattr(wildcards, "first")
        and RUNS[wildcards.run].replicas > SETTINGS.shard_size
    )
    return int(SETTINGS.device == "cuda" and not joins)


def needs_of_table(wildcards, attempt):
    """Memory and time of a job that reads or makes tables: of a run, a study, or those compared."""
    if hasattr(wildcards, "run"):
        runs = [RUNS[wildcards.run]]
    else:
        compared = SETTINGS.reproduction.values()
        names = [wildcards.study] if hasattr(wildcards, "study") else compared
        runs = [run for name in names for run in STUDIES[name].runs]
    return resources.table(runs, attempt)


def memory_of_table(wildcards, attempt):
    return needs_of_table(wildcards, attempt)["mem_mb"]


def runtime_of_table(wildcards, attempt):
    return needs_of_table(wildcards, attempt)["runtime"]


def figure_inputs(wildcards):
    """The files of its study that a figure reads, by kind."""
    kinds = {
        "spectra": run_files(wildcards.study, "spectra.parquet"),
        "fits": run_files(wildcards.study, "fits.parquet"),
        "weights": run_files(wildcards.study, "weights.safetensors"),
        "scaling": f"results/studies/{wildcards.study}/scaling.parquet",
    }
    return {kind: kinds[kind] for kind in figures.FIGURES[wildcards.figure].inputs}


def all_targets():
    """Figures of all studies; scaling tables of those that are stationary."""
    drawn = [
        f"results/figures/{study.name}/{figure}.png"
        for study in STUDIES.values()
        for figure in study.figures
    ]
    fitted = [study.name for study in STUDIES.values() if study.is_stationary]
    tables = [f"results/studies/{name}/scaling.parquet" for name in fitted]
    document = ["results/reproduction.md"] if SETTINGS.reproduction else []
    return drawn + tables + document + ["results/runs.parquet"]


def reproduction_inputs(wildcards):
    """The tables of the studies that the document compares with the paper, by kind."""
    names = SETTINGS.reproduction.values()
    kinds = {
        "weights": "weights.safetensors",
        "spectra": "spectra.parquet",
        "fits": "fits.parquet",
    }
    files = {
        kind: [path for name in names for path in run_files(name, artifact)]
        for kind, artifact in kinds.items()
    }
    return files | {
        "scaling": [f"results/studies/{name}/scaling.parquet" for name in names]
    }


def update_runs_table():
    """Bring the table of runs to the state at the end of the workflow, also of one that failed."""
    named = {study.name: study.runs for study in STUDIES.values()}
    try:
        audit.write_runs(named, Path("results"), "results/runs.parquet")
    except ArtifactError as error:
        print(f"dysonflow: {error}", file=sys.stderr)
