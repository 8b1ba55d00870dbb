//! The components that Loom brings along, as bytes.
//!
//! They are committed under `components/`, so that Loom builds without a WebAssembly target. `bundle.lock` says from which
//! sources and with which toolchain they were built; a test of this crate's binary fails when the sources have changed
//! since. `cargo run -p loom-plugin-bundle -- build` builds them anew, `-- verify` proves that the committed bytes come
//! from the sources.

/// The host shell provider.
pub const HOST: &[u8] = include_bytes!("../components/host.wasm");

/// The bundled component of the plugin `name`.
pub fn component(name: &str) -> Option<&'static [u8]> {
    match name {
        "host" => Some(HOST),
        _ => None,
    }
}

/// Components for tests: what a plugin may do wrong.
pub mod guests {
    /// Does what its steps tell it to, from endless loops to programs that it was not granted.
    pub const MISBEHAVING: &[u8] = include_bytes!("../components/guests/misbehaving.wasm");
}
