//! What each kind of plugin exports, as Rust. What the host offers them is generated in [`crate::imports`].

/// What a provider exports.
pub(crate) mod provider {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package loom:exports;
            world provider-plugin { export loom:plugin/provider@0.1.0; }
        ",
        exports: { default: async },
        with: {
            "loom:host/types": crate::types::bindings::loom::host::types,
            "loom:host/job": crate::imports::job::wit::loom::host::job,
        },
    });
}

/// What a wrapper exports.
pub(crate) mod wrapper {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package loom:exports;
            world wrapper-plugin { export loom:plugin/wrapper@0.1.0; }
        ",
        exports: { default: async },
        with: {
            "loom:host/types": crate::types::bindings::loom::host::types,
            "loom:host/job": crate::imports::job::wit::loom::host::job,
        },
    });
}

/// What a secret resolver exports.
pub(crate) mod resolver {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package loom:exports;
            world secret-resolver-plugin { export loom:plugin/secret-resolver@0.1.0; }
        ",
        exports: { default: async },
        with: { "loom:host/types": crate::types::bindings::loom::host::types },
    });
}

/// What a secret resolver exports besides, where it also manages vaults.
pub(crate) mod vault {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package loom:exports;
            world vault-plugin { export loom:plugin/vault-admin@0.1.0; }
        ",
        exports: { default: async },
        with: { "loom:host/types": crate::types::bindings::loom::host::types },
    });
}
