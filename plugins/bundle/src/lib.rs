//! The components that Loom brings along, as bytes.
//!
//! They are committed under `components/`, so that Loom builds without a WebAssembly target. `bundle.lock` says from which
//! sources and with which toolchain they were built; a test of this crate's binary fails when the sources have changed
//! since. `cargo run -p loom-plugin-bundle -- build` builds them anew, `-- verify` proves that the committed bytes come
//! from the sources.

/// The host shell provider.
pub const HOST: &[u8] = include_bytes!("../components/host.wasm");
/// The Docker provider.
pub const DOCKER: &[u8] = include_bytes!("../components/docker.wasm");
/// The cache around providers.
pub const CACHE: &[u8] = include_bytes!("../components/cache.wasm");
/// The resolver of `env://`.
pub const ENV: &[u8] = include_bytes!("../components/env.wasm");
/// The resolver of `keepass://`.
pub const KEEPASS: &[u8] = include_bytes!("../components/keepass.wasm");
/// The resolver of `op://`.
pub const OP: &[u8] = include_bytes!("../components/op.wasm");

/// The bundled component of the plugin `name`.
pub fn component(name: &str) -> Option<&'static [u8]> {
    match name {
        "host" => Some(HOST),
        "docker" => Some(DOCKER),
        "cache" => Some(CACHE),
        "env" => Some(ENV),
        "keepass" => Some(KEEPASS),
        "op" => Some(OP),
        _ => None,
    }
}

/// The URI schemes of secrets that bundled components resolve; each component is called as its scheme.
pub const SCHEMES: [&str; 3] = ["env", "keepass", "op"];

/// Components for tests: what a plugin may do wrong.
pub mod guests {
    /// Does what its steps tell it to, from endless loops to programs that it was not granted.
    pub const MISBEHAVING: &[u8] = include_bytes!("../components/guests/misbehaving.wasm");
    /// A resolver that does what its references tell it to, from reading what it was not granted to panics.
    pub const RESOLVER: &[u8] = include_bytes!("../components/guests/resolver.wasm");
}
