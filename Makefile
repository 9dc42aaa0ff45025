.PHONY: help setup demo test cover soak check bench gpu server deploy
.DEFAULT_GOAL := help

# A run starts many processes, and without bytecode each compiles thousands of modules again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
RESULTS ?= results
PORT ?= 4200
BENCH ?=
TEST ?=
SOAK ?=
GPU ?=
# Tracing takes three quarters of such a test's time again, so the tests that compute run without it.
MEASURED := $(addprefix src/editcollapse/,catalog config data rows) storage
COVERED_BY := $(addprefix tests/unit/,catalog config data rows study) tests/storage
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt
LOCAL = http://127.0.0.1:$(PORT)
REPORTS_PORT = $(shell expr $(PORT) + 1)
# What the processes of Procfile are started with; Prefect's settings are in pyproject.toml.
SERVER = env PATH="$(abspath $(BIN)):$$PATH" RESULTS='$(abspath $(RESULTS))' PREFECT_HOME='$(abspath $(RESULTS))/server' \
	PREFECT_API_URL=$(LOCAL)/api PREFECT_SERVER_API_PORT=$(PORT) REPORTS_PORT=$(REPORTS_PORT) \
	EDITCOLLAPSE_REPORTS_URL=http://127.0.0.1:$(REPORTS_PORT) DO_NOT_TRACK=1 PYTHONUNBUFFERED=1

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/.installed ## make .venv with everything: tests, checks, Dask, Ray, buckets

# What runs studies; make setup adds the rest to it.
$(VENV)/.runs: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) -e '.[gguf]' --group project
	@touch $@

$(VENV)/.installed: $(VENV)/.runs
	$(PIP) -e '.[gguf,s3,dask,ray,mlflow,downstream]' --group dev
	@touch $@

demo: $(VENV)/.runs ## edit a real LLM and the embedded models, and print what it found
	$(BIN)/python -m flows demo --results $(RESULTS)

server: $(VENV)/.runs ## run a Prefect server, one worker and the reports' pages until Ctrl-C
	@mkdir -p '$(RESULTS)/server' '$(RESULTS)/reports'
	@exec $(SERVER) $(BIN)/honcho start

deploy: $(VENV)/.runs ## register the deployments of prefect.yaml; again after editing studies/scheduled.toml
	$(if $(filter 4200,$(PORT)),,PREFECT_API_URL=$(LOCAL)/api )$(BIN)/python -m flows deploy --results $(RESULTS)

test: setup ## run the tests, in two processes of one thread; COVERED=no: without those of make cover
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(TEST) $(if $(filter no,$(COVERED)),$(addprefix --ignore=,$(COVERED_BY)))

cover: setup ## run the tests of files and database, with branch coverage and its floor
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile $(COVERED_BY) $(addprefix --cov=,$(MEASURED)) --cov-report=term:skip-covered

soak: setup ## run the long tests: kills, schedules, full disks, many batches
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -rA $(or $(SOAK),tests/slow)
	$(if $(SOAK),,OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -rA tests --ignore=tests/slow)

check: setup ## lint, types, who imports whom, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	OMP_NUM_THREADS=1 $(BIN)/python -m scripts.docs --check

bench: setup ## measure against the published procedure, prints tables
	$(BIN)/python -m benchmarks $(BENCH)

gpu: ## test and measure everything on a GPU in 8 minutes; needs torch and transformers alone
	PYTHONPATH=src $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu $(GPU)
