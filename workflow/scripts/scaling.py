from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.scaling(
        snakemake.wildcards.study,
        **snakemake.params,
        fits=list(snakemake.input),
        output=snakemake.output.table,
        table=snakemake.output.html,
    )
