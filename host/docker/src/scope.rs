//! What is made for one job: written to the run's ledger before it is made, and removed together.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bollard::models::{EndpointSettings, NetworkConnectRequest, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::CreateContainerOptions;
use loom_ownership::{Ledger, Object};
use parking_lot::Mutex;
use tokio::sync::RwLock;

use crate::network::{Network, Outside};
use crate::random::random;
use crate::remove::{self, Residual};
use crate::resource::is_anonymous;
use crate::volume::Volume;
use crate::{Container, ContainerSpec, Docker, Error, Kind, Owner, Resource};

/// Makes resources for one job, and removes them. Clones make for the same job.
#[derive(Clone)]
pub struct Scope(Arc<Shared>);

struct Shared {
    docker: Docker,
    owner: Owner,
    ledger: Ledger,
    inventory: Mutex<Inventory>,
    /// Held for reading while something is made, so that nothing appears after everything was removed. True when it was.
    closed: Arc<RwLock<bool>>,
}

/// What was made, and what may have been.
#[derive(Default)]
struct Inventory {
    resources: BTreeSet<Resource>,
    /// Names of what the daemon was asked to make and has not said that it did.
    planned: BTreeSet<(Kind, String)>,
}

impl Scope {
    /// Begins with nothing. What is made is written to `ledger` first.
    pub fn new(docker: &Docker, owner: Owner, ledger: Ledger) -> Self {
        let (inventory, closed) = (Mutex::default(), Arc::default());
        Self(Arc::new(Shared { docker: docker.clone(), owner, ledger, inventory, closed }))
    }

    /// The daemon that all of it is made by.
    pub fn docker(&self) -> &Docker {
        &self.0.docker
    }

    /// For whom.
    pub fn owner(&self) -> &Owner {
        &self.0.owner
    }

    /// Makes a container; it does not run yet. Its image must be there.
    ///
    /// # Errors
    /// [`Error::Invalid`] by what the description says, else what the daemon says.
    pub async fn create_container(&self, spec: &ContainerSpec) -> Result<Container, Error> {
        let name = self.name(&spec.name);
        let doing = format!("create the container {name} from `{}`", spec.image);
        let address = &self.docker().daemon().address;
        let socket = address.strip_prefix("unix://").map(std::path::Path::new);
        let body = spec.body(self.0.owner.labels(), socket)?;
        let platform = spec.platform.clone().unwrap_or_default();
        let options = CreateContainerOptions { name: Some(name.clone()), platform };
        let scope = self.clone();
        self.make(&doing.clone(), async move {
            let docker = &scope.0.docker;
            scope.plan(Kind::Container, &name, &doing)?;
            let made = docker.watch(&doing, docker.api().create_container(Some(options), body)).await?;
            let id =
                scope.answered(Kind::Container, &name, made.map_err(|error| Error::of(&doing, error)))?.id;
            scope.remember(Kind::Container, &id, &name, &doing)?;
            let container = Container::new(docker.clone(), id, name);
            // Volumes that the image asks for carry no label, and outlive a container that somebody else removes.
            for mount in container.inspect().await?.mounts.unwrap_or_default() {
                if let Some(volume) = mount.name
                    && is_anonymous(&volume)
                {
                    scope.remember(Kind::Volume, &volume, &volume, &doing)?;
                }
            }
            Ok(container)
        })
        .await
    }

    /// Makes a volume on the daemon's disk. `name` is what people call it: a part of its name.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn create_volume(&self, name: &str) -> Result<Volume, Error> {
        Ok(self.volume(name, None).await?.0)
    }

    /// Makes a volume that shows what is in the folder `below` of the daemon's machine, and keeps what is written to it
    /// for itself: nothing is copied. The folder must not change as long as the volume is in use. Nothing is returned
    /// where it is known that this cannot be; whether it can is known when a container has [shown](Container::look_at)
    /// what is in the volume: the daemon may be on another machine, and its kernel or file system may be unable to.
    ///
    /// The files belong to whom they belong in the folder.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn create_volume_over(&self, name: &str, below: &Path) -> Result<Option<Volume>, Error> {
        let daemon = self.docker().daemon();
        // Where root in a container is not root outside, it may not change files that are not its own.
        let unlike = daemon.rootless || daemon.podman || !daemon.address.starts_with("unix://");
        // Of SELinux's labels the files have those of the user, which no container may read.
        if unlike || Path::new("/sys/fs/selinux/enforce").exists() {
            return Ok(None);
        }
        let (upper, work) = (format!("{name}-written"), format!("{name}-work"));
        let (upper, work) = futures_util::try_join!(self.volume(&upper, None), self.volume(&work, None))?;
        let folders = [&below.to_string_lossy(), &*upper.1, &*work.1];
        // In the options of a mount these mean something; and so does the folder of a daemon that renumbers users.
        let is_plain =
            |folder: &str| folder.starts_with('/') && !folder.contains([',', ':', '\\', '\u{fffd}']);
        if !folders.iter().all(|folder| is_plain(folder)) || is_renumbered(&upper.1) {
            return Ok(None);
        }
        let [below, upper, work] = folders;
        // Folders of it can be renamed, as in any other.
        let layers = format!("lowerdir={below},upperdir={upper},workdir={work},redirect_dir=on");
        let options = [("type", "overlay"), ("device", "overlay"), ("o", &layers)];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Some(self.volume(name, Some(HashMap::from(options))).await?.0))
    }

    /// Makes a volume that is in the daemon's memory, empty, and there as long as a container runs that has it. `name` is
    /// what people call it: a part of its name.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn create_volume_in_memory(&self, name: &str) -> Result<Volume, Error> {
        let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "mode=0700")];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(self.volume(name, Some(HashMap::from(options))).await?.0)
    }

    /// A volume, and the folder of the daemon's machine where it is.
    async fn volume(
        &self,
        name: &str,
        driver_opts: Option<HashMap<String, String>>,
    ) -> Result<(Volume, String), Error> {
        let name = self.name(name);
        let doing = format!("create the volume {name}");
        let labels = Some(self.0.owner.labels());
        let body = VolumeCreateRequest {
            name: Some(name.clone()),
            labels,
            driver_opts,
            ..VolumeCreateRequest::default()
        };
        let scope = self.clone();
        self.make(&doing.clone(), async move {
            scope.plan(Kind::Volume, &name, &doing)?;
            let made = scope.0.docker.watch(&doing, scope.0.docker.api().create_volume(body)).await?;
            let made = scope.answered(Kind::Volume, &name, made.map_err(|error| Error::of(&doing, error)))?;
            scope.remember(Kind::Volume, &name, &name, &doing)?;
            Ok((Volume { name }, made.mountpoint))
        })
        .await
    }

    /// Makes a network of its own for containers of this scope. `name` is what people call it: a part of its name.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn create_network(&self, name: &str, outside: Outside) -> Result<Network, Error> {
        let name = self.name(name);
        let doing = format!("create the network {name}");
        let body = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(outside == Outside::Closed),
            labels: Some(self.0.owner.labels()),
            ..NetworkCreateRequest::default()
        };
        let scope = self.clone();
        self.make(&doing.clone(), async move {
            scope.plan(Kind::Network, &name, &doing)?;
            let made = scope.0.docker.watch(&doing, scope.0.docker.api().create_network(body)).await?;
            let made = scope.answered(Kind::Network, &name, made.map_err(|error| Error::of(&doing, error)));
            let id = made?.id;
            scope.remember(Kind::Network, &id, &name, &doing)?;
            Ok(Network { id, name })
        })
        .await
    }

    /// Lets a container into a network, under more names than its own.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn join(
        &self,
        network: &Network,
        container: &Container,
        aliases: &[String],
    ) -> Result<(), Error> {
        let endpoint = EndpointSettings { aliases: Some(aliases.to_vec()), ..EndpointSettings::default() };
        let body =
            NetworkConnectRequest { container: container.id().to_owned(), endpoint_config: Some(endpoint) };
        let doing = format!("join the network {}", network.name);
        let joined =
            self.docker().watch(&doing, self.docker().api().connect_network(&network.id, body)).await?;
        joined.map_err(|error| Error::of(doing, error))
    }

    /// Removes a container, network or volume before its time. That it is not there any more is fine.
    ///
    /// # Errors
    /// What the daemon says, after some seconds of asking again where it is in use.
    pub async fn remove(&self, resource: &Resource) -> Result<(), Error> {
        remove::one(self.docker(), resource).await?;
        self.forget(resource);
        Ok(())
    }

    /// Everything that was made and not removed, as far as this scope knows.
    pub fn resources(&self) -> Vec<Resource> {
        self.inventory(|inventory| inventory.resources.iter().cloned().collect())
    }

    /// Removes everything that was made: containers, running ones too, with the volumes that their images asked for; then
    /// networks; then volumes. Nothing can be made afterwards. What was being made meanwhile, by somebody who did not wait
    /// for it, is removed too. What could not be removed is returned; asking again tries again.
    pub async fn remove_all(&self) -> Vec<Residual> {
        *self.0.closed.write().await = true;
        let mut resources: BTreeSet<Resource> = self.inventory(|inventory| inventory.resources.clone());
        // Also what the daemon made without being able to say so.
        for (kind, name) in self.inventory(|inventory| inventory.planned.clone()) {
            let object = self.object(kind, &name, None);
            match remove::find(self.docker(), &object, &self.0.owner.run_id).await {
                Ok(Some(resource)) => drop(resources.insert(resource)),
                Ok(None) => self.answered(kind, &name, Ok(())).unwrap_or_default(),
                // A daemon that does not answer is told below, of what it is known to have made.
                Err(error) => tracing::debug!(%error, name, "it is not known whether this was made"),
            }
        }
        let residuals = remove::all(self.docker(), resources.clone()).await;
        for resource in resources
            .iter()
            .filter(|resource| !residuals.iter().any(|residual| residual.resource == **resource))
        {
            self.forget(resource);
        }
        residuals
    }

    /// Runs `made` to its end even if the caller does not wait for it.
    pub(crate) async fn make<T: Send + 'static>(
        &self,
        doing: &str,
        made: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let closed = self.0.closed.clone().read_owned().await;
        let refused = || Error::Closed { doing: doing.to_owned() };
        if *closed {
            return Err(refused());
        }
        let task = tokio::spawn(async move {
            let made = made.await;
            drop(closed);
            made
        });
        task.await.unwrap_or_else(|_| Err(refused()))
    }

    /// For what removes itself when nobody waits for it any more.
    pub(crate) async fn check_open(&self, doing: &str) -> Result<(), Error> {
        if *self.0.closed.read().await { Err(Error::Closed { doing: doing.to_owned() }) } else { Ok(()) }
    }

    /// Writes down that something is about to be made.
    fn plan(&self, kind: Kind, name: &str, doing: &str) -> Result<(), Error> {
        self.note(kind, name, None, doing)?;
        self.inventory(|inventory| inventory.planned.insert((kind, name.to_owned())));
        Ok(())
    }

    /// The daemon has said whether it made what was planned: where it refused, there is nothing.
    fn answered<T>(&self, kind: Kind, name: &str, answer: Result<T, Error>) -> Result<T, Error> {
        if answer.is_ok() || matches!(answer, Err(Error::Refused { .. })) {
            self.inventory(|inventory| inventory.planned.remove(&(kind, name.to_owned())));
        }
        if matches!(answer, Err(Error::Refused { .. })) {
            self.0.ledger.forget(kind, name);
        }
        answer
    }

    /// Writes down what was made.
    fn remember(&self, kind: Kind, id: &str, name: &str, doing: &str) -> Result<(), Error> {
        let resource = Resource { kind, id: id.to_owned(), name: name.to_owned() };
        self.inventory(|inventory| inventory.resources.insert(resource));
        self.note(kind, name, Some(id.to_owned()), doing)
    }

    fn forget(&self, resource: &Resource) {
        self.inventory(|inventory| {
            inventory.resources.remove(resource);
            inventory.planned.remove(&(resource.kind, resource.name.clone()));
        });
        self.0.ledger.forget(resource.kind, &resource.name);
    }

    fn note(&self, kind: Kind, name: &str, id: Option<String>, doing: &str) -> Result<(), Error> {
        let noted = self.0.ledger.note(self.object(kind, name, id));
        noted.map_err(|error| Error::NotRecorded { doing: doing.to_owned(), why: error.to_string() })
    }

    fn object(&self, kind: Kind, name: &str, id: Option<String>) -> Object {
        Object { daemon: self.docker().daemon().address.clone(), kind, name: name.to_owned(), id }
    }

    fn inventory<T>(&self, act: impl FnOnce(&mut Inventory) -> T) -> T {
        act(&mut self.0.inventory.lock())
    }

    /// A name that says what it is, and that nothing else has.
    fn name(&self, what: &str) -> String {
        let part = |text: &str| -> String {
            let plain = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
            text.chars().map(plain).take(40).collect()
        };
        format!("loom-{}-{}-{:016x}", part(&self.0.owner.job_id), part(what), random())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("owner", &self.0.owner).field("resources", &self.resources()).finish()
    }
}

/// Whether a folder is of a daemon that gives users in containers other numbers outside: it has `100000.100000` in it.
fn is_renumbered(folder: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers =
        |part: &str| part.split_once('.').is_some_and(|(uid, gid)| is_number(uid) && is_number(gid));
    folder.split('/').any(numbers)
}
