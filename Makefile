# What there is to do here. `make demo` is the tour; CONTRIBUTING.md says the rest.

.PHONY: help deps build demo demo-etcd up status down test suite suite-redis-py suite-applications bench bench-ingest bench-latency bench-memory bench-stream bench-snapshot soak-snapshots bench-sidecar bench-catch-up bench-seed lint soak soak-once matrix

# Programs for people are built for speed; tests use the dev profile, which has failpoints.
clouds = cargo run --release --quiet --package godwit-tests --bin clouds --
# Each cargo call builds the whole workspace, so that features are the same and nothing is built twice.
release = cargo build --release --workspace --bins
minutes ?= 10
kills ?= 100

help:
	@echo 'make demo    two clouds on this machine: seed, follow, switch over, go back, crash, fail over; ends with a report'
	@echo 'make demo-etcd   the same with an etcd for the registry'
	@echo 'make up      the same two clouds in the background; prints every address and pid'
	@echo 'make status  who is primary, epoch, leases, positions, lag; the processes'
	@echo 'make down    ends exactly those processes'
	@echo 'make test    all tests         make lint  format, clippy, licences'
	@echo 'make suite   Redis'\''s own test suite against a node (units=core: data types and keys only)'
	@echo 'make bench   a node beside redis-server and RocksDB alone; queue patterns (bench="--rounds 1 --keys 100000")'
	@echo 'make bench-ingest   rows by pipelined commands, and as a bulk load (bench="--rows 10000000")'
	@echo 'make bench-latency  p99 beside redis-server, while compactions run, with a checkpoint being read, in a write stall'
	@echo 'make bench-memory   memory under each load with ten times more data; several nodes on a machine; a large delete'
	@echo 'make bench-stream   how late a standby is, on loopback and 40 ms away, and bytes on the wire (bench="--value 1024")'
	@echo 'make bench-sidecar  what a sidecar costs its primary, with it and without it (bench="--rounds 9")'
	@echo 'make bench-catch-up how fast a standby catches up after an outage (bench="--writes 50000000")'
	@echo 'make bench-seed     a seed with writes going on, beside redis-server'\''s full sync'
	@echo 'make bench-snapshot snapshots beside rsync and restic: bytes, time, processor, memory (bench="--keys 200000")'
	@echo 'make suite-redis-py      redis-py'\''s own tests against a node    make suite-applications   Celery, RQ, BullMQ on one'
	@echo 'make soak    faults under load for a while (minutes=10)'
	@echo 'make matrix  whoever takes part in a switch is killed or frozen at each of its steps: planned and'
	@echo '             not, on both registries (360 cells; cells=etcd/unplanned: those with this in their names)'
	@echo 'make soak-once   increments under SIGKILL of nodes and sidecars at random, each in effect once (kills=100)'
	@echo 'make soak-snapshots pushes, restores, proofs and prunes killed at random (kills=200)'
	@echo 'make build   everything, for speed (make deps: what that needs; the others call it)'

deps:
	@scripts/deps.sh

build: deps
	$(release)

demo: build
	@$(clouds) demo --dir $(CURDIR)/target/demo

demo-etcd: build
	@scripts/deps.sh tests
	@$(clouds) demo --dir $(CURDIR)/target/demo --etcd

up: build
	@$(clouds) up --dir $(CURDIR)/target/local

status:
	@$(clouds) status --dir $(CURDIR)/target/local

down:
	@$(clouds) down --dir $(CURDIR)/target/local

soak: build
	@$(clouds) soak --dir $(CURDIR)/target/soak --minutes $(minutes)

matrix:
	@scripts/deps.sh tests
	cargo build --workspace --bins
	GODWIT_ACTORS=all GODWIT_CELLS=$(cells) cargo test --workspace --test actors -- --nocapture

soak-once: build
	@$(clouds) once --dir $(CURDIR)/target/once --kills $(kills)

bench: build
	@target/release/godwit-bench compare $(bench)
	@target/release/godwit-bench queues

bench-ingest: build
	@target/release/godwit-bench bulk $(bench)

bench-latency: build
	@target/release/godwit-bench latency $(bench)
	@target/release/godwit-bench stall

bench-memory: build
	@target/release/godwit-bench memory $(bench)
	@target/release/godwit-bench processes
	@target/release/godwit-bench delete

bench-stream: build
	@$(clouds) stream $(bench)
	@$(clouds) stream --latency 40 --tls $(bench)

bench-sidecar: build
	@$(clouds) sidecar-cost $(bench)

bench-catch-up: build
	@$(clouds) catch-up $(bench)

bench-seed: build
	@$(clouds) seed $(bench)

bench-snapshot: build
	@$(clouds) snapshot $(bench)

# Failpoints are not needed: a kill may come anywhere.
soak-snapshots:
	cargo build --workspace --bins
	GODWIT_KILLS=$(if $(filter command line,$(origin kills)),$(kills),200) cargo test --workspace --test snapshot_kills -- --nocapture

test:
	@scripts/deps.sh tests
	cargo build --workspace --bins
	@if cargo nextest --version >/dev/null 2>&1; then \
	  echo cargo nextest run --workspace; cargo nextest run --workspace; \
	else \
	  echo cargo test --workspace; cargo test --workspace; \
	fi

suite: deps
	@tests/suites/run $(units)

suite-redis-py: deps
	@tests/suites/redis-py

suite-applications: deps
	@tests/suites/applications

lint: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@# A few minutes, once: its advisory database needs the network, so advisories are on demand.
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny@0.20.2
	cargo deny --log-level error check bans licenses sources
