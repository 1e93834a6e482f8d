# The commands of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PORT ?= 8000
export PYTHONPATH := $(CURDIR)

define CHECK_PORT
import socket, sys
port = sys.argv[1]
if not port.isdecimal() or not 0 < int(port) < 65536:
    sys.exit(f"PORT must be a number from 1 to 65535, not {port!r}.")
probe = socket.socket()
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    probe.bind(("127.0.0.1", int(port)))
except OSError as error:
    sys.exit(f"Port {port} cannot be used ({error.strerror}): try PORT={int(port) % 65535 + 1} make run.")
endef
export CHECK_PORT

.PHONY: help run tools test check bench

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/run.installed ## Set everything up and serve at http://127.0.0.1:$PORT (8000)
	@$(BIN)/python -c "$$CHECK_PORT" "$(PORT)"
	@$(BIN)/python -m compileall -q audit plugins rules personas overrides reviews governance_config
	@$(BIN)/python manage.py migrate --verbosity 0
	@$(BIN)/python manage.py prepare
	@echo "Serving http://127.0.0.1:$(PORT)/admin/ and http://127.0.0.1:$(PORT)/api/v1/docs (stop with Ctrl-C)"
	@exec $(BIN)/python manage.py serve --host 127.0.0.1 --port "$(PORT)"

tools: .venv/tools.installed ## Install the external analyzers ruff and bandit

test: .venv/test.installed check ## Run the tests on SQLite and PostgreSQL, after the checks
	@$(BIN)/python -m tests.run

check: .venv/test.installed ## Style, imports between storeys, migrations, production settings
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-logo >/dev/null || $(BIN)/lint-imports
	@$(BIN)/mypy
	@$(BIN)/python manage.py makemigrations --check --dry-run --verbosity 0 || \
		{ echo "A model changed without a migration: run manage.py makemigrations."; exit 1; }
	@GOVERNANCE_PRODUCTION=1 GOVERNANCE_HOSTS=governance.example.org $(BIN)/python manage.py check --deploy --fail-level WARNING >/dev/null
	@echo "Checks passed: ruff, import contract, types of the pure modules, migrations, production settings."

bench: .venv/test.installed ## Measure every ceiling on both databases (15 min; ARGS=--quick: 2 min)
	@$(BIN)/python -m compileall -q audit plugins rules personas overrides reviews governance_config bench
	@$(BIN)/python -m bench $(ARGS)

.venv/run.installed: requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (python3-venv as well)."; exit 1; }
	@echo "Installing what the server needs into .venv (once) ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || \
		{ echo "The virtual environment could not be made (Debian: apt-get install python3-venv)."; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input -r requirements.txt
	@touch $@

.venv/tools.installed: .venv/run.installed requirements-tools.txt
	@echo "Installing ruff and bandit into .venv (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input -r requirements-tools.txt
	@touch $@

.venv/test.installed: .venv/run.installed requirements-dev.txt
	@echo "Installing what the tests need into .venv (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-input -r requirements-dev.txt
	@touch $@
