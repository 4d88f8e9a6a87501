# Q-TLS. `make run` shows it, `make test` checks all of it; both install what is missing on Debian 12 or later.

export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.PHONY: help run build test fmt clippy deny unit interop bench-peers clean

help:
	@echo 'make run       build it, serve a demonstration on the loopback interface, and make one verified request;'
	@echo '               UPSTREAM=127.0.0.1:3000 make run puts it in front of your own service'
	@echo 'make build     build the programs into target/release'
	@echo 'make test      everything that CI checks'
	@echo 'make fmt clippy deny unit interop'
	@echo '               parts of that'
	@echo 'make bench-peers'
	@echo '               measure qtls-server beside nginx, HAProxy, hitch and stunnel on two processors: half an hour'
	@echo 'make clean     remove target'

run: build
	@scripts/demo.sh

build:
	@scripts/install-deps.sh run
	cargo build --release

test:
	@scripts/install-deps.sh test
	@scripts/test.sh

fmt clippy deny unit:
	@scripts/test.sh $@

# SUITE=openssl_clients make interop runs one.
interop:
	@scripts/test.sh peers build $(patsubst %,interop:%,$(or $(SUITE),$(notdir $(basename $(wildcard tests/interop/tests/*.rs)))))

# BENCH='--only=handshakes --scale=0.2' measures less; --write=docs/PERFORMANCE.md,docs/PERFORMANCE.ko.md keeps the tables.
bench-peers:
	@scripts/install-deps.sh test
	cargo build --release --workspace --bins
	@tests/interop/peers/setup.sh
	target/release/bench-peers $(BENCH)

clean:
	cargo clean
