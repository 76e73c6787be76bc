# So that `snakemake` finds the workflow from here, too. All of it stands in workflow/Snakefile, and
# its first rule is what is made by default.
# fmt: off
include: "workflow/Snakefile", overwrite_default_target=True
# fmt: on
