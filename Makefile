# quickstart · test · soak · lint · docs · bench: each sets up its own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
SOAK ?= --seconds=1200 --seed=0 --systems=all
SYSTEM ?= all
BENCH_JSON ?= runs/bench.json
BENCH ?=

.PHONY: quickstart test soak lint docs bench

$(VENV)/.run: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gan_jax needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/.bench: $(VENV)/.run benchmarks/requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements-bench.txt
	touch $@

# A DCGAN on the digits that ship with the project: minutes on a laptop, no network, no GPU.
quickstart: $(VENV)/.run
	$(BIN)/python launch.py --config=configs/quickstart.py --workdir=$(WORKDIR)

# The documentation as a site: open site/index.html.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

# Faults injected into training processes, until the time is over: docs/reliability.md.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak $(SOAK)

# All tables, beside PyTorch: docs/performance.md. SYSTEM names systems or cases, such as pix2pix.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks --system=$(SYSTEM) --json=$(BENCH_JSON) $(BENCH)
