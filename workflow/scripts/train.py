from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]) as log:
    stages.train(
        snakemake.wildcards.model,
        **snakemake.params,
        device=snakemake.resources.device,
        checkpoint_seconds=snakemake.resources.checkpoint_seconds,
        output=snakemake.output[0],
        progress=log,
        threads=snakemake.threads,
    )
