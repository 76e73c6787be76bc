# `make run` and `make test` do everything on a fresh machine that has Python 3.11 or newer.

PYTHON ?= python3
CORES ?= $(shell getconf _NPROCESSORS_ONLN)
BIN := .venv/bin
# Also holds for the isolated environments in which packages are built.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup run paper report verify unlock clean-orphans test test-cluster bench lint clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## install the pinned environment into .venv

.venv/ready: pyproject.toml constraints.txt
	@echo "Making the environment .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@echo "Installing what constraints.txt pins, and compiling the kernel (about a minute of CPU): some minutes in all"
	@$(BIN)/pip install --quiet --editable '.[dev,cluster]'
	@touch $@

run: setup  ## run the studies of config/config.yaml: figures and results/report.html
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES)
	@$(MAKE) --no-print-directory report

# The runs released by the authors join in where they are (see config/release.yaml).
PAPER := config/paper.yaml $(if $(wildcard data/teacher_student_release),config/release.yaml)

paper: setup  ## arXiv:2407.16427 figure by figure: docs/reproduction.md, results/paper.html
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --cores $(CORES) --configfile $(PAPER)
	cp results/reproduction.md docs/reproduction.md
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --configfile $(PAPER) --report results/paper.html

report: setup  ## collect figures and tables in results/report.html
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --report results/report.html

verify: setup  ## list results that are damaged, or that would be made differently now
	$(BIN)/dysonflow verify

unlock: setup  ## let go of the lock that a killed snakemake left behind
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --unlock

clean-orphans: setup  ## list runs that no study names; FLAGS=--delete deletes them
	$(BIN)/dysonflow clean-orphans $(FLAGS)

test: setup  ## run all tests but those on a cluster
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -m 'not cluster'

test-cluster: setup  ## start a real Slurm on this machine and run the workflow on it (as root)
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -rs tests/cluster

bench: setup  ## time reference, torch and kernel side by side: results/benchmarks.parquet
	PATH="$(CURDIR)/$(BIN):$$PATH" python benchmarks/speed.py

lint: setup  ## ruff, snakefmt, mypy and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" snakemake --lint

clean:  ## remove results, logs and the environment
	rm -rf results .snakemake .venv
