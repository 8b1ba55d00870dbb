//! The features of shared dependencies, for all packages alike. There is no code here: `Cargo.toml` says why.
