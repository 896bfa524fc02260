# `make repro` runs the pipeline, `make test` the tests; each does all set-up first, the system's packages included.
SHELL := /bin/bash
# The first of these names behind which Python 3.11 stands.
PYTHON ?= $(or $(shell for name in python3.11 python3 python; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$$name" && break; done),python3.11)
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: repro ui server test test-full lint format setup setup-dev system system-test lock clean

repro: setup  ## set up, run the whole pipeline, show the leaderboard
	@labelstack recover
	dvc repro
	@labelstack leaderboard

ui: setup  ## MLflow UI on loopback
	labelstack ui

server: setup  ## a team's MLflow server: settings in docs/server.md
	labelstack server $(ARGS)

test: system-test setup-dev  ## the fast suite, with coverage of src/; much of it waits for servers, so three workers
	python -m compileall -qq src || true
	coverage erase
	pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

test-full: system-test setup-dev  ## everything, the slow cases included
	LABELSTACK_TESTS=full pytest -m ""

# One room of tests/ (under a minute), or `test-all-ROOM` with whole pipelines, team servers, browsers and bad lines.
test-all-%: system-test setup-dev
	pytest -n 2 --dist loadfile tests/$*

test-%: setup-dev
	pytest -n 2 --dist worksteal -m "not slow and not long" tests/$*

lint: setup-dev  ## ruff, mypy, import-linter: what .pre-commit-config.yaml runs too
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: setup-dev
	ruff check --fix .
	ruff format .

setup: $(VENV)/.ready

setup-dev: $(VENV)/.ready-dev

# What the system lacks, found out before anything is downloaded.
system system-test:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@PYTHON="$(PYTHON)" .ci/system $(if $(filter system-test,$@),test,run)

$(VENV)/bin/python: | system
	$(PYTHON) -m venv $(VENV)

# --no-deps: the lock file is the whole set. Byte-code is made now, by all cores, so that no stage pays for it later.
$(VENV)/.ready: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-compile -r requirements.lock
	$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(VENV)/bin/python -m pip install --quiet --no-deps -e .
	$(VENV)/bin/python -m compileall -qq -j 0 src || true
	@touch $@

$(VENV)/.ready-dev: requirements-dev.lock $(VENV)/.ready
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-compile -r requirements-dev.lock
	$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

lock:  ## rewrite both lock files from requirements*.in (needs uv)
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate --no-emit-package opencv-python requirements.in requirements-pretrained.in -o requirements.lock
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate --no-emit-package opencv-python -c requirements.lock requirements-dev.in -o requirements-dev.lock

clean:  ## remove what the pipeline made (the DVC cache and the MLflow store stay)
	rm -rf data models/base models/stackers models/ensemble report submission
