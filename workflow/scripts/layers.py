from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.layers(snakemake.wildcards.model, **snakemake.params, output=snakemake.output[0])
