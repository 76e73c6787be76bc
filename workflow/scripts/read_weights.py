from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.read_weights(snakemake.wildcards.model, **snakemake.params, output=snakemake.output[0])
