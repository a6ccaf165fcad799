PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
DATA ?= ../shared/measurements

BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: demo page test lint format bench validate catalogue screenshots clean

demo: .venv/.core
	@$(BIN)/ridgepoint analyze llama-3.1-8b --on h100-sxm --task decode --batch 32 --context 8192
	@echo; echo "In a browser, with your own model: make page"

page: .venv/.page
	@$(BIN)/ridgepoint serve $(ARGS)

test: .venv/.installed
	@$(BIN)/python -m pytest -q -n $(JOBS) $(ARGS)

lint: .venv/.installed
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.installed
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: .venv/.installed
	@$(BIN)/python -m benchmarks $(ARGS)

validate: .venv/.core
	@$(BIN)/ridgepoint validate $(if $(wildcard $(DATA)),--data $(DATA)) $(ARGS)

catalogue: .venv/.core
	@$(BIN)/python -m tools.catalogue

screenshots: .venv/.installed
	@$(BIN)/python -m tools.screenshots $(ARGS)

clean:
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage
	find src tests benchmarks tools -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml | .venv/bin/python
	@$(INSTALL) -e .
	@touch $@

.venv/.page: pyproject.toml | .venv/bin/python
	@$(INSTALL) -e '.[web]'
	@touch .venv/.core $@

.venv/.installed: pyproject.toml | .venv/bin/python
	@$(INSTALL) -e '.[dev,capture]'
	@touch .venv/.core .venv/.page $@
