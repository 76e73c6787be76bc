from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.runs(snakemake.params.studies, snakemake.output[0])
