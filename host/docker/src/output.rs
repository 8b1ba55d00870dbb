//! What processes in containers print, as the daemon sends it.

use std::fmt;
use std::pin::Pin;

use bollard::container::LogOutput;
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::{Docker, Error};

/// Which output a process has written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes that a process has written, as many as came at once: lines may be cut anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where to.
    pub stream: Stream,
    /// What.
    pub bytes: Bytes,
}

/// Whether output is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Until the container ends.
    Yes,
    /// Only what is there.
    No,
}

/// Output as it comes. Nothing is read ahead of who takes it, but for what is in the buffers of sockets and pipes.
pub struct Output {
    docker: Docker,
    doing: String,
    chunks: Chunks,
}

/// From bollard.
pub(crate) type Chunks =
    Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

impl Output {
    /// That which `chunks` brings from `docker`, of which errors say that it cannot do what `doing` says.
    pub(crate) fn new(docker: Docker, doing: String, chunks: Chunks) -> Self {
        Self { docker, doing, chunks }
    }

    /// The next bytes, or nothing after the last.
    ///
    /// # Errors
    /// The daemon went away, or does not keep the output.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        match self.docker.watch(&self.doing, self.chunks.next()).await? {
            Some(Ok(output)) => Ok(Some(chunk(output))),
            Some(Err(error)) => Err(Error::of(self.doing.clone(), error)),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("hint", &self.chunks.size_hint()).finish_non_exhaustive()
    }
}

pub(crate) fn chunk(output: LogOutput) -> Chunk {
    match output {
        LogOutput::StdErr { message } => Chunk { stream: Stream::Stderr, bytes: message },
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Chunk { stream: Stream::Stdout, bytes: message }
        }
    }
}
