# Two commands do everything: `make repro` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3.11
VENV := .venv
# Another torch build, such as TORCH_INDEX=<the index of the CPU or of a given CUDA's wheels>.
TORCH_INDEX ?=
TORCH = $(shell grep -E "^torch(vision)?==" constraints.txt)
# DVC's stages call `python`: the environment's, activated or not. Quoted: paths may hold spaces.
ENVIRON := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet

# Not --quiet: what it keeps quiet about is no error then either. The variable: mkdocs is chosen and known.
SITE := $(ENVIRON) NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

.DEFAULT_GOAL := help
.PHONY: help install repro test coverage test-all check format bench docs notes fuzz audit ui clean test-slice mutants $(if $(TORCH_INDEX),$(VENV)/installed)

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(VENV)/installed ## Make .venv and install everything (TORCH_INDEX=... for another torch build)

$(VENV)/installed: constraints.txt pyproject.toml
	@echo "Installing into $(VENV) (a few minutes the first time)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@# The packages of CUDA belong to one torch build: another build brings its own.
	@grep -vE '$(if $(TORCH_INDEX),^(nvidia|cuda|triton),^$$)' constraints.txt > $(VENV)/constraints.txt
	@$(if $(TORCH_INDEX),$(PIP) install --force-reinstall --index-url "$(TORCH_INDEX)" $(TORCH))
	@$(PIP) install -c $(VENV)/constraints.txt -e ".[dask,dev,s3,ssh]"
	@touch $@

repro: install ## Run the whole pipeline: check, dvc repro, track, summary
	@$(ENVIRON) python -m kinetrack.cli.main check
	@$(ENVIRON) python -m dvc repro
	@# What MLflow did not take now, it is told the next time: no reason to stop.
	@$(ENVIRON) python -m kinetrack.cli.main track || true
	@$(ENVIRON) python -m kinetrack.cli.main summary

test: install ## Run the fast tests
	@$(ENVIRON) python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --no-loadscope-reorder $(MORE)

coverage: MORE = --cov --cov-report=term:skip-covered
coverage: test ## Run the fast tests, and list the lines that none of them runs

test-all: install ## Run all tests, the slow ones too
	@$(ENVIRON) python -m pytest -m "not gpu"

test-slice: install ## Run slow tests for 30 minutes, others every day (ARGS="--minutes 5 --day 3")
	@$(ENVIRON) python tests/slow_slice.py $(ARGS)

mutants: install ## Change the code here and there, and see whether its tests notice (ARGS="--only kinetrack/files.py")
	@$(ENVIRON) PYTHONPATH=tests python -m poodle.cli $(ARGS)

fuzz: install ## Look for inputs that break a parser, a minute each (ARGS="--minutes 30 archives")
	@$(ENVIRON) python -m tests.fuzzing.run $(ARGS)

check: install ## Format, lint, types, architecture and the documentation's links, as CI runs them
	@$(ENVIRON) ruff format --check .
	@$(ENVIRON) ruff check .
	@$(ENVIRON) mypy
	@$(ENVIRON) lint-imports
	@$(SITE)

format: install ## Format the code and mend what the linter can
	@$(ENVIRON) ruff format .
	@$(ENVIRON) ruff check --fix .

bench: install ## Compare with the lecture's way (PARTS="preprocess workers" for some of it)
	@$(ENVIRON) python -m benchmarks.run $(PARTS)

docs: install ## Make the documentation: what of it comes from the code, and its site in build/site
	@$(ENVIRON) python -m handbook.run
	@$(SITE)
	@echo "open build/site/index.html"

notes: install ## Print the release notes of a version (VERSION=0.1.0; without: of what is not released)
	@$(ENVIRON) python -m handbook.release_notes $(VERSION)

audit: ## Look every pinned version up in the database of known holes (needs the network)
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/python -m pip --quiet install pip-audit; }
	@build/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

ui: install ## Serve the MLflow UI on this project's runs
	@$(ENVIRON) python -m kinetrack.cli.main ui

clean: ## Remove caches and generated data; mlruns/ and .dvc/cache are never touched
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov build
	for made in data/frames data/tensors; do test ! -d $$made || find $$made -mindepth 1 -maxdepth 1 ! -name .gitignore -exec rm -rf {} +; done
	rm -rf data/splits data/model data/videos/sample data/.*.partial data/.*.lock data/videos/.*.partial data/videos/.*.lock
	find src $(wildcard tests benchmarks handbook) -name __pycache__ -type d -prune -exec rm -rf {} +
