//! The lines of a ledger, and what they add up to.

use std::path::{Path, PathBuf};

use loom_contract::id::RunId;
use serde::{Deserialize, Serialize};

use crate::Stamp;
use crate::system::{boot_id, pid_namespace, started};

/// The format that this program writes and reads; ledgers of another one are left alone.
pub(crate) const FORMAT: u32 = 1;

/// By which the processes of a run are known: a random word, which no name of the run tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// 128 random bits, as hex digits.
    pub word: String,
    /// When the run's Loom was started, in clock ticks since the machine was: its processes are younger.
    pub started: u64,
}

/// What kind of thing of Docker something is. The order is the one in which they can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

/// Something that a daemon made for a run, or was about to make.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// The address of the daemon.
    pub daemon: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, which has a random part.
    pub name: String,
    /// By which the daemon knows it; none where it was not yet made, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The first line: whose ledger it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) format: u32,
    /// The ledger's own file: that of a copy is another one.
    pub(crate) own: Stamp,
    pub(crate) run_id: RunId,
    pub(crate) mark: Mark,
    pub(crate) pid: u32,
    pub(crate) boot_id: String,
    pub(crate) pid_namespace: String,
    pub(crate) repo_root: PathBuf,
}

impl Head {
    /// Whether the process that wrote it still runs, as far as can be told without its lock: `None` where its number means
    /// nothing here.
    pub(crate) fn process_runs(&self) -> Option<bool> {
        let is_known = self.is_of_this_boot() && self.pid_namespace == pid_namespace();
        is_known.then(|| started(self.pid) == Some(self.mark.started))
    }

    pub(crate) fn is_of_this_boot(&self) -> bool {
        let now = boot_id();
        !now.is_empty() && now == self.boot_id
    }
}

/// Any later line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Line {
    /// A folder is about to be made.
    Folder { path: PathBuf },
    /// It was made.
    FolderMade { path: PathBuf, stamp: Stamp },
    /// It was removed, or never made.
    FolderGone { path: PathBuf },
    /// Something of Docker is about to be made, or (with an id) was.
    Object(Object),
    /// It was removed, or never made.
    ObjectGone { kind: ObjectKind, name: String },
    /// The run came to its end; what is still listed was kept on purpose.
    Ended,
}

/// A folder that a ledger lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedFolder {
    pub(crate) path: PathBuf,
    /// None where it may not have been made.
    pub(crate) stamp: Option<Stamp>,
}

/// What the lines of a ledger add up to.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) folders: Vec<OwnedFolder>,
    pub(crate) objects: Vec<Object>,
    pub(crate) ended: bool,
}

impl State {
    pub(crate) fn apply(&mut self, line: Line) {
        match line {
            Line::Folder { path } => self.folder_gone_then(path, None),
            Line::FolderMade { path, stamp } => self.folder_gone_then(path, Some(stamp)),
            Line::FolderGone { path } => self.folders.retain(|folder| folder.path != path),
            Line::Object(object) => {
                self.objects.retain(|known| (known.kind, &known.name) != (object.kind, &object.name));
                self.objects.push(object);
            }
            Line::ObjectGone { kind, name } => {
                self.objects.retain(|known| (known.kind, &known.name) != (kind, &name));
            }
            Line::Ended => self.ended = true,
        }
    }

    fn folder_gone_then(&mut self, path: PathBuf, stamp: Option<Stamp>) {
        self.folders.retain(|folder| folder.path != path);
        self.folders.push(OwnedFolder { path, stamp });
    }

    pub(crate) fn folder(&self, path: &Path) -> Option<&OwnedFolder> {
        self.folders.iter().find(|folder| folder.path == path)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.objects.is_empty()
    }
}

/// A ledger's text: its head, and what its lines add up to. A last line that was torn by a crash is dropped. `None` where
/// it is none, or one of another format.
pub(crate) fn read(text: &[u8]) -> Option<(Head, State)> {
    let end = text.iter().rposition(|byte| *byte == b'\n')?;
    let mut lines = text.get(..end)?.split(|byte| *byte == b'\n');
    let head: Head = serde_json::from_slice(lines.next()?).ok()?;
    if head.format != FORMAT {
        return None;
    }
    let mut state = State::default();
    for line in lines {
        state.apply(serde_json::from_slice(line).ok()?);
    }
    Some((head, state))
}

/// A line as it is written.
pub(crate) fn text(line: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}
