from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.increments(
        snakemake.wildcards.model,
        **snakemake.params,
        weights=snakemake.input[0],
        output=snakemake.output[0],
    )
