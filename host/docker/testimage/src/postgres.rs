//! An image of Debian's PostgreSQL, which behaves as the image `postgres` of Docker Hub does where tests can tell.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tar::EntryType;

use crate::{SOCKET, answer, append, request, words};

const DEBOOTSTRAP: &str = "/usr/sbin/debootstrap";

const NAME: &str = "loom-test/postgres";

const ROOT: &str = include_str!("postgres/root.sh");

const ENTRYPOINT: &str = include_str!("postgres/entrypoint.sh");

/// What is added to the root. An import could say most of it, but not how the server is to be stopped: at once, without
/// waiting for its clients.
const DOCKERFILE: &str = r#"FROM {root}
ENV PATH=/usr/lib/postgresql/{version}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
LABEL {label}
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
"#;

/// Sees to it that the daemon has an image of this Debian release's PostgreSQL, and returns its name,
/// `loom-test/postgres:<major version>`.
///
/// It takes a minute, as root, the first time: the packages come from where this machine's apt has its own. The image
/// honours `POSTGRES_DB`, `POSTGRES_USER`, `POSTGRES_PASSWORD` and `POSTGRES_HOST_AUTH_METHOD`.
///
/// # Errors
/// It cannot be made here, or there is no daemon, in words.
pub fn postgres() -> Result<String, String> {
    let codename = codename()?;
    let mut recipe = DefaultHasher::new();
    (ROOT, ENTRYPOINT, DOCKERFILE).hash(&mut recipe);
    let label = format!("loom-test.postgres={codename}-{:016x}", recipe.finish());
    if let Some(reference) = made(&label)? {
        return Ok(reference);
    }
    let to_install = |error: io::Error| format!("{} (install `debootstrap`)", words(error));
    // Opened for its lock, which other processes see as well: no file of ours stays behind.
    let one_at_a_time = fs_err::File::open(DEBOOTSTRAP).map_err(to_install)?;
    one_at_a_time.file().lock().map_err(words)?;
    if let Some(reference) = made(&label)? {
        return Ok(reference);
    }
    if fs_err::metadata("/proc/self").map_err(words)?.uid() != 0 {
        return Err("cannot make a test image of PostgreSQL: `debootstrap` has to be run as root".to_owned());
    }
    make(&codename, &label)?;
    made(&label)?.ok_or_else(|| format!("the daemon took {NAME}, but does not have it"))
}

/// The image's name, if the daemon has it.
fn made(label: &str) -> Result<Option<String>, String> {
    let filters = format!("{{\"reference\":[\"{NAME}\"],\"label\":[\"{label}\"]}}");
    let quoted = filters.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    let path = format!("/images/json?filters={quoted}");
    match request(SOCKET, "GET", &path, b"").map_err(words)? {
        (200, list) => {
            let start = list.find(&format!("\"{NAME}:")).map(|quote| quote + 1);
            Ok(start.and_then(|start| list[start..].split('"').next()).map(str::to_owned))
        }
        (status, said) => Err(format!("the daemon does not list its images: {status} {said}")),
    }
}

fn make(codename: &str, label: &str) -> Result<(), String> {
    let (version, root) = import_root(codename)?;
    let dockerfile =
        DOCKERFILE.replace("{root}", &root).replace("{version}", &version).replace("{label}", label);
    let mut context = tar::Builder::new(Vec::new());
    append(&mut context, "Dockerfile", EntryType::Regular, 0o644, dockerfile.as_bytes()).map_err(words)?;
    let context = context.into_inner().map_err(words)?;
    taken(request(SOCKET, "POST", &format!("/build?t={NAME}:{version}"), &context))?;
    Ok(())
}

/// Makes the root, and returns the version of PostgreSQL in it and the daemon's id of it.
#[expect(clippy::disallowed_methods, reason = "a program of the tests, not one that Loom runs")]
fn import_root(codename: &str) -> Result<(String, String), String> {
    // Its mounts are its own, and all of it ends with this thread.
    let alone =
        ["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut child = Command::new("setpriv")
        .args(alone)
        .args(["sh", "-c", ROOT, "sh", codename, &mirror(codename).unwrap_or_default(), ENTRYPOINT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(words)?;
    let mut version = String::new();
    let mut sent = Ok(None);
    if let Some(root) = child.stdout.take() {
        let mut root = BufReader::new(root);
        sent = match root.read_line(&mut version) {
            Ok(0) => Ok(None),
            Ok(_) => send(root).map(Some),
            Err(error) => Err(error),
        };
    }
    let output = child.wait_with_output().map_err(words)?;
    let Some(mut stream) = sent.map_err(words)?.filter(|_| output.status.success()) else {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cannot make a test image of PostgreSQL: {}: {}", output.status, said.trim()));
    };
    // Only now is the daemon told that this was all.
    let said = taken(stream.write_all(b"0\r\n\r\n").and_then(|()| answer(stream)))?;
    let id = said.split('"').find(|text| text.starts_with("sha256:"));
    let id = id.ok_or_else(|| format!("the daemon does not say what {NAME} is: {said}"))?;
    Ok((version.trim().to_owned(), id.to_owned()))
}

/// Hands an archive to the daemon, all but the mark of its end.
fn send(mut archive: impl Read) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    // 1.1: in pieces, since the length is not known.
    let head =
        "Host: docker\r\nConnection: close\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked";
    write!(stream, "POST /images/create?fromSrc=- HTTP/1.1\r\n{head}\r\n\r\n")?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = archive.read(&mut piece)?;
        if length == 0 {
            return Ok(stream);
        }
        write!(stream, "{length:x}\r\n")?;
        stream.write_all(&piece[..length])?;
        stream.write_all(b"\r\n")?;
    }
}

fn taken(answer: io::Result<(u16, String)>) -> Result<String, String> {
    match answer.map_err(words)? {
        (200, said) if !said.contains("\"error\"") => Ok(said),
        (status, said) => Err(format!("the daemon did not take {NAME}: {status} {said}")),
    }
}

fn codename() -> Result<String, String> {
    let release = fs_err::read_to_string("/etc/os-release").map_err(words)?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.map(|name| name.trim_matches('"')).filter(|name| !name.is_empty());
    codename.map(str::to_owned).ok_or_else(|| {
        "cannot make a test image of PostgreSQL: /etc/os-release names no release of Debian".to_owned()
    })
}

/// Where this machine's apt has the release's packages from, unless it is something that only apt can read.
#[expect(clippy::disallowed_methods, reason = "a program of the tests, not one that Loom runs")]
fn mirror(codename: &str) -> Option<String> {
    let fields = "$(CODENAME) $(RELEASE) $(COMPONENT) $(REPO_URI)";
    let output = Command::new("apt-get").args(["indextargets", "--format", fields]).output().ok()?;
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().find_map(|line| {
        let [named, release, component, uri] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let usable = ["http://", "https://", "file:/"].iter().any(|scheme| uri.starts_with(scheme));
        (component == "main" && usable && [named, release].contains(&codename)).then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests that start it are among those of whole runs.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "whether a daemon must be there is told to all tests in this way"
    )]
    fn made_once_by_all_who_want_it() {
        let mounts = || {
            let mounts = fs_err::read_to_string("/proc/mounts").unwrap();
            mounts.lines().filter(|mount| mount.contains(" /mnt")).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = mounts();
        let made = std::thread::scope(|scope| {
            let both = [scope.spawn(postgres), scope.spawn(postgres)];
            both.map(|made| made.join().unwrap())
        });
        let reference = match made {
            [Ok(one), Ok(other)] => {
                assert_eq!(one, other);
                one
            }
            [Err(why), _] | [_, Err(why)] => {
                assert!(std::env::var_os("LOOM_TESTS_NEED_POSTGRES").is_none(), "{why}");
                eprintln!("skipped, since there is no image of PostgreSQL to test with: {why}");
                return;
            }
        };
        let (status, image) = request(SOCKET, "GET", &format!("/images/{reference}/json"), b"").unwrap();
        assert_eq!(status, 200, "{image}");
        for part in ["\"StopSignal\":\"SIGINT\"", "\"Entrypoint\":[\"docker-entrypoint.sh\"]"] {
            assert!(image.contains(part), "{part}: {image}");
        }
        assert_eq!(mounts(), before);
    }
}
