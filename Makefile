# Two commands do everything: `make demo` sets up and runs the main job, `make test` passes the tests.

export CARGO_TERM_COLOR ?= auto

.PHONY: demo test build wheel setup lint bench lab reference clean

demo: build ## set up, build, and run the main job on real input
	@target/release/pyro env pull debian:12
	@scripts/demo

build: setup
	cargo build --release --locked -p pyro

setup:
	@scripts/setup

test: ## set up and pass the tests, end to end on real machines
	@scripts/setup test
	cargo build --release --locked -p pyro
	@target/release/pyro prepare debian:12
	PYRO_TEST_HOME="$${PYRO_HOME:-$${XDG_DATA_HOME:-$$HOME/.local/share}/pyro}" \
		cargo nextest run --release --locked --workspace
	cargo test --release --locked --doc --workspace
	PYRO_TEST_HOME="$${PYRO_HOME:-$${XDG_DATA_HOME:-$$HOME/.local/share}/pyro}" scripts/test-python

wheel: ## build the Python package, with the program in it
	@scripts/setup wheel
	cargo build --release --locked -p pyro
	@scripts/wheel

lint: ## what CI checks besides the tests
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

bench: build ## measure; prints ratios
	cargo bench --locked -p pyro --bench diff_cost

lab: ## test firecracker where there is no hardware virtualization; PYRO_FIRECRACKER names it
	@scripts/setup test
	@tests/lab/run

reference: ## write docs/public-contract.md and the Python classes anew
	PYRO_WRITE_REFERENCE=1 cargo test --release --locked -p pyro --bin pyro reference
	PYRO_WRITE_REFERENCE=1 cargo test --release --locked -p pyro-python --test generated

clean:
	cargo clean
