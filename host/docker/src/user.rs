//! The users of containers, in numbers.

use std::io::Read as _;

use crate::entries::Entries;
use crate::{Container, Error, Ids};

/// Bytes of a table of users that are read.
const TABLE_LIMIT: u64 = 16 << 20;

/// Whether the user of a container, as it is named to the daemon, is root.
pub(crate) fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), None | Some("" | "0" | "root"))
}

/// What the user of a container is in numbers: `user`, where it is a name, as the container's own files say.
pub(crate) async fn ids(container: &Container, user: &str) -> Result<Ids, Error> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let number = |text: &str| text.parse::<u32>().ok();
    if user.is_empty() {
        return Ok(Ids::default());
    }
    if let (Some(uid), Some(gid)) = (number(user), group.map_or(Some(0), number)) {
        return Ok(Ids { uid, gid });
    }
    let users = table(container, "/etc/passwd").await?;
    let found =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|line| match line[..] {
            [name, _, uid, gid, ..] if name == user || uid == user => Some((number(uid)?, number(gid)?)),
            _ => None,
        });
    let (uid, mut gid) = found.or(number(user).map(|uid| (uid, 0))).unwrap_or_default();
    if let Some(group) = group {
        let groups =
            if number(group).is_some() { String::new() } else { table(container, "/etc/group").await? };
        let found =
            groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|line| match line[..] {
                [name, _, gid, ..] if name == group => number(gid),
                _ => None,
            });
        gid = number(group).or(found).unwrap_or(gid);
    }
    Ok(Ids { uid, gid })
}

/// A small file of a container; empty where there is none.
async fn table(container: &Container, path: &str) -> Result<String, Error> {
    let read = container.receive(path, |tar| {
        let failed = |error| Error::file("read", "what came out of the container", error);
        let mut entries = Entries::new(tar);
        let Some(head) = entries.next().map_err(failed)? else { return Ok(String::new()) };
        let mut text = Vec::new();
        if matches!(head.kind, tar::EntryType::Regular | tar::EntryType::Continuous) {
            (&mut entries).take(TABLE_LIMIT).read_to_end(&mut text).map_err(failed)?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    });
    match read.await {
        Err(error) if error.is_not_found() => Ok(String::new()),
        read => read,
    }
}
