//! Containers of `loom:docker/engine`.

use std::sync::Arc;
use std::time::Duration;

use loom_docker::{
    ContainerSpec, Expect, JobContainer, JobContainerSpec, JobEnv, KeepOutput, Networking, Notice,
};
use loom_engine::port::JobContext;
use wasmtime::component::Resource;

use super::wit::loom::docker::engine::{HostContainer, HostContainerSpec, WorkspaceMount};
use super::{NetworkHandle, View, unless_cancelled};
use crate::docker::{WorkspaceFiles, notify, section_end};
use crate::grant;
use crate::manifest::DockerRight;
use crate::types::{Error, ErrorKind, Failure, error};

/// A container that is to be made.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct Spec {
    spec: JobContainerSpec,
    /// Its own processes have the job's environment.
    inherits: bool,
    /// The name by which its output is recorded, where it is a service.
    service: Option<String>,
}

/// A container of the guest's own job.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
#[derive(Clone)]
pub struct ContainerHandle {
    pub(super) container: JobContainer,
    /// The name by which its output is recorded, where it is a service.
    service: Option<String>,
}

impl HostContainerSpec for View<'_> {
    fn new(&mut self, name: String, image: String) -> wasmtime::Result<Resource<Spec>> {
        let spec =
            ContainerSpec { name, image, init: true, output: KeepOutput::No, ..ContainerSpec::default() };
        let spec = JobContainerSpec { spec, ..JobContainerSpec::default() };
        Ok(self.table.push(Spec { spec, inherits: false, service: None })?)
    }

    fn entrypoint(&mut self, spec: Resource<Spec>, argv: Vec<String>) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.entrypoint = Some(argv);
        Ok(())
    }

    fn command(&mut self, spec: Resource<Spec>, argv: Vec<String>) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.command = Some(argv);
        Ok(())
    }

    fn open_stdin(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.stdin_open = true;
        Ok(())
    }

    fn user(&mut self, spec: Resource<Spec>, user: String) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.user = Some(user);
        Ok(())
    }

    fn platform(&mut self, spec: Resource<Spec>, platform: String) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.platform = Some(platform);
        Ok(())
    }

    fn mount_workspace(&mut self, spec: Resource<Spec>, how: WorkspaceMount) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.workspace = Some(match how {
            WorkspaceMount::EphemeralVolume => loom_docker::WorkspaceMount::EphemeralVolume,
            WorkspaceMount::BindMount => loom_docker::WorkspaceMount::BindMount,
        });
        Ok(())
    }

    fn mount_secrets(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.spec.secrets = true;
        Ok(())
    }

    fn env(&mut self, spec: Resource<Spec>, name: String, value: String) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.env.push((name, value));
        Ok(())
    }

    fn inherit_job_env(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.get_mut(&spec)?.inherits = true;
        Ok(())
    }

    fn join(
        &mut self,
        spec: Resource<Spec>,
        network: Resource<NetworkHandle>,
        aliases: Vec<String>,
    ) -> wasmtime::Result<()> {
        let network = self.table.get(&network)?.0.clone();
        self.container_spec(&spec)?.networking = Networking::Joined { network, aliases };
        Ok(())
    }

    fn serve(&mut self, spec: Resource<Spec>, name: String) -> wasmtime::Result<()> {
        self.container_spec(&spec)?.output = KeepOutput::Yes;
        let spec = self.table.get_mut(&spec)?;
        spec.spec.is_service = true;
        spec.service = Some(name);
        Ok(())
    }

    async fn create(&mut self, spec: Resource<Spec>) -> Result<Resource<ContainerHandle>, Failure> {
        let _of_job = self.wall.of_job();
        let spec = self.table.get(&spec)?.clone();
        let handle = Box::pin(self.create_container(self.job.get()?, spec)).await?;
        Ok(self.table.push(handle)?)
    }

    fn drop(&mut self, spec: Resource<Spec>) -> wasmtime::Result<()> {
        self.table.delete(spec)?;
        Ok(())
    }
}

impl HostContainer for View<'_> {
    fn id(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.container.container().id().to_owned())
    }

    fn name(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.container.container().name().to_owned())
    }

    async fn start(&mut self, handle: Resource<ContainerHandle>) -> Result<(), Failure> {
        let _of_job = self.wall.of_job();
        let ContainerHandle { container, service } = self.table.get(&handle)?.clone();
        let job = self.job.get()?;
        let docker = self.docker.get()?;
        let notify = self.notifier(job);
        let started = unless_cancelled(job.cancel.clone(), Box::pin(docker.start(&container, &notify))).await;
        if let Some(name) = service.clone() {
            let (services, section, own) = (docker.services(), &self.docker.services, container.container());
            match &started {
                Ok(_) => section.follow(job, services, own, name),
                Err(error) => section.failed(job, services, own, section_end(job, error)).await,
            }
        }
        let is_jobs = service.is_none() && container.has_workspace();
        let files = started?;
        if is_jobs {
            self.docker.set_container(container);
        }
        if let Some(files) = files {
            self.docker.set_files(WorkspaceFiles(files));
        }
        Ok(())
    }

    async fn wait_healthy(
        &mut self,
        handle: Resource<ContainerHandle>,
        timeout_ms: u32,
    ) -> Result<(), Failure> {
        let ContainerHandle { container, service } = self.table.get(&handle)?.clone();
        let container = container.container();
        let _of_job = self.wall.of_job();
        let job = self.job.get()?;
        let docker = self.docker.get()?;
        let within = Duration::from_millis(timeout_ms.into());
        let is_awaited = docker.services().is_awaited(container);
        let expect = if is_awaited { Expect::Running } else { Expect::Health };
        let healthy = unless_cancelled(job.cancel.clone(), container.wait_healthy(within, expect)).await;
        if let (Err(error), Some(_)) = (&healthy, &service) {
            let section = &self.docker.services;
            section.failed(job, docker.services(), container, section_end(job, error)).await;
        }
        Ok(healthy?)
    }

    fn drop(&mut self, handle: Resource<ContainerHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl View<'_> {
    fn container_spec(&mut self, spec: &Resource<Spec>) -> wasmtime::Result<&mut ContainerSpec> {
        Ok(&mut self.table.get_mut(spec)?.spec.spec)
    }

    /// Takes notices of what the call that runs does.
    fn notifier(&self, job: &Arc<JobContext>) -> impl Fn(Notice) + Send + Sync + 'static {
        let (messages, job) = (self.messages.clone(), Arc::clone(job));
        move |notice| notify(&messages, &job, notice)
    }

    async fn create_container(
        &mut self,
        job: &Arc<JobContext>,
        spec: Spec,
    ) -> Result<ContainerHandle, Error> {
        let Spec { mut spec, inherits, service } = spec;
        let docker = self.docker_for(DockerRight::Run, "run containers")?;
        if inherits {
            grant::job_env(self.plugin)?;
        }
        spec.spec.memory_bytes = job.limits.memory;
        spec.spec.pids = job.limits.pids;
        if spec.workspace.is_some() {
            // What came before it has come up.
            self.docker.services_are_up();
        }
        let image_env = docker.image(&spec.spec.image).map(|image| image.env).unwrap_or_default();
        for (_, value) in &mut spec.spec.env {
            *value = job.fill(value, self.docker.variables_of(job), &image_env);
        }
        if inherits {
            let (variables, secret_script) =
                (job.variables_in_container(self.docker.variables_of(job)), job.secret_variables());
            spec.inherited = Some(JobEnv { variables, secret_script });
        }
        let notify = self.notifier(job);
        let create = Box::pin(docker.create_container(spec, &notify));
        let container = unless_cancelled(job.cancel.clone(), create).await?;
        if container.shares_mask() {
            job.share_mask_file().map_err(|cause| {
                let message = format!("the file of LOOM_MASK cannot be made for the container: {cause}");
                error(ErrorKind::Failed, "DOCKER_FILES", message)
            })?;
        }
        Ok(ContainerHandle { container, service })
    }
}
