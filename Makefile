# `make demo` and `make test` are all the set-up there is: both install what they need into .venv.
# CI=true makes a CLI that cannot be installed a failure; elsewhere its tests are skipped and say so.

PY := .venv/bin/python
BIN := .venv/bin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test clis lint types unit bench clean run-venv dev-venv e2e-clis

help:
	@echo 'make demo    two agents that message each other, no account needed'
	@echo 'make test    every check and every test, with the real agent CLIs'
	@echo 'make clis    install the pinned claude, codex and opencode into a cache folder'
	@echo 'make lint    style and import layers'
	@echo 'make types   mypy'
	@echo 'make unit    the tests that need no I/O'
	@echo 'make bench   measure, and print a table'
	@echo 'make clean   remove .venv and everything built'

run-venv:
	@scripts/venv.sh run

dev-venv:
	@scripts/venv.sh dev

demo: run-venv
	@$(BIN)/relay-runtime demo

test: lint types e2e-clis
	@echo '== tests'
	@$(PY) -m pytest -q

clis: run-venv
	@$(PY) scripts/install_clis.py

e2e-clis: dev-venv
	@echo '== agent CLIs'
	@$(PY) scripts/install_clis.py || test "$$CI" != true

lint: dev-venv
	@echo '== lint'
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@echo '== import layers'
	@said=$$($(BIN)/lint-imports) || { echo "$$said"; exit 1; }

types: dev-venv
	@echo '== types'
	@$(BIN)/mypy --no-error-summary

unit: dev-venv
	@$(PY) -m pytest -q tests/unit

bench: dev-venv
	@$(PY) -m bench

clean:
	@rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
