# `make demo` and `make test` are all a newcomer needs: both make the environment first.
PYTHON ?= python3
# A python3.10 that runs: the one on the path, or pyenv's (its shims exist even where no version is
# switched on).
PYTHON310 ?= $(shell for p in python3.10 \
  $$(ls -d "$$(pyenv root 2>/dev/null)"/versions/3.10.*/bin/python3.10 2>/dev/null | tail -1); \
  do $$p --version >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
VENV_K2 ?= .venv-k2
MINICONS ?= .venv-minicons
JOBS ?= 2
LISTS ?= recipes/demo_data/dev.jsonl
BIN := $(VENV)/bin
BENCH = OMP_NUM_THREADS=1 $(BIN)/python recipes/bench
# Threads that sleep while they wait. By default they spin, and on a busy machine two of them took
# four times the CPU time of one.
RUN := OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive $(BIN)

# $(call install,ENVIRONMENT,REQUIREMENTS): what pip says goes to a log, shown where pip fails.
, := ,
install = $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2) \
  >$(1)/pip.log 2>&1 || { cat $(1)/pip.log >&2; exit 1; }

.PHONY: help setup demo test test-py310 test-k2 attack lint types bench docs docs-html wheel check clean

help: ## Show the targets.
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready ## Make the environment in .venv.

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "setup: $(PYTHON) is not a Python 3.10 or newer; set PYTHON" >&2; exit 1; }
	@echo "Making $(VENV); it takes some minutes ..."
	@$(PYTHON) -m venv $(VENV)
	@$(call install,$(VENV),--constraint constraints.txt --editable ".[dev$(,)hf$(,)plot]")
	@touch $@

demo: setup ## Score a real list with the embedded models, tune on dev, print a table for test.
	$(RUN)/dlmrescore run \
	  --dev recipes/demo_data/dev.jsonl --test recipes/demo_data/test.jsonl --depth 10 \
	  --scorers ar,mdlm,usdm:pll -o demo

test: setup ## Run the tests, in two processes (JOBS=n for others).
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# k2 is on the package index for torch 1.13.1 only, the oldest that the core supports, and for no
# Python later than 3.11. One environment, with the oldest Python that we support, is for both.
TEST_K2 = OMP_NUM_THREADS=1 $(VENV_K2)/bin/python -m pytest -p no:cacheprovider
PY310_TESTS = tests/models tests/scorers tests/pipeline tests/cli

test-py310: .k2-environment ## Import and score with Python 3.10 and torch 1.13.1, where k2 lives.
	$(TEST_K2) -n $(JOBS) --dist loadfile $(PY310_TESTS)

test-k2: .k2-environment ## Run the icefall stage, and our lattices, against the real k2.
	@$(VENV_K2)/bin/python -c "import k2; k2.ctc_topo(2)" || { echo "test-k2: k2 does not run" \
	  "in $(VENV_K2) (see above); remove it and try again" >&2; exit 1; }
	$(TEST_K2) $$(find tests -name 'test_*k2*.py')

.PHONY: .k2-environment
.k2-environment:
	@test -n "$(PYTHON310)" || { echo "$(MAKECMDGOALS): no Python 3.10 on this machine;" \
	  "install it or set PYTHON310" >&2; exit 1; }
	@$(MAKE) --no-print-directory $(VENV_K2)/ready || { echo "$(MAKECMDGOALS): $(VENV_K2)" \
	  "cannot be made (see above): k2==1.23.4 and torch==1.13.1 need Linux x86-64" >&2; exit 1; }

# k2's wheels are all tagged pyX.Y-none-any, so pip takes any of them for fitting; the hash says
# which. pip 26.3 refuses these tags. The pip that a new environment of Python 3.10 or 3.11 brings
# is older, and then nothing is fetched.
$(VENV_K2)/ready: pyproject.toml constraints-k2.txt requirements-k2.txt
	@echo "Making $(VENV_K2); it takes some minutes ..."
	@$(PYTHON310) -m venv $(VENV_K2)
	@$(call install,$(VENV_K2),"pip<26.3")
	@$(call install,$(VENV_K2),--no-deps --force-reinstall -r requirements-k2.txt)
	@$(call install,$(VENV_K2),--constraint constraints-k2.txt --editable ".[plot]" \
	  graphviz hypothesis pytest pytest-xdist)
	@touch $@

# Half an hour; with a fault it says how to repeat it.
ATTACK = OMP_NUM_THREADS=1 $(BIN)/python tests/attack
attack: setup ## Attack every reader, command and output: damage, kills, lost streams (half an hour).
	$(ATTACK)/campaign.py --minutes 15
	$(ATTACK)/closed_streams.py
	$(ATTACK)/kill_loop.py --kills 500

lint: setup ## Check style and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types.
	$(BIN)/mypy -p rescore

bench: setup $(MINICONS)/ready ## Measure speed as ratios (half an hour; LISTS=file for your lists).
	$(BENCH)/tune_speed.py
	$(BENCH)/ar_tree.py $(LISTS)
	$(BENCH)/nelbo.py $(LISTS)
	$(BENCH)/kfold.py $(LISTS)
	$(BENCH)/masked_lm.py $(LISTS) --minicons-python $(MINICONS)/bin/python
	$(BENCH)/network_share.py $(LISTS)
	$(BENCH)/growth.py

# minicons needs an older transformers than ours: an environment of its own.
$(MINICONS)/ready: constraints.txt
	@$(PYTHON) -m venv $(MINICONS)
	@$(call install,$(MINICONS),--constraint constraints.txt \
	  minicons==0.3.39 transformers==4.57.6)
	@touch $@

docs: setup ## Run every command and example that the documentation shows.
	$(BIN)/python -m pytest tests/docs \
	  $$(find tests -name test_docs_format.py -o -name test_plugins.py)

docs-html: setup ## Build the reference of the Python interface in build/reference, links checked.
	$(BIN)/python recipes/api_reference.py build/reference

wheel: setup ## Build the wheel, install it into a fresh environment, score a list with it.
	$(BIN)/python recipes/wheel_smoke.py

check: lint types ## Everything CI runs; the tests come last.
	@$(MAKE) --no-print-directory -j 2 wheel test-k2  # one process each: together on two cores
	@$(MAKE) --no-print-directory test-py310
	@$(MAKE) --no-print-directory test

clean: ## Remove environments and build products.
	rm -rf $(VENV) $(VENV_K2) $(MINICONS) build dist *.egg-info \
	  .mypy_cache .ruff_cache .pytest_cache
