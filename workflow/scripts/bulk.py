from dysonflow import logs, stages

with logs.job_log(snakemake.log[0]):
    stages.bulk(
        snakemake.wildcards.model,
        **snakemake.params,
        spectra=snakemake.input.spectra,
        weights=snakemake.input.weights,
        output=snakemake.output[0],
    )
