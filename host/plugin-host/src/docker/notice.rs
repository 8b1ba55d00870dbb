//! What a job is told of its containers, as messages.

use loom_contract::event::Level;
use loom_contract::words::counted;
use loom_docker::Notice;
use loom_engine::mask::VARIABLE;
use loom_engine::port::JobContext;
use serde_json::{Map, Value};

use crate::messages::Messages;

/// Records `notice` of a call of `job` in `messages`.
pub(crate) fn notify(messages: &Messages, job: &JobContext, notice: Notice) {
    let say = |level, text, data| messages.record(level, text, data);
    let say_mount = |mount: &str, how: &str, mut data: Map<String, Value>| {
        data.insert("workspace_mount".to_owned(), mount.into());
        say(Level::Info, format!("workspace mount `{mount}`: {how}"), Some(data));
    };
    match notice {
        Notice::WorkspaceSent(packed) => {
            let (files, bytes) = (counted(packed.files, "file"), counted(packed.bytes, "byte"));
            let data = Map::from_iter([
                ("files".to_owned(), packed.files.into()),
                ("bytes".to_owned(), packed.bytes.into()),
            ]);
            say_mount("ephemeral_volume", &format!("sent as {files}, {bytes}"), data);
            for path in packed.left_out {
                let text = format!("`{}` is left out of the workspace", path.display());
                say(Level::Warn, text, None);
            }
        }
        Notice::WorkspaceLayered => {
            say_mount("ephemeral_volume", "a layer over the run's copy of the repository", Map::new());
        }
        Notice::WorkspaceBound => {
            say_mount("bind_mount", "the run's copy of the repository itself", Map::new());
        }
        Notice::ObjectsSent(path) => {
            let text = format!("the daemon does not see `{}`: git's objects were sent", path.display());
            say(Level::Info, text, None);
        }
        Notice::MaskUnavailable => {
            let text = format!(
                "there is no {VARIABLE} in the container: the daemon does not see the files of this machine"
            );
            say(Level::Info, text, None);
        }
        Notice::WorkspaceGiven { uid } => {
            let text = format!("the workspace belongs to the user {uid} while {} has it", job.id);
            say(Level::Info, text, None);
        }
        Notice::WorkspaceNotGiven { uid } => {
            let text = format!(
                "the workspace is mounted as it is, for jobs on the host too, and so cannot be given to the user {uid} \
                 of the image, who may be unable to read or write it; with `ephemeral_volume` instead of `bind_mount` \
                 it belongs to them"
            );
            say(Level::Warn, text, None);
        }
    }
}
