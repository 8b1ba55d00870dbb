//! The threads that a run works with, and what it does where the system has few of them.

use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::Duration;

use loom_contract::error::{ErrorInfo, code};
use loom_engine::limits;
use tokio::runtime::{Builder, Runtime};

/// Threads that wait for plugins, processes and the Docker daemon: more do not make a run faster.
const MOST_WORKERS: usize = 8;
/// Threads for what blocks that are there from the start. Where the system has no more later on, work waits for these; were
/// there none, it would wait for ever.
const BLOCKING: usize = 4;
/// Threads beside workers, and those that copy files: for what blocks, the record, the terminal, plugins' clock, a process
/// or two.
const OTHERS: usize = BLOCKING + 8;
/// Threads of each kind where there are not enough for all.
const FEW: usize = 2;
/// Open files without which nothing begins.
const LEAST_FILES: u64 = 32;
/// Bytes that Loom maps, mostly without using them: itself, the stacks and heaps of its threads, and plugins.
const LEAST_ADDRESS_SPACE: u64 = 1 << 30;
/// How long the first threads have until they run.
const STARTED: Duration = Duration::from_secs(30);

/// Starts the runtime that a run works on.
///
/// # Errors
/// The system does not let Loom have enough threads, open files or memory.
pub(super) fn start() -> Result<Runtime, ErrorInfo> {
    if let Some(files) = limits::open_files().filter(|files| *files < LEAST_FILES) {
        let message = format!("{files} files may be open at once, and Loom needs {LEAST_FILES}");
        let hint = "raise the limit of open files (`ulimit -n`)";
        return Err(ErrorInfo::new(code::SYSTEM_LIMIT, message).with_hint(hint));
    }
    let limited = limits::address_space();
    if limited.is_some_and(|bytes| bytes < LEAST_ADDRESS_SPACE) {
        let message = format!(
            "memory is limited to {} MiB of addresses, and Loom needs {}",
            limited.unwrap_or_default() >> 20,
            LEAST_ADDRESS_SPACE >> 20
        );
        return Err(ErrorInfo::new(code::SYSTEM_LIMIT, message).with_hint("raise the limit (`ulimit -v`)"));
    }
    let processors = std::thread::available_parallelism().map_or(FEW, NonZeroUsize::get);
    let mut workers = processors.min(MOST_WORKERS);
    let mut copiers = processors;
    // Where addresses are few they are not spent on an attempt.
    if limited.is_some() || limits::try_threads(workers + processors + OTHERS).is_err() {
        workers = workers.min(FEW);
        if limited.is_none() {
            limits::try_threads(FEW + FEW + OTHERS).map_err(|error| no_threads(&error))?;
        }
        copiers = FEW;
    }
    // Its first use would start these threads too, but panic where the system does not let it.
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(copiers).build_global()
        && let Some(cause) = std::error::Error::source(&error)
    {
        return Err(no_threads(&cause));
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).thread_keep_alive(Duration::from_secs(24 * 60 * 60));
    let runtime = builder.enable_all().build().map_err(|error| no_threads(&error))?;
    start_blocking(&runtime)?;
    Ok(runtime)
}

/// Starts the threads for what blocks.
fn start_blocking(runtime: &Runtime) -> Result<(), ErrorInfo> {
    let (started, are_started) = mpsc::channel();
    let mut ends = Vec::new();
    for _ in 0..BLOCKING {
        let (end, over) = mpsc::channel::<()>();
        ends.push(end);
        let started = started.clone();
        drop(runtime.spawn_blocking(move || {
            // Whoever asked is gone only where it has given up.
            let _ = started.send(());
            // Nothing is ever sent: it waits for the end, so that each of these has a thread.
            let _ = over.recv();
        }));
    }
    for _ in 0..BLOCKING {
        are_started.recv_timeout(STARTED).map_err(|error| no_threads(&std::io::Error::other(error)))?;
    }
    Ok(())
}

fn no_threads(error: &dyn std::fmt::Display) -> ErrorInfo {
    let message =
        format!("cannot start the {} threads that Loom needs at least: {error}", FEW + FEW + OTHERS);
    ErrorInfo::new(code::SYSTEM_LIMIT, message).with_hint(
        "raise the limit of processes (`ulimit -u`, or that of the container) or of memory (`ulimit -v`)",
    )
}
