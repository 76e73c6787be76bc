import functools
import shlex
import sys

from dysonflow import models
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.planning import advice, audit, resources, sources
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import load_config, split_figure
from dysonflow.report import figures
from dysonflow.results import FITS, SPECTRA, WEIGHTS, Results

# Snakemake puts the path of Python as it is into the shell commands of its jobs.
sys.executable = shlex.quote(sys.executable)

# It takes what stands in braces for a wildcard, also in the path of a script of its own.
if set("{}") & set(workflow.basedir):
    sys.exit(
        f"dysonflow: {workflow.basedir}: Snakemake runs no workflow whose own path holds braces; "
        "rename the folder (that of the results may hold them)"
    )

try:
    SETTINGS = load_config(config)
    PLAN = Plan.from_config(config)
except ConfigError as error:
    # One line for each mistake, without the traceback that an exception here would print.
    sys.exit("\n".join(f"config: {line}" for line in str(error).splitlines()))

STUDIES, RUNS, RESULTS = PLAN.studies, PLAN.runs, PLAN.results

try:
    if workflow.is_main_process:
        audit.check_places(PLAN)
    audit.check_folder(RESULTS)
except ArtifactError as error:
    sys.exit(f"results: {error}, or give another folder with --directory")
except OSError as error:
    sys.exit(f"results: {error.filename}: {error.strerror}")

# Results that came without their .snakemake folder would be taken for up to date, whatever made
# them.
if workflow.is_main_process:
    unknown = audit.unrecorded(PLAN)
    sources.save_cache()
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
    model="[a-z_0-9]+",
    run=r"[^/]+-[0-9a-f]{12}|[0-9a-f]{12}",
    study="|".join(STUDIES),
    figure=f"(?:[^/]+/)?(?:{'|'.join(figures.FIGURES)})",
    first=r"\d+",
    stop=r"\d+",


# What a job asks of a cluster; local runs pay no heed to it. A retry asks for more.


def needs_of_training(wildcards, attempt):
    """Memory and time of a job that trains a run or a shard of one."""
    run = RUNS[wildcards.run]
    replicas = run.replicas
    if hasattr(wildcards, "first"):
        replicas = int(wildcards.stop) - int(wildcards.first)
    return resources.training(run, replicas, attempt, SETTINGS.device)


def needs_of_joining(wildcards, attempt):
    return resources.joining(RUNS[wildcards.run], attempt)


def needs_of_reading(wildcards, attempt):
    return resources.reading(RUNS[wildcards.run], attempt)


def needs_of_table(wildcards, attempt):
    """Memory and time of a job that reads or makes tables: of a run, a study, or those compared."""
    if hasattr(wildcards, "run"):
        runs = [RUNS[wildcards.run]]
    else:
        compared = PLAN.reproduction.values()
        names = [wildcards.study] if hasattr(wildcards, "study") else compared
        runs = [run for name in names for run in STUDIES[name].runs]
    return resources.table(runs, attempt)


def memory(needs):
    return lambda wildcards, attempt: needs(wildcards, attempt)["mem_mb"]


def runtime(needs):
    return lambda wildcards, attempt: needs(wildcards, attempt)["runtime"]


def of_run(stage, name):
    """A parameter of a stage of a run."""
    return lambda wildcards: PLAN.run_params(stage, RUNS[wildcards.run])[name]


def of_scaling(name):
    """A parameter of the laws of a study."""
    return lambda wildcards: PLAN.scaling_params(wildcards.study)[name]


# Every parameter of a figure is asked for on its own, and all of them hold all runs of the study.
figure_params = functools.cache(PLAN.figure_params)


def of_figure(name):
    """A parameter of a figure of a study."""
    return lambda wildcards: figure_params(wildcards.study, wildcards.figure)[name]


def update_runs_table():
    """Bring the table of runs to the state at the end of the workflow, also of one that failed."""
    named = {study.name: study.runs for study in STUDIES.values()}
    try:
        audit.write_runs(named, RESULTS, RESULTS.runs_table)
    except (ArtifactError, OSError) as error:
        print(f"dysonflow: {error}", file=sys.stderr)
