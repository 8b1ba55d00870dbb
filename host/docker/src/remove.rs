//! Removal of what was made, in an order and with a patience that work; and of what dead runs have left.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use bollard::models::NetworkDisconnectRequest;
use bollard::query_parameters::{
    InspectContainerOptions, InspectNetworkOptions, RemoveContainerOptions, RemoveVolumeOptions,
};
use futures_util::future::join_all;
use loom_ownership::{Object, Runs};
use tokio::time::Instant;

use crate::scope::{RUN_ID, is_anonymous};
use crate::{Docker, Error, Kind, Reason, Thing};

/// What is in use, or being removed by somebody else, is asked for again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long after somebody who is gone asked for something, it may still appear.
const STILL_MAKING: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Something that could not be removed.
#[derive(Debug)]
pub struct Leftover {
    /// What.
    pub thing: Thing,
    /// Why not.
    pub why: Error,
}

/// What a [`sweep`] did.
#[derive(Debug, Default)]
pub struct Swept {
    /// What is gone.
    pub removed: Vec<Thing>,
    /// What could not be removed.
    pub left: Vec<Leftover>,
}

/// Removes what runs that do not live any more have left with this daemon: what their ledgers list, and nothing else.
pub async fn sweep(docker: &Docker, runs: &Runs) -> Swept {
    let mut swept = Swept::default();
    for mut entry in runs.not_alive() {
        let here = |object: &&Object| object.daemon == docker.daemon().address;
        let objects: Vec<Object> = entry.objects().iter().filter(here).cloned().collect();
        let mut things = BTreeSet::new();
        for object in &objects {
            match find(docker, object, entry.run_id().as_str()).await {
                Ok(Some(thing)) => drop(things.insert(thing)),
                // A daemon that was asked for it may still be making it.
                Ok(None) if object.id.is_none() && is_recent(entry.last_written()) => {}
                Ok(None) => entry.forget(object.kind, &object.name),
                Err(error) => {
                    tracing::debug!(%error, name = object.name, "a dead run's thing is not looked at")
                }
            }
        }
        let left = all(docker, things.clone()).await;
        things.retain(|thing| !left.iter().any(|left| left.thing == *thing));
        things.iter().for_each(|thing| entry.forget(thing.kind, &thing.name));
        swept.removed.extend(things);
        swept.left.extend(left);
        if let Err(error) = entry.close() {
            tracing::warn!(%error, "the ledger of a dead run stays");
        }
    }
    swept
}

/// Whether a daemon may still be doing what was asked for at the time `at`.
fn is_recent(at: Option<SystemTime>) -> bool {
    at.is_some_and(|at| at.elapsed().is_ok_and(|since| since < STILL_MAKING))
}

/// What the daemon has that is `object` of the run `run_id`. `None` where there is nothing of that name, or something else:
/// of another id than the ledger says, or without the label that only what was made for the run has.
///
/// # Errors
/// The daemon does not say.
pub(crate) async fn find(docker: &Docker, object: &Object, run_id: &str) -> Result<Option<Thing>, Error> {
    let (name, api) = (object.name.as_str(), docker.api());
    let doing = format!("look for {name}");
    let found = match object.kind {
        Kind::Container => {
            let inspect = api.inspect_container(name, None::<InspectContainerOptions>);
            let found = docker.watch(&doing, inspect).await?;
            found.map(|found| (found.id, found.config.and_then(|config| config.labels)))
        }
        Kind::Network => {
            let inspect = api.inspect_network(name, None::<InspectNetworkOptions>);
            let found = docker.watch(&doing, inspect).await?;
            // The daemon takes the beginning of an id for a name, too.
            found.map(|found| (found.id.filter(|_| found.name.as_deref() == Some(name)), found.labels))
        }
        Kind::Volume => {
            let found = docker.watch(&doing, api.inspect_volume(name)).await?;
            found.map(|found| (Some(found.name), Some(found.labels)))
        }
    };
    let (id, labels) = match found.map_err(|error| Error::of(doing, error)) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_labelled = labels.is_some_and(|labels| labels.get(RUN_ID).is_some_and(|run| run == run_id));
    // Volumes that the daemon made for a container of ours have no label, and a name that it made up.
    let is_unlabelled = object.kind == Kind::Volume && object.id.is_some() && is_anonymous(name);
    let is_it = object.id.is_none() || object.id == id;
    let id = id.filter(|_| is_it && (is_labelled || is_unlabelled));
    Ok(id.map(|id| Thing { kind: object.kind, id, name: name.to_owned() }))
}

/// Removes all of `things`: containers, then networks, then volumes, those of a kind at once. But containers that
/// may share a network go one after the other: a daemon that takes two of them out of it at once can lock itself up, and
/// never takes or makes a network again (moby/libnetwork issue 2649).
pub(crate) async fn all(docker: &Docker, things: BTreeSet<Thing>) -> Vec<Leftover> {
    let mut left: Vec<Leftover> = Vec::new();
    let have_network = things.iter().any(|thing| thing.kind == Kind::Network);
    for kind in [Kind::Container, Kind::Network, Kind::Volume] {
        let things = things.iter().filter(|thing| thing.kind == kind);
        // What does not answer would not answer for each of them.
        if left.iter().any(|left| matches!(left.why, Error::WentAway { .. } | Error::Unresponsive { .. })) {
            let unasked = |thing: &Thing| Error::Unresponsive { doing: format!("remove the {thing}") };
            left.extend(things.map(|thing| Leftover { thing: thing.clone(), why: unasked(thing) }));
            continue;
        }
        let removals = things.map(async |thing| {
            let removed = one(docker, thing).await;
            removed.err().map(|why| Leftover { thing: thing.clone(), why })
        });
        if kind == Kind::Container && have_network {
            for removal in removals {
                left.extend(removal.await);
            }
        } else {
            left.extend(join_all(removals).await.into_iter().flatten());
        }
    }
    left
}

/// Removes one thing; that it is gone already is fine.
pub(crate) async fn one(docker: &Docker, thing: &Thing) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match attempt(docker, thing).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => error,
        };
        let in_use = matches!(&error, Error::Refused { reason: Reason::Conflict, .. });
        if !in_use || Instant::now() >= until {
            return Err(error);
        }
        if thing.kind == Kind::Network {
            disconnect_all(docker, thing).await?;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn attempt(docker: &Docker, thing: &Thing) -> Result<(), Error> {
    let (doing, id) = (format!("remove the {thing}"), &thing.id);
    let removed = match thing.kind {
        Kind::Container => {
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            docker.watch(&doing, docker.slow().remove_container(id, Some(options))).await?
        }
        Kind::Network => docker.watch(&doing, docker.slow().remove_network(id)).await?,
        Kind::Volume => {
            let removal = docker.slow().remove_volume(id, None::<RemoveVolumeOptions>);
            docker.watch(&doing, removal).await?
        }
    };
    removed.map_err(|error| Error::of(doing, error))
}

/// Endpoints stay behind where a daemon died, and containers of others may have joined.
async fn disconnect_all(docker: &Docker, network: &Thing) -> Result<(), Error> {
    let failed = |error| Error::of(format!("remove the {network}"), error);
    let inspect = docker.api().inspect_network(&network.id, None::<InspectNetworkOptions>);
    let inspected = docker.watch(&format!("remove the {network}"), inspect).await?;
    let Some(containers) = inspected.map_err(failed)?.containers else { return Ok(()) };
    for container in containers.into_keys() {
        let body = NetworkDisconnectRequest { container, force: Some(true) };
        // It may have left by itself; whether the network can go now is seen when it is tried.
        let _ = docker.api().disconnect_network(&network.id, body).await;
    }
    Ok(())
}
