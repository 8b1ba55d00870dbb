//! What a plugin may use up, and the errors that end it when it does.

use wasmtime::ResourceLimiter;

/// Bytes that one call of the guest may hand to the host.
pub(crate) const CALL_BYTES: usize = 8 << 20;
/// Things of the host, such as processes and sinks, that a guest may hold at once.
pub(crate) const HANDLES: usize = 1000;
/// Processes that a plugin started for one job and that run at once.
pub(crate) const PROCESSES: usize = 100;
/// Elements of all tables of a guest.
const TABLE_ELEMENTS: usize = 1 << 20;

/// A limit that a guest reached. Raised as a trap, which the guest cannot catch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Limit {
    #[error("it used more than {ms} ms of CPU time in one call")]
    Cpu { ms: u32 },
    #[error("it asked for {asked_mib} MiB of memory; it may have {limit_mib} MiB")]
    Memory { asked_mib: usize, limit_mib: usize },
    #[error("its tables would have more than {TABLE_ELEMENTS} elements")]
    Tables,
    #[error("it {0}")]
    Flood(String),
}

/// Counts a guest's memory.
pub(crate) struct Memory {
    limit: usize,
    /// Bytes of all its memories.
    used: usize,
    tables: usize,
}

impl Memory {
    pub(crate) fn new(limit_mib: u32) -> Self {
        Self { limit: (limit_mib as usize) << 20, used: 0, tables: 0 }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_sub(current).saturating_add(desired);
        if used > self.limit {
            return Err(
                Limit::Memory { asked_mib: used.div_ceil(1 << 20), limit_mib: self.limit >> 20 }.into()
            );
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.tables.saturating_sub(current).saturating_add(desired);
        if elements > TABLE_ELEMENTS {
            return Err(Limit::Tables.into());
        }
        self.tables = elements;
        Ok(true)
    }
}

/// How often a guest may do what costs the host memory or disk, per job.
#[derive(Default)]
pub(crate) struct Flood {
    logs: Count,
    messages: Count,
}

/// How many bytes a guest may print.
#[derive(Debug, Default)]
pub(crate) struct PrintCount(Count);

impl PrintCount {
    /// A piece of standard output or standard error.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Limit> {
        self.0.add(bytes, 1_000_000, 64 << 20, "pieces of printed text")
    }
}

#[derive(Debug, Default)]
struct Count {
    calls: usize,
    bytes: usize,
}

impl Flood {
    /// A line for the log.
    pub(crate) fn log(&mut self, bytes: usize) -> Result<(), Limit> {
        self.logs.add(bytes, 100_000, 64 << 20, "log lines")
    }

    /// A message for the record.
    pub(crate) fn message(&mut self, bytes: usize) -> Result<(), Limit> {
        self.messages.add(bytes, 10_000, 16 << 20, "messages")
    }
}

impl Count {
    fn add(&mut self, bytes: usize, calls_limit: usize, bytes_limit: usize, what: &str) -> Result<(), Limit> {
        self.calls += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.calls > calls_limit {
            return Err(Limit::Flood(format!("sent more than {calls_limit} {what} in one job")));
        }
        if self.bytes > bytes_limit {
            return Err(Limit::Flood(format!(
                "sent more than {} MiB of {what} in one job",
                bytes_limit >> 20
            )));
        }
        Ok(())
    }
}
