# One word per chore. `make demo` and `make test` need only Python 3.11+ and a package index.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
STAMP := $(VENV)/.installed
FUZZ := $(VENV)/.fuzz
BROWSER := $(VENV)/.browser
SBOM := out/sbom
# bash itself has a variable called SECONDS; only one that is given to make counts.
SECONDS_EACH := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),600)
LOCK := out/lock
# Bytecode is kept whatever the environment says: each of a dozen processes would compile every test anew.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SPREAD := -n 2 --dist worksteal
# S3 that is slow, refuses or dies needs no cluster, and mostly waits: so it stands beside the unit tests.
ALONE := tests/chaos/test_cache_s3.py

.PHONY: help setup demo stop check format docs unit parity serve chaos storm dashboards rehearsal fast exhaustive test browser fuzz mutations image sbom audit lock

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## make .venv with the timbre command in it

# torch comes first and by itself: its CPU build, so that nothing pulls gigabytes of CUDA packages.
$(RUNS): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "timbre needs Python 3.11 or newer: make $@ PYTHON=/path/to/python3"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@echo "installing (about two minutes on a fast line)"
	$(BIN)/python -m pip install --constraint constraints.txt torch $(TORCH_INDEX)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[cpu,embedded]'
	@touch $@

# What only tests and benchmarks need is not for the demo to wait for.
$(STAMP): $(RUNS)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(RUNS) ## install, start the service, clone a voice twice, print what each took
	$(BIN)/timbre demo

stop: ## stop the service that the demo left running
	@test -x $(BIN)/timbre && $(BIN)/timbre down || echo "nothing is installed here"

check: setup ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: setup ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## out/docs: the documents as pages, generated parts renewed, a dead link is an error; no network
	$(BIN)/python -m tests.documents
	$(BIN)/python -m tests.command_page
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

unit: setup ## the first tier of tests, but the slow: no cluster, no golden data, on both cores
	$(PYTEST) $(SPREAD) -m "unit and not slow" tests/unit

parity: setup ## the second: our modules against golden data of the reference implementation
	$(PYTEST) -m parity tests/parity

serve: setup ## the third: a real service on a Ray cluster of its own, over HTTP
	$(PYTEST) -m serve tests/serve

chaos: setup ## the fourth: what kills processes, on clusters of their own
	$(PYTEST) -m chaos tests/serve tests/chaos

fast: setup ## the tiers that need no cluster, whole: unit with the slow, parity
	$(PYTEST) $(SPREAD) -m "(unit or parity) and not exhaustive" tests/unit tests/parity

exhaustive: setup ## what repeats other tests over many more inputs, or on the real service; minutes, in no other target
	$(PYTEST) $(SPREAD) -m exhaustive tests/unit
	$(PYTEST) -m exhaustive tests/serve

storm: setup ## three machines in network namespaces under load, and what can go wrong; as root, half an hour
	$(PYTEST) -m storm tests/storm; status=$$?; $(BIN)/python -m tests.storm.table && exit $$status

dashboards: setup ## every panel, alert rule and trace on a service under load; needs prometheus; some five minutes
	$(PYTEST) -m dashboards tests/dashboards

rehearsal: setup ## the GPU kit on a CPU, in an environment like the GPU machine's
	$(PYTEST) -m rehearsal tests/unit/load_tests/gpu

test: setup ## every tier, but exhaustive and storm: unit, parity, the rehearsal, then serve and chaos
	$(PYTEST) -n 3 --dist worksteal -m "not exhaustive" tests/unit tests/parity $(ALONE)
	$(PYTEST) -m "(serve or chaos) and not exhaustive" tests/serve tests/chaos --ignore $(ALONE)

image: setup ## the Dockerfile's steps in chroots, the image started read-only, an installation without a network; as root
	nice -n 19 $(BIN)/python -m tests.image $(IMAGE)

$(BROWSER): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[browser]'
	@touch $@

browser: $(BROWSER) ## the page in Chromium, on a service of its own; pictures in out/browser; in no other target
	$(PYTEST) -m browser tests/browser

$(FUZZ): $(STAMP)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[fuzz]'
	@touch $@

fuzz: $(FUZZ) ## each reader of strangers' bytes for SECONDS=600, under limits; in no other target
	nice -n 19 $(BIN)/python -m tests.fuzz.run $(SECONDS_EACH) $(TARGETS)

mutations: setup ## takes each guard out in a copy of the tree: its tests must fail; some 15 minutes
	nice -n 19 $(BIN)/python -m tests.mutations.run $(GUARDS)

# In an environment of its own: beside what CycloneDX needs, jsonschema compiles a grammar whenever it is imported,
# and every process of Ray imports it: more than a second each.
$(SBOM)/.installed: pyproject.toml constraints.txt
	"$(PYTHON)" -m venv $(SBOM)
	$(SBOM)/bin/python -m pip install --constraint constraints.txt cyclonedx-bom
	@touch $@

sbom: setup $(SBOM)/.installed ## out/sbom.json: what this environment is made of, in CycloneDX
	$(SBOM)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o out/sbom.json $(BIN)/python

audit: setup ## what is known against the pinned versions; says so where no database can be asked
	$(BIN)/python -m tests.supply.audit $(AUDIT)

# What pip calls torch's CPU build (+cpu) is left out: other indexes offer the same version under its bare number.
lock: ## write constraints.txt anew: the newest versions that pyproject.toml allows, in a clean environment
	rm -rf $(LOCK)
	"$(PYTHON)" -m venv $(LOCK)
	$(LOCK)/bin/python -m pip install torch $(TORCH_INDEX)
	$(LOCK)/bin/python -m pip install '.[cpu,embedded,dev,browser,fuzz,sbom]'
	set -o pipefail; grep '^#' constraints.txt > $(LOCK)/constraints.txt && \
	$(LOCK)/bin/python -m pip freeze --exclude timbre | sed 's/+.*//' | LC_ALL=C sort -f >> $(LOCK)/constraints.txt
	mv $(LOCK)/constraints.txt constraints.txt
