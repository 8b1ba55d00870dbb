//! Giving the run's copy of the repository to the user of a container that has it mounted as it is, and back.

use std::path::Path;

use crate::job::inputs::WORKSPACE;
use crate::workspace::WorkspaceLease;
use crate::{Container, ContainerSpec, Error, ExecSpec, Ids, Mount, Networking, Scope, Status};

/// A workspace that is mounted as it is.
#[derive(Debug)]
pub(crate) struct BoundWorkspace {
    pub(crate) container: Container,
    pub(crate) image: String,
    pub(crate) lease: WorkspaceLease,
}

/// Sees to it that everything in the workspace belongs to the user again.
///
/// # Errors
/// Why it does not, in words.
pub(super) async fn give_back(scope: &Scope, bound: &BoundWorkspace, workspace: &Path) -> Result<(), String> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let path = workspace.to_owned();
    let foreign = tokio::task::spawn_blocking(move || has_foreign(&path, uid)).await;
    if !foreign.unwrap_or(true) {
        return Ok(());
    }
    // Without the rights of root, the user is root in there.
    let owner = if scope.docker().daemon().rootless { Ids::default() } else { Ids { uid, gid } };
    give_to(scope, bound, workspace, owner).await
}

/// Gives everything in the workspace to `owner`, as the daemon knows users.
///
/// # Errors
/// Why it cannot, in words.
pub(super) async fn give_to(
    scope: &Scope,
    bound: &BoundWorkspace,
    workspace: &Path,
    Ids { uid, gid }: Ids,
) -> Result<(), String> {
    let words = |error: Error| error.to_string();
    let args = ["-R", "-h", &format!("{uid}:{gid}"), WORKSPACE].map(str::to_owned);
    let program = "chown".to_owned();
    if bound.container.state().await.is_ok_and(|state| state.status == Status::Running) {
        let command = std::iter::once(program.clone()).chain(args.clone()).collect();
        let spec = ExecSpec { command, user: Some("0:0".to_owned()), ..ExecSpec::default() };
        let exit = async { bound.container.exec(&spec).await?.exit().await };
        if exit.await.is_ok_and(|exit| exit.code == 0) {
            return Ok(());
        }
    }
    // Root may do less in a container that is somebody else's.
    let spec = ContainerSpec {
        name: "owner".to_owned(),
        image: bound.image.clone(),
        entrypoint: Some(vec![program]),
        command: Some(args.into()),
        user: Some("0:0".to_owned()),
        mounts: vec![Mount::Bind {
            source: workspace.to_owned(),
            at: WORKSPACE.to_owned(),
            read_only: false,
        }],
        networking: Networking::None,
        ..ContainerSpec::default()
    };
    let other = scope.create_container(&spec).await.map_err(words)?;
    other.start().await.map_err(words)?;
    let exit = other.wait().await.map_err(words)?;
    let said = other.last_output().await.join("\n");
    // What stays goes with the job.
    let _ = scope.remove(&other.resource()).await;
    if exit.code == 0 { Ok(()) } else { Err(format!("`chown` ended with exit code {}: {said}", exit.code)) }
}

/// Whether anything in `folder` belongs to somebody else than `user`.
fn has_foreign(folder: &Path, user: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(own), Ok(entries)) = (fs_err::metadata(folder), fs_err::read_dir(folder)) else { return true };
    own.uid() != user
        || entries.flatten().any(|entry| {
            let Ok(metadata) = entry.metadata() else { return false };
            metadata.uid() != user || (metadata.is_dir() && has_foreign(&entry.path(), user))
        })
}
