# Every command that people and CI use. `make` explains them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
# TLS=1: with TLS, as in the images; needs OpenSSL's headers.
TLS_FEATURES = $(if $(TLS),web-server/tls management-api/tls)
# The services as they are released, and what runs them; benchmarks and real-stack tests use these.
SERVICES = -p web-server -p management-api -p embedded -p stack -p simulator --features "$(TLS_FEATURES)"
REAL_STACK = --release --locked -p stack --features "real-stack $(TLS_FEATURES)" --test stack
# Where `make load` keeps Python's packages, apart from all others, and its reports.
LOAD := $(or $(CARGO_TARGET_DIR),target)/load
LOAD_PYTHON := $(LOAD)/python/bin/python -B
LOAD_SETTINGS := HOST SECONDS RATE USERS AUTH DAY_SECONDS NIGHT SPIKES SEED JOURNEYS_MAX METRICS ALLOW_HOST
# A crate alone would be built with other features of its dependencies, and so would they.
AS_UNIT := --workspace --locked

.PHONY: help
help: ## Explain every target
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: run
run: ## Run the whole pipeline in one process, nothing to install (DATA_DIR=./data)
	$(CARGO) build --release --locked -p embedded
	exec $(RELEASE)/embedded

.PHONY: build
build: ## Build the release binaries
	$(CARGO) build --release --locked $(SERVICES)

.PHONY: test
test: format lint docs unit ## Everything that needs only Rust: format, lints, docs, unit and integration tests

.PHONY: format
format: ## Check the formatting
	$(CARGO) fmt --all --check

.PHONY: lint
lint: ## Clippy, warnings denied
	$(CARGO) clippy --workspace --all-targets --features stack/real-stack,manifests/cluster-tools --locked -- -D warnings

.PHONY: docs
docs: ## Build the API docs, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items

.PHONY: unit
# Most tests wait for most of their time.
unit: export RUST_TEST_THREADS ?= 6
unit: ## Unit and integration tests on the in-process broker and SQLite
	$(CARGO) test $(AS_UNIT) --no-run
	$(CARGO) test $(AS_UNIT)

.PHONY: simulate
simulate: ## The record path on a simulated Kafka, database and clock (SEEDS=1000, FIRST_SEED=0; a failing seed tells how it is run again)
	SEEDS=$(or $(SEEDS),1000) FIRST_SEED=$(or $(FIRST_SEED),0) $(CARGO) test --locked -p management-api --test simulation -- --ignored --nocapture

.PHONY: measure-limits
measure-limits: ## Rate limits of real processes: what 1 to 8 replicas let in, in six minutes
	$(CARGO) test --locked -p web-server --test it rate_limit_processes -- --ignored --nocapture --test-threads=1

.PHONY: test-manifests
# A minute of silence on a stream is waited for beside all others.
test-manifests: export RUST_TEST_THREADS ?= 4
test-manifests: ## The files for a cluster: rendered, validated, scraped by a real Prometheus (needs Python, Node and Go)
	$(CARGO) test $(AS_UNIT) --no-run --test it
	$(CARGO) test $(AS_UNIT) --features manifests/cluster-tools --test cluster

.PHONY: test-stack
test-stack: test-manifests build ## The files for a cluster, then end-to-end and fault tests on real Kafka and PostgreSQL (needs Java, Maven)
	$(RELEASE)/stack with-postgres $(CARGO) test $(AS_UNIT) --test it store_contract
	$(CARGO) test $(REAL_STACK) -- --test-threads=1 --skip encrypted

.PHONY: test-tls
test-tls: TLS = 1
test-tls: build ## The services with TLS towards Kafka and PostgreSQL (needs OpenSSL's headers, Java and Maven)
	$(CARGO) test $(REAL_STACK) -- --test-threads=1 encrypted

.PHONY: test-page
test-page: build ## The web page in real Chromium (needs Node.js 18.19, npm and Chromium; PICTURES=FOLDER makes the README's pictures anew)
	cd deployment/stack/tests/page && npm ci --silent --no-audit --no-fund
	cd deployment/stack/tests/page && PROGRAMS="$(abspath $(RELEASE))" PICTURES="$(abspath $(PICTURES))" npm test --silent

.PHONY: bench
bench: ## Benchmarks on a real stack of its own; writes deployment/benchmark/results.md
	$(CARGO) build --release --locked $(SERVICES) -p benchmark
	$(RELEASE)/benchmark

.PHONY: load
load: $(LOAD)/python/complete ## Load that looks real, on `make run` or `make stack-up`; the report is in target/load (SECONDS=60, RATE=50, AUTH=off, … see README)
	@$(LOAD_PYTHON) deployment/load REPORTS=$(LOAD) $(foreach name,$(LOAD_SETTINGS),$(if $($(name)),'$(name)=$($(name))'))

.PHONY: test-load
test-load: build $(LOAD)/python/complete ## Tests of `make load`, one of them with a pipeline that is stopped for five seconds of a minute (needs Python 3.11)
	RELEASE=$(abspath $(RELEASE)) $(LOAD_PYTHON) -m unittest discover --start-directory deployment/load/tests --top-level-directory deployment/load

# Complete or not there at all: a killed installation is begun anew.
$(LOAD)/python/complete: deployment/load/requirements.txt
	rm -rf $(LOAD)/python
	python3 -m venv $(LOAD)/python
	$(LOAD_PYTHON) -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r $<
	touch $@

.PHONY: scale-demo
scale-demo: build ## The shipped autoscaling, a load step and real consumers: table, plot and verdict in five minutes
	$(RELEASE)/scale-demo

.PHONY: stack-up
stack-up: build ## Start Kafka, PostgreSQL and two replicas of each service here (BROKERS=3 for three brokers, SET="NAME=VALUE …" for more settings)
	$(RELEASE)/stack up $(foreach setting,$(SET),--set $(setting))

.PHONY: stack-down
stack-down: ## Stop what stack-up started, and nothing else
	$(RELEASE)/stack down

.PHONY: stack-status
stack-status: ## Show ports, lag and readiness of the stack
	$(RELEASE)/stack status

.PHONY: accounts
accounts: ## Make accounts for a trial, on `make run` or `make stack-up` (N=1000)
	$(CARGO) build --release --locked $(SERVICES)
	N=$(or $(N),1000) $(RELEASE)/stack accounts

.PHONY: stand-ins
stand-ins: build ## Stand-ins for replicas of management-api, one well, one that hiccups, one that fails: how often each is asked
	$(RELEASE)/stack stand-ins

.PHONY: audit
audit: ## Licences, sources and advisories of all dependencies (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo-deny check

.PHONY: fix
fix: ## Format the code
	$(CARGO) fmt --all
