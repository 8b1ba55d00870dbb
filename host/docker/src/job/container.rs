//! A job's container: filled, started, and used.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::job::JobDocker;
use crate::job::files::VolumeFiles;
use crate::job::inputs::{JobInputs, Notice, Notify, SECRETS, WORKSPACE, WorkspaceMount};
use crate::user::{ids, is_root};
use crate::{AttachSpec, Container, ContainerSpec, Error, Exec, ExecSpec, Gone, Ids, Packed, Status};

/// The exit code of a process that cannot find the program that it is to run.
const NO_PROGRAM: i64 = 127;

/// A container to be made for a job.
#[derive(Clone, Default)]
pub struct JobContainerSpec {
    /// What the daemon is asked for. What it is to have of the job is added.
    pub spec: ContainerSpec,
    /// How the workspace comes into it; nothing where it does not.
    pub workspace: Option<WorkspaceMount>,
    /// It has the files of the job's secrets.
    pub secrets: bool,
    /// The job's environment, where its own processes have that.
    pub inherited: Option<JobEnv>,
    /// It runs beside the steps.
    pub is_service: bool,
}

/// The environment of a job, for the processes that a container starts with.
#[derive(Clone, Default)]
pub struct JobEnv {
    /// Without secrets: the daemon keeps them.
    pub variables: Vec<(String, String)>,
    /// A shell script that sets those of its secrets that are variables.
    pub secret_script: Option<Zeroizing<Vec<u8>>>,
}

/// A container of a job. Clones are the same container.
#[derive(Clone)]
pub struct JobContainer {
    pub(crate) container: Container,
    /// What it starts with.
    pub(crate) program: String,
    /// Who runs its processes.
    pub(crate) user: String,
    pub(crate) workspace: Option<WorkspaceMount>,
    /// What its volumes are filled with.
    pub(crate) upload: Option<Upload>,
    /// Whose the files of a workspace are that is a layer over the run's copy.
    pub(crate) layer_owner: Ids,
    /// What it is given as its input.
    pub(crate) input: Option<Arc<Zeroizing<Vec<u8>>>>,
    pub(crate) is_service: bool,
    /// Whether the file is in it into which the job writes what is to be masked.
    pub(crate) has_mask: bool,
}

/// What is sent into the volumes of a container.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// A second container with the same volumes, which never runs: the daemon does one thing at a time with a container,
    /// and starting one takes long.
    pub(crate) through: Container,
    /// The run's copy of the repository.
    pub(crate) workspace: bool,
    /// Folders of git's objects.
    pub(crate) objects: Vec<PathBuf>,
    /// The files of secrets.
    pub(crate) secrets: bool,
}

impl JobDocker {
    /// Fills the volumes of `container`, and starts it. Returns the job's files, where it works in a volume.
    ///
    /// # Errors
    /// [`Error::NotStarted`] where its program cannot be run, or has ended at once; else what the daemon says, or that
    /// something that is to be sent cannot be read.
    pub async fn start(
        &self,
        container: &JobContainer,
        notify: &Notify<'_>,
    ) -> Result<Option<VolumeFiles>, Error> {
        let JobContainer {
            container,
            program,
            user,
            workspace,
            upload,
            layer_owner,
            input,
            is_service,
            has_mask: _,
        } = container;
        let start = async {
            match input {
                Some(input) => container.start_with_input(input).await,
                None => container.start().await,
            }
        };
        if *is_service {
            return Box::pin(start).await.map(|()| None);
        }
        let start = async {
            start.await?;
            let state = container.state().await?;
            if state.status != Status::Ended {
                return Ok(());
            }
            Err(not_started(program, state.exit_code))
        };
        let filled = match upload {
            None => Box::pin(start).await.map(|()| None)?,
            Some(upload) => {
                let send = upload.send(&self.inputs, user);
                let (started, sent) = tokio::join!(Box::pin(start), Box::pin(send));
                started?;
                let (owner, packed) = sent?;
                Box::pin(upload.send_secrets(&self.inputs, owner)).await?;
                // What stays now goes with the job.
                let _ = self.scope.remove(&upload.through.resource()).await;
                Some((owner, packed))
            }
        };
        let objects = upload.iter().flat_map(|upload| &upload.objects);
        objects.for_each(|path| notify(Notice::ObjectsSent(path.clone())));
        let owner = match (workspace, filled) {
            (Some(WorkspaceMount::EphemeralVolume), Some((owner, packed)))
                if upload.as_ref().is_some_and(|upload| upload.workspace) =>
            {
                notify(Notice::WorkspaceSent(packed));
                owner
            }
            (Some(WorkspaceMount::EphemeralVolume), _) => {
                notify(Notice::WorkspaceLayered);
                *layer_owner
            }
            (Some(WorkspaceMount::BindMount), _) => {
                notify(Notice::WorkspaceBound);
                return Ok(None);
            }
            (None, _) => return Ok(None),
        };
        Ok(Some(VolumeFiles { container: container.clone(), owner }))
    }

    /// Starts a command in `container`, with the job's environment `inherited`, secrets included, where it has that; the
    /// command's own variables go before.
    ///
    /// # Errors
    /// As [`Container::exec`].
    pub async fn exec(
        &self,
        container: &JobContainer,
        mut spec: ExecSpec,
        inherited: Option<Vec<(String, String)>>,
    ) -> Result<Exec, Error> {
        if let Some(env) = inherited {
            put_below(container.with_trust(env), &mut spec.env);
        }
        container.container.exec(&spec).await
    }
}

impl JobDocker {
    /// Runs a command in `container` with the standard streams of this process and the job's environment `env`, secrets
    /// included, and returns its exit code.
    ///
    /// # Errors
    /// As [`Container::attach`].
    pub async fn attach(
        &self,
        container: &JobContainer,
        command: Vec<String>,
        env: Vec<(String, String)>,
    ) -> Result<i64, Error> {
        let env = container.with_trust(env);
        container.container.attach(&AttachSpec { command, env }).await
    }
}

impl fmt::Debug for JobContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContainer").field("container", &self.container).finish_non_exhaustive()
    }
}

impl JobContainer {
    /// The job's environment `env` for a command in it.
    fn with_trust(&self, mut env: Vec<(String, String)>) -> Vec<(String, String)> {
        let is_sent = self.upload.as_ref().is_some_and(|upload| upload.workspace);
        // What was not sent belongs to the user outside, whom git in there does not trust.
        if self.workspace.is_some() && !is_sent && !env.iter().any(|(name, _)| name == "GIT_CONFIG_COUNT") {
            let trust = [("COUNT", "1"), ("KEY_0", "safe.directory"), ("VALUE_0", WORKSPACE)];
            env.extend(trust.map(|(name, value)| (format!("GIT_CONFIG_{name}"), value.to_owned())));
        }
        env
    }

    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Whether the workspace is in it.
    pub fn has_workspace(&self) -> bool {
        self.workspace.is_some()
    }

    /// Whether it runs beside the steps.
    pub fn is_service(&self) -> bool {
        self.is_service
    }

    /// Whether the file is in it into which the job writes what is to be masked.
    pub fn has_mask(&self) -> bool {
        self.has_mask
    }

    /// Whether that file must be opened to other users than this one, before the container starts.
    pub fn shares_mask(&self) -> bool {
        self.has_mask && !is_root(&self.user)
    }

    /// Why a command in it did not come to an end of its own, where `error` is what was seen of that: the container itself
    /// may have ended before or meanwhile.
    pub async fn explain(&self, error: Error) -> Error {
        let how = match self.container.state().await {
            Ok(state) if state.status == Status::Ended && !state.oom_killed => {
                Gone::Ended { exit_code: state.exit_code }
            }
            _ => match error {
                Error::Gone { how, .. } => how,
                error => return error,
            },
        };
        match how {
            // Its first process starts its program, and says by its exit code why it could not.
            Gone::Ended { exit_code: NO_PROGRAM } => not_started(&self.program, NO_PROGRAM),
            how => Error::Gone { container: self.container.name().to_owned(), how },
        }
    }
}

impl Upload {
    /// Sends the workspace and git's objects, for the user `user` of the container, while it is being started. Returns what
    /// was sent of the workspace, and whose it is.
    async fn send(&self, job: &JobInputs, user: &str) -> Result<(Ids, Packed), Error> {
        let through = &self.through;
        let owner = ids(through, user).await?;
        for objects in &self.objects {
            through.upload(objects, &objects.to_string_lossy(), owner).await?;
        }
        if !self.workspace {
            return Ok((owner, Packed::default()));
        }
        if owner != Ids::default() {
            through.own(WORKSPACE, owner, 0o755).await?;
        }
        let packed = through.upload(&job.workspace, WORKSPACE, owner).await?;
        Ok((owner, packed))
    }

    /// Sends the files of secrets, for `owner` alone, once the container runs, in whose memory they are.
    async fn send_secrets(&self, job: &JobInputs, owner: Ids) -> Result<(), Error> {
        if let Some(folder) = job.secrets.as_ref().filter(|_| self.secrets) {
            self.through.upload(folder, SECRETS, owner).await?;
            self.through.own(SECRETS, owner, 0o700).await?;
        }
        Ok(())
    }
}

/// Adds the variables `below` to `own`, before them; those of the same name in `own` stay.
pub(super) fn put_below(mut below: Vec<(String, String)>, own: &mut Vec<(String, String)>) {
    below.retain(|(name, _)| !own.iter().any(|(other, _)| other == name));
    below.append(own);
    *own = below;
}

fn not_started(program: &str, exit_code: i64) -> Error {
    let words = match exit_code {
        NO_PROGRAM => format!("exec: \"{program}\": executable file not found in $PATH"),
        other => format!("it ended at once with exit code {other}"),
    };
    Error::NotStarted { program: program.to_owned(), words }
}
