# What is done over all runs of a study: laws and figures.


# Brought up to date at the end of every run of the workflow (see the Snakefile), so that it needs
# no input and is no reason to run anything.
rule runs:
    output:
        "results/runs.parquet",
    log:
        "results/logs/runs.log",
    # A second of work that every call repeats: no job of a cluster.
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        studies=lambda wildcards: {
            study.name: [study.model, [run.canonical() for run in study.runs]]
            for study in sorted(STUDIES.values(), key=lambda study: study.name)
        },
    message:
        "table of all runs"
    script:
        "../scripts/runs.py"


rule scaling:
    input:
        lambda wildcards: run_files(wildcards.study, "fits.parquet"),
    output:
        table="results/studies/{study}/scaling.parquet",
        html=report(
            "results/studies/{study}/scaling.html",
            caption="../report/scaling.rst",
            category="Scaling laws",
            labels={"study": "{study}", "figure": "table of all laws"},
        ),
    log:
        "results/logs/scaling/{study}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_table,
        runtime=runtime_of_table,
    params:
        model=lambda wildcards: STUDIES[wildcards.study].model,
        runs=lambda wildcards: NAMES[wildcards.study],
        small_noise=lambda wildcards: STUDIES[wildcards.study].small_noise,
        source=lambda wildcards: stages.source(
            "scaling", STUDIES[wildcards.study].model
        ),
    message:
        "scaling laws of {wildcards.study}"
    script:
        "../scripts/scaling.py"


rule figure:
    input:
        unpack(figure_inputs),
    output:
        png=report(
            "results/figures/{study}/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{study}",
            labels={"study": "{study}", "figure": "{figure}"},
        ),
        pdf="results/figures/{study}/{figure}.pdf",
        csv="results/figures/{study}/{figure}.csv",
        caption="results/figures/{study}/{figure}.rst",
    log:
        "results/logs/figure/{study}/{figure}.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_table,
        runtime=runtime_of_table,
    params:
        model=lambda wildcards: STUDIES[wildcards.study].model,
        runs=lambda wildcards: [
            run.canonical() for run in STUDIES[wildcards.study].runs
        ],
        source=lambda wildcards: stages.source(
            "figure", STUDIES[wildcards.study].model, wildcards.figure
        ),
    message:
        "figure {wildcards.figure} of {wildcards.study}"
    script:
        "../scripts/figure.py"


rule reproduction:
    input:
        unpack(reproduction_inputs),
    output:
        document="results/reproduction.md",
        page=report(
            "results/reproduction.html",
            caption="../report/reproduction.rst",
            category="The paper against the results",
            labels={"study": "all", "figure": "every statement, measured"},
        ),
    log:
        "results/logs/reproduction.log",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_table,
        runtime=runtime_of_table,
    params:
        studies=lambda wildcards: audit.roles(STUDIES, SETTINGS.reproduction),
        source=lambda wildcards: stages.source_of_reproduction(
            tuple(STUDIES[name].model for name in SETTINGS.reproduction.values())
        ),
    message:
        "the paper against the results"
    script:
        "../scripts/reproduction.py"
