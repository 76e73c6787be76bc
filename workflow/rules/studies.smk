# What is done over all runs of a study, laws and figures, and over all studies.


# Brought up to date at the end of every run of the workflow (see the Snakefile), so that it needs
# no input and is no reason to run anything. In a module nothing is done at the end.
rule runs:
    input:
        PLAN.targets()[:-1] if IS_MODULE else [],
    output:
        RESULTS.runs_table,
    log:
        RESULTS.log("runs"),
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
        lambda wildcards: PLAN.run_files(wildcards.study, "fits"),
    output:
        table=RESULTS.scaling(),
        html=report(
            RESULTS.scaling_page(),
            caption="../report/scaling.rst",
            category="Scaling laws",
            labels={"study": "{study}", "figure": "table of all laws"},
        ),
    log:
        RESULTS.log("scaling", "{study}"),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_table),
        runtime=runtime(needs_of_table),
    params:
        model=of_scaling("model"),
        runs=of_scaling("runs"),
        small_noise=of_scaling("small_noise"),
        source=of_scaling("source"),
    message:
        "scaling laws of {wildcards.study}"
    script:
        "../scripts/scaling.py"


rule linear_scaling:
    input:
        unpack(lambda wildcards: PLAN.linear_scaling_inputs(wildcards.study)),
    output:
        laws=RESULTS.linear_scaling(),
        points=RESULTS.noise_response(),
        page=report(
            RESULTS.linear_scaling_page(),
            caption="../report/scaling.rst",
            category="Scaling laws",
            labels={"study": "{study}", "figure": "table of the linear scaling rule"},
        ),
    log:
        RESULTS.log("linear_scaling", "{study}"),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_table),
        runtime=runtime(needs_of_table),
    params:
        model=of_linear_scaling("model"),
        runs=of_linear_scaling("runs"),
        source=of_linear_scaling("source"),
    message:
        "linear scaling rule in {wildcards.study}"
    script:
        "../scripts/linear_scaling.py"


rule figure:
    input:
        unpack(lambda wildcards: PLAN.figure_inputs(wildcards.study, wildcards.figure)),
    output:
        png=report(
            RESULTS.figure("png"),
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{study}",
            labels={"study": "{study}", "figure": "{figure}"},
        ),
        pdf=RESULTS.figure("pdf"),
        csv=RESULTS.figure("csv"),
        caption=RESULTS.figure("caption"),
    log:
        RESULTS.log("figure", "{study}", "{figure}"),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_table),
        runtime=runtime(needs_of_table),
    params:
        figure=of_figure("figure"),
        module=of_figure("module"),
        model=of_figure("model"),
        layer=of_figure("layer"),
        options=of_figure("options"),
        style=of_figure("style"),
        runs=of_figure("runs"),
        source=of_figure("source"),
    message:
        "figure {wildcards.figure} of {wildcards.study}"
    script:
        "../scripts/figure.py"


rule reproduction:
    input:
        unpack(lambda wildcards: PLAN.reproduction_inputs()),
    output:
        document=RESULTS.document,
        page=report(
            RESULTS.document_page,
            caption="../report/reproduction.rst",
            category="The paper against the results",
            labels={"study": "all", "figure": "every statement, measured"},
        ),
    log:
        RESULTS.log("reproduction"),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=memory(needs_of_table),
        runtime=runtime(needs_of_table),
    params:
        studies=lambda wildcards: PLAN.reproduction_params()["studies"],
        source=lambda wildcards: PLAN.reproduction_params()["source"],
    message:
        "the paper against the results"
    script:
        "../scripts/reproduction.py"


# As the table of runs, seconds of work and no job of a cluster.
rule report_page:
    input:
        unpack(lambda wildcards: PLAN.report_inputs()),
    output:
        RESULTS.report,
    log:
        RESULTS.log("report_page"),
    localrule: True
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        studies=lambda wildcards: PLAN.report_params()["studies"],
        source=lambda wildcards: PLAN.report_params()["source"],
    message:
        "the report"
    script:
        "../scripts/report_page.py"
