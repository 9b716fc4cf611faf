# Weft's commands. `make` alone lists them.
#
# Everything that protects main runs in one profile (dev), so that a clean checkout is built once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := list
.PHONY: list test verify fix demo bench bench-agents bench-failover bench-features bench-fleet bench-identity bench-quic bench-servers bench-storage e2e restarts soak kills sim tidy build static deb rpm tarball image packages

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

list: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: ## build the release binary and take the guided tour of a whole mesh on this machine
	$(CARGO) build --release --locked -p weft
	$(TARGET)/release/weft demo

test: ## all that protects main: format, lints, docs, house rules, every test, the demo's claims
	@tests/run.sh all

verify: ## the same checks without installing anything; never writes a source file
	@WEFT_INSTALL=never tests/run.sh all

e2e: ## only the end-to-end tests (real processes, and programs of others)
	@tests/run.sh e2e

RESTARTS ?= 20
restarts: ## sidecars replaced by new processes under load (RESTARTS=20): no request fails, no connection breaks
	$(CARGO) build --locked -p weft
	WEFT_HOT_RESTARTS=$(RESTARTS) $(CARGO) test --locked -p weft-tests --test e2e hot_restart::sidecars -- --nocapture

SOAK_SECONDS ?= 1800
soak: ## sidecars under load and churn for half an hour (SOAK_SECONDS=1800): memory and descriptors stay the same
	$(CARGO) build --locked -p weft
	WEFT_SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --locked -p weft-tests --test e2e soak -- --nocapture

KILLS ?= 100
kills: ## agents and servers killed while services come and go (KILLS=100): nothing lost, no ghosts
	$(CARGO) build --locked -p weft
	WEFT_KILLS=$(KILLS) $(CARGO) test --locked -p weft-tests --test e2e kills -- --nocapture

SEEDS ?= 1..20
sim: ## whole servers in a simulated world: SEEDS=1..100, or SEEDS=7 to see a run again (WEFT_SIM_LOG=info)
	$(CARGO) build --locked -p weft-sim
	$(TARGET)/debug/weft-sim $(SEEDS)

tidy: ## only the house rules
	$(CARGO) test --locked -q -p weft-tests --test tidy

fix: ## format, and apply what clippy can mend by itself
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

build: ## the release binary
	$(CARGO) build --release --locked -p weft

# The compiler's own machine, and musl's C library where rustup has added it (rustup target add).
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
MUSL := $(shell uname -m)-unknown-linux-musl
STATIC := $(if $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(MUSL)),$(MUSL),$(HOST))
STATIC_RUSTFLAGS := CARGO_TARGET_$(shell echo $(STATIC) | tr a-z- A-Z_)_RUSTFLAGS
PACKAGES := $(TARGET)/packages

static: ## the release binary with everything linked into it, for the tarball and the image
	@[ $(STATIC) = $(MUSL) ] || echo "rustup has no target $(MUSL): linking glibc in instead (libc6-dev)"
	$(STATIC_RUSTFLAGS)="-C target-feature=+crt-static" $(CARGO) build --release --locked -p weft --target $(STATIC)

deb: build ## a package for Debian and Ubuntu, in target/packages
	packaging/deb/build.sh $(TARGET)/release/weft $(PACKAGES)

rpm: build ## a package for Fedora, RHEL and SUSE (needs rpmbuild)
	packaging/rpm/build.sh $(TARGET)/release/weft $(PACKAGES)

tarball: static ## an archive for any Linux
	packaging/tarball.sh $(TARGET)/$(STATIC)/release/weft $(PACKAGES)

image: static ## a container image as an OCI archive, made without a registry
	packaging/image/build.sh $(TARGET)/$(STATIC)/release/weft $(PACKAGES)

packages: deb rpm tarball image ## all four

bench: ## our proxy pair and its peers in interleaved rounds, about six minutes (BENCH_ROUNDS=2)
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench
	$(TARGET)/release/weft-bench

bench-quic: ## QUIC beside TCP between our proxies, with packets lost, in a network of its own (root, nftables)
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench
	unshare --net sh -c 'ip link set lo up && BENCH_WORK=quic exec $(TARGET)/release/weft-bench'

bench-agents: ## an agent's DNS beside unbound's, BIND's, dnsmasq's and Consul's; its checks (BENCH_ARGS="--rounds 1")
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench-agents
	tests/bench-servers/fetch-peers.sh $(TARGET)/peers || true
	$(TARGET)/release/weft-bench-agents --peers $(TARGET)/peers $(BENCH_ARGS)

bench-failover: ## fifty kills of the leader of three servers: how long nobody leads
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-failover
	$(TARGET)/release/weft-failover

bench-features: ## what each feature costs: our pair with one thing switched on at a time, about a minute
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench
	BENCH_WORK=features $(TARGET)/release/weft-bench

bench-fleet: ## ten thousand agents and a hundred thousand blocking queries on one server (FLEET_ARGS="--agents 1000")
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench-fleet
	$(TARGET)/release/weft-bench-fleet $(FLEET_ARGS)

bench-identity: ## decisions (who may call, where it goes), signatures, ten thousand renewals; new mTLS connections beside the peers
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench-fleet --bin weft-bench
	$(TARGET)/release/weft-bench-fleet identity
	BENCH_WORK=handshakes $(TARGET)/release/weft-bench

bench-storage: ## writes beside the snapshot of a large state; appends to the log
	$(CARGO) test --release --locked -p weft-server --lib raft::large_state -- --nocapture
	$(CARGO) test --release --locked -p weft-server --lib raft::log::speed -- --nocapture

bench-servers: ## our servers beside Consul's and etcd's, about ten minutes (BENCH_ARGS="--rounds 2")
	$(CARGO) build --release --locked -p weft
	$(CARGO) build --release --locked -p weft-tests --bin weft-bench-servers
	tests/bench-servers/fetch-peers.sh $(TARGET)/peers || true
	$(TARGET)/release/weft-bench-servers --peers $(TARGET)/peers $(BENCH_ARGS)
	@echo "Beside no peer, and so apart: make bench-fleet, make bench-failover, make bench-storage"
