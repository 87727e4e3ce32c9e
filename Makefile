# make leaderboard: set up and run the quick evaluation.   make test: set up and run every check.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() or 1, 8))')
RESULTS ?= my-results
MESSAGES ?= 10000000
SEED ?= 0
SOURCES := marsbench generators metrics tasks tests

.PHONY: help leaderboard test bench soak clean

help:
	@echo "make leaderboard  set up and run the quick evaluation"
	@echo "make test         set up and run linters, type checker and tests"
	@echo "make bench        set up and measure speed and memory"
	@echo "make soak         10 million random messages against the slow twin of the order book"
	@echo "make clean        remove the environment, compiled code and everything that tools left behind"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.ready

leaderboard: $(VENV)/.ready
	$(BIN)/marsbench run --suite quick --jobs $(JOBS) --results $(RESULTS)

test: $(VENV)/.ready-dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

bench: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -o addopts= -o python_files='bench_*.py' tests/benchmarks -s --benchmark-timer=time.process_time --benchmark-columns=min,median,rounds

soak: $(VENV)/.ready-dev
	$(BIN)/python tests/soak.py --messages $(MESSAGES) --seed $(SEED)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find marsbench generators metrics tasks tests \( -name '*.nbi' -o -name '*.nbc' \) -delete
