# One command does everything: make test and make demo set up what they need in .venv by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find native -type f)

.PHONY: setup test lint bench quality sanitize demo aarch64 clean

setup: $(VENV)/.installed

$(VENV)/.installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: setup
	$(BIN)/python -m pytest -q -n 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_symbols.py

# Against the frameworks, which it installs; takes half an hour.
bench: $(VENV)/.peers
	$(BIN)/python -m throughtime bench --out benchmarks/results

$(VENV)/.peers: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	touch $@

# What fits reach on real data, and what the trainer costs around the kernels; takes half an hour.
quality: setup
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/training.py

# Needs the sanitizers of GCC (libasan). The second part goes on for ten minutes.
sanitize: setup
	$(BIN)/python tools/sanitize.py
	$(BIN)/python tools/fuzz.py --minutes 10

# Needs g++-aarch64-linux-gnu and qemu-user-static.
aarch64: setup
	$(BIN)/python tools/check_aarch64.py

demo: setup
	$(BIN)/python examples/demo.py

clean:
	rm -rf build $(VENV)
