# Common entry points for developers, hooks and CI. VENV is the folder of the virtual environment.
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PYTHON ?= python3
BIN := $(VENV)/bin
OUT ?= outputs/demo
BENCH ?= outputs/bench
FIGURES ?= outputs/figures
CALIBRATED ?= outputs/calibrated
WORKERS ?= 2
# of the prompts; empty for those of the configs
PROMPT_SEED ?=
WHEEL_TEST ?= /tmp/opensora-adacache-wheel

.PHONY: demo app bench calibrated figures figure-tables test test-oldest test-slow test-gpu test-wheel check check-gpu wheel docs notebooks format clean

demo: $(VENV)/.installed  ## baseline, AdaCache and AdaCache+MoReg videos of the bundled model, a table and a page
	PYTHON=$(BIN)/python bash run_sample_video.sh configs/scenes/sample.py --save-dir $(OUT)/baseline
	PYTHON=$(BIN)/python bash run_sample_video.sh configs/scenes/sample_adacache.py --save-dir $(OUT)/adacache
	PYTHON=$(BIN)/python bash run_sample_video.sh configs/scenes/sample_adacache_moreg.py --save-dir $(OUT)/adacache-moreg
	$(BIN)/python scripts/compare_runs.py $(OUT)/baseline $(OUT)/adacache $(OUT)/adacache-moreg --page $(OUT)/index.html

app: $(VENV)/.installed-app  ## the web app with the bundled model, at http://127.0.0.1:7860
	$(BIN)/opensora-adacache app $(APP_OPTIONS)

bench: $(VENV)/.installed-dev  ## benchmark of every caching policy on the bundled model: tables and a page in docs/results/bench
	OMP_NUM_THREADS=1 $(BIN)/python scripts/compare.py configs/scenes/compare.py --out $(BENCH)
	mkdir -p docs/results/bench
	cp $(BENCH)/table.md $(BENCH)/table.csv $(BENCH)/table.tex $(BENCH)/index.html docs/results/bench

# Every setting of the figures, in the order in which they are made. Finished videos are not made again.
FRONTIER := 30
COMPARE = OMP_NUM_THREADS=1 $(BIN)/python scripts/compare.py
COMPARE_OPTIONS = --executor local --workers $(WORKERS) $(if $(PROMPT_SEED),--prompt-seed $(PROMPT_SEED))

calibrated: $(addprefix calibrated-,$(FRONTIER))  ## every calibrated setting of the bundled model; resumable, -j 2 for two cores
	cp $(CALIBRATED)/configs/*.json configs/calibrated
	cp $(CALIBRATED)/presets/*.json opensora_adacache/presets/data

calibrated-%: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/calibrate_bundled.py $* --out $(CALIBRATED)

figures: $(VENV)/.installed-dev  ## policies at equal computed steps, and predictor × decision × corrector; resumable
	for n in $(FRONTIER); do \
		$(COMPARE) configs/scenes/frontier/compare_$$n.py --out $(FIGURES)/$$n $(COMPARE_OPTIONS) --estimate || exit; done
	$(COMPARE) configs/scenes/frontier/crossed.py --out $(FIGURES)/crossed $(COMPARE_OPTIONS) --estimate
	for n in $(FRONTIER); do \
		$(COMPARE) configs/scenes/frontier/compare_$$n.py --out $(FIGURES)/$$n $(COMPARE_OPTIONS) > /dev/null || exit; done
	$(COMPARE) configs/scenes/frontier/crossed.py --out $(FIGURES)/crossed $(COMPARE_OPTIONS) > /dev/null
	$(MAKE) figure-tables

figure-tables: $(VENV)/.installed-dev  ## the pages of docs/results from what make figures has made so far
	$(BIN)/python scripts/experiments/frontier.py $(addprefix $(FIGURES)/,$(FRONTIER)) \
		--out docs/results/forecast_cache/frontier.md
	$(BIN)/python scripts/experiments/crossed.py $(FIGURES)/crossed --out docs/results/crossed.md

test: $(VENV)/.installed-dev  ## the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not gpu" -n 2 $(PYTEST_OPTIONS)

# Left out: `cache_context(step_index=…)` came with diffusers 0.41; one test expects torch's version without its build's
# name; one needs two videos whose schedules differ, and here they are alike; one replaces a function that torchmetrics
# has since 1.8, and reads weights in a way that torch 2.5 warns of.
OLDEST_WITHOUT := test_adapters/test_diffusers_adapter.py::test_a_step_index_tells_a_new_run \
	test_generation/test_run.py::test_files_records_and_trace \
	test_generation/test_pipeline.py::test_a_clip_does_not_depend_on_its_batch[adacache] \
	test_metrics/test_quality.py::test_lpips_is_that_of_torchmetrics

test-oldest:  ## the fast tests with the oldest versions that pyproject.toml allows; Python 3.11
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt \
		PYTEST_OPTIONS="$(addprefix --deselect=tests/,$(OLDEST_WITHOUT))"

test-slow: $(VENV)/.installed-slow  ## the slow tests, such as pages in a headless Chromium if it is installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "slow and not gpu"

test-gpu:  ## tests that need a CUDA device, with $(PYTHON): needs torch, einops, safetensors, transformers and pytest
	$(PYTHON) -m pytest -q -W default -m gpu --noconftest tests/test_gpu

check-gpu:  ## measure the GPU with $(PYTHON) and fail if it is less accurate or slower than the stored report
	mkdir -p outputs
	$(PYTHON) scripts/gpu_report.py outputs/gpu_report.json --baseline docs/results/gpu/h200.json

wheel: $(VENV)/.installed-release  ## build wheel and source distribution into dist, and inspect them
	rm -rf build dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	@for file in dist/*; do \
		size=$$(wc -c < $$file); echo "$$file: $$size bytes"; \
		[ $$size -lt 60000000 ] || { echo "$$file has 60 MB or more" >&2; exit 1; }; \
	done

test-wheel:  ## install dist/*.whl into an empty environment outside the clone and make a video there
	rm -rf $(WHEEL_TEST)
	$(PYTHON) -m venv $(WHEEL_TEST)/venv
	$(WHEEL_TEST)/venv/bin/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) dist/*.whl
	cd $(WHEEL_TEST) && venv/bin/opensora-adacache sample scenes/sample_adacache --end-index 2 --save-dir videos
	cd $(WHEEL_TEST) && venv/bin/opensora-adacache doctor scenes/sample
	[ "$$(ls $(WHEEL_TEST)/videos/*.mp4 | wc -l)" = 2 ]

docs: $(VENV)/.installed-docs  ## the documentation site in site/, with its links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python scripts/site/check.py site

notebooks: $(VENV)/.installed-dev  ## execute the tutorial notebooks and save what they print
	OMP_NUM_THREADS=1 $(BIN)/python scripts/site/execute.py docs/tutorials/*.ipynb

check: $(VENV)/.installed-dev  ## check format, lint, types and imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) outputs build dist site *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-app: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[app]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-slow: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev,app,browser]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-dev $(VENV)/.installed-app

$(VENV)/.installed-release: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[release]'
	touch $@

$(VENV)/.installed-docs: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[docs]'
	touch $@
