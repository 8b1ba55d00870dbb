//! What a guest prints: masked, into the log.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use loom_engine::redact;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::limits::{Limit, PrintCount};

/// Bytes of a guest's last words that are kept.
const TAIL: usize = 4096;

/// Standard output and standard error of a guest: masked, into the log; the end is kept, since where the guest panics, that
/// is the text of the panic.
#[derive(Clone)]
pub(crate) struct Printed(Arc<Mutex<Prints>>);

struct Prints {
    plugin: String,
    /// None where nobody may see what it prints.
    redact: Option<redact::Stream>,
    tail: VecDeque<u8>,
    count: PrintCount,
}

impl Printed {
    pub(crate) fn new(plugin: &str, redact: Option<redact::Stream>) -> Self {
        let (tail, count) = (VecDeque::new(), PrintCount::default());
        Self(Arc::new(Mutex::new(Prints { plugin: plugin.to_owned(), redact, tail, count })))
    }

    fn take(&self, bytes: &[u8]) -> Result<(), Limit> {
        let mut prints = self.0.lock();
        prints.count.add(bytes.len())?;
        let Prints { plugin, redact, tail, .. } = &mut *prints;
        if let Some(redact) = redact {
            redact.push(bytes, &mut |shown| keep(plugin, tail, shown));
        }
        Ok(())
    }

    /// The end of it as text, without the advice to set a variable that a plugin does not have.
    pub(crate) fn text(&self) -> String {
        let mut prints = self.0.lock();
        let Prints { plugin, redact, tail, .. } = &mut *prints;
        if let Some(redact) = redact {
            redact.end(&mut |shown| keep(plugin, tail, shown));
        }
        let text = String::from_utf8_lossy(tail.make_contiguous()).into_owned();
        let lines: Vec<&str> =
            text.lines().filter(|l| !l.starts_with("note: run with `RUST_BACKTRACE=")).collect();
        lines.join("\n").trim().to_owned()
    }
}

fn keep(plugin: &str, tail: &mut VecDeque<u8>, shown: &[u8]) {
    tail.extend(&shown[shown.len().saturating_sub(TAIL)..]);
    let excess = tail.len().saturating_sub(TAIL);
    tail.drain(..excess);
    tracing::debug!(plugin, "printed: {}", String::from_utf8_lossy(shown).trim_end());
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes).map_err(|limit| StreamError::Trap(limit.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.take(bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
