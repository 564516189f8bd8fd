# `make demo`, `make test` and `make bench` set up everything they need by themselves, in .venv, once.
PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
# Files of tests that run at a time; 1 uses least memory.
PYTEST_WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/lock.txt
STAMP := $(VENV)/.set-up
# What only the tests need: robosuite, whose dependency evdev is compiled here, and more.
TEST_STAMP := $(VENV)/.set-up-tests
# What only the speed suite needs: JAX, for the independent baseline.
BENCH_STAMP := $(VENV)/.set-up-bench
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(LOCK)

.DEFAULT_GOAL := help
.PHONY: help demo test bench chaos soak setup lint format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Data, offline and online training, evaluation, plot and video: 40 minutes at most
	$(BIN)/python tuned_examples/demo.py

test: $(TEST_STAMP)  ## The full test suite, linters included (PYTEST_ARGS="-m 'not slow'" for the quick part)
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

bench: $(BENCH_STAMP)  ## Speed against PyTorch, JAX and the machine's limit, about 25 minutes (BENCH_ARGS=--quick)
	$(BIN)/python -m benchmarks.speed $(BENCH_ARGS)

chaos: $(STAMP)  ## Kill training jobs 71 times and compare what they end with (CHAOS_ARGS=--short: 8 times)
	$(BIN)/python -m benchmarks.chaos $(CHAOS_ARGS)

soak: $(STAMP)  ## 400,000 steps: does memory stay flat?
	$(BIN)/python -m benchmarks.soak

setup: $(TEST_STAMP)  ## Only make .venv and install everything that the tests need into it

lint: $(TEST_STAMP)  ## ruff check, ruff format --check, mypy
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

# robomimic itself is only the reference of a conformance test: its requirements would replace torch.
$(TEST_STAMP): $(STAMP)
	@echo "Setting up $(VENV): simulators and formats that only tests need all of"
	@$(PIP) -e ".[robomimic,minari,export,serve]"
	@$(PIP) --no-deps robomimic
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@echo "Setting up $(VENV): the JAX baseline of the speed suite"
	@$(PIP) -e ".[bench]"
	@touch $@
