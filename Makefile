# make demo   everything from a bare checkout to a short story
# make quick  the tests that begin no processes and write no whole books
# make test   install the test tools, run the checks and all tests but the slow ones
# make slow   the tests on the embedded model: minutes

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

# The tests begin hundreds of processes. Without bytecode on disk each would compile the package for itself.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo quick test lint slow bench clean

demo: $(VENV)/.installed
	$(BIN)/templora models pull smollm2-135m
	$(BIN)/templora write --words 250 --chunk-tokens 256 --context-tokens 1024 --temperature 0.5 --seed 1 \
		--premise "A lighthouse keeper finds a letter in a bottle, written in his own hand."

quick: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 -m "not full and not slow"

# A process a core with one thread each: the models of the tests are too small for more.
test: $(VENV)/.tested lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests on the embedded model; minutes.
slow: $(VENV)/.tested
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks startup
	$(BIN)/python -m benchmarks flat
	$(BIN)/python -m benchmarks memory

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

# At once: resolving takes as long as installing.
$(VENV)/.tested: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build *.egg-info
