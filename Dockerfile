# docker build --tag dysonflow .
# docker run --rm --volume "$PWD:/work" dysonflow                    # the default studies, into ./results
# docker run --rm --volume "$PWD:/work" dysonflow snakemake --snakefile /dysonflow/Snakefile \
#     --workflow-profile /dysonflow/profiles/default --configfile my.yaml --cores 4
#
# The image holds the checkout in /dysonflow, installed under constraints.txt with the compiled
# kernel, which chooses its instruction set when it runs.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /dysonflow
COPY . .
RUN make setup

ENV PATH="/dysonflow/.venv/bin:$PATH"
WORKDIR /work
CMD ["snakemake", "--snakefile", "/dysonflow/Snakefile", "--workflow-profile", "/dysonflow/profiles/default", "--configfile", "/dysonflow/config/config.yaml", "--cores", "all"]
