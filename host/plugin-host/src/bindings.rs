//! The interface files as Rust: what the host offers once, then what each kind of plugin exports.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "host-offers",
    imports: {
        "loom:host/types.[method]output-sink.line": async | trappable,
        "loom:exec/process.[method]child.wait": async | trappable,
        "loom:exec/process.[method]child.stop": async | trappable,
        "loom:docker/engine.connect": async | trappable,
        "loom:docker/engine.ensure-image": async | trappable,
        "loom:docker/engine.[method]image-build.run": async | trappable,
        "loom:docker/engine.[method]container-spec.create": async | trappable,
        "loom:docker/engine.[static]network.create": async | trappable,
        "loom:docker/engine.[method]container.start": async | trappable,
        "loom:docker/engine.[method]container.wait-healthy": async | trappable,
        "loom:docker/engine.[method]command.run": async | trappable,
        "loom:workspace/workspace.[method]workspace.exists": async | trappable,
        "loom:workspace/files": async | trappable,
        "loom:workspace/store.hash-files": async | trappable,
        "loom:workspace/store.[method]cache.quarantined": async | trappable,
        "loom:workspace/store.[method]cache.restore": async | trappable,
        "loom:workspace/store.[method]cache.save": async | trappable,
        "loom:credentials/credentials": async | trappable,
        "loom:net/http.[method]request.send": async | trappable,
        default: trappable,
    },
    with: {
        "loom:host/types.output-sink": crate::imports::types::Sink,
        "loom:host/job.job": crate::imports::job::JobHandle,
        "loom:host/job.step": crate::imports::job::StepHandle,
        "loom:exec/process.command": crate::imports::process::Request,
        "loom:exec/process.child": crate::imports::process::Child,
        "loom:docker/engine.image-build": crate::imports::docker::BuildHandle,
        "loom:docker/engine.network": crate::imports::docker::NetworkHandle,
        "loom:docker/engine.container-spec": crate::imports::docker::container::Spec,
        "loom:docker/engine.container": crate::imports::docker::container::ContainerHandle,
        "loom:docker/engine.command": crate::imports::docker::command::Request,
        "loom:workspace/workspace.workspace": crate::imports::workspace::WorkspaceHandle,
        "loom:workspace/store.cache": crate::imports::store::CacheHandle,
        "loom:net/http.request": crate::imports::http::Request,
        "loom:net/http.response": crate::imports::http::Response,
    },
});

/// What a provider exports.
pub(crate) mod provider {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "provider-plugin",
        exports: { default: async },
        with: {
            "loom:host": crate::bindings::loom::host,
            "loom:exec": crate::bindings::loom::exec,
            "loom:docker": crate::bindings::loom::docker,
            "loom:workspace": crate::bindings::loom::workspace,
        },
    });
}

/// What a wrapper exports.
pub(crate) mod wrapper {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "wrapper-plugin",
        exports: { default: async },
        with: {
            "loom:host": crate::bindings::loom::host,
            "loom:workspace": crate::bindings::loom::workspace,
        },
    });
}

/// What a secret resolver exports.
pub(crate) mod resolver {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "secret-resolver-plugin",
        exports: { default: async },
        with: {
            "loom:host": crate::bindings::loom::host,
            "loom:workspace": crate::bindings::loom::workspace,
            "loom:credentials": crate::bindings::loom::credentials,
            "loom:net": crate::bindings::loom::net,
        },
    });
}

/// What a secret resolver exports besides, where it also manages vaults.
pub(crate) mod vault {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "vault-plugin",
        exports: { default: async },
        with: {
            "loom:host": crate::bindings::loom::host,
            "loom:workspace": crate::bindings::loom::workspace,
            "loom:credentials": crate::bindings::loom::credentials,
        },
    });
}
