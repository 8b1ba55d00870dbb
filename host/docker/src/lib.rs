//! The Engine API as Loom needs it, and what jobs do with it.
//!
//! ```text
//!  RunDocker ──> JobDocker ──> JobContainer         what a run and its jobs have of the daemon
//!      │             │             │
//!  Connect ──> Docker ──> Scope ──> Container ──> Exec ──> output, exit code
//!                │          ├─────> Volume, Network, built images
//!                │          └─ remove_all: everything that was made through it
//!                ├─ image, ensure_image (pull)
//!                └─ sweep: what scopes of dead runs have left
//! ```
//!
//! What is made is made through a [`Scope`], which writes it to the run's ledger first, so that it can be
//! found and removed whatever happened. Labels are for people to look at.
//!
//! The crate knows the daemon, and of a job what it has in containers. It knows no plugins, no events and no terminal, and
//! reads no environment. Deliberately absent, since each of them is a way out of a container: privileged containers, added
//! capabilities, devices, the host's namespaces, options of volume and network drivers, published ports.
//!
//! A word of warning: bollard writes its requests to the crate `log` at level `debug`, environments of execs included.
//! Nothing in Loom listens there, and nothing may.
//!
//! Reading order: `connect`, `scope`, `spec`, `container`, `exec` with `control`; then `image`, `login`, `build`,
//! `transfer`, `print`, `health`, `oom`, `remove` (with the sweep); above them `run`, and `job` with the files below it. At
//! the bottom `context`, `resource`, `owner`, `volume`, `network`, `output`, `pack`, `unpack`, `entries`, `ignore`,
//! `signal`, `user`, `visibility`, `workspace`, `random`, `words` and `error`.

mod attach;
mod build;
mod connect;
mod container;
mod context;
mod control;
mod entries;
mod error;
mod exec;
mod health;
mod ignore;
mod image;
mod job;
mod login;
mod network;
mod oom;
mod output;
mod owner;
mod pack;
mod print;
mod random;
mod remove;
mod resource;
mod run;
mod scope;
mod signal;
mod spec;
mod transfer;
mod unpack;
mod user;
mod visibility;
mod volume;
mod words;
mod workspace;

pub use attach::AttachSpec;
#[doc(hidden)]
pub use build::context_of;
pub use build::{Build, Builder};
pub use connect::{Daemon, Docker};
pub use container::{Container, ContainerState, Exit, Health, Status};
pub use context::Connect;
pub use control::ExecControl;
pub use error::{Attempt, Error, Gone, Reason};
pub use exec::{Exec, ExecExit};
pub use health::Expect;
pub use image::{ImageInfo, PullPolicy};
pub use job::JobDocker;
pub use job::container::{JobContainer, JobContainerSpec, JobEnv};
pub use job::files::VolumeFiles;
pub use job::inputs::{JobInputs, MASK, Notice, Notify, SECRETS, WORKSPACE, WorkspaceMount};
pub use job::services::{ServiceEnd, ServiceRecorder, Services};
pub use login::Logins;
pub use network::{Network, Outside};
pub use output::{Chunk, Follow, Output, Stream};
pub use owner::Owner;
pub use pack::{Ids, Packed};
pub use remove::{Residual, Swept, sweep};
pub use resource::{Kind, Resource};
pub use run::{DockerConfig, RunDocker};
pub use scope::Scope;
pub use signal::Signal;
pub use spec::{ContainerSpec, ExecSpec, Healthcheck, KeepOutput, Mount, Networking};
pub use unpack::Unpacked;
pub use volume::Volume;
