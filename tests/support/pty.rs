use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal, seen from its window: what programs on it write can be read here. It is gone when this is
/// dropped.
pub struct Pty {
    window: File,
    path: PathBuf,
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
        Self { window: window.into(), path }
    }

    /// Puts `command` on it.
    pub fn attach(&self, command: &mut Command) {
        command.stdin(self.end()).stdout(self.end()).stderr(self.end()).env("TERM", "xterm-256color");
    }

    /// All that is written until no program is on it any more.
    pub fn read_to_end(mut self) -> Vec<u8> {
        let mut shown = Vec::new();
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

    /// Reads until `text` has been written.
    pub fn read_until(&mut self, text: &str) {
        let mut shown = Vec::new();
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&shown).contains(text) {
            let count = self.window.read(&mut buffer).unwrap();
            shown.extend_from_slice(&buffer[..count]);
        }
    }

    fn end(&self) -> Stdio {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let end: OwnedFd = rustix::fs::open(&self.path, flags, Mode::empty()).unwrap();
        end.into()
    }
}
