//! What the files of a container come to, hashed as they stream by: nothing of them is kept.

use std::io::{self, Read};

use loom_tree::{MOST_PRINTS, Print, Prints};
use tar::EntryType;

use crate::entries::Entries;
use crate::unpack::checked;
use crate::{Container, Error};

impl Container {
    /// What the files below `folder` come to, whether it runs or not.
    ///
    /// # Errors
    /// There is no such folder; what the daemon says; there are more than [`MOST_PRINTS`] files.
    pub async fn prints(&self, folder: &str) -> Result<Prints, Error> {
        self.receive(&format!("{folder}/."), prints).await
    }
}

fn prints(from: &mut dyn Read) -> Result<Prints, Error> {
    let read = |error| Error::file("read", "what came out of the container", error);
    let mut entries = Entries::new(from);
    let mut prints = Prints::new();
    while let Some(head) = entries.next().map_err(read)? {
        let path = checked(&head.path)?;
        let print = match head.kind {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {
                Print::of_content(head.mode & 0o7777, &mut entries).map_err(read)?
            }
            EntryType::Symlink => Print::Link { target: head.target },
            // The file itself came before.
            EntryType::Link => prints.get(&checked(&head.target)?).cloned().unwrap_or(Print::Other),
            _ => Print::Other,
        };
        prints.insert(path, print);
        if prints.len() > MOST_PRINTS {
            let many = format!("there are more than {MOST_PRINTS} files");
            return Err(read(io::Error::other(many)));
        }
    }
    Ok(prints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_content_and_mode_and_links_by_their_text() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: EntryType, mode: u32, content: &str, mtime: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_mtime(mtime);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.set_size(0);
                tar.append_link(&mut header, path, content).unwrap();
            } else {
                header.set_size(content.len() as u64);
                tar.append_data(&mut header, path, content.as_bytes()).unwrap();
            }
        };
        add("./d/", EntryType::Directory, 0o755, "", 1);
        add("./d/a", EntryType::Regular, 0o644, "x", 1);
        add("./d/b", EntryType::Regular, 0o644, "x", 2);
        add("./d/c", EntryType::Regular, 0o755, "x", 1);
        add("./hard", EntryType::Link, 0o644, "./d/a", 1);
        add("./soft", EntryType::Symlink, 0o777, "d/a", 1);
        let bytes = tar.into_inner().unwrap();
        let prints = prints(&mut bytes.as_slice()).unwrap();
        let at = |path: &str| &prints[path.as_bytes()];
        assert_eq!(prints.len(), 5);
        assert_eq!(at("d/a"), at("d/b"));
        assert_eq!(at("d/a"), at("hard"));
        assert_eq!(at("d/a").differs(at("d/c")), Some("other permissions"));
        assert_eq!(at("soft"), &Print::Link { target: b"d/a".to_vec() });
    }
}
