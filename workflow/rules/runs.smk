# What is done for every point of a study: a point that two studies share is one run.
#
# Every rule has the digest of its own source among its params: editing a number in a module that a
# stage uses re-runs that stage and what follows, editing a comment re-runs nothing.


rule train_shard:
    output:
        temp("results/runs/{model}/{run}/shards/{first}-{stop}.safetensors"),
    log:
        "results/logs/train/{model}/{run}/{first}-{stop}.log",
    # A run in a shared cache is of no use as long as its shards are to be trained for it.
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_training,
        runtime=runtime_of_training,
        gpu=gpus_of_training,
        # Where a run is trained is not part of what it is, so it is no param.
        device=SETTINGS.device,
        checkpoint_seconds=SETTINGS.checkpoint_seconds,
    params:
        hyperparameters=lambda wildcards: RUNS[wildcards.run].canonical(),
        members=lambda wildcards: [int(wildcards.first), int(wildcards.stop)],
        source=lambda wildcards: stages.source("train", wildcards.model),
    message:
        "train {wildcards.model} {wildcards.run}, replicas {wildcards.first} to {wildcards.stop}"
    script:
        "../scripts/train.py"


# Trains a run that fits into one shard; joins the shards of a larger one.
rule train:
    input:
        shard_files,
    output:
        "results/runs/{model}/{run}/weights.safetensors",
    log:
        "results/logs/train/{model}/{run}.log",
    wildcard_constraints:
        model="|".join(TRAINED),
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_training,
        runtime=runtime_of_training,
        gpu=gpus_of_training,
        device=SETTINGS.device,
        checkpoint_seconds=SETTINGS.checkpoint_seconds,
    params:
        hyperparameters=lambda wildcards: RUNS[wildcards.run].canonical(),
        source=lambda wildcards: stages.source("train", wildcards.model),
    message:
        "train {wildcards.model} {wildcards.run}"
    script:
        "../scripts/train.py"


# Reads what was trained elsewhere. Other numbers in a file are a reason to read it again; a new time
# stamp alone is none.
rule read_checkpoints:
    input:
        lambda wildcards: RUNS[wildcards.run].sources,
    output:
        "results/runs/{model}/{run}/weights.safetensors",
    log:
        "results/logs/read/{model}/{run}.log",
    wildcard_constraints:
        model="|".join(READ),
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_reading,
        runtime=runtime_of_reading,
    params:
        hyperparameters=lambda wildcards: RUNS[wildcards.run].canonical(),
        source=lambda wildcards: stages.source("train", wildcards.model),
    message:
        "read {wildcards.model} {wildcards.run}"
    script:
        "../scripts/read_checkpoints.py"


rule spectra:
    input:
        "results/runs/{model}/{run}/weights.safetensors",
    output:
        "results/runs/{model}/{run}/spectra.parquet",
    log:
        "results/logs/spectra/{model}/{run}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_table,
        runtime=runtime_of_table,
    params:
        hyperparameters=lambda wildcards: RUNS[wildcards.run].canonical(),
        source=lambda wildcards: stages.source("spectra", wildcards.model),
    message:
        "eigenvalues of {wildcards.model} {wildcards.run}"
    script:
        "../scripts/spectra.py"


rule fit:
    input:
        spectra="results/runs/{model}/{run}/spectra.parquet",
        weights="results/runs/{model}/{run}/weights.safetensors",
    output:
        "results/runs/{model}/{run}/fits.parquet",
    log:
        "results/logs/fit/{model}/{run}.log",
    cache: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_table,
        runtime=runtime_of_table,
    params:
        hyperparameters=lambda wildcards: RUNS[wildcards.run].canonical(),
        source=lambda wildcards: stages.source("fit", wildcards.model),
    message:
        "fit {wildcards.model} {wildcards.run}"
    script:
        "../scripts/fit.py"
