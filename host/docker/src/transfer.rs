//! Files into a container and out of it, whether it runs or not.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
        let doing = format!("look at `{folder}` in the container {}", self.name());
        let options = ContainerArchiveInfoOptions { path: folder.to_owned() };
        let look = self.docker().slow().get_container_archive_info(self.id(), Some(options));
        let seen = self.docker().watch(&doing, look).await?;
        seen.map(drop).map_err(|error| Error::of(doing, error))
    }

    /// Makes `owner` the owner of the folder `folder`, which must be there, and of nothing in it.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn own(&self, folder: &str, owner: Ids) -> Result<(), Error> {
        check_absolute("the folder", folder)?;
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
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
