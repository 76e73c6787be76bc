from snakemake.utils import min_version

min_version("9.8")


# A file given with --configfile replaces the default studies, it does not add to them.
if "studies" not in config:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/studies.smk"


rule all:
    input:
        PLAN.targets(),


onstart:
    print_estimate()


onsuccess:
    end()


# Last of all that is printed: which setting to change, where the log of a cluster tells.
onerror:
    end()
    advice.report(log)
