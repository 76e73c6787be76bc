from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.report_page(
        **snakemake.params, inputs=dict(snakemake.input.items()), output=snakemake.output[0]
    )
