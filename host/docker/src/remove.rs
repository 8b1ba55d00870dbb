//! Removal of what was made, in an order and with a patience that work; and of what dead runs have left.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::NetworkDisconnectRequest;
use bollard::query_parameters::{
    InspectNetworkOptions, ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions,
    RemoveContainerOptions, RemoveImageOptions, RemoveVolumeOptions,
};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::scope::RUN_ID;
use crate::{Docker, Error, Kind, Owner, Reason, Thing};

/// What is in use, or being removed by somebody else, is asked for again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
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
    pub removed: Vec<(Owner, Thing)>,
    /// What could not be removed.
    pub left: Vec<Leftover>,
}

/// Removes what runs that are not alive any more have left: containers, networks, volumes, and images that lost their
/// tag. `is_alive` is asked once for each owner that something was found of. It must answer true for what it cannot know:
/// runs of other repositories, users and machines are served by the same daemon, and what they need is removed under them
/// if it does not.
///
/// # Errors
/// What is there could not be listed.
pub async fn sweep(docker: &Docker, mut is_alive: impl FnMut(&Owner) -> bool) -> Result<Swept, Error> {
    let filter = [RUN_ID.to_owned()];
    let mut found = labelled(docker, &filter).await?;
    found.extend(untagged(docker, &filter).await?);
    let owners: BTreeSet<&Owner> = found.iter().map(|(owner, _)| owner).collect();
    let dead: BTreeSet<Owner> = owners.into_iter().filter(|owner| !is_alive(owner)).cloned().collect();
    found.retain(|(owner, _)| dead.contains(owner));
    let left = all(docker, found.iter().map(|(_, thing)| thing.clone()).collect()).await;
    found.retain(|(_, thing)| !left.iter().any(|left| left.thing == *thing));
    Ok(Swept { removed: found, left })
}

/// Removes all of `things`: containers, then networks, volumes and images, those of a kind at once. But containers that
/// may share a network go one after the other: a daemon that takes two of them out of it at once can lock itself up, and
/// never takes or makes a network again (moby/libnetwork issue 2649).
pub(crate) async fn all(docker: &Docker, things: BTreeSet<Thing>) -> Vec<Leftover> {
    let mut left: Vec<Leftover> = Vec::new();
    let have_network = things.iter().any(|thing| thing.kind == Kind::Network);
    for kind in [Kind::Container, Kind::Network, Kind::Volume, Kind::Image] {
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
        // An image that something is made of stays, and that is no failure that waiting mends.
        if !in_use || thing.kind == Kind::Image || Instant::now() >= until {
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
        Kind::Image => {
            let removal = docker.slow().remove_image(id, None::<RemoveImageOptions>, None);
            docker.watch(&doing, removal).await?.map(drop)
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

/// Containers, networks and volumes with all of these labels, each with its owner.
pub(crate) async fn labelled(docker: &Docker, labels: &[String]) -> Result<Vec<(Owner, Thing)>, Error> {
    let filters = || Some(HashMap::from([("label".to_owned(), labels.to_vec())]));
    let api = docker.api();
    let doing = "list what was made for Loom";
    let lists = futures_util::future::join3(
        api.list_containers(Some(ListContainersOptions {
            all: true,
            filters: filters(),
            ..ListContainersOptions::default()
        })),
        api.list_networks(Some(ListNetworksOptions { filters: filters() })),
        api.list_volumes(Some(ListVolumesOptions { filters: filters() })),
    );
    let (containers, networks, volumes) = docker.watch(doing, lists).await?;
    let failed = |error| Error::of(doing, error);
    let mut found = Vec::new();
    let mut add =
        |labels: Option<HashMap<String, String>>, kind, id: Option<String>, name: Option<String>| {
            if let (Some(owner), Some(id)) = (labels.as_ref().and_then(Owner::of_labels), id) {
                let name = name.unwrap_or_else(|| id.clone());
                found.push((owner, Thing { kind, id, name }));
            }
        };
    for it in containers.map_err(failed)? {
        let name =
            it.names.and_then(|names| names.first().map(|name| name.trim_start_matches('/').to_owned()));
        add(it.labels, Kind::Container, it.id, name);
    }
    for it in networks.map_err(failed)? {
        add(it.labels, Kind::Network, it.id, it.name);
    }
    for it in volumes.map_err(failed)?.volumes.unwrap_or_default() {
        add(Some(it.labels), Kind::Volume, Some(it.name.clone()), Some(it.name));
    }
    Ok(found)
}

/// Images with these labels that have no name any more, since a later build has taken it.
async fn untagged(docker: &Docker, labels: &[String]) -> Result<Vec<(Owner, Thing)>, Error> {
    let filters = HashMap::from([
        ("label".to_owned(), labels.to_vec()),
        ("dangling".to_owned(), vec!["true".to_owned()]),
    ]);
    let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
    let doing = "list what was made for Loom";
    let images = docker.watch(doing, docker.api().list_images(Some(options))).await?;
    let images = images.map_err(|error| Error::of(doing, error))?;
    let thing = |id: String| Thing { kind: Kind::Image, name: id.clone(), id };
    Ok(images.into_iter().filter_map(|it| Some((Owner::of_labels(&it.labels)?, thing(it.id)))).collect())
}
