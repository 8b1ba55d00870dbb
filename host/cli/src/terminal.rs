//! The two ends of the terminal: words for people on stderr, what a command was asked to print on stdout.
//! Nothing else writes to either, and both take safe [`Text`] alone.

#![expect(clippy::disallowed_methods, reason = "this is the module that writes to the terminal")]

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anstream::ColorChoice;
use loom_contract::error::ErrorInfo;
use loom_contract::visible::escaped_json;
use loom_engine::redact::Redactor;
use serde::Serialize;

use crate::args::Color;
use crate::files::NOT_WRITTEN;
use crate::text::Text;

/// How to speak to the user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Whether stderr shows colour.
    pub(crate) color: bool,
    /// Whether stderr is a terminal.
    pub(crate) interactive: bool,
}

impl Terminal {
    pub(crate) fn new(color: Color) -> Self {
        let interactive = std::io::stderr().is_terminal();
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
        };
        Self { color, interactive }
    }

    /// The columns that lines of Loom's own are fitted into: those of the terminal, or as many as a log is read with.
    pub(crate) fn width(self) -> usize {
        const OF_A_LOG: usize = 120;
        let size = self.interactive.then(|| console::Term::stderr().size_checked()).flatten();
        size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(OF_A_LOG)
    }

    /// Writes `text`, whole lines, to stderr. A reader that has gone away does not end a run.
    pub(crate) fn say(self, text: impl Into<Text>) {
        let text = text.into().render(self.color);
        match QUEUE.get() {
            Some(queue) => send(queue, text),
            None => write(&text),
        }
    }
}

fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes log lines to stderr, each as safe as any other text.
pub(crate) struct Log(pub(crate) Terminal);

impl std::io::Write for Log {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        let masked = LOG_MASK.get().map_or(lines.into(), |redactor| redactor.bytes(lines));
        self.0.say(String::from_utf8_lossy(&masked));
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What masks the log from when a run may know secrets on.
static LOG_MASK: OnceLock<Redactor> = OnceLock::new();

/// The log is masked by `redactor` from now on.
pub(crate) fn mask_log(redactor: &Redactor) {
    // A process has one run, or two that share theirs.
    let _ = LOG_MASK.set(redactor.clone());
}

/// Says that this program has a bug. Where that ends the command, the process ends here: what else it has begun could keep
/// it from ending at all. What a run leaves is ended by its guard.
pub(crate) fn panicked(panic: &PanicHookInfo<'_>) {
    let what = panic.payload_as_str().unwrap_or("something that cannot be told");
    let place = panic.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
    let said =
        format!("loom: internal error: {what}{place}\nhint: this is a bug in Loom; please report it\n");
    let masked = LOG_MASK.get().map_or_else(|| said.as_bytes().into(), |mask| mask.bytes(said.as_bytes()));
    Terminal::new(Color::Never).say(String::from_utf8_lossy(&masked));
    if std::thread::current().name() == Some("main") {
        drain();
        std::process::exit(PANICKED);
    }
}

/// The exit code of a Rust program that panics.
const PANICKED: i32 = 101;

/// What is said on its way to the thread that writes it.
static QUEUE: OnceLock<SyncSender<String>> = OnceLock::new();
/// How much has been said and not been written.
static PENDING: AtomicUsize = AtomicUsize::new(0);
/// Whether a reader that does not read is no longer waited for.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
/// What may wait for a slow reader before a run waits with it.
const WAITING: usize = 256;
/// How long a slow reader still gets for the last words of a run that was cancelled.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// From now on a thread writes what is said: a reader that does not read may slow a run, but never keeps it
/// from being cancelled.
pub(crate) fn detach() {
    let (queue, said) = sync_channel::<String>(WAITING);
    let writer = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        for text in said {
            write(&text);
            PENDING.fetch_sub(1, Ordering::Release);
        }
    });
    if writer.is_ok() {
        // Set once: a second call leaves the first thread in place.
        let _ = QUEUE.set(queue);
    }
}

/// A reader that does not read is not waited for any more.
pub(crate) fn give_up() {
    GIVEN_UP.store(true, Ordering::Relaxed);
}

/// Waits until all that was said is written.
pub(crate) fn drain() {
    let mut given_up_at = None;
    while PENDING.load(Ordering::Acquire) > 0 {
        if GIVEN_UP.load(Ordering::Relaxed)
            && given_up_at.get_or_insert_with(Instant::now).elapsed() > LAST_WORDS
        {
            return;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn send(queue: &SyncSender<String>, said: String) {
    PENDING.fetch_add(1, Ordering::Relaxed);
    let mut said = said;
    loop {
        match queue.try_send(said) {
            Ok(()) => return,
            Err(TrySendError::Full(back)) if !GIVEN_UP.load(Ordering::Relaxed) => said = back,
            Err(_) => {
                PENDING.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes what a command was asked for to stdout.
///
/// # Errors
/// It cannot be written. A reader that stops reading early (`| head`), or a terminal that goes away, has what it wanted.
pub(crate) fn print(text: impl Into<Text>) -> Result<(), ErrorInfo> {
    print_raw(&text.into().render(false))
}

/// `value` as a JSON text of whole lines.
pub(crate) fn json(value: &impl Serialize) -> String {
    // The keys of what is printed are texts: serialising cannot fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Writes `value` to stdout as JSON. On a terminal, what is hidden in its texts is escaped: the same data.
///
/// # Errors
/// As for [`print()`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), ErrorInfo> {
    let json = json(value);
    match std::io::stdout().is_terminal() {
        true => print_raw(&escaped_json(&json)),
        false => print_raw(&json),
    }
}

/// Shows what the reader of the command line has to say: help on stdout, what is wrong with it on stderr.
pub(crate) fn show_usage(usage: &clap::Error) {
    let mut text = Text::default();
    text.coloured(&usage.render().ansi().to_string());
    if usage.use_stderr() {
        Terminal::new(Color::Auto).say(text);
        return;
    }
    let color = anstream::AutoStream::choice(&std::io::stdout()) != ColorChoice::Never;
    // Nobody can be told.
    let _ = print_raw(&text.render(color));
}

fn print_raw(text: &str) -> Result<(), ErrorInfo> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if !has_gone(&error) => {
            Err(ErrorInfo::new(NOT_WRITTEN, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether who was to read is not there any more.
fn has_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::BrokenPipe
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
