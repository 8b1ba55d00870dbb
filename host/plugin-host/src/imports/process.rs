//! `loom:exec/process`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use loom_contract::error::code;
use loom_contract::event::Level;
use loom_engine::cancel::GRACE;
use loom_engine::port::JobContext;
use loom_engine::process::{self, Process, Spawn};
use serde_json::Map;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::wit::loom::exec::process::{self as interface, Host, HostChild, HostCommand};
use crate::grant;
use crate::guest::{Guest, OwnJob};
use crate::imports::workspace;
use crate::info::PluginInfo;
use crate::limits::{Limit, PROCESSES};
use crate::manifest::PATH;
use crate::messages::Messages;
use crate::types::{Error, ErrorKind, Exit, Failure, Sink, error};
use crate::wall::Wall;

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
    wall: &'a Wall,
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
        wall: &guest.wall,
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
        let name = request.program.clone();
        let args = request.args.iter().map(OsString::from).collect();
        let cwd = request.cwd.clone();
        let job = self.job.get()?;
        let env = self.environment(job, request);
        let open = |sink: &Option<Sink>| sink.as_ref().map(|sink| sink.open(self.call)).transpose();
        let (stdout, stderr) = (open(&request.stdout)?, open(&request.stderr)?);
        let cwd = match cwd {
            Some(path) => workspace::inside(&job.workspace, &path)?,
            None => job.workspace.clone(),
        };
        let program = self.file_of(&name, job)?;
        if job.processes.running() >= PROCESSES {
            let what = format!("started more than {PROCESSES} processes that run at once");
            return Err(Failure::Trap(Limit::Flood(what).into()));
        }
        // Here and now, not on a thread for what blocks: it takes well under a millisecond, and where this call is given up
        // no process may start after the ledger was swept.
        let spawn = Spawn { program, name: name.clone().into(), args, cwd, env, stdout, stderr };
        let process = job.processes.spawn(spawn).map_err(|error| not_started(&error))?;
        Ok(self.table.push(Child { process, program: name, told: false })?)
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
        let of_job = self.wall.of_job();
        let exit = self.table.get_mut(&child)?.process.wait(&cancel).await;
        drop(of_job);
        self.tell_of_open_output(&child)?;
        Ok(to_guest(exit))
    }

    async fn stop(&mut self, child: Resource<Child>, grace_ms: u32) -> wasmtime::Result<Exit> {
        let grace = Duration::from_millis(grace_ms.into()).min(GRACE);
        let cancel = self.job.get()?.cancel.clone();
        let exit = self.table.get_mut(&child)?.process.stop(grace, &cancel).await;
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
        let names = request.env.iter().map(|(name, _)| name.as_str());
        grant::process(self.plugin, &request.program, &request.args, names)?;
        if request.inherits { grant::job_env(self.plugin) } else { Ok(()) }
    }

    /// The file of a program that is granted.
    fn file_of(&self, program: &str, job: &JobContext) -> Result<PathBuf, Error> {
        let not_started = |why: &str| {
            let message = format!("cannot start `{program}`: {why}");
            error(ErrorKind::NotFound, code::SPAWN_FAILED, message)
        };
        let path = self.plugin.programs.path();
        let found = self.plugin.programs.get(program).ok_or_else(|| match program.starts_with('/') {
            true => not_started("no such program"),
            false => not_started(&format!("not found in the PATH of Loom (`{}`)", path.display())),
        })?;
        // It was no file of the repository when the plugin was loaded; nor must it be one that the job can change.
        if job.workspace.canonicalize().is_ok_and(|workspace| found.starts_with(workspace)) {
            return Err(not_started("what is found is a file of the workspace"));
        }
        Ok(found.to_owned())
    }

    /// The whole environment of a process: the job's, or what is needed to find programs.
    fn environment(&self, job: &JobContext, request: &Request) -> Vec<(OsString, OsString)> {
        let own = |name: &OsStr| request.env.iter().any(|(n, _)| OsStr::new(n) == name);
        let mut env = if request.inherits {
            job.environment()
        } else {
            vec![(PATH.into(), self.plugin.programs.path().to_owned())]
        };
        env.retain(|(name, _)| !own(name));
        env.extend(request.env.iter().map(|(name, value)| (name.into(), value.into())));
        env
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
