from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]) as log:
    if snakemake.input:
        stages.join(list(snakemake.input), snakemake.output[0])
    else:
        stages.train(
            snakemake.wildcards.model,
            **snakemake.params,
            device=snakemake.resources.device,
            checkpoint_seconds=snakemake.resources.checkpoint_seconds,
            output=snakemake.output[0],
            progress=log,
            threads=snakemake.threads,
        )
