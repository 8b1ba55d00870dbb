//! The start of a process: by `posix_spawn`, in a session of its own.
//!
//! A session that is new has no terminal, so a program that opens `/dev/tty` to ask for a password fails at once, where it
//! would otherwise be stopped for ever. The standard library starts no session without a fork, and a fork of this process
//! takes half a millisecond more, or several where its memory is large.
//!
//! A process has the limit of open files that Loom was started with, also where Loom has raised its own: programs that use
//! `select` break above 1024, and others close every file that they could have.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use rustix::process::Pid;

use crate::limits;

/// The program that does between fork and exec what `posix_spawn` cannot. It costs 0.7 ms.
const SHELL: &str = "/bin/sh";
/// Changes the folder, where no thread may have one of its own.
const CHANGE_FOLDER: &str = "cd -- \"$0\" && exec \"$@\"";
/// Gives back the limit of open files.
const LIMIT_FILES: &str = "ulimit -S -n \"$0\" && exec \"$@\"";

/// What a process leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// A session, and so a group in it.
    Session,
    /// A group in the session of Loom.
    Group,
}

/// What a process is made of, as the system takes it.
#[derive(Debug)]
pub(super) struct Image {
    program: CString,
    /// The first is the name by which the program is called.
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    /// The program at the absolute path `program`.
    ///
    /// # Errors
    /// Something holds a NUL byte.
    pub(super) fn new<'a>(
        program: &Path,
        args: impl IntoIterator<Item = &'a OsStr>,
        env: impl IntoIterator<Item = (&'a OsStr, &'a OsStr)>,
    ) -> io::Result<Self> {
        let variable = |(name, value): (&OsStr, &OsStr)| {
            let mut text = OsString::with_capacity(name.len() + value.len() + 1);
            text.extend([name, OsStr::new("="), value]);
            text_of(&text)
        };
        Ok(Self {
            program: text_of(program.as_os_str())?,
            args: args.into_iter().map(text_of).collect::<io::Result<_>>()?,
            env: env.into_iter().map(variable).collect::<io::Result<_>>()?,
        })
    }

    /// The same, started by a shell that runs `script` first, whose `$0`, `$1` and so on are `with` and then the program and
    /// its arguments.
    ///
    /// # Errors
    /// Something holds a NUL byte.
    pub(super) fn by_shell(&self, script: &str, with: &[&OsStr]) -> io::Result<Self> {
        let head = [OsStr::new(SHELL), OsStr::new("-c"), OsStr::new(script)];
        let mut args: Vec<_> =
            head.iter().chain(with).map(|word| text_of(word)).collect::<io::Result<_>>()?;
        // The program by the name that it was called by: the shell finds the same one, and it sees the same name.
        args.extend(self.args.iter().cloned());
        Ok(Self { program: text_of(OsStr::new(SHELL))?, args, env: self.env.clone() })
    }
}

fn text_of(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        let message = format!("`{}` holds a NUL byte", text.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    })
}

/// Starts `image` in `folder` with these standard streams. The calling thread is in `folder` from then on: it must be one of
/// its own.
///
/// # Errors
/// The program or the folder cannot be used.
pub(super) fn start_in(
    folder: &Path,
    image: &Image,
    streams: &[OwnedFd; 3],
    leads: Leads,
) -> io::Result<Pid> {
    let limited = match limits::files_of_children() {
        Some(limit) => Some(image.by_shell(LIMIT_FILES, &[OsStr::new(&limit.to_string())])?),
        None => None,
    };
    let image = limited.as_ref().unwrap_or(image);
    // What a process is born into is the folder of the thread that makes it; threads share one until they say otherwise.
    if unshare(CloneFlags::CLONE_FS).is_ok() {
        rustix::process::chdir(folder)?;
        return start(image, streams, leads);
    }
    // Containers may forbid it.
    rustix::fs::access(folder, rustix::fs::Access::EXEC_OK)?;
    start(&image.by_shell(CHANGE_FOLDER, &[folder.as_os_str()])?, streams, leads)
}

/// Starts `image` with these standard streams, in the folder of the calling thread and with the limits of this process.
///
/// # Errors
/// The program cannot be used.
pub(super) fn start(image: &Image, streams: &[OwnedFd; 3], leads: Leads) -> io::Result<Pid> {
    let mut attributes = PosixSpawnAttr::init()?;
    let place = match leads {
        // `nix` has no name for it, and takes it.
        Leads::Session => PosixSpawnFlags::from_bits_retain(nix::libc::POSIX_SPAWN_SETSID.into()),
        Leads::Group => {
            attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
        }
    };
    let signals = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    attributes.set_flags(place | signals)?;
    attributes.set_sigdefault(&SigSet::all())?;
    attributes.set_sigmask(&SigSet::empty())?;
    let mut actions = PosixSpawnFileActions::init()?;
    for (stream, number) in streams.iter().zip(0..) {
        actions.add_dup2(stream.as_raw_fd(), number)?;
    }
    let pid = posix_spawn(image.program.as_c_str(), &actions, &attributes, &image.args, &image.env)?;
    Pid::from_raw(pid.as_raw()).ok_or_else(|| io::ErrorKind::Other.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::PathBuf;

    use super::*;

    /// What `sh -c script` prints when it is started by `how`.
    fn printed(script: &str, how: impl FnOnce(&Image, &[OwnedFd; 3]) -> io::Result<Pid> + Send) -> String {
        let _no_sweep = super::super::sweep::tests::SWEEP.read();
        let args = ["sh", "-c", script].map(OsStr::new);
        let image = Image::new(Path::new("/bin/sh"), args, [(OsStr::new("A"), OsStr::new("a b"))]).unwrap();
        let (mut from, to) = io::pipe().unwrap();
        let null = || OwnedFd::from(fs_err::File::open("/dev/null").unwrap().into_parts().0);
        let streams = [null(), to.into(), null()];
        // A thread of its own, whose folder changes.
        let pid = std::thread::scope(|scope| scope.spawn(|| how(&image, &streams)).join().unwrap()).unwrap();
        drop(streams);
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), rustix::process::WaitIdOptions::EXITED)
            .unwrap();
        text
    }

    const SHOWS: &str = "pwd; echo \"$A\"; cut -d' ' -f1,5,6 /proc/self/stat; echo $$";

    fn is_as_asked(text: &str, folder: &Path) {
        let lines: Vec<&str> = text.lines().collect();
        let [pwd, variable, stat, shell] = lines[..] else { panic!("{text}") };
        assert_eq!(Path::new(pwd), folder);
        assert_eq!(variable, "a b");
        // The group and the session are the shell's own.
        let numbers: Vec<&str> = stat.split(' ').skip(1).collect();
        assert_eq!(numbers, [shell, shell]);
    }

    fn odd_folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("loom start -'\"$ {}", std::process::id()));
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::canonicalize(folder).unwrap()
    }

    #[test]
    fn a_process_leads_a_session_in_its_folder_and_this_process_stays_in_its_own() {
        let before = std::env::current_dir().unwrap();
        let folder = odd_folder();
        is_as_asked(
            &printed(SHOWS, |image, streams| start_in(&folder, image, streams, Leads::Session)),
            &folder,
        );
        assert_eq!(std::env::current_dir().unwrap(), before);
    }

    #[test]
    fn where_no_thread_may_have_its_own_folder_a_shell_goes_there() {
        let folder = odd_folder();
        let text = printed(SHOWS, |image, streams| {
            start(&image.by_shell(CHANGE_FOLDER, &[folder.as_os_str()])?, streams, Leads::Session)
        });
        is_as_asked(&text, &folder);
    }

    #[test]
    fn a_process_has_no_signal_ignored_or_blocked() {
        let text = printed("grep -E '^Sig(Blk|Ign)' /proc/self/status", |image, streams| {
            start(image, streams, Leads::Session)
        });
        let sets: Vec<u64> = text
            .lines()
            .map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap())
            .collect();
        // The C library keeps two for itself: 32 and 33.
        assert_eq!(sets.iter().map(|set| set & !(0b11 << 31)).collect::<Vec<_>>(), [0, 0], "{text}");
    }

    #[test]
    fn what_cannot_be_started_is_an_error() {
        let null = || OwnedFd::from(fs_err::File::open("/dev/null").unwrap().into_parts().0);
        let streams = [null(), null(), null()];
        let image = |program: &str| Image::new(Path::new(program), [OsStr::new("x")], []).unwrap();
        let error = start(&image("/nowhere/x"), &streams, Leads::Session).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let in_folder = |folder: &'static str| {
            let streams = [null(), null(), null()];
            let image = image("/bin/true");
            std::thread::spawn(move || start_in(Path::new(folder), &image, &streams, Leads::Session))
                .join()
                .unwrap()
        };
        assert_eq!(in_folder("/nowhere").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Image::new(Path::new("/bin/true"), [OsStr::new("a\0b")], []).is_err());
    }
}
