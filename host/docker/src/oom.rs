//! Whether a container has used up its memory.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt as _;

use crate::{Docker, Error};

/// The event of it and the end of the process take different ways.
const OOM_EVENT: Duration = Duration::from_millis(300);

/// Whether the memory of a container was used up since `since`. It goes on when one of its processes is killed for that;
/// only an event tells of it.
pub(crate) async fn ran_out_of_memory(
    docker: &Docker,
    container_id: &str,
    since: SystemTime,
    doing: String,
) -> Result<bool, Error> {
    let filters = HashMap::from([
        ("container".to_owned(), vec![container_id.to_owned()]),
        ("event".to_owned(), vec!["oom".to_owned()]),
    ]);
    let since = Some(timestamp(since - Duration::from_secs(1)));
    let options = EventsOptions { since, until: None, filters: Some(filters) };
    let mut events = docker.slow().events(Some(options));
    match tokio::time::timeout(OOM_EVENT, events.next()).await {
        Ok(Some(Ok(_))) => Ok(true),
        Ok(Some(Err(error))) => Err(Error::of(doing, error)),
        Ok(None) | Err(_) => Ok(false),
    }
}

fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}
