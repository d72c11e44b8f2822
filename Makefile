# `make` alone lists the targets. The work is cargo's; what cargo cannot do is in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

# What is built once for the machine and what tests download: outside the clone, so that a second clone finds it.
export KLAMM_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/klamm
export PATH := $(PATH):$(KLAMM_CACHE)/prometheus/usr/bin
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))

# A library of the user's own: scripts/rocksdb.sh checks it, and cargo links it statically.
ifdef ROCKSDB_LIB_DIR
export ROCKSDB_STATIC := 1
endif

# Arguments for klamm: make run ARGS="--topic orders:6"
ARGS ?=
# How often torture-kill kills the broker.
KILLS ?= 2000
# For how long torture does harm to a cluster.
MINUTES ?= 10
# What `make bench` does less or more than usual: QUICK=1, FULL=1, ONLY=names of workloads or their beginnings, ROUNDS=3.
QUICK ?=
FULL ?=
ONLY ?=
ROUNDS ?=
# Arguments for libFuzzer: make fuzz FUZZ_ARGS="-max_total_time=600"
FUZZ_ARGS ?=
# What `make flame` profiles, and for how long; BENCH_ARGS="--connections 1" are more arguments for the load.
WORKLOAD ?= produce
SECONDS_OF_LOAD ?= 10
export BENCH_ARGS ?=
# Which micro-benchmarks run.
FILTER ?=

# Every call of cargo that is part of `make test` selects the whole workspace and filters by target: another selection would mean other
# features of the dependencies, and so a second compilation of them.
CARGO_TEST := cargo test --workspace --locked
names_of_tests = $(basename $(notdir $(wildcard $(1)/tests/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard $(1)/tests/*/main.rs)))
tests_of = $(or $(patsubst %,--test %,$(strip $(call names_of_tests,$(1)))),$(error there are no tests in $(1)/tests))

.PHONY: help
help: ## This list
	@awk -F ': .*## ' '/^[a-z-]+:.* ## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: build ## Build and serve Kafka on 127.0.0.1:9092; installs what the build needs. ARGS="…" are klamm's arguments
	@exec $(TARGET_DIR)/release/klamm $(ARGS)

.PHONY: build
build: setup rocksdb ## The release binary: target/release/klamm
	@scripts/dependencies.sh restore $(TARGET_DIR) || echo "The dependencies could not be copied, see above; they are compiled." >&2
	cargo build --release --locked
	@scripts/dependencies.sh save $(TARGET_DIR) || echo "The dependencies could not be kept, see above; another clone compiles them." >&2

.PHONY: test
test: setup-test test-unit test-protocol test-integration ## Everything: installs the test clients, then unit, protocol and integration tests

.PHONY: test-unit
test-unit: test-build ## Tests beside the code, and the examples in the documentation
	$(CARGO_TEST) --lib --bins
	$(CARGO_TEST) --doc

.PHONY: test-protocol
test-protocol: test-build ## The wire format and conformance, against bytes recorded from Apache Kafka
	$(CARGO_TEST) $(call tests_of,protocol-tests)

.PHONY: test-integration
test-integration: setup-test test-build ## Real clients, kill -9 and Prometheus against the real binary
	KLAMM_BIN=$(TARGET_DIR)/debug/klamm $(CARGO_TEST) $(call tests_of,integration)

.PHONY: lint
lint: setup rocksdb ## Formatting, clippy and documentation, without a warning
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: check
check: setup rocksdb ## Does it compile? The quickest answer
	cargo check --workspace --all-targets --locked

.PHONY: docs
docs: setup rocksdb ## Write the generated tables of the README anew
	KLAMM_UPDATE_DOCS=1 $(CARGO_TEST) --lib docs_

.PHONY: fuzz
fuzz: setup ## Fuzz the decoding of requests until stopped, with nightly Rust. FUZZ_ARGS="…" are libFuzzer's arguments
	cargo +nightly --version >/dev/null 2>&1 || rustup toolchain install nightly --profile minimal
	cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz@0.13.2 --locked
	mkdir -p $(TARGET_DIR) && cd protocol-tests/fuzz && rustc --edition 2024 -o $(TARGET_DIR)/fuzz-seeds seeds.rs && $(TARGET_DIR)/fuzz-seeds
	cd protocol-tests && cargo +nightly fuzz run requests -- $(FUZZ_ARGS)

# Simulation of the cluster: how many seeds, or one alone with its trace; the worlds are those of src/sim. Then every
# schedule of small quorums.
SEEDS ?= 2000
SEED ?=
WORLD ?=
# Optimised, but without the slow linking of what is released.
sim properties: export CARGO_PROFILE_RELEASE_LTO := off
sim properties: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS := 16
.PHONY: sim
sim: setup rocksdb ## The cluster in a world of its own, from SEEDS=2000 seeds, every schedule of small quorums, and mutants. WORLD=quorum SEED=7 repeats one, with its trace
	KLAMM_SIM_SEEDS=$(SEEDS) $(if $(SEED),KLAMM_SIM_SEED=$(SEED)) \
	  cargo test --release --locked --lib sim::$(if $(SEED),tests::$(WORLD)_survives) -- --nocapture --test-threads 1

# What is played is chosen by a seed: in `make test` always the same one.
TIMES ?= 100
.PHONY: properties
properties: setup rocksdb ## The unit tests that play random cases, with TIMES=100 times as many, of a new seed. SEED=7 repeats one
	KLAMM_PROPERTY_TIMES=$(TIMES) $(if $(SEED),KLAMM_SEED=$(SEED)) cargo test --release --locked --lib -- --skip sim::

.PHONY: torture-kill
torture-kill: test-build ## Kill the broker under load again and again and look for every acknowledged record. KILLS=2000
	KLAMM_BIN=$(TARGET_DIR)/debug/klamm KLAMM_KILLS=$(KILLS) $(CARGO_TEST) --test kill -- --nocapture

.PHONY: torture
torture: test-build ## Kill, freeze and cut off the nodes of a cluster under load, and look for every acknowledged record. MINUTES=10
	KLAMM_BIN=$(TARGET_DIR)/debug/klamm KLAMM_TORTURE_MINUTES=$(MINUTES) $(CARGO_TEST) --test cluster_torture -- --nocapture

.PHONY: interop
interop: test-build ## klamm and Apache Kafka as brokers, voters and controllers of one cluster
	KLAMM_BIN=$(TARGET_DIR)/debug/klamm $(CARGO_TEST) --test interop -- --nocapture --test-threads 1

.PHONY: migration
migration: test-build ## Three nodes of Apache Kafka become three of klamm under load; writes MIGRATION.md
	KLAMM_BIN=$(TARGET_DIR)/debug/klamm KLAMM_TRANSCRIPT=$(CURDIR)/MIGRATION.md $(CARGO_TEST) --test interop -- --nocapture a_cluster_of_kafka

.PHONY: frameworks
frameworks: export KLAMM_FRAMEWORKS := long
frameworks: setup-test test-build ## What runs on top (Kafka Streams, …), longer and with more kills than in `make test`
	KLAMM_BIN=$(TARGET_DIR)/debug/klamm \
	  $(CARGO_TEST) $(patsubst %,--test %,$(filter frameworks_%,$(call names_of_tests,integration))) -- --nocapture --test-threads 1

# Results of a part, or of a quick run, do not replace the report that is kept with the sources.
BENCH_REPORT := $(if $(ONLY)$(QUICK),$(TARGET_DIR)/bench/BENCHMARKS.md,BENCHMARKS.md)
.PHONY: bench
bench: build setup-bench ## klamm and Apache Kafka under the same load, in turn; writes BENCHMARKS.md. QUICK=1, FULL=1, ONLY=produce-12,start
	mkdir -p $(TARGET_DIR)/bench
	ulimit -n "$$(ulimit -Hn)"; KLAMM_BIN=$(TARGET_DIR)/release/klamm cargo run --release --locked -p bench -- compare \
	  --scratch $(TARGET_DIR)/bench --report $(BENCH_REPORT) $(if $(QUICK),--quick) $(if $(FULL),--full) $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: bench-recovery
bench-recovery: build setup-bench ## How long three nodes of klamm and of Apache Kafka need after a failure; writes RECOVERY.md
	KLAMM_BIN=$(TARGET_DIR)/release/klamm cargo run --release --locked -p bench -- recovery --report RECOVERY.md --rounds $(or $(ROUNDS),3)

.PHONY: setup-bench
setup-bench:
	@scripts/setup-bench.sh

.PHONY: bench-micro
bench-micro: setup rocksdb ## Micro-benchmarks of a request's steps (criterion). FILTER="produce" runs those whose name has it
	cargo bench --locked -p klamm --bench request -- $(FILTER)

.PHONY: flame
flame: setup rocksdb ## Profile klamm under WORKLOAD=produce, consume, requests or latency: target/flame/*.svg and .txt (perf)
	cargo build --profile profiling --locked
	cargo build --release --locked -p bench
	FLAME_TARGET=$(TARGET_DIR) scripts/flame.sh $(WORKLOAD) $(SECONDS_OF_LOAD)

.PHONY: setup
setup: ## Install what the build needs where it is missing (apt), or say what to install
	@scripts/setup.sh

.PHONY: setup-test
setup-test: setup ## Install the clients and tools that the integration tests run
	@scripts/setup-test.sh

.PHONY: clean
clean: ## Remove what was built in this clone; the compiled RocksDB stays in the cache
	cargo clean

# All tests, and the binary that the integration tests start, in one compilation.
.PHONY: test-build
test-build: setup rocksdb
	cargo build --workspace --all-targets --locked

# RocksDB as a static library in the cache, and .cargo/rocksdb.toml, by which cargo finds it.
.PHONY: rocksdb
rocksdb: setup
	@scripts/rocksdb.sh
