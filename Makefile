# `make run` and `make test` do everything on a fresh machine that has Python 3.11 or newer.

PYTHON ?= python3
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
# Nothing here names the folder of the checkout, whose path may hold blanks, quotes or dollar signs: pip
# splits its settings at blanks, the shell expands what make inserts, and the first lines of the
# scripts in .venv/bin stand for no such path, so that modules are run instead.
VENV := .venv/bin/python
IN_VENV := PATH="$$PWD/.venv/bin:$$PATH" python
# The second is for the isolated environments in which packages are built, in newer versions of pip.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run paper phase-diagram snakemake-report verify unlock clean-orphans test test-cluster test-gpu bench lint site clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## install the pinned environment into .venv

.venv/ready: pyproject.toml constraints.txt
	@echo "Making the environment .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@echo "Installing what constraints.txt pins, and compiling the kernel (about a minute of CPU): some minutes in all"
	@$(VENV) -m pip install --quiet --editable '.[dev,cluster,docs,gpu]'
	@touch $@

run: setup  ## run the studies of config/config.yaml: figures and results/report.html
	$(IN_VENV) -m snakemake --cores $(CORES)

# The runs released by the authors join in where they are (see config/release.yaml).
PAPER := config/paper.yaml $(if $(wildcard data/teacher_student_release),config/release.yaml)

paper: setup  ## arXiv:2407.16427 figure by figure: docs/reproduction.md, results/paper.html
	$(IN_VENV) -m snakemake --cores $(CORES) --configfile $(PAPER)
	cp results/reproduction.md docs/reproduction.md
	cp results/report.html results/paper.html

phase-diagram: setup  ## arXiv:2509.01349, 2412.20496: docs/reproduction_networks.md, results/phase_diagram.html
	$(IN_VENV) -m snakemake --cores $(CORES) --configfile config/phase_diagram.yaml
	cp results/reproduction.md docs/reproduction_networks.md
	cp results/report.html results/phase_diagram.html

snakemake-report: setup  ## Snakemake's own report, with the graph of the rules: results/snakemake.html
	$(IN_VENV) -m snakemake --report results/snakemake.html

verify: setup  ## list results that are damaged, or that would be made differently now
	$(VENV) -m dysonflow verify

unlock: setup  ## let go of the lock that a killed snakemake left behind
	$(IN_VENV) -m snakemake --unlock

clean-orphans: setup  ## list runs that no study names; FLAGS=--delete deletes them
	$(VENV) -m dysonflow clean-orphans $(FLAGS)

test: setup  ## run all tests but those on a cluster
	$(IN_VENV) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m 'not cluster'

test-cluster: setup  ## start a real Slurm on this machine and run the workflow on it (as root)
	$(IN_VENV) -m pytest -rs tests/cluster

test-gpu: setup  ## all checks on a GPU, six minutes: results/gpu/summary.md
	tests/gpu/check.sh

bench: setup  ## time reference, torch and kernel side by side: results/benchmarks.parquet
	$(IN_VENV) benchmarks/speed.py

lint: setup  ## ruff, snakefmt, mypy and snakemake --lint
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m snakefmt --check Snakefile workflow
	$(VENV) -m mypy
	$(IN_VENV) -m snakemake --lint

site: setup  ## build the site of docs/ into site/, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(VENV) -m mkdocs build --strict

clean:  ## remove results, logs, the site and the environment
	rm -rf results site .snakemake .venv
