//! Images for tests against a real Docker daemon, made of this machine's static busybox, and one of Debian's
//! PostgreSQL: nothing is pulled.
//!
//! They stay with the daemon, under `loom-test/…`, and are made once. The daemon is spoken to without any of Loom's own
//! code, so that tests can also ask it here what there is.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use tar::{EntryType, Header};

mod daemon;
mod postgres;
mod tls;

pub use daemon::{Daemon, DaemonOptions};
pub use postgres::postgres;
pub use tls::Authority;

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";

/// The daemon's usual socket.
pub const SOCKET: &str = "/var/run/docker.sock";

static MAKING: Mutex<()> = Mutex::new(());

/// What an image is to be.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub struct Image<'a> {
    /// Behind `loom-test/`.
    pub name: &'a str,
    /// Programs of busybox that it has; nothing for all of them.
    pub programs: Option<&'a [&'a str]>,
    /// More files: path and content, executable.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Lines of a Dockerfile such as `VOLUME /data`.
    pub changes: &'a [&'a str],
}

/// The image with all programs of busybox, which most tests need.
///
/// # Errors
/// There is no busybox here, or no daemon, in words.
pub fn busybox() -> Result<String, String> {
    image(Image { name: "busybox", ..Image::default() })
}

/// Sees to it that the daemon has an image, and returns its name.
///
/// # Errors
/// As [`busybox`].
pub fn image(image: Image<'_>) -> Result<String, String> {
    image_at(SOCKET, image)
}

/// The same at the socket of another daemon.
///
/// # Errors
/// As [`busybox`].
pub fn image_at(socket: &str, image: Image<'_>) -> Result<String, String> {
    let name = format!("loom-test/{}", image.name);
    // Two that are called the same and are not are two.
    let mut description = DefaultHasher::new();
    image.hash(&mut description);
    let tag = format!("{}-{:016x}", version()?, description.finish());
    let reference = format!("{name}:{tag}");
    let _one_at_a_time = MAKING.lock();
    let (status, _) = request(socket, "GET", &format!("/images/{reference}/json"), b"").map_err(words)?;
    if status == 200 {
        return Ok(reference);
    }
    let mut path = format!("/images/create?fromSrc=-&repo={name}&tag={tag}");
    let usual = ["ENV PATH=/bin", "CMD [\"sh\"]"];
    for change in usual.iter().chain(image.changes) {
        let quoted = change.replace('%', "%25").replace(' ', "%20").replace('"', "%22").replace('&', "%26");
        path.push_str(&format!("&changes={quoted}"));
    }
    let archive = archive(image).map_err(words)?;
    match request(socket, "POST", &path, &archive).map_err(words)? {
        (200, said) if !said.contains("\"error\"") => Ok(reference),
        (status, said) => Err(format!("the daemon did not take {reference}: {status} {said}")),
    }
}

/// Asks the daemon something, and returns the status and the text of its answer. `body` is JSON or a tar.
///
/// # Errors
/// It is not there.
pub fn request(socket: &str, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    // 1.0: the answer comes in one piece and ends with the connection.
    let content = if body.starts_with(b"{") { "json" } else { "x-tar" };
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/{content}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    answer(stream)
}

fn answer(mut stream: UnixStream) -> io::Result<(u16, String)> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

fn words(error: io::Error) -> String {
    format!("cannot make a test image: {error}")
}

fn version() -> Result<String, String> {
    let said = run(&[])?;
    let version = said.split_whitespace().nth(1).unwrap_or("unknown");
    Ok(version.trim_start_matches('v').to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a program of the tests, not one that Loom runs")]
fn run(args: &[&str]) -> Result<String, String> {
    let output = Command::new(BUSYBOX).args(args).output();
    let output = output.map_err(|error| format!("{BUSYBOX}: {error} (install `busybox-static`)"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn archive(image: Image<'_>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("home", 0o755)] {
        append(&mut tar, folder, EntryType::Directory, mode, b"")?;
    }
    append(&mut tar, "bin/busybox", EntryType::Regular, 0o755, &fs_err::read(BUSYBOX)?)?;
    append(
        &mut tar,
        "etc/passwd",
        EntryType::Regular,
        0o644,
        b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
    )?;
    append(&mut tar, "etc/group", EntryType::Regular, 0o644, b"root:x:0:\nuser:x:1000:\n")?;
    let all = run(&["--list"]).map_err(io::Error::other)?;
    let all: Vec<&str> = all.lines().filter(|name| *name != "busybox").collect();
    for program in image.programs.unwrap_or(&all) {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{program}"), "busybox")?;
    }
    for (path, content) in image.files {
        append(&mut tar, path, EntryType::Regular, 0o755, content)?;
    }
    tar.into_inner()
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    tar.append_data(&mut header(kind, mode, bytes.len() as u64), path, bytes)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header
}
