//! `loom mask`: what a step of a job has learnt is masked in what Loom records from then on.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use loom_contract::error::ErrorInfo;
use loom_contract::exit;
use loom_engine::mask::{LONGEST, VARIABLE, line_of};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::command::Done;
use crate::terminal::Terminal;
use crate::{failure, settings};

/// The stable code of values that could not be handed over.
const NOT_MASKED: &str = "NOT_MASKED";

pub(crate) fn mask(whole: bool, terminal: Terminal) -> Done {
    let Some(file) = settings::mask_file() else {
        let message = format!("{VARIABLE} is not set, so this is no step of a job");
        let error = ErrorInfo::new(NOT_MASKED, message)
            .with_hint("use it in a `script` that `loom run` runs, as in `get-token | loom mask`");
        terminal.say(failure::told("mask", &error));
        return Ok(exit::USAGE);
    };
    // Opened before anything is read: who types values is told at once that they go nowhere.
    let done = open(&file).and_then(|mut file| {
        let lines = lines(read()?, whole)?;
        // At once, so that those of two writers do not mix.
        file.write_all(&lines)
    });
    done.map(|()| exit::SUCCESS)
        .map_err(|cause| ErrorInfo::new(NOT_MASKED, format!("nothing is masked: {cause}")))
}

/// What standard input says.
fn read() -> io::Result<Zeroizing<Vec<u8>>> {
    let mut values = Zeroizing::new(Vec::new());
    io::stdin().lock().take(LONGEST as u64 + 1).read_to_end(&mut values)?;
    if values.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "standard input has more than 1 MiB"));
    }
    Ok(values)
}

/// `values` as lines of the file.
fn lines(values: Zeroizing<Vec<u8>>, whole: bool) -> io::Result<Zeroizing<Vec<u8>>> {
    // A line before them may have no end.
    let mut lines = Zeroizing::new(b"\n".to_vec());
    if whole {
        let value = str::from_utf8(&values).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "standard input is not UTF-8, which --whole needs")
        })?;
        lines.extend_from_slice(Zeroizing::new(line_of(value)).as_bytes());
    } else {
        lines.extend_from_slice(&values);
    }
    lines.push(b'\n');
    Ok(lines)
}

/// Opens the file at `path` to add to it. It is made by nobody but Loom.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    fs::OpenOptions::new().append(true).custom_flags(flags).open(path)
}
