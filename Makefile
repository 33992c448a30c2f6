# Two commands: `make up` runs CLM with everything it needs, `make test` passes its tests. Both from a clean clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: up test lint format bench simulate chaos hosts screenshots lock clean

up: $(VENV)/.runtime
	@$(BIN)/python manage.py migrate --verbosity 0
	@exec $(BIN)/python manage.py serve --demo

test: $(VENV)/.dev
	@$(BIN)/python manage.py makemigrations --check --dry-run --verbosity 0
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.benchmarks $(if $(CHECK),--check) $(BENCH_ARGS)

simulate: $(VENV)/.dev
	@$(BIN)/python -m tests.simulation $(SIMULATE_ARGS)

chaos: $(VENV)/.dev
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

hosts: $(VENV)/.dev
	@$(BIN)/python -m tests.hosts

screenshots: $(VENV)/.dev
	@$(BIN)/python -m tests.e2e.screenshots

# The pins, with hashes, for every platform.
lock: $(VENV)/.dev
	@$(PIP) install uv
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" -c requirements.txt --extra postgres --extra redis --extra procrastinate pyproject.toml -o requirements-scaled.txt
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" -c requirements-scaled.txt pyproject.toml --group dev -o requirements-dev.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "CLM needs Python 3.11 or newer; name it: make up PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "CLM needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another: make up PYTHON=python3.12"; exit 1; }
	@echo "Making the environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	@echo "Installing the pinned dependencies (about half a minute, once) ..."
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/bin/python
	@echo "Installing the pinned dependencies and the test tools (about a minute, once) ..."
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime
