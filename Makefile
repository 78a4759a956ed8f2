# The chores of the project. CI runs the same targets; `make help` lists them.
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup test slow timescale format lint formatted ruff security spelling imports words types audit sbom docs \
	bench ci

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 18

setup:  ## make .venv with all tools, and install the pre-commit hooks
	test -d .venv || python3 -m venv .venv
	$(BIN)/pip install -q --upgrade pip  # the one that Python brings has known vulnerabilities
	$(BIN)/pip install -q -e '.[dev]'
	if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/pre-commit install; fi

test:  ## everyday tests on an embedded PostgreSQL, or on $MLFLOW_TIMESCALE_TEST_URI
	$(BIN)/pytest

slow:  ## the tests that take minutes: servers, browser, wheel, benchmarks
	$(BIN)/pytest -m slow

timescale:  ## every test that uses a database, on a real TimescaleDB that this starts (needs root)
	.ci/on_timescale $(BIN)/pytest -m database

format:  ## format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: formatted ruff security spelling imports words  ## all checks that need no database, except types

formatted:  ## is the code formatted?
	$(BIN)/ruff format --check .

ruff:  ## ruff's rules
	$(BIN)/ruff check .

security:  ## bandit, on all code that is installed
	$(BIN)/bandit -q -c pyproject.toml -r .

spelling:  ## codespell
	$(BIN)/codespell

imports:  ## the layers of the packages
	$(BIN)/lint-imports

words:  ## the house's word list
	$(BIN)/pytest -q -n 0 tests/test_words.py

types:  ## mypy, strict
	$(BIN)/mypy

audit:  ## known vulnerabilities of every package in .venv (PyPI, and the last review)
	$(BIN)/python .ci/audit.py

sbom:  ## build/sbom.json: what users install with us, as CycloneDX
	$(BIN)/python .ci/sbom.py build/sbom.json

docs:  ## run every code block of README and docs, check links and names
	$(BIN)/pytest -n 0 tests/test_docs.py tests/test_architecture.py

bench:  ## list the benchmarks and their options
	$(BIN)/python -m benchmarks

ci:  ## everything CI does
	.ci/run
