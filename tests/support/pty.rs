use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use loom_deadlines::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// A terminal, seen from its window: what programs on it write can be read here. It is gone when this is
/// dropped.
pub struct Pty {
    window: File,
    path: PathBuf,
    /// What was read behind what was waited for.
    rest: Vec<u8>,
}

impl Pty {
    /// The columns of a terminal for which nothing else is said.
    pub const COLUMNS: u16 = 200;

    /// A terminal of 30 rows and 200 columns.
    #[expect(clippy::new_without_default, reason = "it opens a device")]
    pub fn new() -> Self {
        Self::of(Self::COLUMNS)
    }

    /// A terminal of 30 rows and `columns` columns.
    pub fn of(columns: u16) -> Self {
        let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&window).unwrap();
        unlockpt(&window).unwrap();
        let name = ptsname(&window, Vec::new()).unwrap();
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let size = Winsize { ws_row: 30, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&window, size).unwrap();
        Self { window: window.into(), path, rest: Vec::new() }
    }

    /// Puts `command` on it.
    pub fn attach(&self, command: &mut Command) {
        command.stdin(self.end()).stdout(self.end()).stderr(self.end()).env("TERM", "xterm-256color");
    }

    /// All that is written until no program is on it any more.
    pub fn read_to_end(mut self) -> Vec<u8> {
        let mut shown = self.rest;
        let mut buffer = [0; 4096];
        // The last program's end is told as an error.
        while let Ok(count) = self.window.read(&mut buffer) {
            if count == 0 {
                break;
            }
            shown.extend_from_slice(&buffer[..count]);
        }
        shown
    }

    /// Reads until `text` has been written, which must come within [`PATIENCE`]. Returns all that was written, up to its end.
    pub fn read_until(&mut self, text: &str) -> String {
        let shown = self.read_within(PATIENCE, text);
        shown.unwrap_or_else(|| {
            panic!("`{text}` was not written, but {}", String::from_utf8_lossy(&self.rest))
        })
    }

    /// Reads until `text` has been written. Returns all that was written, up to its end, or none where it did not come
    /// within `time`: then that can still be read.
    pub fn read_within(&mut self, time: Duration, text: &str) -> Option<String> {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + time;
        loop {
            if let Some(at) = self.rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                let rest = self.rest.split_off(at + text.len());
                return Some(String::from_utf8_lossy(&std::mem::replace(&mut self.rest, rest)).into_owned());
            }
            let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
            if poll(&mut [PollFd::new(&self.window, PollFlags::IN)], Some(&left)).unwrap() == 0 {
                return None;
            }
            match self.window.read(&mut buffer) {
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    panic!("`{text}` was not written ({error}), but {}", String::from_utf8_lossy(&self.rest))
                }
            }
        }
    }

    /// Makes it as large as that; who is on it is told.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.window, size).unwrap();
    }

    /// Types `text`.
    pub fn type_in(&mut self, text: &str) {
        self.window.write_all(text.as_bytes()).unwrap();
    }

    /// Whether what is typed is shown, line by line.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.window).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    fn end(&self) -> Stdio {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end: OwnedFd = rustix::fs::open(&self.path, flags, Mode::empty()).unwrap();
        end.into()
    }
}
