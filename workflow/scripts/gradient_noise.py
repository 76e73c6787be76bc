from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.gradient_noise(snakemake.wildcards.model, **snakemake.params, output=snakemake.output[0])
