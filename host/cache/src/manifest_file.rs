//! Manifests in the store, read and checked against what is there.

use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fs_err as fs;

use crate::damage::Damage;
use crate::digest::Digest;
use crate::layout::Layout;
use crate::manifest::{Invalid, Manifest, Needs};
use crate::object::ObjectRef;
use crate::pack::{PackIndex, PackRef, Unreadable};
use crate::{Error, io};

/// A manifest of the store.
pub(crate) enum ManifestFile {
    /// One that is whole, with everything that it needs.
    Whole(Manifest),
    /// One that is missing or damaged, or of which something is.
    Damaged(Damage),
}

/// Reads a manifest and makes sure that what it needs is there.
///
/// # Errors
/// It cannot be told: what the system does not give is not damaged.
pub(crate) fn read_manifest(layout: &Layout, digest: Digest) -> Result<ManifestFile, Error> {
    let path = layout.manifest(digest);
    let damaged = |why: String| Ok(ManifestFile::Damaged(Damage { what: path.clone(), why }));
    let bytes = match io::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return damaged("is missing".to_owned()),
        Err(error) => return Err(Error::read(path, error)),
    };
    if Digest::of(&bytes) != digest {
        return damaged("is not what its name says".to_owned());
    }
    let Ok(Needs { packs, objects }) = Needs::decode(&bytes) else {
        return damaged(Invalid::Unreadable.to_string());
    };
    if let Some(damage) = missing(layout, &packs, &objects)? {
        return Ok(ManifestFile::Damaged(damage));
    }
    let mut system = None;
    let mut read = |pack: &PackRef| {
        let path = layout.pack(pack.id);
        PackIndex::read(&path).map_err(|error| match error {
            Unreadable::Broken(why) => Invalid::Pack(path, why),
            Unreadable::System(error) if error.kind() == ErrorKind::NotFound => {
                Invalid::Pack(path, "is missing")
            }
            Unreadable::System(error) => {
                system = Some(Error::read(path, error));
                Invalid::Unreadable
            }
        })
    };
    match (Manifest::decode(&bytes, &mut read), system) {
        (Ok(manifest), _) => Ok(ManifestFile::Whole(manifest)),
        (Err(_), Some(error)) => Err(error),
        (Err(Invalid::Pack(what, why)), None) => {
            Ok(ManifestFile::Damaged(Damage { what, why: why.to_owned() }))
        }
        (Err(invalid), None) => damaged(invalid.to_string()),
    }
}

/// The first of what a manifest needs that is missing, or has not the length that it should.
///
/// # Errors
/// It cannot be told: what may not be looked at is not missing.
fn missing(layout: &Layout, packs: &[PackRef], objects: &[ObjectRef]) -> Result<Option<Damage>, Error> {
    let packs = packs.iter().map(|pack| (layout.pack(pack.id), pack.len));
    let objects = objects.iter().map(|object| (layout.object(object.digest), object.size));
    for (what, len) in packs.chain(objects) {
        let why = match fs::metadata(&what) {
            Ok(meta) if meta.len() == len => continue,
            Ok(meta) => format!("has {} bytes instead of {len}", meta.len()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                "is missing".to_owned()
            }
            Err(error) => return Err(Error::read(what, error)),
        };
        return Ok(Some(Damage { what, why }));
    }
    Ok(None)
}

impl Needs {
    /// Reads what the manifest at `path` needs, and no more of it.
    pub(crate) fn of_file(path: &Path) -> std::io::Result<Option<Self>> {
        let file = io::open(path)?.into_parts().0;
        let length = file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(16 << 10)];
        file.read_exact_at(&mut bytes, 0)?;
        match Self::decode(&bytes) {
            Ok(needs) => Ok(Some(needs)),
            Err(more) if more > bytes.len() && more as u64 <= length => {
                bytes.resize(more, 0);
                file.read_exact_at(&mut bytes, 0)?;
                Ok(Self::decode(&bytes).ok())
            }
            Err(_) => Ok(None),
        }
    }
}
