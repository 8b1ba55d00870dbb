//! The containers that run beside a job.

use std::time::{Duration, Instant};

use loom_sdk::docker::{self, Command, Container, ContainerSpec, Network, PullPolicy};
use loom_sdk::{Error, ErrorKind, Exit, Result};
use serde::Deserialize;

use crate::Variable;

/// How long a service may take to be ready where the workflow does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether it is ready.
const PAUSE: Duration = Duration::from_millis(150);

/// What the workflow says of one.
#[derive(Deserialize)]
pub(crate) struct Service {
    name: String,
    alias: Option<String>,
    #[serde(default)]
    variables: Vec<Variable>,
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    ready: Option<Ready>,
}

#[derive(Deserialize)]
struct Ready {
    command: Option<String>,
    port: Option<u16>,
    timeout_ms: Option<u64>,
}

/// Starts all of them in a network of the job's own, and waits until they are ready.
pub(crate) fn start(services: &[Service]) -> Result<Network> {
    let network = Network::create("services")?;
    let about =
        |service: &Service, error: Error| error.with_context(format!("service `{}`", service.label()));
    let start = |service: &Service| service.start(&network).map_err(|error| about(service, error));
    let containers: Vec<Container> = services.iter().map(start).collect::<Result<_>>()?;
    for (service, container) in services.iter().zip(&containers) {
        service.wait(container).map_err(|error| about(service, error))?;
    }
    Ok(network)
}

impl Service {
    fn start(&self, network: &Network) -> Result<Container> {
        docker::ensure_image(&self.name, PullPolicy::IfNotPresent, None)?;
        let aliases = aliases(&self.name, self.alias.as_deref());
        let mut spec = ContainerSpec::new(self.label(), &self.name)
            .inherit_job_env()
            .join(network, &aliases)
            .serve(self.label());
        for Variable { key, value } in &self.variables {
            spec = spec.env(key, value);
        }
        if let Some(entrypoint) = &self.entrypoint {
            spec = spec.entrypoint(entrypoint);
        }
        if let Some(command) = &self.command {
            spec = spec.command(command);
        }
        let container = spec.create()?;
        container.start()?;
        Ok(container)
    }

    /// What people call it.
    fn label(&self) -> &str {
        self.alias.as_deref().unwrap_or_else(|| base(&self.name))
    }

    fn wait(&self, container: &Container) -> Result<()> {
        let within =
            self.ready.as_ref().and_then(|ready| ready.timeout_ms).map_or(PATIENCE, Duration::from_millis);
        container.wait_healthy(within)?;
        let Some(ready) = &self.ready else { return Ok(()) };
        let port = ready.port.map(|port| format!("{port:04X}")).unwrap_or_default();
        let (script, what) = match (&ready.command, ready.port) {
            (Some(command), _) => (command.as_str(), format!("`{command}` did not succeed")),
            (None, Some(port)) => (LISTENS, format!("nothing listened on port {port}")),
            (None, None) => return Ok(()),
        };
        let until = Instant::now() + within;
        loop {
            let probe = Command::new(&["sh", "-c", script, "sh", &port]).inherit_job_env();
            match probe.run(container) {
                Ok(Exit::Code(0)) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    // Where it has ended, this says so, with what it printed last.
                    container.wait_healthy(Duration::ZERO)?;
                    return Err(error);
                }
            }
            if loom_sdk::cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "SERVICE_CANCELLED", "the run was cancelled"));
            }
            if Instant::now() >= until {
                let seconds = within.as_secs_f32();
                let message = format!("not ready within {seconds} s: {what}");
                return Err(Error::new(ErrorKind::TimedOut, "SERVICE_NOT_READY", message)
                    .with_hint("what it printed is in the section `services`"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Whether something listens on the port that is `$1` in hex, by the kernel's tables, which every image has.
const LISTENS: &str = r#"for table in /proc/net/tcp /proc/net/tcp6; do
  while read -r _ local _ state _; do
    case $local:$state in *:$1:0A) exit 0 ;; esac
  done <"$table"
done 2>/dev/null
exit 1"#;

/// The name of an image without registry, tag and digest.
fn path(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    let image = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    match image.split_once('/') {
        // As Docker tells registries from users.
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => image,
    }
}

/// Its last part.
fn base(image: &str) -> &str {
    let path = path(image);
    path.rsplit('/').next().unwrap_or(path)
}

/// The names by which a service of `image` is found: those that its image gives, and `alias`.
fn aliases(image: &str, alias: Option<&str>) -> Vec<String> {
    let path = path(image);
    let mut aliases = vec![path.replace('/', "-"), path.replace('/', "__")];
    aliases.extend(alias.map(str::to_owned));
    aliases.dedup();
    aliases
}

#[cfg(test)]
mod tests {
    use super::{aliases, base};

    #[test]
    fn an_image_gives_its_service_names() {
        for (image, names) in [
            ("postgres:16", &["postgres"][..]),
            ("postgres", &["postgres"]),
            ("tutum/wordpress", &["tutum-wordpress", "tutum__wordpress"]),
            ("registry.example.com:5000/team/db:1", &["team-db", "team__db"]),
            ("localhost/db@sha256:0123", &["db"]),
        ] {
            assert_eq!(aliases(image, None), names, "{image}");
        }
        assert_eq!(aliases("a/b", Some("c")), ["a-b", "a__b", "c"]);
        assert_eq!(base("registry.example.com:5000/team/db:1"), "db");
    }
}
