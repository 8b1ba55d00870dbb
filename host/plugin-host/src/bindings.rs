//! The interface files as Rust.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "provider-plugin",
    imports: {
        "loom:host/types.[method]output-sink.line": async | trappable,
        "loom:exec/process.[method]child.wait": async | trappable,
        "loom:exec/process.[method]child.stop": async | trappable,
        "loom:workspace/workspace.[method]workspace.exists": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "loom:host/types.output-sink": crate::imports::types::Sink,
        "loom:host/job.job": crate::imports::job::JobHandle,
        "loom:host/job.step": crate::imports::job::StepHandle,
        "loom:exec/process.command": crate::imports::process::Request,
        "loom:exec/process.child": crate::imports::process::Child,
        "loom:workspace/workspace.workspace": crate::imports::workspace::WorkspaceHandle,
    },
});
