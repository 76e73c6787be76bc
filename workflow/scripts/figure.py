from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.figure(
        snakemake.wildcards.figure,
        snakemake.wildcards.study,
        snakemake.params.model,
        snakemake.params.runs,
        snakemake.params.source,
        dict(snakemake.input.items()),
        dict(snakemake.output.items()),
    )
