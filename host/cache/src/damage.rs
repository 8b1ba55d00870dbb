//! Damaged files of the store, set aside.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::clock::millis;
use crate::evictions::{self, Cause, Eviction};
use crate::layout::Layout;
use crate::lock::lock_store;
use crate::{Warning, io};

/// A file of the store that is not as it should be: which, and the end of a sentence about it.
pub(crate) struct Damage {
    pub(crate) what: PathBuf,
    pub(crate) why: String,
}

/// Moves a damaged pointer, and the damaged file that makes it so, out of the way, if the pointer is `still`
/// the one that was read. A store that cannot be written keeps them; the entry is a miss all the same.
pub(crate) fn set_aside(
    layout: &Layout,
    pointer: &Path,
    still: impl Fn(&[u8]) -> bool,
    entry: Option<(&str, &str)>,
    damage: Damage,
) -> Option<Warning> {
    let Damage { what, why } = damage;
    if let Ok(_lock) = lock_store(layout) {
        if !io::read(pointer).is_ok_and(|now| still(&now)) {
            return None;
        }
        if what != pointer && what.exists() {
            move_aside(layout, &what);
        }
        move_aside(layout, pointer);
        if let Some((name, key)) = entry {
            let cause = Cause::Damaged { why: format!("`{}` {why}", what.display()) };
            let (name, key) = (name.to_owned(), key.to_owned());
            evictions::log(layout, &[Eviction { name, key, when: SystemTime::now(), cause }]);
        }
    }
    tracing::debug!("cache: `{}` {why}", what.display());
    let entry = entry.map(|(name, key)| (name.to_owned(), key.to_owned()));
    Some(Warning::Damaged { what, why, entry })
}

/// Moves a file of the store to where damaged ones are kept, if that is possible.
pub(crate) fn move_aside(layout: &Layout, file: &Path) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let place = layout.damaged().join(format!("{}-{name}", millis(SystemTime::now())));
    if let Err(error) = io::rename(file, &place) {
        tracing::debug!("cache: not set aside: {error}");
    }
}
