//! The two ends of the terminal: words for people on stderr, what a command was asked to print on stdout.

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anstream::ColorChoice;

use crate::args::Color;

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

    /// Writes `text`, whole lines, to stderr. A reader that has gone away does not end a run.
    pub(crate) fn say(self, text: &str) {
        match QUEUE.get() {
            Some(queue) => send(queue, (self, text.to_owned())),
            None => self.write(text),
        }
    }

    fn write(self, text: &str) {
        let choice = if self.color { ColorChoice::AlwaysAnsi } else { ColorChoice::Never };
        let _ = anstream::AutoStream::new(std::io::stderr().lock(), choice).write_all(text.as_bytes());
    }
}

/// What is said on its way to the thread that writes it.
static QUEUE: OnceLock<SyncSender<(Terminal, String)>> = OnceLock::new();
/// How much has been said and not been written.
static PENDING: AtomicUsize = AtomicUsize::new(0);
/// Whether a reader that does not read is no longer waited for.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);
/// What may wait for a slow reader before a run waits with it.
const WAITING: usize = 256;
/// How long a slow reader still gets for the last words of a run that was cancelled.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// From now on a thread writes what is said: a reader that does not read may slow a run, but never keeps it from being
/// cancelled.
pub(crate) fn detach() {
    let (queue, said) = sync_channel::<(Terminal, String)>(WAITING);
    let writer = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || {
        for (terminal, text) in said {
            terminal.write(&text);
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

fn send(queue: &SyncSender<(Terminal, String)>, said: (Terminal, String)) {
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

/// Writes what a command was asked for to stdout. Says whether it got there.
pub(crate) fn print(text: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}
