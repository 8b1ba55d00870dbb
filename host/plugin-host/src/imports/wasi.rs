//! The parts of WASI 0.2 that standard libraries need to start. No files, no sockets, an empty environment.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, random};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiCtx, WasiView as _};
use wasmtime_wasi_io::bindings::wasi::io as wasi_io;

use crate::guest::Guest;
use crate::limits::{Limit, Prints};

/// Bytes of a guest's last words that are kept.
const TAIL: usize = 4096;
/// Bytes that a guest may ask for at once from the source of randomness.
const RANDOM: u64 = 64 * 1024;

pub(crate) fn context(plugin: &str, printed: &Printed) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder.max_random_size(RANDOM);
    let stdio = Stdio { plugin: plugin.to_owned(), printed: printed.clone(), prints: Arc::default() };
    builder.stdout(stdio.clone()).stderr(stdio);
    builder.build()
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

pub(crate) fn link(l: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasi_io::error::add_to_linker::<Guest, HasTable>(l, |guest| &mut guest.table)?;
    wasi_io::poll::add_to_linker::<Guest, HasTable>(l, |guest| &mut guest.table)?;
    wasi_io::streams::add_to_linker::<Guest, HasTable>(l, |guest| &mut guest.table)?;
    clocks::wall_clock::add_to_linker::<Guest, WasiClocks>(l, Guest::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Guest, WasiClocks>(l, Guest::clocks)?;
    random::random::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.ctx().ctx.random())?;
    random::insecure::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.ctx().ctx.random())?;
    cli::environment::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    Ok(())
}

/// The last that a guest printed: where it panics, the text of the panic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<VecDeque<u8>>>);

impl Printed {
    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
    }

    /// As text, without the advice to set a variable that a plugin does not have.
    pub(crate) fn text(&self) -> String {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(tail.make_contiguous()).into_owned();
        let lines: Vec<&str> =
            text.lines().filter(|l| !l.starts_with("note: run with `RUST_BACKTRACE=")).collect();
        lines.join("\n").trim().to_owned()
    }
}

/// Standard output or standard error of a guest: into the log, its end kept.
#[derive(Clone)]
struct Stdio {
    plugin: String,
    printed: Printed,
    prints: Arc<Mutex<Prints>>,
}

impl Stdio {
    fn take(&self, bytes: &[u8]) -> Result<(), Limit> {
        self.prints.lock().unwrap_or_else(PoisonError::into_inner).add(bytes.len())?;
        self.printed.push(bytes);
        tracing::debug!(plugin = self.plugin, "printed: {}", String::from_utf8_lossy(bytes).trim_end());
        Ok(())
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Stdio {
    async fn ready(&mut self) {}
}

impl OutputStream for Stdio {
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

impl AsyncWrite for Stdio {
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
