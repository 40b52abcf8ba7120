# Two commands do everything on a machine with Python, make and a C++ compiler:
#   make demo    trains on real data and writes a report
#   make test    lint, types, native tests, tests
# Both build .venv here once and reuse it.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NATIVE := CMakeLists.txt $(wildcard native/*)

.PHONY: demo test setup bench lint types tests clean

demo: .venv/.fit
	$(BIN)/thinned fit digits --out demo --overwrite
	@echo "Open demo/report.html in a browser."

test: lint types tests

setup: .venv/.dev

bench: .venv/.dev
	for file in benchmarks/*.py; do $(BIN)/python $$file --json build/$$(basename $$file .py).json || exit 1; done

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

tests: .venv/.dev
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf .venv build demo

# What the demo needs: the package, built with what the lines of pyproject.toml ask for.
.venv/.fit: pyproject.toml constraints.txt $(NATIVE)
	@command -v $(CXX) >/dev/null || { echo "A C++ compiler is needed (Debian: apt install g++)."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install -q -c constraints.txt scikit-build-core nanobind cmake ninja
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[fit]'
	touch $@

# What development needs besides. torch goes first, by its exact version, so that no other package
# can ask for the newest one.
.venv/.dev: .venv/.fit
	$(PIP) install -q torch==2.13.0
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@
