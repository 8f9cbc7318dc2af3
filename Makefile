# A fresh machine needs git, make and Python 3.11 or newer; the first target fills .venv.

PYTHON ?= python3
WORKERS ?= 2
DATA ?= ../shared/data

BIN := .venv/bin
READY := .venv/.installed
NOTEBOOKS = $(wildcard notebooks/*.ipynb)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format docs slow bench bench-accuracy bench-speed sbc coverage agreement clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## create .venv with the tested versions; the other targets do it by themselves

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (once; some minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -e ".[dev,offline,report]"
	@touch $@

demo: export OMP_NUM_THREADS = 1
demo: $(READY)  ## fit the bundled log and write interest tables, a ranking and a report
	$(BIN)/bayes-interest demo --out out/demo

test: export OMP_NUM_THREADS = 1
test: export NUMBA_NUM_THREADS = 1
test: lint  ## lint, then every test and notebook (slow ones left out)
	$(BIN)/python -m pytest -q -n $(WORKERS) --nbmake tests $(NOTEBOOKS)

lint: $(READY)  ## style, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: export OMP_NUM_THREADS = 1
docs: export NUMBA_NUM_THREADS = 1
docs: $(READY)  ## the site, notebooks executed: out/docs/index.html
	$(BIN)/sphinx-build -q -b html -c docs -W --keep-going -d out/docs-trees . out/docs
	@echo "out/docs/index.html"

slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -q -m slow

bench: bench-accuracy  ## compare with others (see benchmarks/)

bench-accuracy: export OMP_NUM_THREADS = 1
bench-accuracy: $(READY)  ## every model on every real log; hours, resumable
	$(BIN)/python -m benchmarks.accuracy --data $(DATA)

RIVALS := .venv/.speed-rivals

$(RIVALS): $(READY) benchmarks/requirements-speed.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c constraints.txt -r benchmarks/requirements-speed.txt
	@touch $@

bench-speed: export OPENBLAS_NUM_THREADS = 1
bench-speed: $(RIVALS)  ## time, side by side with others; quiet machine, over an hour, resumable
	$(BIN)/python -m benchmarks.speed --data $(DATA)

sbc: export OMP_NUM_THREADS = 1
sbc: export NUMBA_NUM_THREADS = 1
sbc: $(READY)  ## simulation-based calibration, 1,000 worlds a family; an hour, resumable
	$(BIN)/python -m benchmarks.sbc --workers $(WORKERS)

coverage: export OMP_NUM_THREADS = 1
coverage: export NUMBA_NUM_THREADS = 1
coverage: $(READY)  ## do intervals hold the truth? drawn worlds; about an hour, resumable
	$(BIN)/python -m benchmarks.coverage

agreement: export OMP_NUM_THREADS = 1
agreement: export NUMBA_NUM_THREADS = 1
agreement: $(READY)  ## the fast posterior beside NUTS on the same program; an hour, resumable
	$(BIN)/python -m benchmarks.agreement

clean:  ## remove outputs and caches; .venv stays
	rm -rf out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
