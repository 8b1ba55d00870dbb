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

use crate::owner::RUN_ID;
use crate::resource::is_anonymous;
use crate::{Docker, Error, Kind, Reason, Resource};

/// What is in use, or being removed by somebody else, is asked for again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long after somebody who is gone asked for something, it may still appear.
const STILL_MAKING: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Something that could not be removed.
#[derive(Debug)]
pub struct Residual {
    /// What.
    pub resource: Resource,
    /// Why not.
    pub why: Error,
}

/// What a [`sweep`] did.
#[derive(Debug, Default)]
pub struct Swept {
    /// What is gone.
    pub removed: Vec<Resource>,
    /// What could not be removed.
    pub residuals: Vec<Residual>,
}

/// Removes what runs that do not live any more have left with this daemon: what their ledgers list, and nothing else.
pub async fn sweep(docker: &Docker, runs: &Runs) -> Swept {
    let mut swept = Swept::default();
    for mut entry in runs.not_alive() {
        let here = |object: &&Object| object.daemon == docker.daemon().address;
        let objects: Vec<Object> = entry.objects().iter().filter(here).cloned().collect();
        let mut resources = BTreeSet::new();
        for object in &objects {
            match find(docker, object, entry.run_id().as_str()).await {
                Ok(Some(resource)) => drop(resources.insert(resource)),
                // A daemon that was asked for it may still be making it.
                Ok(None) if object.id.is_none() && is_recent(entry.last_written()) => {}
                Ok(None) => entry.forget(object.kind, &object.name),
                Err(error) => {
                    tracing::debug!(%error, name = object.name, "a dead run's resource is not looked at")
                }
            }
        }
        let residuals = all(docker, resources.clone()).await;
        resources.retain(|resource| !residuals.iter().any(|residual| residual.resource == *resource));
        resources.iter().for_each(|resource| entry.forget(resource.kind, &resource.name));
        swept.removed.extend(resources);
        swept.residuals.extend(residuals);
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
pub(crate) async fn find(docker: &Docker, object: &Object, run_id: &str) -> Result<Option<Resource>, Error> {
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
    Ok(id.map(|id| Resource { kind: object.kind, id, name: name.to_owned() }))
}

/// Removes all of `resources`: containers, then networks, then volumes, those of a kind at once. But containers that
/// may share a network go one after the other: a daemon that takes two of them out of it at once can lock itself up, and
/// never takes or makes a network again (moby/libnetwork issue 2649).
pub(crate) async fn all(docker: &Docker, resources: BTreeSet<Resource>) -> Vec<Residual> {
    let mut residuals: Vec<Residual> = Vec::new();
    let have_network = resources.iter().any(|resource| resource.kind == Kind::Network);
    for kind in [Kind::Container, Kind::Network, Kind::Volume] {
        let resources = resources.iter().filter(|resource| resource.kind == kind);
        // What does not answer would not answer for each of them.
        if residuals
            .iter()
            .any(|residual| matches!(residual.why, Error::WentAway { .. } | Error::Unresponsive { .. }))
        {
            let unasked =
                |resource: &Resource| Error::Unresponsive { doing: format!("remove the {resource}") };
            residuals.extend(
                resources.map(|resource| Residual { resource: resource.clone(), why: unasked(resource) }),
            );
            continue;
        }
        let removals = resources.map(async |resource| {
            let removed = one(docker, resource).await;
            removed.err().map(|why| Residual { resource: resource.clone(), why })
        });
        if kind == Kind::Container && have_network {
            for removal in removals {
                residuals.extend(removal.await);
            }
        } else {
            residuals.extend(join_all(removals).await.into_iter().flatten());
        }
    }
    residuals
}

/// Removes one resource; that it is gone already is fine.
pub(crate) async fn one(docker: &Docker, resource: &Resource) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match attempt(docker, resource).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => error,
        };
        let in_use = matches!(&error, Error::Refused { reason: Reason::Conflict, .. });
        if !in_use || Instant::now() >= until {
            return Err(error);
        }
        if resource.kind == Kind::Network {
            disconnect_all(docker, resource).await?;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn attempt(docker: &Docker, resource: &Resource) -> Result<(), Error> {
    let (doing, id) = (format!("remove the {resource}"), &resource.id);
    let removed = match resource.kind {
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
async fn disconnect_all(docker: &Docker, network: &Resource) -> Result<(), Error> {
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
