//! `loom:host/types`.

use loom_engine::output::OutputSink;
use wasmtime::component::Resource;

use crate::bindings::loom::host::types::{Error, ErrorKind, Host, HostOutputSink};
use crate::guest::Guest;

/// A sink that belongs to the call in which the guest got it.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Sink {
    output: OutputSink,
    call: u64,
}

impl Sink {
    pub(crate) fn new(output: OutputSink, call: u64) -> Self {
        Self { output, call }
    }

    /// The engine's sink, where its step is the one that runs: later nobody takes what is written, and who writes would
    /// wait for ever.
    pub(crate) fn open(&self, guest: &Guest) -> Result<OutputSink, Error> {
        if self.call == guest.call {
            Ok(self.output.clone())
        } else {
            Err(error(ErrorKind::Invalid, "SINK_CLOSED", "the step that the sink belongs to has ended"))
        }
    }
}

/// An error for the guest.
pub(crate) fn error(kind: ErrorKind, code: &str, message: impl Into<String>) -> Error {
    Error { kind, code: code.into(), message: message.into(), hint: None }
}

impl Host for Guest {}

impl HostOutputSink for Guest {
    async fn line(&mut self, sink: Resource<Sink>, text: String) -> wasmtime::Result<Result<(), Error>> {
        let output = match self.table.get(&sink)?.open(self) {
            Ok(output) => output,
            Err(error) => return Ok(Err(error)),
        };
        // It waits where too much output is on its way.
        tokio::task::spawn_blocking(move || output.line(&text)).await?;
        Ok(Ok(()))
    }

    fn drop(&mut self, sink: Resource<Sink>) -> wasmtime::Result<()> {
        self.table.delete(sink)?;
        Ok(())
    }
}
