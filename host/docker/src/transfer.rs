//! Files into a container and out of it, whether it runs or not.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bollard::container::PathStatResponse;
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions,
};
use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::pack::{CHUNKS, Choose, Ids, Keep, Packed, pack};
use crate::spec::check_absolute;
use crate::unpack::{Unpacked, unpack};
use crate::{Container, Error};

/// Seconds of which the offset of every time zone is a multiple.
const QUARTER: i64 = 900;
/// By which Go, in whose words the daemon tells modes, says that something is a folder.
const GO_FOLDER: u32 = 1 << 31;

impl Container {
    /// Puts what is in the folder `from` into the folder `to` of the container, which is made where it is not there: into
    /// a volume too, if one is mounted there. Permissions, times, symlinks, hard links and empty folders are kept;
    /// everything belongs to `owner`. Files that are there are replaced.
    ///
    /// # Errors
    /// Something of `from` cannot be read; what the daemon says.
    pub async fn upload(&self, from: &Path, to: &str, owner: Ids) -> Result<Packed, Error> {
        check_absolute("the folder", to)?;
        let (folder, to) = self.unpacked(to);
        let prefix = if folder == "." { String::new() } else { format!("{folder}/") };
        let (sending, body) = Sending::begin(from.to_owned(), prefix, owner, Box::new(inside));
        let sent = self.upload_tar(body, to).await;
        // What went wrong here explains what went wrong there.
        let packed = sending.end().await?;
        sent.map(|()| packed)
    }

    /// Sees that the folder `folder` is there, with what is mounted into it.
    ///
    /// # Errors
    /// It is not, or something cannot be mounted: the daemon does not say which.
    pub async fn look_at(&self, folder: &str) -> Result<(), Error> {
        self.stat(folder).await.map(drop)
    }

    /// Whether the folder `at` of the container, into which `folder` was mounted, is `folder` as this machine knows it: a
    /// daemon on another machine, or in a container, mounts what it has itself under that name. It is, where both it and
    /// what was changed last in it are of the same kind and size, and were changed in the same nanosecond.
    ///
    /// # Errors
    /// What the daemon says; `folder` cannot be read.
    pub async fn shows(&self, at: &str, folder: &Path) -> Result<bool, Error> {
        let failed = |source: io::Error| Error::File { doing: "read", path: folder.to_owned(), source };
        let mut newest: Option<(SystemTime, std::ffi::OsString)> = None;
        for entry in fs_err::read_dir(folder).map_err(failed)?.flatten() {
            let Ok(changed) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
            // What is of another encoding could not be asked for.
            let is_newer = newest.as_ref().is_none_or(|(latest, _)| changed > *latest);
            if is_newer && entry.file_name().to_str().is_some() {
                newest = Some((changed, entry.file_name()));
            }
        }
        let below = newest.map(|(_, name)| name);
        for name in std::iter::once(None).chain(below.iter().map(Some)) {
            let (path, here) = match name {
                Some(name) => (format!("{at}/{}", name.to_string_lossy()), folder.join(name)),
                None => (at.to_owned(), folder.to_owned()),
            };
            let here = fs_err::symlink_metadata(here).map_err(failed)?;
            let there = match self.stat(&path).await {
                Ok(there) => there,
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) => return Err(error),
            };
            let same_size = !here.is_file() || u64::try_from(there.size).is_ok_and(|size| size == here.len());
            let changed = there.modification_time.as_deref().and_then(in_quarter_of_an_hour);
            let nanos = here.mtime().rem_euclid(QUARTER) * 1_000_000_000 + here.mtime_nsec();
            let is_folder = there.file_mode & GO_FOLDER != 0;
            if !same_size || changed != Some(nanos) || is_folder != here.is_dir() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the daemon says of one path.
    async fn stat(&self, path: &str) -> Result<PathStatResponse, Error> {
        let doing = format!("look at `{path}` in the container {}", self.name());
        let options = ContainerArchiveInfoOptions { path: path.to_owned() };
        let look = self.docker().slow().get_container_archive_info(self.id(), Some(options));
        let seen = self.docker().watch(&doing, look).await?;
        seen.map_err(|error| Error::of(doing, error))
    }

    /// Makes `owner` the owner of the folder `folder`, which must be there, and of nothing in it; its permissions become
    /// `mode`.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn own(&self, folder: &str, owner: Ids, mode: u32) -> Result<(), Error> {
        check_absolute("the folder", folder)?;
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_uid(owner.uid.into());
        header.set_gid(owner.gid.into());
        header.set_size(0);
        let mut tar = tar::Builder::new(Vec::new());
        let failed = |source| Error::File { doing: "pack", path: folder.into(), source };
        let (entry, to) = self.unpacked(folder);
        tar.append_data(&mut header, entry, io::empty()).map_err(failed)?;
        let tar = Bytes::from(tar.into_inner().map_err(failed)?);
        self.upload_tar(stream::once(async { Ok(tar) }), to).await
    }

    /// What the absolute `folder` is called in an archive for it, and where that is to be unpacked.
    fn unpacked<'a>(&self, folder: &'a str) -> (&'a str, &'a str) {
        let name = folder.trim_matches('/');
        // Docker refuses symlinks that lead out of where it unpacks, and nothing is outside of the root. Podman takes them,
        // and unpacks into a volume only where that is what it is asked for.
        if name.is_empty() || self.docker().daemon().podman { (".", folder) } else { (name, "/") }
    }

    /// Puts what is in a tar into the folder `to` of the container.
    ///
    /// # Errors
    /// What the daemon says, and `tar` itself if it fails.
    pub async fn upload_tar(
        &self,
        tar: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        to: &str,
    ) -> Result<(), Error> {
        check_absolute("the folder", to)?;
        let doing = format!("write to `{to}` in the container {}", self.name());
        let options = UploadToContainerOptions { path: to.to_owned(), ..UploadToContainerOptions::default() };
        let body = bollard::body_try_stream(tar);
        let upload = self.docker().slow().upload_to_container(self.id(), Some(options), body);
        let sent = self.docker().watch(&doing, upload).await?;
        sent.map_err(|error| Error::of(doing, error))
    }

    /// Puts what is at `from` in the container into the folder `into`, under its own name; with `/.` at its end, what is
    /// in it. What is there is replaced, but for folders, which are shared.
    ///
    /// What comes out of a container may be anything, so it is written through no symlink, and only files, folders, hard
    /// links, and symlinks that cannot lead out of `into`; the rest is left out and named.
    ///
    /// # Errors
    /// There is nothing at `from` ([`Error::is_not_found`]); [`Error::Unsafe`] where an archive is no honest one;
    /// `into` cannot be written.
    pub async fn download(&self, from: &str, into: &Path) -> Result<Unpacked, Error> {
        let into = into.to_owned();
        self.receive(from, move |tar| unpack(tar, &into)).await
    }

    /// Hands the archive of what is at `from` to `read`, on a thread that may wait.
    ///
    /// # Errors
    /// There is nothing at `from` ([`Error::is_not_found`]); what `read` says.
    pub async fn receive<T: Send + 'static>(
        &self,
        from: &str,
        read: impl FnOnce(&mut dyn Read) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        check_absolute("the path", from)?;
        let doing = format!("read `{from}` in the container {}", self.name());
        let options = DownloadFromContainerOptions { path: from.to_owned() };
        let mut chunks = self.docker().slow().download_from_container(self.id(), Some(options));
        let failed = |error| Error::of(doing.clone(), error);
        // Nothing is written before it is known that there is something.
        let first = self.docker().watch(&doing, chunks.next()).await?.transpose().map_err(failed)?;
        let (to, from) = mpsc::channel(CHUNKS);
        let reading = tokio::task::spawn_blocking(move || read(&mut Reader { from, chunk: Bytes::new() }));
        let mut next = first;
        let mut broken = None;
        while let Some(chunk) = next {
            if to.send(Ok(chunk)).await.is_err() {
                break;
            }
            next = match self.docker().watch(&doing, chunks.next()).await.map(Option::transpose) {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => {
                    broken = Some(failed(error));
                    None
                }
                Err(error) => {
                    broken = Some(error);
                    None
                }
            };
        }
        if broken.is_some() {
            // So that half an archive is not taken for a whole one. If it is not listened to, it was read to its end.
            let _ = to.send(Err(io::ErrorKind::ConnectionReset.into())).await;
        }
        drop(to);
        let done = joined(reading.await);
        broken.map_or(done, Err)
    }
}

/// Nanoseconds of a time in RFC 3339 since the last quarter of an hour began, which is the same in each time zone.
fn in_quarter_of_an_hour(time: &str) -> Option<i64> {
    let (_, clock) = time.split_once('T')?;
    let (seconds, zone) = clock.split_at(clock.find(['Z', '+', '-'])?);
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let mut parts = whole.split(':').map(|part| part.parse::<i64>().ok());
    let (_, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let nanos: i64 = format!("{fraction:0<9.9}").parse().ok()?;
    // Zones of the past had offsets with seconds; none of today has.
    let has_minutes =
        zone.split_once(':').is_none_or(|(_, minutes)| minutes.parse::<i64>().is_ok_and(|it| it % 15 == 0));
    has_minutes.then_some((minutes * 60 + seconds).rem_euclid(QUARTER) * 1_000_000_000 + nanos)
}

/// All that is in a folder, but not its own permissions, times and owner.
fn inside(path: &[u8]) -> Keep {
    if path.is_empty() { Keep::Below } else { Keep::Yes }
}

/// A folder on its way to the daemon.
pub(crate) struct Sending {
    packing: JoinHandle<Result<Packed, Error>>,
}

impl Sending {
    /// Begins to read, and returns what is read.
    pub(crate) fn begin(
        from: PathBuf,
        prefix: String,
        owner: Ids,
        choose: Box<Choose>,
    ) -> (Self, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
        let (to, chunks) = mpsc::channel(CHUNKS);
        let packing = tokio::task::spawn_blocking(move || pack(&from, &prefix, owner, &*choose, to));
        let chunks =
            stream::unfold(chunks, async |mut chunks| chunks.recv().await.map(|chunk| (chunk, chunks)));
        (Self { packing }, chunks)
    }

    /// To be called when nobody reads the body any more.
    pub(crate) async fn end(self) -> Result<Packed, Error> {
        joined(self.packing.await)
    }
}

/// Of a thread that does not panic, so that only the end of the runtime can have ended it.
fn joined<T>(done: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    done.unwrap_or_else(|_| Err(Error::Closed { doing: "copy files".to_owned() }))
}

struct Reader {
    from: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.from.blocking_recv() {
                Some(chunk) => self.chunk = chunk?,
                None => return Ok(0),
            }
        }
        let length = to.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut to[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::in_quarter_of_an_hour;

    #[test]
    fn a_time_is_the_same_in_each_zone() {
        let nanos = Some(221_500_000_000);
        for time in
            ["2026-11-27T17:03:41.5Z", "2026-11-27T18:18:41.500+01:15", "2026-11-27T07:33:41.500000000-09:30"]
        {
            assert_eq!(in_quarter_of_an_hour(time), nanos, "{time}");
        }
        assert_eq!(in_quarter_of_an_hour("2026-11-27T17:03:41Z"), Some(221_000_000_000));
        for other in ["", "T", "2026-11-27T1Z", "2026-11-27T17:03:41.5", "2026-11-27 17:03:41Z"] {
            assert_eq!(in_quarter_of_an_hour(other), None, "{other}");
        }
    }
}
