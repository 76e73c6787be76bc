from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.linear_scaling(
        study=snakemake.wildcards.study,
        **snakemake.params,
        inputs=dict(snakemake.input.items()),
        output=dict(snakemake.output.items()),
    )
