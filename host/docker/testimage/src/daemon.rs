//! A second daemon, for tests that do to it what nobody may do to the machine's own.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::request;

/// A daemon starts within this time on a loaded machine too.
const STARTING: Duration = Duration::from_secs(60);

/// A second daemon, which ends with this value. It has namespaces of its own, network above all: without a bridge, as
/// here, a daemon removes the one of the machine's first. All that it starts ends with it.
#[derive(Debug)]
pub struct Daemon {
    folder: PathBuf,
    disk_mib: Option<u32>,
    /// Of which the daemon is the only child, and with which it is killed.
    unshare: Child,
}

impl Daemon {
    /// Starts one whose files are in `folder`, which should be new; its images, containers and volumes on a disk of
    /// `disk_mib` MiB in memory, if that is given, which is gone when the daemon ends.
    ///
    /// # Errors
    /// No second daemon can be had here, in words.
    pub fn start(folder: &Path, disk_mib: Option<u32>) -> Result<Self, String> {
        let unshare = spawn(folder, disk_mib).map_err(|error| format!("`unshare` or `dockerd`: {error}"))?;
        let mut daemon = Self { folder: folder.to_owned(), disk_mib, unshare };
        daemon.wait()?;
        Ok(daemon)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// Its process.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> io::Result<u32> {
        let pid = self.unshare.id();
        let children = fs_err::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        children.trim().parse().map_err(io::Error::other)
    }

    /// Kills it, and everything that runs in it.
    pub fn kill(&mut self) {
        // That it is gone already is fine.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }

    /// Kills it, and starts it again with what its disk holds.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        for stale in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs_err::remove_file(self.folder.join(stale));
        }
        self.unshare = spawn(&self.folder, self.disk_mib).map_err(|error| error.to_string())?;
        self.wait()
    }

    fn wait(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let answer = request(&self.socket().to_string_lossy(), "GET", "/_ping", b"");
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            let ended = self.unshare.try_wait().is_ok_and(|status| status.is_some());
            if ended || begun.elapsed() > STARTING {
                let log = fs_err::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the second daemon does not answer: {log}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

#[expect(clippy::disallowed_methods, reason = "a program of the tests, not one that Loom runs")]
fn spawn(folder: &Path, disk_mib: Option<u32>) -> io::Result<Child> {
    let log = fs_err::File::create(folder.join("log"))?.into_parts().0;
    let data = folder.join("data");
    fs_err::create_dir_all(&data)?;
    let script = match disk_mib {
        Some(_) => "mount -t tmpfs -o size=$1m tmpfs \"$2\" && shift 2 && exec dockerd \"$@\"",
        None => "shift 2 && exec dockerd \"$@\"",
    };
    Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", script, "sh"])
        .arg(disk_mib.unwrap_or_default().to_string())
        .arg(&data)
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
        .arg(format!("--host=unix://{}", folder.join("docker.sock").display()))
        .arg(format!("--data-root={}", data.display()))
        .arg(format!("--exec-root={}", folder.join("exec").display()))
        .arg(format!("--pidfile={}", folder.join("pid").display()))
        // A stopped process in the group of the tests would have the kernel hang up on all of them.
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}
