# Two commands do everything: `make demo` shows Rewarm at work, `make test` proves it.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
PEERS  := .peers
export REWARM_PEER_DATATROVE    ?= $(wildcard $(PEERS)/datatrove/bin/python)
export REWARM_PEER_LLAMAFACTORY ?= $(wildcard $(PEERS)/llamafactory/bin/python)

.PHONY: demo test nightly lint format bench bench-peers clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo 'installing (torch is large: some minutes)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed       ## make the environment and run the main job on real input
	$(BIN)/rewarm quickstart

# Pages are tested in a real browser: the system's, else Debian's package where we may install it, else Playwright's own.
$(VENV)/.installed-browser: $(VENV)/.installed-dev
	@for browser in "$$REWARM_CHROMIUM" chromium chromium-browser google-chrome; \
	do command -v "$$browser" >/dev/null && exit; done; \
	echo 'installing Chromium, in which pages are tested'; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y chromium fonts-dejavu-core >/dev/null; \
	else $(BIN)/python -m playwright install chromium-headless-shell; fi
	touch $@

test: $(VENV)/.installed-browser ## make the environment and pass the tests
	$(BIN)/python -m pytest -m 'not nightly' -n 2 --dist loadfile --durations=10

nightly: $(VENV)/.installed-browser ## the long campaigns: kills, faults, seeds
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
	$(BIN)/python benchmarks/prepare.py --quick
	$(BIN)/python benchmarks/train.py --quick
	$(BIN)/python benchmarks/resume.py --quick

bench-peers: $(PEERS)/datatrove/.installed $(PEERS)/llamafactory/.installed ## others that benchmarks compare with, each in an environment of its own

$(PEERS)/datatrove/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --disable-pip-version-check -q datatrove==0.10.1 'xxhash<4' orjson regex tokenizers spacy pyvi
	touch $@

# Of LLaMA-Factory what text needs: all of it would bring another torch, and torchaudio, which it imports and does not use.
$(PEERS)/llamafactory/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --disable-pip-version-check -q --no-deps llamafactory==0.9.5
	$(@D)/bin/pip install --disable-pip-version-check -q torch==2.13.0 'transformers>=4.57.1,<=5.6.0' 'datasets<=4.0.0' \
		'accelerate<=1.11.0' 'peft<0.19' 'trl<=0.24.0' av einops fastapi fire matplotlib omegaconf pandas scipy \
		sentencepiece sse-starlette tiktoken uvicorn
	touch $$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/torchaudio.py $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
