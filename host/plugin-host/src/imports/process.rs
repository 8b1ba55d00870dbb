//! `loom:exec/process`.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use loom_contract::error::code;
use loom_contract::event::Level;
use loom_engine::port::JobContext;
use loom_engine::process::{self, MARK, Process, Spawn};
use serde_json::Map;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::wit::loom::exec::process::{self as interface, Host, HostChild, HostCommand};
use crate::guest::{Guest, OwnJob};
use crate::imports::workspace;
use crate::info::PluginInfo;
use crate::limits::{Limit, PROCESSES};
use crate::messages::Messages;
use crate::types::{Error, ErrorKind, Exit, Failure, Sink, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:exec/process@0.1.0;",
        imports: {
            "loom:exec/process.[method]child.wait": async | trappable,
            "loom:exec/process.[method]child.stop": async | trappable,
            default: trappable,
        },
        with: {
            "loom:host/types": crate::types::wit,
            "loom:exec/process.command": super::Request,
            "loom:exec/process.child": super::Child,
        },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// What each process gets as it is in the job's environment: what programs are found by.
const PATH: &str = "PATH";

/// A process that is to be started.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Request {
    program: String,
    args: Vec<String>,
    cwd: Option<String>,
    inherits: bool,
    env: Vec<(String, String)>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

/// A process that was started.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Child {
    process: Process,
    program: String,
    /// Whether its output was found to be held open, and said so.
    told: bool,
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    plugin: &'a PluginInfo,
    job: &'a OwnJob,
    messages: &'a Messages,
    call: u64,
    table: &'a mut ResourceTable,
}

struct ProcessInterface;

impl HasData for ProcessInterface {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    interface::add_to_linker::<_, ProcessInterface>(linker, |guest| View {
        plugin: &guest.plugin,
        job: &guest.job,
        messages: &guest.messages,
        call: guest.call,
        table: &mut guest.table,
    })
}

impl Host for View<'_> {}

impl HostCommand for View<'_> {
    fn new(&mut self, program: String) -> wasmtime::Result<Resource<Request>> {
        Ok(self.table.push(Request {
            program,
            args: Vec::new(),
            cwd: None,
            inherits: false,
            env: Vec::new(),
            stdout: None,
            stderr: None,
        })?)
    }

    fn args(&mut self, command: Resource<Request>, args: Vec<String>) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.args.extend(args);
        Ok(())
    }

    fn cwd(&mut self, command: Resource<Request>, path: String) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.cwd = Some(path);
        Ok(())
    }

    fn inherit_job_env(&mut self, command: Resource<Request>) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.inherits = true;
        Ok(())
    }

    fn env(&mut self, command: Resource<Request>, name: String, value: String) -> wasmtime::Result<()> {
        self.table.get_mut(&command)?.env.push((name, value));
        Ok(())
    }

    fn stdout(&mut self, command: Resource<Request>, sink: Resource<Sink>) -> wasmtime::Result<()> {
        let sink = self.table.get(&sink)?.clone();
        self.table.get_mut(&command)?.stdout = Some(sink);
        Ok(())
    }

    fn stderr(&mut self, command: Resource<Request>, sink: Resource<Sink>) -> wasmtime::Result<()> {
        let sink = self.table.get(&sink)?.clone();
        self.table.get_mut(&command)?.stderr = Some(sink);
        Ok(())
    }

    fn spawn(&mut self, command: Resource<Request>) -> Result<Resource<Child>, Failure> {
        let request = self.table.get(&command)?;
        self.check(request)?;
        let program = request.program.clone();
        let args = request.args.iter().map(OsString::from).collect();
        let cwd = request.cwd.clone();
        let job = self.job.get()?;
        let env = environment(job, request);
        let open = |sink: &Option<Sink>| sink.as_ref().map(|sink| sink.open(self.call)).transpose();
        let (stdout, stderr) = (open(&request.stdout)?, open(&request.stderr)?);
        let cwd = match cwd {
            Some(path) => workspace::inside(&job.workspace, &path)?,
            None => job.workspace.clone(),
        };
        if job.processes.running() >= PROCESSES {
            let what = format!("started more than {PROCESSES} processes that run at once");
            return Err(Failure::Trap(Limit::Flood(what).into()));
        }
        // Here and now, not on a thread for what blocks: it takes well under a millisecond, and where this call is given up
        // no process may start after the ledger was swept.
        let spawn = Spawn { program: program.clone().into(), args, cwd, env, stdout, stderr };
        let process = job.processes.spawn(spawn).map_err(|error| not_started(&error))?;
        Ok(self.table.push(Child { process, program, told: false })?)
    }

    fn drop(&mut self, command: Resource<Request>) -> wasmtime::Result<()> {
        self.table.delete(command)?;
        Ok(())
    }
}

impl HostChild for View<'_> {
    fn pid(&mut self, child: Resource<Child>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&child)?.process.pid())
    }

    async fn wait(&mut self, child: Resource<Child>) -> wasmtime::Result<Exit> {
        let cancel = self.job.get()?.cancel.clone();
        let exit = self.table.get_mut(&child)?.process.wait(&cancel).await;
        self.tell_of_open_output(&child)?;
        Ok(to_guest(exit))
    }

    async fn stop(&mut self, child: Resource<Child>, grace_ms: u32) -> wasmtime::Result<Exit> {
        let grace = Duration::from_millis(grace_ms.into());
        let exit = self.table.get_mut(&child)?.process.stop(grace).await;
        self.tell_of_open_output(&child)?;
        Ok(to_guest(exit))
    }

    fn drop(&mut self, child: Resource<Child>) -> wasmtime::Result<()> {
        self.table.delete(child)?;
        Ok(())
    }
}

impl View<'_> {
    fn check(&self, request: &Request) -> Result<(), Error> {
        let grants = &self.plugin.manifest.capabilities.exec;
        if !grants.iter().any(|grant| grant.allows(&request.program, &request.args)) {
            let asked = std::iter::once(&request.program).chain(&request.args);
            let asked: Vec<String> = asked.map(|word| shortened(word)).collect();
            let granted: Vec<String> = grants.iter().map(|grant| format!("`{grant}`")).collect();
            let message =
                format!("the plugin `{}` may not start `{}`", self.plugin.reference.name, asked.join(" "));
            let hint = format!("its manifest grants under `capabilities.exec`: {}", granted.join(", "));
            return Err(Error { hint: Some(hint), ..error(ErrorKind::Denied, code::PLUGIN_DENIED, message) });
        }
        for (name, _) in &request.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("`{}` cannot be the name of a variable", name.escape_debug());
                return Err(error(ErrorKind::Invalid, "VARIABLE_NAME", message));
            }
            if [PATH, MARK].contains(&name.as_str()) || name.starts_with("LD_") {
                let message =
                    format!("the plugin `{}` may not set `{name}` for a process", self.plugin.reference.name);
                return Err(error(ErrorKind::Denied, code::PLUGIN_DENIED, message));
            }
        }
        Ok(())
    }

    /// A process that left another one behind which holds its output open: that one is heard until the job's cleanup.
    fn tell_of_open_output(&mut self, child: &Resource<Child>) -> wasmtime::Result<()> {
        let child = self.table.get_mut(child)?;
        if !child.process.left_output_open() || std::mem::replace(&mut child.told, true) {
            return Ok(());
        }
        let (pid, program) = (child.process.pid(), child.program.clone());
        let text = format!(
            "`{program}` (process {pid}) has ended, but something that it started still holds its output open; it may run \
             on until the job is cleaned up"
        );
        let data = Map::from_iter([
            ("code".to_owned(), "output_detached".into()),
            ("pid".to_owned(), pid.into()),
            ("program".to_owned(), program.into()),
        ]);
        self.messages.record(Level::Warn, text, Some(data));
        Ok(())
    }
}

/// The whole environment of a process: the job's, or what is needed to find programs.
fn environment(job: &JobContext, request: &Request) -> Vec<(OsString, OsString)> {
    let own = |name: &OsStr| request.env.iter().any(|(n, _)| OsStr::new(n) == name);
    let mut env = if request.inherits {
        job.environment()
    } else {
        job.env.iter().filter(|(name, _)| name == PATH).cloned().collect()
    };
    env.retain(|(name, _)| !own(name));
    env.extend(request.env.iter().map(|(name, value)| (name.into(), value.into())));
    env
}

/// For an error: a step's command may be long.
fn shortened(word: &str) -> String {
    match word.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &word[..cut]),
        None => word.to_owned(),
    }
}

fn not_started(cause: &process::SpawnError) -> Error {
    let kind = match cause.source.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Failed,
    };
    error(kind, code::SPAWN_FAILED, format!("{cause}: {}", cause.source))
}

fn to_guest(exit: process::Exit) -> Exit {
    match exit {
        process::Exit::Code(code) => Exit::Code(code),
        process::Exit::Signal(signal) => Exit::Signal(signal),
    }
}
