PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint type bench clean
# A process a core, of one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

demo: .venv/installed
	$(BIN)/python certify.py --config configs/certify/demo.yaml --overwrite

test: .venv/installed
	$(PYTEST) -m "not slow"

test-slow: .venv/installed
	$(PYTEST) -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/installed
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/diffsmooth bench

clean:
	rm -rf .venv

# Made anew when the dependencies change.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@
