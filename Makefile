# Everything sets itself up: a fresh machine needs Python 3.11+ with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test check format bench soak lock docs clean

help: ## show this
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v.major}.{v.minor}: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked dependencies …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY) ## make .venv with everything in it

demo: $(READY) ## the main job, offline, in under a minute
	@$(BIN)/dccd demo

test: $(READY) ## all tests
	@# hundreds of programs are started, also where the environment keeps no bytecode
	@$(BIN)/python -m compileall -q dccd_core dccd_pipelines dccd_sandbox dccd_streams
	@$(BIN)/python -m pytest -n 4 --dist worksteal

check: $(READY) ## format, lint, types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(READY) ## put the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## the benchmarks, with the peers beside us
	@$(BIN)/python benchmarks/run_all.py

soak: $(READY) ## long and heavy tests
	@$(BIN)/python -m pytest -m soak

lock: $(READY) ## renew requirements.lock from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements.lock

clean: ## remove what was made here
	@rm -rf .venv .mypy_cache .ruff_cache demo .bench

docs: $(READY) ## write the pages that are made from the code
	@$(BIN)/python -c "from dccd_pipelines.capabilities import capabilities; print(capabilities(), end='')" > docs/exchanges.md
