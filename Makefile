# Two commands do everything: `make demo` shows Rewarm at work, `make test` proves it.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: demo test nightly lint format bench clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed       ## make the environment and run the main job on real input
	$(BIN)/rewarm quickstart

test: $(VENV)/.installed-dev   ## make the environment and pass the tests
	$(BIN)/python -m pytest -m 'not nightly' --durations=10

nightly: $(VENV)/.installed-dev ## the long campaigns: kills, faults, seeds
	$(BIN)/python -m pytest -m nightly --timeout=3600

lint: $(VENV)/.installed-dev   ## format, lint, types, who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev  ## the benchmarks that a laptop can run, in their quick form
	$(BIN)/python benchmarks/tokenize.py --quick
	$(BIN)/python benchmarks/train.py --quick
	$(BIN)/python benchmarks/resume.py --quick

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
