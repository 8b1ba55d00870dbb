//! A second daemon, for tests that do to it what nobody may do to the machine's own.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{BUSYBOX, request};

/// A daemon starts within this time on a loaded machine too.
const STARTING: Duration = Duration::from_secs(60);

/// What a second daemon is to be.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// MiB of a disk in memory for its images, containers and volumes, which is gone when the daemon ends.
    pub disk_mib: Option<u32>,
    /// The port of `127.0.0.1`, in the daemon's own network, where it listens too.
    pub port: Option<u16>,
    /// The folder with the files of [`Authority::write_daemon`](crate::Authority::write_daemon): there, both sides show a
    /// certificate.
    pub certificates: Option<PathBuf>,
}

/// A second daemon, which ends with this value. It has namespaces of its own, network above all: without a bridge, as
/// here, a daemon removes the one of the machine's first. All that it starts ends with it.
#[derive(Debug)]
pub struct Daemon {
    folder: PathBuf,
    options: DaemonOptions,
    /// Of which the daemon is the only child, and with which it is killed.
    unshare: Child,
}

impl Daemon {
    /// Starts one whose files are in `folder`, which should be new.
    ///
    /// # Errors
    /// No second daemon can be had here, in words.
    pub fn start(folder: &Path, options: DaemonOptions) -> Result<Self, String> {
        let unshare = spawn(folder, &options).map_err(|error| format!("`unshare` or `dockerd`: {error}"))?;
        let mut daemon = Self { folder: folder.to_owned(), options, unshare };
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
        self.unshare = spawn(&self.folder, &self.options).map_err(|error| error.to_string())?;
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
fn spawn(folder: &Path, options: &DaemonOptions) -> io::Result<Child> {
    let log = fs_err::File::create(folder.join("log"))?.into_parts().0;
    let data = folder.join("data");
    fs_err::create_dir_all(&data)?;
    // A network of its own begins with everything down.
    let script = format!(
        "{BUSYBOX} ip link set lo up; [ $1 = 0 ] || mount -t tmpfs -o size=$1m tmpfs \"$2\" || exit; \
         shift 2; exec dockerd \"$@\""
    );
    let mut daemon = Command::new("unshare");
    daemon
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", &script, "sh"])
        .arg(options.disk_mib.unwrap_or_default().to_string())
        .arg(&data)
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
        .arg(format!("--host=unix://{}", folder.join("docker.sock").display()))
        .arg(format!("--data-root={}", data.display()))
        .arg(format!("--exec-root={}", folder.join("exec").display()))
        .arg(format!("--pidfile={}", folder.join("pid").display()))
        .args(options.port.map(|port| format!("--host=tcp://127.0.0.1:{port}")))
        // A stopped process in the group of the tests would have the kernel hang up on all of them.
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(log);
    match &options.certificates {
        Some(folder) => {
            let file = |name: &str| folder.join(name).display().to_string();
            daemon.arg("--tlsverify").arg(format!("--tlscacert={}", file("ca.pem")));
            daemon.arg(format!("--tlscert={}", file("server-cert.pem")));
            daemon.arg(format!("--tlskey={}", file("server-key.pem")));
        }
        // Said, it is what somebody wants, and is not warned of for seconds.
        None if options.port.is_some() => drop(daemon.arg("--tls=false")),
        None => {}
    }
    daemon.spawn()
}
