use loom_contract::error::ErrorInfo;
use loom_engine::port::{Provider as _, SecretResolver as _};
use loom_plugin_bundle::HOST;
use loom_plugin_host::{Origin, PluginConfig, Runtime};

const MANIFEST: &str = r#"
name = "greedy"
version = "0.3.0"
kind = "provider"
description = "Asks for too much"
loom = "0.1.0"
"#;

/// A component from text, with a manifest.
fn component(text: &str, manifest: &str) -> Vec<u8> {
    let mut bytes = wat::parse_str(text).unwrap();
    let mut section = vec![11];
    section.extend_from_slice(b"loom-plugin");
    section.extend_from_slice(manifest.as_bytes());
    bytes.push(0);
    let mut length = section.len();
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(section);
    bytes
}

fn refused(bytes: &[u8]) -> ErrorInfo {
    Runtime::new(None).unwrap().load_provider(bytes, PluginConfig::default()).unwrap_err().to_info()
}

#[test]
fn the_bundled_provider_says_what_it_is() {
    let plugin = Runtime::new(None).unwrap().load_provider(HOST, PluginConfig::default()).unwrap();
    assert_eq!(plugin.origin(), Origin::Compiled);
    assert_eq!(plugin.plugin().name, "host");
    assert_eq!(plugin.plugin().digest, blake3::hash(HOST).to_string());
    assert!(!plugin.manifest().capabilities.workspace);
}

#[test]
fn rights_that_nobody_gets_are_refused() {
    for import in [
        "wasi:filesystem/types@0.2.6",
        "wasi:filesystem/preopens@0.2.6",
        "wasi:sockets/tcp@0.2.6",
        "wasi:http/outgoing-handler@0.2.6",
        "acme:files/all",
    ] {
        let text = format!(r#"(component (import "{import}" (instance)))"#);
        let error = refused(&component(&text, MANIFEST));
        assert_eq!(error.code, "PLUGIN_DENIED", "{error}");
        assert!(error.message.starts_with("plugin `greedy` 0.3.0 ("), "{error}");
        assert!(error.message.ends_with(&format!(") imports `{import}`, which no plugin gets")), "{error}");
        assert!(error.hint.is_some());
    }
}

#[test]
fn rights_that_the_manifest_does_not_declare_are_refused() {
    let text = r#"(component
        (import "loom:exec/process@0.1.0" (instance))
        (import "loom:host/log@0.1.0" (instance))
        (import "loom:workspace/workspace@0.1.0" (instance)))"#;
    let error = refused(&component(text, MANIFEST));
    assert_eq!(error.code, "PLUGIN_DENIED");
    assert!(
        error.message.ends_with(
            " imports `loom:exec/process@0.1.0` without the capability `exec` in its manifest; \
             `loom:workspace/workspace@0.1.0` without the capability `workspace` in its manifest"
        ),
        "{error}"
    );
}

#[test]
fn other_versions_are_incompatible() {
    let text = r#"(component (import "loom:host/job@9.0.0" (instance)))"#;
    let error = refused(&component(text, MANIFEST));
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(
        error.message.ends_with(" imports `loom:host/job@9.0.0`; this Loom offers version 0.1.0"),
        "{error}"
    );
    let text = r#"(component (import "loom:teleport/beam@0.1.0" (instance)))"#;
    let error = refused(&component(text, MANIFEST));
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(
        error.message.ends_with(" imports `loom:teleport/beam@0.1.0`, which this Loom does not know"),
        "{error}"
    );
}

#[test]
fn a_component_without_a_provider_is_incompatible() {
    let error = refused(&component("(component)", MANIFEST));
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(error.message.ends_with(" does not export `loom:plugin/provider@0.1.0`"), "{error}");
    // It is not enough to export the name.
    let text = r#"(component (instance $i) (export "loom:plugin/provider@0.1.0" (instance $i)))"#;
    let error = refused(&component(text, MANIFEST));
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(error.message.contains("prepare"), "{error}");
}

#[test]
fn a_loom_interface_of_another_shape_is_incompatible() {
    let text = r#"(component
        (import "loom:host/log@0.1.0" (instance (export "shout" (func))))
        (instance $i) (export "loom:plugin/provider@0.1.0" (instance $i)))"#;
    let error = refused(&component(text, MANIFEST));
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(error.message.contains("loom:host/log@0.1.0") && error.message.contains("shout"), "{error}");
}

#[test]
fn a_plugin_for_a_later_loom_says_so() {
    let error = refused(&component("(component)", &MANIFEST.replace("0.1.0", "99.1.0")));
    assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
    assert!(error.message.contains(") needs Loom 99.1.0 or newer; this is "), "{error}");
}

#[test]
fn more_than_anybody_gets_is_denied() {
    let error = refused(&component("(component)", &format!("{MANIFEST}\nlimits.memory_mib = 5000")));
    assert_eq!(error.code, "PLUGIN_DENIED");
    assert!(
        error.message.ends_with(" asks for `limits.memory_mib = 5000`; at most 4096 is granted"),
        "{error}"
    );
}

#[test]
fn what_is_no_plugin_is_told_apart() {
    let module = wat::parse_str("(module)").unwrap();
    let bare = wat::parse_str("(component)").unwrap();
    let table: [(&[u8], &str); 6] = [
        (b"", "not a WebAssembly component"),
        (b"#!/bin/sh\nexit 0\n", "not a WebAssembly component"),
        (&HOST[..HOST.len() / 2], "not a WebAssembly component"),
        (&module, "it is a core module; build it for the target `wasm32-wasip2`"),
        (&bare, "has no manifest"),
        (&component("(component)", "name ="), "manifest cannot be used"),
    ];
    for (bytes, expected) in table {
        let error = refused(bytes);
        assert_eq!(error.code, "PLUGIN_INCOMPATIBLE");
        assert!(error.message.contains(expected), "{error}");
    }
    let twice = component(r#"(component (@custom "loom-plugin" "x"))"#, MANIFEST);
    assert!(refused(&twice).message.contains("more than one"));
}

#[test]
fn plugins_run_where_addresses_are_few() {
    let script =
        r#"ulimit -v 3000000 && exec "$0" --exact processes::the_host_shell_runs_a_step_as_documented"#;
    #[expect(clippy::disallowed_methods, reason = "this test again, under a limit")]
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn bytes_that_are_broken_in_any_way_are_an_error() {
    let runtime = Runtime::new(None).unwrap();
    // A section's length, a name, code: whatever is hit, nothing may panic, and most of it is refused.
    for at in (0..HOST.len()).step_by(HOST.len() / 24) {
        let mut bytes = HOST.to_vec();
        bytes[at] ^= 0xff;
        if let Err(error) = runtime.load_provider(&bytes, PluginConfig::default()) {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// A resolver whose start function waits for ever, where its first word says so, or runs for ever.
const SLEEPER: &str = r#"(component $c
    (import "loom:host/types@0.1.0" (instance $types
        (type $k (enum "denied" "not-found" "unavailable" "invalid" "timed-out" "cancelled" "conflict" "failed"))
        (export "error-kind" (type $kind (eq $k)))
        (type $e (record (field "kind" $kind) (field "code" string) (field "message" string)
            (field "hint" (option string))))
        (export "error" (type (eq $e)))))
    (alias export $types "error" (type $error))
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $p (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $p))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer $c $pollable (type $p))
        (export "pollable" (type $own (eq $p)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
    (core func $subscribe (canon lower (func $clock "subscribe-duration")))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core module $m
        (import "h" "subscribe" (func $subscribe (param i64) (result i32)))
        (import "h" "block" (func $block (param i32)))
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "open") (param i32 i32))
        (func (export "resolve") (param i32 i32) (result i32) (i32.const 8))
        (func $start
            (if (i32.const WAITS) (then (call $block (call $subscribe (i64.const 9000000000000000000)))))
            (loop $again (br $again)))
        (start $start))
    (core instance $i (instantiate $m (with "h" (instance
        (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
    (func $open (param "references" (list string))
        (canon lift (core func $i "open") (memory $i "memory") (realloc (func $i "realloc"))))
    (func $resolve (param "references" (list string)) (result (list (result (list u8) (error $error))))
        (canon lift (core func $i "resolve") (memory $i "memory") (realloc (func $i "realloc"))))
    (instance $out (export "open" (func $open)) (export "resolve" (func $resolve)))
    (export "loom:plugin/secret-resolver@0.1.0" (instance $out)))"#;

#[tokio::test]
async fn what_never_starts_is_stopped() {
    let manifest = r#"
name = "sleeper"
version = "0.3.0"
kind = "secret-resolver"
schemes = ["x"]
description = "Never starts"
loom = "0.1.0"
limits.cpu_ms = 300
"#;
    let table = [("1", " did not start within 5 s"), ("0", "used more than 300 ms of CPU time in one call")];
    for (waits, expected) in table {
        let bytes = component(&SLEEPER.replace("WAITS", waits), manifest);
        let resolver = Runtime::new(None).unwrap().load_resolver(&bytes, PluginConfig::default()).unwrap();
        let (_canceller, cancel) = loom_engine::cancel::channel();
        let error = resolver.resolve(&["x://y".to_owned()], cancel).await.unwrap_err();
        assert_eq!(error.code, "PLUGIN_TIMEOUT");
        assert!(error.message.starts_with("plugin `sleeper` 0.3.0 ("), "{error}");
        assert!(error.message.ends_with(expected), "{error}");
    }
}
