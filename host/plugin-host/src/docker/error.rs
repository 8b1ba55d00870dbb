//! Errors of the daemon for plugins and for sections.

use loom_contract::error::ErrorInfo;
use loom_contract::event::Finish;
use loom_contract::status::Status;
use loom_docker::Error;
use loom_engine::port::JobContext;

use crate::types::{Error as PluginError, ErrorKind};

/// An error of the daemon for a plugin.
pub(crate) fn to_plugin_error(error: &Error) -> PluginError {
    let (kind, code) = match error {
        Error::Unreachable { .. } => (ErrorKind::Unavailable, "DOCKER_UNREACHABLE"),
        Error::WentAway { .. } | Error::Unresponsive { .. } => (ErrorKind::Unavailable, "DOCKER_WENT_AWAY"),
        Error::Gone { .. } => (ErrorKind::Unavailable, "CONTAINER_GONE"),
        Error::NotStarted { .. } => (ErrorKind::NotFound, "CONTAINER_NOT_STARTED"),
        Error::Refused { .. } if error.is_not_found() => (ErrorKind::NotFound, "DOCKER_NOT_FOUND"),
        Error::Refused { .. } => (ErrorKind::Failed, "DOCKER_REFUSED"),
        Error::Build { .. } => (ErrorKind::Failed, "IMAGE_BUILD_FAILED"),
        Error::NotHealthy { .. } => (ErrorKind::Failed, "SERVICE_NOT_HEALTHY"),
        Error::Invalid { .. } => (ErrorKind::Invalid, "DOCKER_INVALID"),
        Error::Login { .. } => (ErrorKind::Failed, "DOCKER_LOGIN"),
        Error::NotRecorded { .. } => (ErrorKind::Failed, "DOCKER_NOT_RECORDED"),
        Error::Closed { .. } => (ErrorKind::Cancelled, "DOCKER_CLOSED"),
        Error::NotVisible { .. } => (ErrorKind::Unavailable, "DOCKER_DOES_NOT_SEE"),
        Error::NotStaged { .. } | Error::Unsafe { .. } | Error::File { .. } => {
            (ErrorKind::Failed, "DOCKER_FILES")
        }
    };
    PluginError {
        kind,
        code: code.to_owned(),
        message: error.to_string(),
        hint: error.hint().map(str::to_owned),
    }
}

/// The same for the engine.
pub(super) fn error_info(error: &Error) -> ErrorInfo {
    for_engine(to_plugin_error(error))
}

/// How a section ends in which `error` came up.
pub(crate) fn section_end(job: &JobContext, error: &PluginError) -> Finish {
    finish_of(job, for_engine(error.clone()))
}

/// The same error. The host has made it: unlike what a guest returns
/// ([`into_error_info`](crate::instance::into_error_info)), it needs no checks.
fn for_engine(PluginError { code, message, hint, .. }: PluginError) -> ErrorInfo {
    ErrorInfo { code: code.into(), message, hint }
}

pub(crate) fn finish_of(job: &JobContext, error: ErrorInfo) -> Finish {
    match job.cancel.is_cancelled() {
        true => Finish::new(Status::Cancelled),
        false => Finish::failed(error),
    }
}
