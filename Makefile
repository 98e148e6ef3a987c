PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest/bin
AUDIT := .venv-audit

.PHONY: demo test test-slow torture gpu test-lowest lint type bench docs audit constraints locked dist clean
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

# Kills, full disks, jumping clocks, broken files: ten minutes on two cores; see docs/reliability.md.
torture: .venv/installed
	$(BIN)/python tests/torture/campaign.py

# What only a GPU can settle, in five minutes: $(OUT)/page.md. By $(PYTHON) where it has the packages.
OUT ?= logs/gpu
MINUTES ?= 4.8
LACKING := import sys, importlib.util as u; \
	sys.exit(any(u.find_spec(n) is None for n in "torch lightning timm jsonargparse".split()))
gpu:
	@python=$(PYTHON); \
	$$python -c '$(LACKING)' || { make .venv/installed && python=$(BIN)/python; } || exit 1; \
	$$python tests/gpu/gpu_campaign.py --out $(OUT) --minutes $(MINUTES)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: .venv/installed
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/diffsmooth bench

# The site, build/site; a warning (a link or an anchor to nothing, a page in no menu) is an error. What is
# switched off is a note of the theme's on its own end, in May 2027.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Known vulnerabilities of the versions in constraints.txt: 0 only where each was looked up.
audit: $(AUDIT)/installed
	@rm -f $(AUDIT)/found.txt; \
	if $(AUDIT)/bin/pip-audit --strict --disable-pip --requirement constraints.txt \
		--progress-spinner off --output $(AUDIT)/found.txt 2> $(AUDIT)/said.txt; \
	then echo "audit: no known vulnerability in constraints.txt"; \
	elif [ -s $(AUDIT)/found.txt ]; then cat $(AUDIT)/found.txt; exit 1; \
	else echo "audit: not done, the data base could not be asked: $$(tail -n 1 $(AUDIT)/said.txt)" >&2; exit 3; \
	fi

# The versions that are in .venv, with the hashes of their files on PyPI.
constraints: .venv/installed $(AUDIT)/installed
	$(BIN)/python -m pip freeze --exclude-editable > $(AUDIT)/versions.txt
	$(AUDIT)/bin/uv pip compile --quiet --python $(BIN)/python --extra dev --generate-hashes \
		--no-header --no-annotate --constraint $(AUDIT)/versions.txt \
		--output-file constraints.txt setup.cfg

# .venv of exactly these files.
locked:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/installed

# Wheel and sdist of the last commit, build/dist; PyPI shows the README's relative links and figures by
# the code host, make dist URL=https://HOST/OWNER/REPOSITORY.
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' diffsmooth/__init__.py)
dist: .venv/installed $(AUDIT)/installed
	@test -n "$(URL)" || { echo "make dist: give URL=, the repository's on the code host" >&2; exit 2; }
	rm -rf build/source build/dist && mkdir -p build/source
	git archive HEAD | tar -x -C build/source
	sed -E -i -e 's|!\[([^]]*)\]\(([^):]+)\)|![\1]($(URL)/raw/v$(VERSION)/\2)|g' \
		-e 's|\]\(([^):#][^):]*)\)|]($(URL)/blob/v$(VERSION)/\1)|g' build/source/README.md
	$(BIN)/python -m build --outdir build/dist build/source
	$(AUDIT)/bin/uvx twine check --strict build/dist/*

clean:
	rm -rf .venv .venv-lowest $(AUDIT)

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

$(AUDIT)/installed:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --upgrade pip uv pip-audit
	touch $@
