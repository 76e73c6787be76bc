# What is done for every point of a study: a point that two studies share is one run.
#
# Every rule has the digest of its own source among its params: editing a number in a module that a
# stage uses re-runs that stage and what follows, editing a comment re-runs nothing.


rule train_shard:
    output:
        temp(RESULTS.shard()),
    log:
        RESULTS.log("train", "{model}", "{run}", "{first}-{stop}"),
    # A run in a shared cache is of no use as long as its shards are to be trained for it.
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_training),
        runtime=runtime(needs_of_training),
        # One GPU where the configuration asks for it.
        gpu=int(SETTINGS.device == "cuda"),
        # Where a run is trained is not part of what it is, so it is no param.
        device=SETTINGS.device,
        expected_s=expected_s,
        checkpoint_seconds=SETTINGS.checkpoint_seconds,
    params:
        hyperparameters=of_run("train", "hyperparameters"),
        members=lambda wildcards: [int(wildcards.first), int(wildcards.stop)],
        source=of_run("train", "source"),
    message:
        "train {wildcards.model} {wildcards.run}, replicas {wildcards.first} to {wildcards.stop}, "
        "about {resources.expected_s} s; progress in {log}"
    script:
        "../scripts/train.py"


# Weights that no study keeps are deleted once all is made of them: the same rules once more.
for temporary in (False, True):
    suffix = "_temporary" if temporary else ""
    place = temp(RESULTS.run_file(WEIGHTS)) if temporary else RESULTS.run_file(WEIGHTS)

    # Trains a run that fits into one shard.
    rule:
        name:
            f"train{suffix}"
        input:
            sources_of,
        output:
            place,
        log:
            RESULTS.log("train", "{model}", "{run}"),
        wildcard_constraints:
            run=PLAN.runs_pattern("train", temporary),
        cache: MAY_SHARE
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=memory(needs_of_training),
            runtime=runtime(needs_of_training),
            gpu=int(SETTINGS.device == "cuda"),
            device=SETTINGS.device,
            expected_s=expected_s,
            checkpoint_seconds=SETTINGS.checkpoint_seconds,
        params:
            hyperparameters=of_run("train", "hyperparameters"),
            source=of_run("train", "source"),
        message:
            "train {wildcards.model} {wildcards.run}, about {resources.expected_s} s; progress in {log}"
        script:
            "../scripts/train.py"

    # Joins the shards of a larger one.
    rule:
        name:
            f"join{suffix}"
        input:
            lambda wildcards: PLAN.shard_files(RUNS[wildcards.run]),
        output:
            place,
        log:
            RESULTS.log("join", "{model}", "{run}"),
        wildcard_constraints:
            run=PLAN.runs_pattern("join", temporary),
        cache: MAY_SHARE
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=memory(needs_of_joining),
            runtime=runtime(needs_of_joining),
        params:
            hyperparameters=of_run("train", "hyperparameters"),
            source=of_run("train", "source"),
        message:
            "join {wildcards.model} {wildcards.run}"
        script:
            "../scripts/join.py"

    # Reads what was trained elsewhere. Other numbers in a file are a reason to read it again; a new
    # time stamp alone is none.
    rule:
        name:
            f"read_weights{suffix}"
        input:
            sources_of,
        output:
            place,
        log:
            RESULTS.log("read", "{model}", "{run}"),
        wildcard_constraints:
            run=PLAN.runs_pattern("read_weights", temporary),
        cache: MAY_SHARE
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=memory(needs_of_reading),
            runtime=runtime(needs_of_reading),
        params:
            hyperparameters=of_run("train", "hyperparameters"),
            source=of_run("train", "source"),
        message:
            "read {wildcards.model} {wildcards.run}"
        script:
            "../scripts/read_weights.py"


# What becomes of each tensor of the user's own networks.
rule layers:
    input:
        sources_of,
    output:
        RESULTS.run_file(LAYERS),
    log:
        RESULTS.log("layers", "{model}", "{run}"),
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_reading),
        runtime=runtime(needs_of_reading),
    params:
        hyperparameters=of_run("layers", "hyperparameters"),
        source=of_run("layers", "source"),
    message:
        "layers of {wildcards.model} {wildcards.run}"
    script:
        "../scripts/layers.py"


rule spectra:
    input:
        RESULTS.run_file(WEIGHTS),
    output:
        RESULTS.run_file(SPECTRA),
    log:
        RESULTS.log("spectra", "{model}", "{run}"),
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_table),
        runtime=runtime(needs_of_table),
        gpu=int(SETTINGS.singular_values != "lapack"),
    params:
        hyperparameters=of_run("spectra", "hyperparameters"),
        source=of_run("spectra", "source"),
        # Another driver has other bytes, at the level of rounding.
        singular_values=SETTINGS.singular_values,
    message:
        "eigenvalues of {wildcards.model} {wildcards.run}"
    script:
        "../scripts/spectra.py"


rule fit:
    input:
        unpack(lambda wildcards: PLAN.fit_inputs(RUNS[wildcards.run])),
    output:
        RESULTS.run_file(FITS),
    log:
        RESULTS.log("fit", "{model}", "{run}"),
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_table),
        runtime=runtime(needs_of_table),
    params:
        hyperparameters=of_run("fit", "hyperparameters"),
        source=of_run("fit", "source"),
    message:
        "fit {wildcards.model} {wildcards.run}"
    script:
        "../scripts/fit.py"


rule increments:
    input:
        RESULTS.run_file(WEIGHTS),
    output:
        RESULTS.run_file(INCREMENTS),
    log:
        RESULTS.log("increments", "{model}", "{run}"),
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_increments),
        runtime=runtime(needs_of_increments),
    params:
        hyperparameters=of_run("increments", "hyperparameters"),
        source=of_run("increments", "source"),
    message:
        "increments of {wildcards.model} {wildcards.run}"
    script:
        "../scripts/increments.py"


rule bulk:
    input:
        unpack(lambda wildcards: PLAN.fit_inputs(RUNS[wildcards.run])),
    output:
        RESULTS.run_file(BULK),
    log:
        RESULTS.log("bulk", "{model}", "{run}"),
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_bulk),
        runtime=runtime(needs_of_bulk),
    params:
        hyperparameters=of_run("bulk", "hyperparameters"),
        extras=of_run("bulk", "extras"),
        scales=of_run("bulk", "scales"),
        source=of_run("bulk", "source"),
    message:
        "bulk of {wildcards.model} {wildcards.run}"
    script:
        "../scripts/bulk.py"


# Trains the run once more, in memory: what gradients are like cannot be told from its weights.
rule gradient_noise:
    input:
        sources_of,
    output:
        RESULTS.run_file(GRADIENT_NOISE),
    log:
        RESULTS.log("gradient_noise", "{model}", "{run}"),
    cache: MAY_SHARE
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_gradient_noise),
        runtime=runtime(needs_of_gradient_noise),
    params:
        hyperparameters=of_run("gradient_noise", "hyperparameters"),
        source=of_run("gradient_noise", "source"),
    message:
        "noise of the gradient of {wildcards.model} {wildcards.run}"
    script:
        "../scripts/gradient_noise.py"
