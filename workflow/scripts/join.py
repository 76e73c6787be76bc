from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.join(list(snakemake.input), snakemake.output[0])
