# The two commands of the README: `make demo` and `make test`. Both set up everything they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all test-recipes test-lmms-eval test-oldest lint docs reports gpu-suite clean

demo: $(READY)
	$(BIN)/tokprof run --model demo --method todre,fastv,v2drop,hidivdrop,random --keep 0.25 --timeout 6

test: $(READY)
	$(BIN)/python -m pytest

test-all: $(READY)
	$(BIN)/python -m pytest -m "not gpu"

test-recipes: $(READY)
	$(BIN)/python -m pytest -m slow tests/test_recipes.py

test-lmms-eval: $(READY)
	bash scripts/test_lmms_eval.sh $(BIN)/python

test-oldest:  # the lower end of what is supported; gigabytes, since old torch comes with CUDA
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install -qq --disable-pip-version-check "torch==2.8.*" "transformers==5.17.*" -e ".[dev]"
	build/oldest/bin/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python scripts/build_docs.py

reports: $(READY)
	$(BIN)/python scripts/build_reports.py
	$(BIN)/python scripts/build_docs.py

gpu-suite:
	bash scripts/gpu_suite.sh

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
