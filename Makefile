# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SO := forwarder/_native.abi3.so
CONF ?= $(if $(ES_URL),docker/quickstart-elasticsearch.conf,docker/quickstart.conf)
PROFILE ?= release
RUST := $(shell find native/src native/Cargo.toml native/Cargo.lock 2>/dev/null)

.PHONY: docs help setup native run test test-all lint format bench elasticsearch fuzz clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml | check-cargo
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "forwarder needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(SO)

.PHONY: check-cargo
check-cargo:
	@command -v cargo >/dev/null || { echo "cargo not found: install Rust 1.85 or later (https://rustup.rs, or 'apt-get install rustup && rustup default stable')" >&2; exit 1; }

$(SO): $(RUST) | check-cargo
	cargo build --profile $(PROFILE) --quiet --manifest-path native/Cargo.toml
	cp native/target/$(PROFILE)/libforwarder_native.so $@.tmp && mv $@.tmp $@
	@rm -f forwarder/_native.cpython-*.so # would be imported in its place

setup: $(VENV)/.installed $(SO) ## make the virtual environment and build the native crate

native: $(SO) ## build the native crate only

run: setup ## run CONF (default: the quickstart: UDP syslog on 5140 -> grok -> stdout, or ES_URL)
	$(VENV)/bin/forwarder run -c $(CONF)

test: setup ## the default test suite (under 3 minutes)
	$(PY) -m pytest -n 2 --dist worksteal $(PYTEST_OPTIONS)
	cargo test --release --quiet --manifest-path native/Cargo.toml --no-default-features
	cargo test --release --quiet --manifest-path bench/loadgen/Cargo.toml

test-all: setup ## everything, slow tests included
	$(PY) -m pytest -n 2 --dist loadgroup -m ''

lint: setup ## format check, lint, types, clippy
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	MYPYPATH=tests $(VENV)/bin/mypy --strict bench
	$(VENV)/bin/mypy --strict docs/tools
	cargo fmt --check --manifest-path native/Cargo.toml
	cargo clippy --release --all-targets --quiet --manifest-path native/Cargo.toml -- -D warnings
	cargo fmt --check --manifest-path native/fuzz/Cargo.toml
	cargo fmt --check --manifest-path bench/loadgen/Cargo.toml
	cargo clippy --release --all-targets --quiet --manifest-path bench/loadgen/Cargo.toml -- -D warnings

format: setup ## put everything into the project's format
	$(VENV)/bin/ruff check --fix --quiet . || true
	$(VENV)/bin/ruff format .
	cargo fmt --manifest-path native/Cargo.toml

docs: setup ## generate docs/reference and docs/compatibility.md
	$(PY) docs/tools/generate.py

bench: setup ## measure against rsyslog and syslog-ng
	$(PY) -m bench

elasticsearch: ## start an Elasticsearch for trials on 127.0.0.1:9200 (needs a JDK, 17 or later)
	PYTHONPATH=tests $(PYTHON) -m searchnode

SECONDS ?= 60
fuzz: | check-cargo ## fuzz the native parsers, SECONDS each
	native/fuzz/run $(SECONDS)

clean: ## remove everything that was built
	rm -rf $(VENV) build dist native/target native/fuzz/target bench/loadgen/target *.egg-info forwarder/*.so bench/.tools bench/out
