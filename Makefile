PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint type bench clean

demo: .venv/installed
	$(BIN)/python certify.py --config configs/certify/demo.yaml --overwrite

test: .venv/installed
	$(BIN)/python -m pytest

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
