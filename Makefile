# What one does with Crosslatch, by name. `make help` lists it.
#
# Everything is built with one profile, release (with overflow checks), because any other would
# compile RocksDB once more: half an hour of CPU. Clippy, rustdoc, tests and benches of that profile
# share its one build.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# scripts/setup.sh leaves there where it found libclang, if not in the usual place.
CARGO := . "$(TARGET_DIR)/setup.env" && cargo

# What `make load` asks for; any flag of `crosslatch load` goes.
LOAD_ARGS ?= --swaps 3000000 --accounts 100000 --batch 4096 --verify

# What `make modes` asks for in every mode, beside the mode and the skew.
MODES_ARGS ?= --accounts 100000 --batch 4096

.DEFAULT_GOAL := help
.PHONY: run test check fix sim loom fuzz torture load modes drill bench peers setup help

run: ## Build, then start the server on an embedded store in ./data
	@scripts/setup.sh
	$(CARGO) run --release -- serve --data ./data

# What is built for tests alone, with points of failure, planted bugs or loom's atomics, is built and
# run after the tests of the product as it is shipped.
test: ## Run every test
	@scripts/setup.sh tests
	$(CARGO) test --release
	$(CARGO) test --release --features faults --test crash points
	$(CARGO) test --release --features faults --test running starting
	$(CARGO) test --release --no-default-features --features faults --test sim planted
	$(CARGO) test --release --no-default-features --features loom --test loom

sim: ## Simulate the whole engine; COUNT=n seeds from SEED=n on, or that SEED alone
	@scripts/setup.sh
	$(CARGO) test --release --no-default-features --features faults --test sim whatever -- --nocapture

sim: export SEED := $(SEED)
sim: export COUNT := $(COUNT)

loom: ## Try every interleaving of the concurrency primitives
	@scripts/setup.sh
	$(CARGO) test --release --no-default-features --features loom --test loom -- --nocapture

fuzz: ## Fuzz the parsers and decoders (needs a nightly toolchain); SECONDS_EACH=n
	@scripts/setup.sh
	@scripts/fuzz.sh

torture: ## Run the long form of every proof for HOURS=n
	@scripts/setup.sh tests
	@scripts/torture.sh

check: export RUSTDOCFLAGS = -Dwarnings
check: ## Check format, lints, docs and the house rules; never edits
	@scripts/setup.sh
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	$(CARGO) clippy --release --no-default-features --lib -- -D warnings
	$(CARGO) clippy --release --features faults --lib --bins --test crash --test running -- -D warnings
	$(CARGO) clippy --release --no-default-features --features faults --test sim -- -D warnings
	$(CARGO) clippy --release --no-default-features --features loom --test loom -- -D warnings
	$(CARGO) doc --release --no-deps
	$(CARGO) test --release --test tidy

fix: ## Format, and apply the lints' suggestions
	@scripts/setup.sh
	$(CARGO) fmt
	$(CARGO) clippy --release --all-targets --fix --allow-dirty --allow-staged

# Below the target directory and not in /tmp, which may be memory: an fsync there costs nothing.
load: ## Load a fresh embedded engine, show it live, report; LOAD_ARGS="--swaps N ..."
	@scripts/setup.sh
	$(CARGO) build --release
	@data=$$(mktemp -d "$(TARGET_DIR)/load.XXXXXX") && trap 'rm -rf "$$data"' EXIT && \
	trap 'exit 130' HUP INT TERM && \
	$(CARGO) run --release --quiet -- load --data "$$data" $(LOAD_ARGS)

modes: ## Settle the same swaps in three ways and compare; prints the table of the README
	@scripts/setup.sh
	$(CARGO) build --release
	@scripts/modes.sh "$(TARGET_DIR)/release/crosslatch" $(MODES_ARGS)

drill: ## Make a conflict storm, a slow disk, a stuck hold and an overload; see that each is told (2 min)
	@scripts/setup.sh tests
	$(CARGO) test --release --test dashboards drill -- --ignored --nocapture

bench: ## Run the benches, room by room
	@scripts/setup.sh
	$(CARGO) bench --profile release

peers: ## Do the same work with RocksDB's own transactions and PostgreSQL, and compare
	@scripts/setup.sh peers
	$(CARGO) bench --profile release --bench peers

setup: ## Install or name what is missing to build and test
	@scripts/setup.sh tests

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
