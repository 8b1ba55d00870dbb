//! What all interfaces share: `loom:host/types` as Rust, and how a function of the host fails.

use std::io;

use loom_engine::output::OutputSink;
use wasmtime::component::ResourceTableError;

pub(crate) use wit::{Error, ErrorKind, Exit, Level};

/// `loom:host/types` as the bindings of the other interfaces name it.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub mod wit {
    use super::Failure;
    pub use super::bindings::loom::host::types::{Error, ErrorKind, Exit, Level, OutputSink};

    /// What generated bindings ask of each view, so that its functions may return a [`Failure`].
    pub trait Host {
        /// The error for the guest, or the trap that ends it.
        fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<Error>;
    }

    impl<V: ?Sized> Host for V {
        fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<Error> {
            failure.for_guest()
        }
    }
}

/// Generated from the interface file.
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/types@0.1.0;",
        imports: {
            "loom:host/types.[method]output-sink.line": async | trappable,
            default: trappable,
        },
        with: { "loom:host/types.output-sink": crate::types::Sink },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// Why a function does not return what the guest asked it for.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings name it in public traits")]
pub enum Failure {
    /// The guest is told.
    Error(Error),
    /// The guest is ended.
    Trap(wasmtime::Error),
}

impl Failure {
    /// The error for the guest, or the trap that ends it.
    pub(crate) fn for_guest(self) -> wasmtime::Result<Error> {
        match self {
            Self::Error(error) => Ok(error),
            Self::Trap(trap) => Err(trap),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(trap: wasmtime::Error) -> Self {
        Self::Trap(trap)
    }
}

/// A handle that the guest does not have, or one too many.
impl From<ResourceTableError> for Failure {
    fn from(cause: ResourceTableError) -> Self {
        Self::Trap(cause.into())
    }
}

/// A panic of the host.
impl From<tokio::task::JoinError> for Failure {
    fn from(cause: tokio::task::JoinError) -> Self {
        Self::Trap(cause.into())
    }
}

/// An error for the guest.
pub(crate) fn error(kind: ErrorKind, code: &str, message: impl Into<String>) -> Error {
    Error { kind, code: code.into(), message: message.into(), hint: None }
}

/// A file that cannot be used.
impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        let kind = match cause.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Unavailable,
        };
        error(kind, "FILE", cause.to_string())
    }
}

/// A sink that belongs to the call in which the guest got it.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Sink {
    output: OutputSink,
    call: u64,
}

impl Sink {
    pub(crate) fn new(output: OutputSink, call: u64) -> Self {
        Self { output, call }
    }

    /// The engine's sink, where the call that it belongs to is `call`, the one that runs: later nobody takes what is
    /// written, and who writes would wait for ever.
    pub(crate) fn open(&self, call: u64) -> Result<OutputSink, Error> {
        if self.call == call {
            Ok(self.output.clone())
        } else {
            Err(error(ErrorKind::Invalid, "SINK_CLOSED", "the step that the sink belongs to has ended"))
        }
    }
}
