# `make demo` and `make test` set up everything they need by themselves, in .venv, once.
PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/lock.txt
STAMP := $(VENV)/.set-up
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(LOCK)

.DEFAULT_GOAL := help
.PHONY: help demo test setup lint format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Data, offline and online training, evaluation, plot and video: 40 minutes at most
	$(BIN)/python tuned_examples/demo.py

test: $(STAMP)  ## The full test suite, linters included (PYTEST_ARGS="-m 'not slow'" for the quick part)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

setup: $(STAMP)  ## Only make .venv and install the tested versions into it

lint: $(STAMP)  ## ruff check, ruff format --check, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Let ruff sort the imports and format the code
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

clean:  ## Remove caches and build products; .venv and results stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# torch goes first and alone: a build of the pinned version that is there already, or that pip is
# set up to prefer (a CPU build of a few hundred megabytes, say), is then kept by what follows.
$(STAMP): setup.py $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "The tested versions need Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; \
	  exit 1; }
	@echo "Setting up $(VENV) (a few minutes, only this once): torch"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@echo "Setting up $(VENV): rllib_fmq and what it needs"
	@$(PIP) -e ".[ogbench,plots,video,dev]"
	@touch $@
