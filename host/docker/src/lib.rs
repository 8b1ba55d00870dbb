//! The Engine API as Loom needs it.
//!
//! ```text
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
//! The crate knows the daemon; it knows no plugins, no jobs and no terminal, and reads no environment. Deliberately
//! absent, since each of them is a way out of a container: privileged containers, added capabilities, devices, the
//! host's namespaces, options of volume and network drivers, published ports.
//!
//! A word of warning: bollard writes its requests to the crate `log` at level `debug`, environments of execs included.
//! Nothing in Loom listens there, and nothing may.
//!
//! Reading order: `connect`, `scope`, `spec`, `container`, `exec`; then `image`, `login`, `build`, `transfer`,
//! `print`, `health`, `remove` (with the sweep); at the bottom `context`, `pack`, `unpack`, `entries`, `ignore`, `signal` and
//! `error`.

mod build;
mod connect;
mod container;
mod context;
mod entries;
mod error;
mod exec;
mod health;
mod ignore;
mod image;
mod login;
mod pack;
mod print;
mod remove;
mod scope;
mod signal;
mod spec;
mod transfer;
mod unpack;

#[doc(hidden)]
pub use build::context_of;
pub use build::{Build, Builder};
pub use connect::{Connect, Daemon, Docker};
pub use container::{Chunk, Container, ContainerState, Exit, Follow, Health, Output, Status, Stream};
pub use error::{Attempt, Error, Gone, Reason};
pub use exec::{Exec, ExecExit, ExecSpec};
pub use health::Expect;
pub use image::{ImageInfo, PullPolicy};
pub use login::Logins;
pub use pack::{Ids, Packed};
pub use remove::{Leftover, Swept, sweep};
pub use scope::{Kind, Network, Outside, Owner, Scope, Thing, Volume};
pub use signal::{ExecControl, Signal};
pub use spec::{ContainerSpec, Healthcheck, KeepOutput, Mount, Networking};
pub use unpack::Unpacked;
