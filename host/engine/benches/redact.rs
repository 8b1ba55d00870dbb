//! How fast output is masked.

fn main() {
    divan::main();
}
