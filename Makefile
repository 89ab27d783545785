# Common entry points for developers, hooks and CI. VENV is the folder of the virtual environment.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= outputs/demo
BENCH ?= outputs/bench

.PHONY: demo bench test test-slow test-gpu check format clean

demo: $(VENV)/.installed  ## baseline, AdaCache and AdaCache+MoReg videos of the bundled model, a table and a page
	PYTHON=$(BIN)/python bash run_sample_video.sh configs/shapes/sample.py --save-dir $(OUT)/baseline
	PYTHON=$(BIN)/python bash run_sample_video.sh configs/shapes/sample_adacache.py --save-dir $(OUT)/adacache
	PYTHON=$(BIN)/python bash run_sample_video.sh configs/shapes/sample_adacache_moreg.py --save-dir $(OUT)/adacache-moreg
	$(BIN)/python scripts/compare_runs.py $(OUT)/baseline $(OUT)/adacache $(OUT)/adacache-moreg --page $(OUT)/index.html

bench: $(VENV)/.installed-dev  ## benchmark of every caching policy on the bundled model: tables and a page in docs/results/bench
	OMP_NUM_THREADS=1 $(BIN)/python scripts/compare.py configs/shapes/compare.py --out $(BENCH)
	mkdir -p docs/results/bench
	cp $(BENCH)/table.md $(BENCH)/table.csv $(BENCH)/table.tex $(BENCH)/index.html docs/results/bench

test: $(VENV)/.installed-dev  ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not gpu" -n 2

test-slow: $(VENV)/.installed-dev  ## the slow tests, such as pages in a headless Chromium if it is installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow and not gpu"

test-gpu:  ## tests that need a CUDA device, with $(PYTHON): needs torch, einops, safetensors, tqdm and pytest
	$(PYTHON) -m pytest -q -W default -m gpu --noconftest tests/test_gpu

check: $(VENV)/.installed-dev  ## check format, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) outputs build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed
