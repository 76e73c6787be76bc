from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.reproduction(
        **snakemake.params,
        inputs=dict(snakemake.input.items()),
        output=snakemake.output.document,
        page=snakemake.output.page,
    )
