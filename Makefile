# make embed STORE=run.zarr                         the bundled example with small demo models
# make embed STORE=run.zarr FASTA=sample.fa.gz      your file with DNABERT-S and ESM-2 3B
PYTHON ?= python3
VENV   ?= .venv
STORE  ?=
FASTA  ?=
SAMPLE ?=
RECIPE ?= $(if $(FASTA),virnucpro,demo)
SEGMENT_LENGTH ?= 500
CODE ?= 1

# The recipe reads them from its environment, so that no character in a file name is code.
export STORE SAMPLE RECIPE SEGMENT_LENGTH CODE
export INPUT = $(if $(FASTA),$(FASTA),$(example))

example := vnp/data/lambda_phage.fa.gz
vnp     := $(VENV)/bin/vnp

export FASTA CLASSIFIER
.PHONY: help embed predict test test-fast lint docs format clean
help:  ## show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18
	@echo
	@echo "  variables of embed: STORE=run.zarr (required), FASTA=FILE, SAMPLE=NAME,"
	@echo "                      RECIPE=virnucpro|demo, SEGMENT_LENGTH=500|300|whole,"
	@echo "                      CODE=1 (genetic code, NCBI's number),"
	@echo "                      and for predict CLASSIFIER=FILE (500_model.pth)"

embed: $(VENV)/embed.stamp  ## the main job: make STORE, append FASTA, embed and certify (resumes)
	@test -n "$$STORE" || { echo "make embed: say which store, e.g. make embed STORE=run.zarr" >&2; exit 2; }
	@test "$$INPUT" = - || test -r "$$INPUT" || { echo "make embed: FASTA=$$INPUT cannot be read; nothing was made" >&2; exit 1; }
	$(vnp) append "$$STORE" "$$INPUT" --create --recipe "$$RECIPE" --segment-length "$$SEGMENT_LENGTH" --code "$$CODE" --existing skip $${SAMPLE:+--sample "$$SAMPLE"}
	$(vnp) embed "$$STORE"

predict: $(VENV)/embed.stamp  ## from FASTA to virus calls with CLASSIFIER: append, embed, predict (resumes)
	@test -n "$$STORE" && test -n "$$FASTA" && test -n "$$CLASSIFIER" || { echo "make predict: say STORE, FASTA and CLASSIFIER, e.g. make predict STORE=run.zarr FASTA=sample.fa CLASSIFIER=500_model.pth" >&2; exit 2; }
	$(vnp) run "$$STORE" "$$FASTA" --classifier "$$CLASSIFIER" --recipe "$$RECIPE" --segment-length "$$SEGMENT_LENGTH" --code "$$CODE" $${SAMPLE:+--sample "$$SAMPLE"}

test: $(VENV)/test.stamp $(VENV)/snakemake.stamp lint  ## the whole suite, after lint
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

test-fast: $(VENV)/test.stamp  ## the suite without the slow tests
	$(VENV)/bin/python -m pytest -m "not slow" -n auto

lint: $(VENV)/test.stamp  ## ruff, mypy strict, and the rules of the rooms (import-linter)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/docs.stamp  ## build the site of the documentation, site/index.html, links checked
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build

format: $(VENV)/test.stamp  ## format the code and sort its imports
	$(VENV)/bin/ruff check --select I --fix .
	$(VENV)/bin/ruff format .

clean:  ## remove the environment and caches (never a store)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Every version is pinned in constraints.txt, so that a fresh machine gets what was tested.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/embed.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "setting up $(VENV): some minutes, and 2 GB"
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[embed,read,s3]'
	@touch $@

$(VENV)/docs.stamp: $(VENV)/embed.stamp
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[embed,read,s3,docs]'
	@touch $@

$(VENV)/test.stamp: $(VENV)/embed.stamp
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

# Its pins and ours exclude each other, so it has an environment of its own, as on a cluster.
$(VENV)/snakemake.stamp: workflows/snakemake/constraints.txt | $(VENV)/bin/python
	$(PYTHON) -m venv $(VENV)/snakemake
	$(VENV)/snakemake/bin/python -m pip install --quiet --constraint workflows/snakemake/constraints.txt snakemake snakemake-executor-plugin-slurm
	@touch $@
