from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]) as log:
    stages.train(
        snakemake.wildcards.model,
        **snakemake.params,
        device=snakemake.resources.device,
        output=snakemake.output[0],
        progress=log,
    )
