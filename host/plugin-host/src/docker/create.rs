//! Making a job's containers: what the daemon sees of this machine is mounted, and what it does not see is sent.
//!
//! A daemon may be on another machine, or Loom in a container. What lies under the same name there is something else, and
//! must not be taken for Loom's. So the run's copy of the repository is mounted by the way of a link that has a random name
//! of Loom's own, the folder of secrets has the run's name, and git's objects are compared. Each costs nothing, or two
//! short requests once in a run.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use loom_docker::{Container, ContainerSpec, Error, KeepOutput, Mount, Networking, Packed, Scope};
use loom_engine::environment::WORKSPACE_IN_CONTAINER;
use loom_engine::mask::FILE_IN_CONTAINER;
use loom_engine::port::JobContext;
use loom_engine::secrets::SECRETS_IN_CONTAINER;

use super::{RunDocker, ids, told};
use crate::bindings::loom::docker::engine::WorkspaceMount;
use crate::bindings::loom::host::types::{Error as Told, ErrorKind};

/// What the daemon is known to see of this machine, and not to see.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<BTreeMap<PathBuf, bool>>);

impl Seen {
    fn of(&self, path: &Path) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn set(&self, path: &Path, seen: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), seen);
    }
}

/// What a container is to have of the job.
pub(crate) struct Wanted<'a> {
    pub(crate) job: &'a JobContext,
    pub(crate) workspace: Option<WorkspaceMount>,
    /// The files of its secrets.
    pub(crate) secrets: bool,
    /// Its processes are root's.
    pub(crate) is_root: bool,
}

/// A container that was made.
pub(crate) struct Made {
    pub(crate) container: Container,
    /// What its volumes are still to be filled with.
    pub(crate) filling: Option<Filling>,
    /// The file is in it into which the job writes what is to be masked.
    pub(crate) has_mask: bool,
}

/// What is sent into the volumes of a container.
#[derive(Debug, Clone)]
pub(crate) struct Filling {
    /// A second container with the same volumes, which never runs: the daemon does one thing at a time with a container,
    /// and starting one takes long.
    pub(crate) through: Container,
    /// The run's copy of the repository.
    pub(crate) workspace: bool,
    /// Folders of git's objects.
    objects: Vec<PathBuf>,
    secrets: bool,
}

/// Something of this machine that is mounted.
struct Bound {
    source: PathBuf,
    at: String,
    read_only: bool,
    /// By which it is known whether the daemon sees it.
    known_as: PathBuf,
}

impl RunDocker {
    /// Makes a container from `spec` that has what is `wanted`.
    ///
    /// # Errors
    /// The daemon's words; that it does not see a workspace that is to be mounted as it is.
    pub(crate) async fn create(
        &self,
        scope: &Scope,
        spec: &ContainerSpec,
        wanted: &Wanted<'_>,
    ) -> Result<Made, Told> {
        loop {
            // Each other attempt knows of one more thing that is not seen.
            if let Some(made) = Box::pin(self.attempt(scope, spec, wanted)).await? {
                return Ok(made);
            }
        }
    }

    /// One attempt; nothing where the daemon does not see something that it was hoped to, of which the next one knows.
    async fn attempt(
        &self,
        scope: &Scope,
        spec: &ContainerSpec,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Made>, Told> {
        let job = wanted.job;
        let failed = |error: Error| told(&error);
        let mut spec = spec.clone();
        let mut bound: Vec<Bound> = Vec::new();
        let mut filled: Vec<Mount> = Vec::new();
        let (mut sends_workspace, mut is_layer) = (false, false);
        match wanted.workspace {
            Some(WorkspaceMount::BindMount) => {
                if self.seen.of(&job.workspace) == Some(false) {
                    return Err(not_seen(scope, &job.workspace));
                }
                bound.push(Bound {
                    source: self.link(job)?,
                    at: WORKSPACE_IN_CONTAINER.to_owned(),
                    read_only: false,
                    known_as: job.workspace.clone(),
                });
            }
            Some(WorkspaceMount::EphemeralVolume) => {
                let layer = match self.may_layer(wanted.is_root) {
                    true => scope.create_volume_over("workspace", &self.link(job)?).await.map_err(failed)?,
                    false => None,
                };
                is_layer = layer.is_some();
                let volume = match layer {
                    Some(volume) => volume,
                    None => scope.create_volume("workspace").await.map_err(failed)?,
                };
                let mount = Mount::Volume { volume, at: WORKSPACE_IN_CONTAINER.to_owned(), read_only: false };
                spec.mounts.push(mount.clone());
                sends_workspace = !is_layer;
                filled.extend(sends_workspace.then_some(mount));
            }
            None => {}
        }
        // Where the workspace's own git looks for them.
        let mut sent_objects = Vec::new();
        for objects in job.borrowed_objects.iter().filter(|_| wanted.workspace.is_some()) {
            let at = objects.to_string_lossy().into_owned();
            if self.seen.of(objects) == Some(false) {
                let volume = scope.create_volume("objects").await.map_err(failed)?;
                let mount = |read_only| Mount::Volume { volume: volume.clone(), at: at.clone(), read_only };
                spec.mounts.push(mount(true));
                filled.push(mount(false));
                sent_objects.push(objects.clone());
            } else {
                let (source, known_as) = (objects.clone(), objects.clone());
                bound.push(Bound { source, at, read_only: true, known_as });
            }
        }
        let mut sends_secrets = false;
        if let Some(folder) = job.secret_files().filter(|_| wanted.secrets) {
            let known_as = folder.parent().unwrap_or(&folder).to_owned();
            let at = SECRETS_IN_CONTAINER.to_owned();
            // Files for this user alone are those of the container's user where both are the same to the daemon.
            let is_mine = rustix::process::getuid().is_root() || scope.docker().daemon().rootless;
            if wanted.is_root && is_mine && self.seen.of(&known_as) != Some(false) {
                bound.push(Bound { source: folder, at, read_only: true, known_as });
            } else {
                let volume = scope.create_volume_in_memory("secrets").await.map_err(failed)?;
                let mount = |read_only| Mount::Volume { volume: volume.clone(), at: at.clone(), read_only };
                spec.mounts.push(mount(true));
                filled.push(mount(false));
                sends_secrets = true;
            }
        }
        let mut has_mask = false;
        if let Some(source) = job.mask_file().filter(|_| wanted.workspace.is_some()) {
            let known_as = source.ancestors().nth(2).unwrap_or(&source).to_owned();
            has_mask = self.seen.of(&known_as) != Some(false);
            if has_mask {
                if !wanted.is_root {
                    job.share_mask_file().map_err(|cause| unwritten("the file of LOOM_MASK", &cause))?;
                }
                bound.push(Bound { source, at: FILE_IN_CONTAINER.to_owned(), read_only: false, known_as });
            }
        }
        for Bound { source, at, read_only, .. } in &bound {
            let (source, at) = (source.clone(), at.clone());
            spec.mounts.push(Mount::Bind { source, at, read_only: *read_only });
        }

        let through = ContainerSpec {
            name: format!("{}-files", spec.name),
            image: spec.image.clone(),
            entrypoint: Some(vec!["sh".to_owned()]),
            mounts: filled,
            networking: Networking::None,
            platform: spec.platform.clone(),
            output: KeepOutput::No,
            ..ContainerSpec::default()
        };
        let filler = async {
            if through.mounts.is_empty() {
                return Ok(None);
            }
            scope.create_container(&through).await.map(Some)
        };
        let (container, through) = tokio::join!(Box::pin(scope.create_container(&spec)), Box::pin(filler));
        let (container, through) = match (container, through) {
            (Ok(container), Ok(through)) => (container, through),
            (container, through) => {
                // That it may stay until the end of the job is all that can come of it.
                let made = [container.as_ref().ok(), through.as_ref().ok().and_then(Option::as_ref)];
                for made in made.into_iter().flatten() {
                    let _ = scope.remove(&made.resource()).await;
                }
                let error = match (container, through) {
                    (Err(error), _) | (_, Err(error)) => error,
                    _ => return Ok(None),
                };
                let says = error.to_string();
                let unseen = bound.iter().find(|bound| says.contains(&*bound.source.to_string_lossy()));
                return match unseen {
                    Some(bound) => {
                        self.does_not_see(&bound.known_as, &says);
                        Ok(None)
                    }
                    None => Err(told(&error)),
                };
            }
        };
        if let Some(doubtful) = Box::pin(self.doubtful(&container, &bound, is_layer)).await {
            match doubtful {
                Some(path) => self.does_not_see(&path, "something else is there"),
                None => self.cannot_layer(),
            }
            for made in std::iter::once(&container).chain(&through) {
                let _ = scope.remove(&made.resource()).await;
            }
            return Ok(None);
        }
        let filling = through.map(|through| Filling {
            through,
            workspace: sends_workspace,
            objects: sent_objects,
            secrets: sends_secrets,
        });
        Ok(Some(Made { container, filling, has_mask }))
    }

    /// What of a container that was made turns out not to be what it was to be: a path of this machine, or else the layer.
    async fn doubtful(
        &self,
        container: &Container,
        bound: &[Bound],
        is_layer: bool,
    ) -> Option<Option<PathBuf>> {
        if is_layer && let Err(error) = container.look_at(WORKSPACE_IN_CONTAINER).await {
            tracing::debug!(%error, "workspaces are sent to the daemon");
            return Some(None);
        }
        for Bound { source, at, known_as, .. } in bound {
            if self.seen.of(known_as) == Some(true) {
                continue;
            }
            // The others have names that nobody else has.
            let is_borrowed = source == known_as;
            if is_borrowed && !matches!(container.shows(at, source).await, Ok(true)) {
                return Some(Some(known_as.clone()));
            }
            self.seen.set(known_as, true);
        }
        None
    }

    fn does_not_see(&self, path: &Path, why: &str) {
        tracing::debug!(path = %path.display(), why, "the daemon does not see this");
        self.seen.set(path, false);
    }

    /// The way to the run's copy of the repository that nothing else can have: in the folder of what is on its way.
    fn link(&self, job: &JobContext) -> Result<PathBuf, Told> {
        let make = || {
            if !job.staging.is_dir() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&job.staging)?;
            }
            let link =
                job.staging.join(format!("workspace-{:016x}", RandomState::new().build_hasher().finish()));
            symlink(&job.workspace, &link)?;
            Ok(link)
        };
        make().map_err(|cause| unwritten("a link to the workspace", &cause))
    }
}

impl Filling {
    /// Sends the workspace and git's objects, for the user `user` of the container, while it is being started. Returns what
    /// was sent of the workspace.
    pub(crate) async fn send(
        &self,
        job: &JobContext,
        user: &str,
    ) -> Result<(loom_docker::Ids, Packed), Error> {
        let through = &self.through;
        let owner = ids(through, user).await?;
        for objects in &self.objects {
            through.upload(objects, &objects.to_string_lossy(), owner).await?;
        }
        if !self.workspace {
            return Ok((owner, Packed::default()));
        }
        if owner != loom_docker::Ids::default() {
            through.own(WORKSPACE_IN_CONTAINER, owner, 0o755).await?;
        }
        let packed = through.upload(&job.workspace, WORKSPACE_IN_CONTAINER, owner).await?;
        Ok((owner, packed))
    }

    /// Sends the files of secrets, for `owner` alone, once the container runs, in whose memory they are.
    pub(crate) async fn send_secrets(&self, job: &JobContext, owner: loom_docker::Ids) -> Result<(), Error> {
        if let Some(folder) = job.secret_files().filter(|_| self.secrets) {
            self.through.upload(&folder, SECRETS_IN_CONTAINER, owner).await?;
            self.through.own(SECRETS_IN_CONTAINER, owner, 0o700).await?;
        }
        Ok(())
    }

    /// What is sent besides the workspace, in words.
    pub(crate) fn objects(&self) -> impl Iterator<Item = String> {
        self.objects
            .iter()
            .map(|path| format!("the daemon does not see `{}`: git's objects were sent", path.display()))
    }
}

fn unwritten(what: &str, cause: &std::io::Error) -> Told {
    let message = format!("{what} cannot be made for the container: {cause}");
    Told { kind: ErrorKind::Failed, code: "DOCKER_FILES".to_owned(), message, hint: None }
}

fn not_seen(scope: &Scope, workspace: &Path) -> Told {
    let message = format!(
        "the Docker daemon at {} does not see the workspace `{}`, which is to be mounted as it is",
        scope.docker().daemon().address,
        workspace.display()
    );
    let hint = "use `ephemeral_volume`, for which files are sent, or give the daemon this folder under the same name";
    Told {
        kind: ErrorKind::Unavailable,
        code: "DOCKER_DOES_NOT_SEE".to_owned(),
        message,
        hint: Some(hint.to_owned()),
    }
}
