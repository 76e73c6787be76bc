import atexit
import functools
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from dysonflow import models
from dysonflow.errors import ArtifactError, ConfigError
from dysonflow.planning import advice, audit, resources, sources
from dysonflow.planning.configuration_files import check_keys
from dysonflow.planning.graph import Plan
from dysonflow.planning.studies import load_config, too_few_replicas
from dysonflow.readers import places
from dysonflow.report import figures
from dysonflow.results import (
    BULK,
    FITS,
    GRADIENT_NOISE,
    INCREMENTS,
    LAYERS,
    RUN_NAME,
    SPECTRA,
    WEIGHTS,
    Results,
)

# Snakemake puts the path of Python as it is into the shell commands of its jobs. What is quoted
# already, where this file is included twice, is no path.
if os.path.exists(sys.executable):
    sys.executable = shlex.quote(sys.executable)

# It takes what stands in braces for a wildcard, also in the path of a script of its own.
if set("{}") & set(workflow.basedir):
    sys.exit(
        f"dysonflow: {workflow.basedir}: Snakemake runs no workflow whose own path holds braces; "
        "rename the folder (that of the results may hold them)"
    )

# Which rules may share their outputs with other checkouts need be known only where they do: without
# --cache Snakemake names each of them on every start.
MAY_SHARE = workflow.workflow_settings.cache is not None

# Files that the configuration names may lie beside it.
places.look_beside(workflow.configfiles)

try:
    if workflow.is_main_process:
        check_keys(workflow.configfiles)
    SETTINGS = load_config(config)
    PLAN = Plan.from_config(config)
except ConfigError as error:
    # One line for each mistake, without the traceback that an exception here would print.
    sys.exit("\n".join(f"config: {line}" for line in str(error).splitlines()))

STUDIES, RUNS, RESULTS = PLAN.studies, PLAN.runs, PLAN.results

# Another workflow may take this one as a module, and put all its paths elsewhere. Snakemake does so
# with the paths of rules; what is looked at beside the rules has to be looked for there.
IS_MODULE = not workflow.modifier.is_main_snakefile()
PLACE = Path(workflow.modifier.path_modifier.replace_prefix(RESULTS.runs_table)).parent
ON_DISK = replace(PLAN, results=Results(str(PLACE)))

try:
    if workflow.is_main_process:
        audit.check_places(ON_DISK)
    audit.check_folder(ON_DISK.results)
except ArtifactError as error:
    sys.exit(f"results: {error}, or give another folder with --directory")
except OSError as error:
    sys.exit(f"results: {error.filename}: {error.strerror}")

# Results that came without their .snakemake folder would be taken for up to date, whatever made
# them.
if workflow.is_main_process:
    for line in too_few_replicas(STUDIES):
        print(f"config: {line}", file=sys.stderr)
    unknown = audit.unrecorded(ON_DISK)
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
    run=RUN_NAME,
    study="|".join(STUDIES),
    figure=f"(?:[^/]+/)?(?:{'|'.join(figures.FIGURES)})",
    first=r"\d+",
    stop=r"\d+",


# What a job asks of a cluster; local runs pay no heed to it. A retry asks for more.


def needs_of_training(wildcards, attempt):
    """Memory and time of a job that trains a run or a shard of one."""
    return resources.training(
        RUNS[wildcards.run], replicas_of(wildcards), attempt, SETTINGS.device
    )


def replicas_of(wildcards):
    """Replicas that a job trains: of a run, or of a shard of it."""
    if hasattr(wildcards, "first"):
        return int(wildcards.stop) - int(wildcards.first)
    return RUNS[wildcards.run].replicas


def expected_s(wildcards):
    """Seconds that a training job is likely to take, for the line that says it has begun."""
    run, replicas = RUNS[wildcards.run], replicas_of(wildcards)
    return round(resources.expected_training_seconds(run, replicas, SETTINGS.device))


def needs_of_joining(wildcards, attempt):
    return resources.joining(RUNS[wildcards.run], attempt)


def needs_of_reading(wildcards, attempt):
    return resources.reading(RUNS[wildcards.run], attempt)


def needs_of_gradient_noise(wildcards, attempt):
    return resources.gradient_noise(RUNS[wildcards.run], attempt)


def needs_of_increments(wildcards, attempt):
    return resources.increments(RUNS[wildcards.run], attempt)


def needs_of_bulk(wildcards, attempt):
    return resources.bulk(RUNS[wildcards.run], attempt)


def needs_of_table(wildcards, attempt):
    """Memory and time of a job that reads or makes tables: of a run, a study, or those compared."""
    return resources.table(runs_of(wildcards), attempt)


def runs_of(wildcards):
    """Runs that a job makes or reads: one, those of a study, or those that are compared."""
    if hasattr(wildcards, "run"):
        return [RUNS[wildcards.run]]
    compared = PLAN.reproduction.values()
    names = [wildcards.study] if hasattr(wildcards, "study") else compared
    return [run for name in names for run in STUDIES[name].runs]


def memory(needs):
    return lambda wildcards, attempt: needs(wildcards, attempt)["mem_mb"]


def runtime(needs):
    return lambda wildcards, attempt: needs(wildcards, attempt)["runtime"]


def sources_of(wildcards):
    """Files that the weights of a run are made from: the user's own, which no prefix belongs to."""
    paths = RUNS[wildcards.run].sources
    is_moved = ON_DISK.results != RESULTS
    return [str(path.absolute() if is_moved else path) for path in paths]


def of_run(stage, name):
    """A parameter of a stage of a run."""
    return lambda wildcards: PLAN.run_params(stage, RUNS[wildcards.run])[name]


def of_scaling(name):
    """A parameter of the laws of a study."""
    return lambda wildcards: PLAN.scaling_params(wildcards.study)[name]


def of_linear_scaling(name):
    """A parameter of the tests of the linear scaling rule."""
    return lambda wildcards: PLAN.linear_scaling_params(wildcards.study)[name]


# Every parameter of a figure is asked for on its own, and all of them hold all runs of the study.
figure_params = functools.cache(PLAN.figure_params)


def of_figure(name):
    """A parameter of a figure of a study."""
    return lambda wildcards: figure_params(wildcards.study, wildcards.figure)[name]


def end():
    """Bring the table of runs to the state at the end of the workflow; say what stands out."""
    named = {study.name: study.runs for study in STUDIES.values()}
    try:
        # In a module the rule does so, and what follows from the table would be out of date.
        if not IS_MODULE:
            audit.write_runs(named, RESULTS, RESULTS.runs_table)
    except (ArtifactError, OSError) as error:
        print(f"dysonflow: {error}", file=sys.stderr)
    for line in audit.flagged(ON_DISK):
        print(f"dysonflow: {line}", file=sys.stderr)


def print_untrained():
    """Say for which runs the rest was not made."""
    for line in audit.untrained(ON_DISK):
        print(f"dysonflow: {line}", file=sys.stderr)


def print_report():
    """Say where to look, if the report is among what was asked for."""
    if not IS_MODULE and any(
        job.rule.name == "report_page" for job in workflow.dag.jobs
    ):
        print(f"dysonflow: done; open {RESULTS.report}", file=sys.stderr)


def print_estimate():
    """Say what the jobs that are to be run are likely to take."""
    jobs = []
    if workflow.dag is not None:
        # A dry run counts all of them as finished.
        jobs = list(workflow.dag.needrun_jobs(exclude_finished=False))
    total = resources.Expected()
    for job in jobs:
        stage = job.rule.name.removesuffix("_temporary")
        if stage == "all":
            continue
        replicas = replicas_of(job.wildcards) if stage.startswith("train") else 0
        # Weights of shards are counted where they are joined.
        is_kept = stage == job.rule.name != "train_shard"
        runs = runs_of(job.wildcards)
        total += resources.expected(stage, runs, replicas, SETTINGS.device, is_kept)
    if jobs:
        print(
            f"dysonflow: an estimate for these jobs: {total} in results",
            file=sys.stderr,
        )


# Nothing else tells the end of a dry run, nor, while this is read, that it is one.
if workflow.is_main_process and not IS_MODULE:
    atexit.register(lambda: print_estimate() if workflow.dryrun else None)
