# What a person can do in this repository. `make` lists it. Needs python3.11 and make; everything else is set up here.

SHELL := bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 3
TARGET ?= framing
SECONDS_MAX ?= 600
LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet

.DEFAULT_GOAL := help
.PHONY: help setup demo check test integration conformance kills weeks fuzz bench bench-kafka kafka-up s3-up down docs golden lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## Set up .venv with the locked dependencies (other targets do this too)

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## Watch a million events become tables, and prove that none is missing (EVENTS=n, DEMO=folder)
	$(BIN)/penstock demo $(if $(DEMO),--into $(DEMO)) $(if $(EVENTS),--events $(EVENTS))
	@echo; echo "Before that, make \`penstock\` a command of this shell: . $(BIN)/activate"

check: setup ## Everything that is checked without running: lint, format, types, imports, generated docs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/reference.py --check

test: setup ## Run the tests, without the long ones
	$(BIN)/pytest -n $(WORKERS) -m "not integration and not conformance"

integration: setup ## Run the long tests: killed processes, power loss, whole runs
	$(BIN)/pytest -n $(WORKERS) -m integration

conformance: setup ## Run every pipeline on both engines, and break Spark (needs Java 17; FULL=full for all cases and kills)
	PENSTOCK_CONFORMANCE=$(FULL) $(BIN)/pytest -n $(WORKERS) --dist loadfile -m conformance

kills: setup ## Kill a run again and again, and look whether the laws hold (KILLS=10000, SEED=1, LIFE=n for one)
	$(BIN)/python tools/kills.py $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED)) $(if $(LIFE),--life $(LIFE))

weeks: setup ## Simulate weeks with crashes, one life per seed (SEEDS=1-300 or one of them, LENGTH=actions)
	$(BIN)/python tools/weeks.py --workers $(WORKERS) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(LENGTH),--length $(LENGTH))

fuzz: setup ## Look for bytes that break a parser, guided by coverage (TARGET=name, SECONDS_MAX=n; Linux on x86)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/fuzz.lock
	$(BIN)/python tools/fuzz.py $(TARGET) -max_total_time=$(SECONDS_MAX)

bench: setup ## Measure this machine, beside a bare script of the same shape
	$(BIN)/penstock bench --against benchmarks/bare_shape.py

bench-kafka: setup ## Measure from a Kafka topic, beside Spark Structured Streaming (KAFKA_BROKERS=host:port, LAKE=s3://...)
	$(BIN)/penstock bench kafka --against benchmarks/structured_streaming.py $(if $(LAKE),--lake $(LAKE))

kafka-up: setup ## Start a real Kafka broker on a free port, and print what reaches it (Java 17 and Maven fetch it once)
	@$(BIN)/python -m tools.servers up kafka

s3-up: setup ## Start a real S3 server on a free port, and print what reaches it (Go builds it once)
	@$(BIN)/python -m tools.servers up s3

down: setup ## Stop the servers that kafka-up and s3-up started, and delete their data
	@$(BIN)/python -m tools.servers down

docs: setup ## Write the generated reference pages again
	$(BIN)/python tools/reference.py

golden: setup ## Write the golden answers of tests/pipelines again (CASE=name for one); read the difference
	$(BIN)/python tools/golden.py $(CASE)

lock: setup ## Resolve the dependencies again (UPGRADE=--upgrade for newer versions)
	$(LOCK) $(UPGRADE) pyproject.toml --output-file requirements/run.lock
	$(LOCK) $(UPGRADE) pyproject.toml --group dev --all-extras --output-file requirements/dev.lock
	$(LOCK) $(UPGRADE) --group pyproject.toml:fuzz --output-file requirements/fuzz.lock

clean: ## Delete everything that can be made again
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
