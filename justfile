# Daily commands: https://just.systems. CI is `.ci/run`.

# List the commands
default:
    @just --list

# Run the tests whose names contain FILTER, or all
test *FILTER:
    cargo test --workspace --locked {{ if FILTER == "" { "" } else { "-- " + FILTER } }}

# Run the end-to-end tests whose names contain FILTER
e2e *FILTER:
    cargo test --package loom-cli --locked --test it -- {{ FILTER }}

# Format, lint, check documentation
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked -- --deny warnings
    RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --document-private-items --locked

# Rebuild the bundled components from their sources
components:
    rustup target add wasm32-wasip2
    cargo run --locked --package loom-plugin-bundle -- build

# Compare whole processes with other runners
bench *ARGS:
    benches/whole-process {{ ARGS }}

# Everything that must pass before a change lands
ci:
    .ci/run
