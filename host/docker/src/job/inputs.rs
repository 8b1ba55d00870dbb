//! What a job brings to its containers, and what it is told of them.

use std::path::PathBuf;

use crate::Packed;

/// Where a container finds the job's workspace. From the specification of the Docker provider.
pub const WORKSPACE: &str = "/workspace";
/// Where a container finds the files of the job's secrets. From the specification.
pub const SECRETS: &str = "/run/loom/secrets";
/// Where a container finds the file into which the job writes what is to be masked.
pub const MASK: &str = "/run/loom/mask";

/// What a job is, and has on this machine.
#[derive(Debug, Clone)]
pub struct JobInputs {
    /// The run.
    pub run_id: String,
    /// The job.
    pub job_id: String,
    /// The run's copy of the repository.
    pub workspace: PathBuf,
    /// Folders outside of it whose git objects it needs.
    pub borrowed_objects: Vec<PathBuf>,
    /// A folder for what is on its way, which is made when it is needed, and removed by whoever runs the job.
    pub staging: PathBuf,
    /// The folder with the files of its secrets, for this user alone.
    pub secrets: Option<PathBuf>,
    /// The file into which it writes what is to be masked, in a folder of the job's own in one of the run's own.
    pub mask: Option<PathBuf>,
}

/// How the workspace comes into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkspaceMount {
    /// As a copy in a volume of its own, or a layer over the run's copy that keeps what is written.
    EphemeralVolume,
    /// The run's copy of the repository itself.
    BindMount,
}

/// What a job is told of its containers, for its record.
#[derive(Debug)]
pub enum Notice {
    /// The workspace was sent into a volume.
    WorkspaceSent(Packed),
    /// The workspace is a layer over the run's copy of the repository.
    WorkspaceLayered,
    /// The workspace is the run's copy of the repository itself.
    WorkspaceBound,
    /// The daemon does not see this folder of git's objects, which were sent.
    ObjectsSent(PathBuf),
    /// The daemon does not see the file into which the job would write what is to be masked.
    MaskUnavailable,
    /// The workspace, mounted as it is, belongs to this user while the job has it.
    WorkspaceGiven {
        /// The user's number.
        uid: u32,
    },
    /// The workspace, mounted as it is for jobs on the host too, cannot be given to this user.
    WorkspaceNotGiven {
        /// The user's number.
        uid: u32,
    },
}

/// Takes notices.
pub type Notify<'a> = dyn Fn(Notice) + Send + Sync + 'a;
