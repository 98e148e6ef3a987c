PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest/bin

.PHONY: demo test test-slow test-lowest lint type bench clean
# A process a core, of one thread each.
OPTIONS := -m pytest -n auto --dist worksteal
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python $(OPTIONS)

demo: .venv/installed
	$(BIN)/python certify.py --config configs/certify/demo.yaml --overwrite

test: .venv/installed
	$(PYTEST) -m "not slow"

test-slow: .venv/installed
	$(PYTEST) -m slow

# With each dependency at its floor in setup.cfg.
test-lowest: .venv-lowest/installed
	OMP_NUM_THREADS=1 $(LOWEST)/python $(OPTIONS) -m "not slow"

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/installed
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/diffsmooth bench

clean:
	rm -rf .venv .venv-lowest

# Made anew when the dependencies change.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@

.venv-lowest/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/python -m pip install --quiet --upgrade pip uv
	$(LOWEST)/uv pip install --python $(LOWEST)/python --resolution lowest-direct --editable '.[hf,test]'
	touch $@
