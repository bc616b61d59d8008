# Two commands do all the set-up on a fresh machine with Python 3.11 and make:
#   make demo    the mesh at work on the embedded cluster
#   make test    every test
# KEEP=1 leaves the demo's cluster running; PYTHON=… chooses another interpreter.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RUN := .venv/.run-ready
DEV := .venv/.dev-ready
# Container images set this for the layers they keep; here every process would compile the sources again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test unit e2e compiled mutants check bench fuzz docs charts coverage report system clean
REPORT := docs/reports/smi-mesh-0.1.0-localmesh.yaml
COVERAGE := $(BIN)/python -m conformance coverage --report $(REPORT) --semantics docs/semantics.md \
	--page docs/spec-coverage.md --picture docs/pictures/conformance.svg --moving docs/migrating.md

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /  make \1\t/p' Makefile

demo: $(RUN) system ## start a mesh on this machine and tell its story
	$(BIN)/smi-mesh demo $(if $(KEEP),--keep)

test: unit e2e ## everything, end-to-end tests over real processes included

unit: $(DEV) system ## fast tests: no root, no cluster
	$(BIN)/pytest -q -n 2 -m "not e2e"

# By file: each of the two has clusters of its own. In the order of tests/conftest.py: the longest first.
e2e: $(DEV) system ## real processes, and network namespaces where it is root
	@$(BIN)/python .ci/helm-binary
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m e2e

compiled: $(DEV) ## the sidecar's hot modules as machine code, where there is a C compiler; a minute or two
	@$(BIN)/python -m dataplane.compiled

mutants: $(DEV) system ## that every conformance case can fail: the suite on broken meshes, an hour; WHOLE=1: four
	$(BIN)/python -m tests.conformance.mutants $(if $(WHOLE),,--expected) --record build/mutants$(WHOLE).json \
	  --matrix docs/reports/mutation-matrix.md

check: $(DEV) ## format, lint, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(COVERAGE) --check

bench: $(DEV) system compiled ## the sidecar beside Envoy, nginx and HAProxy; QUICK=1: under 3 minutes
	@sh .ci/bench-packages
	$(BIN)/pip install -q --group bench || echo "no Envoy: its columns stay empty"
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

fuzz: $(DEV) ## coverage-guided, FUZZ_SECONDS=60 for each target, FUZZ_TARGETS="path codec" for some
	$(BIN)/pip install -q --group fuzz
	$(BIN)/python -m fuzz --seconds $(or $(FUZZ_SECONDS),60) $(FUZZ_TARGETS)

docs: $(DEV) ## the documentation site, strict
	$(BIN)/pip install -q --group docs
	$(BIN)/mkdocs build --strict

coverage: $(RUN) ## docs/spec-coverage.md and the badge, from our newest report
	$(COVERAGE)

report: $(RUN) system ## the conformance suite against smi-mesh; its report, and what is made from it
	$(BIN)/smi-mesh conformance run --parallel 4 --report $(REPORT)
	$(COVERAGE)

charts: $(RUN) ## write the Helm chart from controller/chart.py
	$(BIN)/python -m controller.chart charts/smi-mesh

system: ## Debian packages: redirection, kubectl, the tests' servers (root only)
	@sh .ci/system-packages

$(RUN): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade "pip>=25.1"
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(DEV): $(RUN)
	$(BIN)/pip install -q -c constraints.txt --group dev
	touch $@

clean: ## remove what the recipes made
	rm -rf .venv site build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
