//! Creating a job's containers: what the daemon sees of this machine is mounted, and what it does not see is sent.
//!
//! A daemon may be on another machine, or Loom in a container. What lies under the same name there is something else, and
//! must not be taken for Loom's. So the run's copy of the repository is mounted by the way of a link that has a random name
//! of Loom's own, the folder of secrets has the run's name, and git's objects are compared. Each costs nothing, or two
//! short requests once in a run.

use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::job::JobDocker;
use crate::job::container::{JobContainer, JobContainerSpec, JobEnv, Upload, put_below};
use crate::job::give_back::BoundWorkspace;
use crate::job::inputs::{MASK, Notice, Notify, SECRETS, WORKSPACE, WorkspaceMount};
use crate::random::random;
use crate::user::{ids, is_root};
use crate::workspace::WorkspaceLease;
use crate::{Container, ContainerSpec, Error, Ids, ImageInfo, KeepOutput, Mount, Networking};

/// Reads from its input, which is kept nowhere, a script that sets those secrets that are variables, and becomes what would
/// have run without. What every shell has in itself is enough for it.
const TAKE_VARIABLES: &str = r#"while IFS= read -r LOOM_LINE; do LOOM_SCRIPT="$LOOM_SCRIPT$LOOM_LINE
"; done
eval "$LOOM_SCRIPT" && [ "$LOOM_LAST" = line ] || exit 125
unset LOOM_LINE LOOM_SCRIPT LOOM_LAST
exec "$@" </dev/null"#;
/// By which it knows that it has all of it.
const LAST_VARIABLE: &[u8] = b"LOOM_LAST=line\n";

/// What a container is to have of the job.
struct Contents {
    workspace: Option<WorkspaceMount>,
    /// The files of its secrets.
    secrets: bool,
    /// Its processes are root's.
    is_root: bool,
    /// Whose its processes are, in the image's words.
    user: String,
}

/// A container that was created, and what its volumes are still to be filled with.
struct Created {
    container: Container,
    upload: Option<Upload>,
    /// Whose the files of a workspace are that is a layer over the run's copy.
    layer_owner: Ids,
    /// The file is in it into which the job writes what is to be masked.
    has_mask: bool,
}

/// Something of this machine that is mounted.
struct BindMount {
    source: PathBuf,
    at: String,
    read_only: bool,
    /// By which it is known whether the daemon sees it.
    known_as: PathBuf,
}

/// What of a container is not what it was to be.
enum Mismatch {
    /// What the daemon has at a path is not what is there on this machine.
    Path(PathBuf),
    /// The workspace cannot be a layer over the run's copy.
    Layer,
    /// The user of the container is not the one whose the files of that copy are.
    Owner,
}

impl JobDocker {
    /// Creates a container from `spec`, with what it is to have of the job. It does not run yet.
    ///
    /// # Errors
    /// What the daemon says; [`Error::NotVisible`] where it does not see a workspace that is to be mounted as it is.
    pub async fn create_container(
        &self,
        spec: JobContainerSpec,
        notify: &Notify<'_>,
    ) -> Result<JobContainer, Error> {
        let JobContainerSpec { mut spec, workspace, secrets, inherited, is_service } = spec;
        spec.platform = spec.platform.or_else(|| self.run.config().default_platform.clone());
        let image = self.image(&spec.image);
        let of_image = || image.as_ref().map(|image| image.user.clone());
        let user = spec.user.clone().or_else(of_image).unwrap_or_default();
        let input = inherited.and_then(|env| inherit(&mut spec, env, image.as_ref()));
        if workspace.is_some() {
            spec.working_dir = Some(WORKSPACE.to_owned());
        }
        let contents = Contents { workspace, secrets, is_root: is_root(&user), user };
        // On the heap, as other long ones: the stack of who calls may be small.
        let Created { container, upload, layer_owner, has_mask } =
            Box::pin(self.create(&spec, &contents)).await?;
        let user = contents.user;
        if workspace.is_some() && !has_mask && self.inputs.mask.is_some() {
            notify(Notice::MaskUnavailable);
        }
        if workspace == Some(WorkspaceMount::BindMount) {
            let lease = Box::pin(self.lease_workspace(&container, &user, notify)).await?;
            // One is enough to give the files back with.
            let bound = BoundWorkspace { container: container.clone(), image: spec.image, lease };
            let _ = self.bound.set(bound);
        }
        let program = spec.entrypoint.and_then(|words| words.into_iter().next()).unwrap_or_default();
        Ok(JobContainer {
            container,
            program,
            user,
            workspace,
            upload,
            layer_owner,
            input,
            is_service,
            has_mask,
        })
    }

    /// Waits until the job may have the run's copy of the repository, which `container` has mounted as it is, and whose
    /// processes are those of `user`.
    async fn lease_workspace(
        &self,
        container: &Container,
        user: &str,
        notify: &Notify<'_>,
    ) -> Result<WorkspaceLease, Error> {
        let user = if is_root(user) { Ids::default() } else { ids(container, user).await? };
        let is_mine = !self.daemon().rootless && user.uid == rustix::process::getuid().as_raw();
        let workspace = self.run.workspace();
        if user.uid == 0 || is_mine {
            return Ok(workspace.share().await);
        }
        if !self.run.config().alone {
            notify(Notice::WorkspaceNotGiven { uid: user.uid });
            return Ok(workspace.share().await);
        }
        notify(Notice::WorkspaceGiven { uid: user.uid });
        Ok(workspace.give_to(user).await)
    }

    /// Creates a container from `spec` that has `contents`.
    async fn create(&self, spec: &ContainerSpec, contents: &Contents) -> Result<Created, Error> {
        loop {
            // Each other attempt knows of one more path that is not seen.
            if let Some(created) = Box::pin(self.attempt(spec, contents)).await? {
                return Ok(created);
            }
        }
    }

    /// One attempt; nothing where the daemon does not see something that it was hoped to, of which the next one knows.
    async fn attempt(&self, spec: &ContainerSpec, contents: &Contents) -> Result<Option<Created>, Error> {
        let (scope, job, seen) = (&self.scope, &self.inputs, self.run.visibility());
        let mut spec = spec.clone();
        let mut bound: Vec<BindMount> = Vec::new();
        let mut filled: Vec<Mount> = Vec::new();
        let (mut sends_workspace, mut is_layer) = (false, false);
        match contents.workspace {
            Some(WorkspaceMount::BindMount) => {
                if seen.of(&job.workspace) == Some(false) {
                    return Err(Error::NotVisible {
                        address: self.daemon().address.clone(),
                        path: job.workspace.clone(),
                    });
                }
                bound.push(BindMount {
                    source: self.link()?,
                    at: WORKSPACE.to_owned(),
                    read_only: false,
                    known_as: job.workspace.clone(),
                });
            }
            Some(WorkspaceMount::EphemeralVolume) => {
                let layer = match self.run.may_layer(&spec.image, &contents.user) {
                    true => scope.create_volume_over("workspace", &self.link()?).await?,
                    false => None,
                };
                is_layer = layer.is_some();
                let volume = match layer {
                    Some(volume) => volume,
                    None => scope.create_volume("workspace").await?,
                };
                let mount = Mount::Volume { volume, at: WORKSPACE.to_owned(), read_only: false };
                spec.mounts.push(mount.clone());
                sends_workspace = !is_layer;
                filled.extend(sends_workspace.then_some(mount));
            }
            None => {}
        }
        // Where the workspace's own git looks for them.
        let mut sent_objects = Vec::new();
        for objects in job.borrowed_objects.iter().filter(|_| contents.workspace.is_some()) {
            let at = objects.to_string_lossy().into_owned();
            if seen.of(objects) == Some(false) {
                let volume = scope.create_volume("objects").await?;
                let mount = |read_only| Mount::Volume { volume: volume.clone(), at: at.clone(), read_only };
                spec.mounts.push(mount(true));
                filled.push(mount(false));
                sent_objects.push(objects.clone());
            } else {
                let (source, known_as) = (objects.clone(), objects.clone());
                bound.push(BindMount { source, at, read_only: true, known_as });
            }
        }
        let mut sends_secrets = false;
        if let Some(folder) = job.secrets.clone().filter(|_| contents.secrets) {
            let known_as = folder.parent().unwrap_or(&folder).to_owned();
            let at = SECRETS.to_owned();
            // Files for this user alone are those of the container's user where both are the same to the daemon.
            let is_mine = rustix::process::getuid().is_root() || self.daemon().rootless;
            if contents.is_root && is_mine && seen.of(&known_as) != Some(false) {
                bound.push(BindMount { source: folder, at, read_only: true, known_as });
            } else {
                let volume = scope.create_volume_in_memory("secrets").await?;
                let mount = |read_only| Mount::Volume { volume: volume.clone(), at: at.clone(), read_only };
                spec.mounts.push(mount(true));
                filled.push(mount(false));
                sends_secrets = true;
            }
        }
        let mut has_mask = false;
        if let Some(source) = job.mask.clone().filter(|_| contents.workspace.is_some()) {
            let known_as = source.ancestors().nth(2).unwrap_or(&source).to_owned();
            has_mask = seen.of(&known_as) != Some(false);
            if has_mask {
                bound.push(BindMount { source, at: MASK.to_owned(), read_only: false, known_as });
            }
        }
        for BindMount { source, at, read_only, .. } in &bound {
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
                let created = [container.as_ref().ok(), through.as_ref().ok().and_then(Option::as_ref)];
                for created in created.into_iter().flatten() {
                    let _ = scope.remove(&created.resource()).await;
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
                    None => Err(error),
                };
            }
        };
        let mut layer_owner = Ids::default();
        let mut mismatch = Box::pin(self.mismatch(&container, &bound, is_layer)).await;
        if mismatch.is_none() && is_layer && !contents.is_root {
            layer_owner = ids(&container, &contents.user).await?;
            if layer_owner.uid == rustix::process::getuid().as_raw() {
                container.own(WORKSPACE, layer_owner, 0o755).await?;
            } else {
                mismatch = Some(Mismatch::Owner);
            }
        }
        if let Some(mismatch) = mismatch {
            match mismatch {
                Mismatch::Path(path) => self.does_not_see(&path, "something else is there"),
                Mismatch::Layer => self.run.cannot_layer(),
                Mismatch::Owner => self.run.cannot_layer_for(&spec.image, &contents.user),
            }
            for created in std::iter::once(&container).chain(&through) {
                let _ = scope.remove(&created.resource()).await;
            }
            return Ok(None);
        }
        let upload = through.map(|through| Upload {
            through,
            workspace: sends_workspace,
            objects: sent_objects,
            secrets: sends_secrets,
        });
        Ok(Some(Created { container, upload, layer_owner, has_mask }))
    }

    /// What of a container that was made turns out not to be what it was to be.
    async fn mismatch(&self, container: &Container, bound: &[BindMount], is_layer: bool) -> Option<Mismatch> {
        if is_layer && let Err(error) = container.look_at(WORKSPACE).await {
            tracing::debug!(%error, "workspaces are sent to the daemon");
            return Some(Mismatch::Layer);
        }
        let seen = self.run.visibility();
        for BindMount { source, at, known_as, .. } in bound {
            if seen.of(known_as) == Some(true) {
                continue;
            }
            // The others have names that nobody else has.
            let is_borrowed = source == known_as;
            if is_borrowed && !matches!(container.shows(at, source).await, Ok(true)) {
                return Some(Mismatch::Path(known_as.clone()));
            }
            seen.set(known_as, true);
        }
        None
    }

    fn does_not_see(&self, path: &Path, why: &str) {
        tracing::debug!(path = %path.display(), why, "the daemon does not see this");
        self.run.visibility().set(path, false);
    }

    /// The way to the run's copy of the repository that nothing else can have: in the folder of what is on its way.
    fn link(&self) -> Result<PathBuf, Error> {
        let (staging, workspace) = (&self.inputs.staging, &self.inputs.workspace);
        let make = || {
            if !staging.is_dir() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(staging)?;
            }
            let link = staging.join(format!("workspace-{:016x}", random()));
            symlink(workspace, &link)?;
            Ok(link)
        };
        make().map_err(|source| Error::NotStaged { what: "a link to the workspace", source })
    }
}

/// Gives a container's own processes the job's environment. Returns what is to be their first input: the secrets that are
/// variables, which a shell of the image reads before it becomes what `spec` says.
fn inherit(
    spec: &mut ContainerSpec,
    env: JobEnv,
    image: Option<&ImageInfo>,
) -> Option<Arc<Zeroizing<Vec<u8>>>> {
    let JobEnv { variables, secret_script } = env;
    put_below(variables, &mut spec.env);
    let mut script = secret_script?;
    let own = |given: &Option<Vec<String>>, of_image: fn(&ImageInfo) -> &Vec<String>| {
        given.clone().or_else(|| Some(of_image(image?).clone())).unwrap_or_default()
    };
    let mut command = vec!["-c".to_owned(), TAKE_VARIABLES.to_owned(), "sh".to_owned()];
    command.extend(own(&spec.entrypoint, |image| &image.entrypoint));
    if spec.entrypoint.is_none() || spec.command.is_some() {
        command.extend(own(&spec.command, |image| &image.command));
    }
    spec.entrypoint = Some(vec!["sh".to_owned()]);
    spec.command = Some(command);
    spec.takes_input = true;
    script.extend_from_slice(LAST_VARIABLE);
    Some(Arc::new(script))
}
