//! A provider that does what its steps tell it to: a word, and text for it. `PREPARE` and `CLEANUP` among the job's
//! variables tell its other calls the same.

use std::time::{Duration, Instant};

use loom_sdk::{
    CleanupReason, Command, Error, ErrorKind, Exit, Job, Level, Message, OutputSink, Provider, Result, Step,
    state,
};

#[derive(Default)]
struct Misbehaving {
    calls: i32,
    kept: Vec<OutputSink>,
    commands: Vec<Command>,
}

loom_sdk::export_provider!(Misbehaving);

impl Provider for Misbehaving {
    fn prepare(&mut self, job: Job<'_>) -> Result<()> {
        self.obey(&told(job, "PREPARE"), job, None).map(drop)
    }

    fn run_step(&mut self, job: Job<'_>, step: Step<'_>) -> Result<Exit> {
        self.obey(&step.command(), job, Some(step))
    }

    fn cleanup(&mut self, job: Job<'_>, reason: CleanupReason) -> Result<()> {
        Message::info(format!("cleaned up: {reason:?}")).with("calls", self.calls).record();
        self.obey(&told(job, "CLEANUP"), job, None).map(drop)
    }
}

fn told(job: Job<'_>, name: &str) -> String {
    job.variables().into_iter().find(|(key, _)| key == name).map(|(_, value)| value).unwrap_or_default()
}

impl Misbehaving {
    fn obey(&mut self, order: &str, job: Job<'_>, step: Option<Step<'_>>) -> Result<Exit> {
        self.calls += 1;
        let (word, text) = order.split_once(' ').unwrap_or((order, ""));
        match word {
            "" => {}
            // Two orders, one after the other.
            "then" => {
                let (first, second) = text.split_once(" | ").ok_or_else(|| "one order".into_error())?;
                self.obey(first, job, step)?;
                return self.obey(second, job, step);
            }
            "count" => return Ok(Exit::Code(self.calls)),
            "exit" => return Ok(Exit::Code(text.parse()?)),
            "loop" => endless_loop(),
            "trap" => trap(),
            "panic" => panic_with(text),
            "leave" => std::process::exit(text.parse()?),
            "overflow" => return Ok(Exit::Code(deep(1))),
            "allocate" => allocate(),
            "hold-mib" => drop(std::hint::black_box(vec![1_u8; text.parse::<usize>()? << 20])),
            "print" => print(text),
            "log" => loom_sdk::warn!("{text}"),
            "logs" => {
                for _ in 0..text.parse::<u32>()? {
                    loom_sdk::trace!(
                        "a line as long as lines of a log are, more or less, on an ordinary day"
                    );
                }
            }
            "flood-log" => loop {
                loom_sdk::trace!("{text}");
            },
            "flood-messages" => loop {
                Message::info(text).record();
            },
            "flood-handles" => loop {
                std::mem::forget(Command::new("sh"));
            },
            "flood-stderr" => loop {
                print(text);
            },
            "big-log" => loom_sdk::info!("{}", "x".repeat(text.parse()?)),
            "big-random" => drop(std::hint::black_box(std::collections::HashMap::<u8, u8>::new())),
            "message" => Message::new(Level::Warn, text)
                .with("n", 7)
                .with("f", 0.5)
                .with("t", "x")
                .with("b", true)
                .record(),
            "sleep" => std::thread::sleep(Duration::from_millis(text.parse()?)),
            "busy" => busy(Duration::from_millis(text.parse()?)),
            "naps" => {
                for _ in 0..text.parse::<u32>()? {
                    std::thread::sleep(Duration::from_millis(11));
                }
            }
            "until-cancelled" => {
                Command::new("sh").args(["-c", text]).status()?;
                while !loom_sdk::cancelled() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "run" => return run(text, job, step),
            "run-then-trap" => {
                run(text, job, step)?;
                trap();
            }
            "spawn" => {
                let mut words = text.split(' ');
                return Command::new(words.next().unwrap_or_default()).args(words).status();
            }
            "leave-running" => {
                for _ in 0..text.parse::<u32>()? {
                    Command::new("sh").args(["-c", "exec sleep 1000"]).spawn()?;
                }
            }
            "bare-env" => {
                return Command::new("sh").args(["-c", text]).stdout(&out(step)?).env("MINE", "1").status();
            }
            "set-env" => return Command::new("sh").args(["-c", "true"]).env(text, "x").status(),
            "cwd" => {
                return Command::new("sh").args(["-c", "pwd"]).stdout(&out(step)?).cwd(text).status();
            }
            "stop" => {
                let mut child = Command::new("sh").args(["-c", text]).inherit_job_env().spawn()?;
                while !job.workspace_has("ready")? {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return Ok(child.stop(Duration::from_millis(200)));
            }
            "stop-late" => {
                let mut child = Command::new("sh").args(["-c", text]).spawn()?;
                while !job.workspace_has("ready")? {
                    std::thread::sleep(Duration::from_millis(5));
                }
                child.stop(Duration::MAX);
            }
            "hoard-args" => hoard(|command, piece| command.args([piece])),
            "hoard-variables" => hoard(|command, piece| command.env("MINE", piece)),
            "burn-paths" => {
                let path = "sub/../".repeat(500);
                loop {
                    job.workspace_has(&path)?;
                }
            }
            "flood-lines" => loop {
                out(step)?.line(text)?;
            },
            "line" => out(step)?.line(text)?,
            "keep-sink" => self.kept.push(out(step)?),
            "keep-command" => {
                self.commands.push(Command::new("sh").args(["-c", text]).stdout(&out(step)?));
            }
            "kept-command" => {
                let command = self.commands.pop().ok_or_else(|| "no command was kept".into_error())?;
                return command.status();
            }
            "kept-line" => {
                for sink in &self.kept {
                    sink.line(text)?;
                }
            }
            "kept-run" => {
                let [sink] = self.kept.as_slice() else {
                    return Err("no sink was kept".into_error());
                };
                return Command::new("sh").args(["-c", text]).stdout(sink).status();
            }
            "state-set" => state::set("key", text)?,
            "state-fill" => state::set("key", vec![0; text.parse()?])?,
            "state-says" => {
                let kept = state::get("key").unwrap_or_default();
                Message::info(String::from_utf8_lossy(&kept)).record();
            }
            "job" => Message::info(describe(job)?).record(),
            "has" => return Ok(Exit::Code(job.workspace_has(text)?.into())),
            "fail" => {
                return Err(
                    Error::new(ErrorKind::Unavailable, text, "the machine is asleep").with_hint("wake it")
                );
            }
            "fail-with" => {
                return Err(Error::new(ErrorKind::Failed, "SAID", text).with_hint(text));
            }
            "fail-io" => return Err(std::io::Error::other("the disk is on fire").into()),
            unknown => return Err(format!("unknown order `{unknown}`").into_error()),
        }
        Ok(Exit::Code(0))
    }
}

trait IntoError {
    fn into_error(self) -> Error;
}

impl<T: Into<String>> IntoError for T {
    fn into_error(self) -> Error {
        Error::new(ErrorKind::Invalid, "ORDER", self)
    }
}

fn out(step: Option<Step<'_>>) -> Result<OutputSink> {
    step.map(|step| step.stdout()).ok_or_else(|| "only a step has output".into_error())
}

fn run(text: &str, _job: Job<'_>, step: Option<Step<'_>>) -> Result<Exit> {
    let command = Command::new("sh").args(["-c", text]).inherit_job_env();
    match step {
        Some(step) => command.stdout(&step.stdout()).stderr(&step.stderr()).status(),
        None => command.status(),
    }
}

fn describe(job: Job<'_>) -> Result<String> {
    Ok(format!(
        "{} {} {:?} {:?} {} {}",
        job.id(),
        job.stage(),
        job.image(),
        job.variables(),
        job.debug_trace(),
        job.workspace_path()?
    ))
}

fn busy(how_long: Duration) {
    let started = Instant::now();
    while started.elapsed() < how_long {
        std::hint::black_box(0);
    }
}

/// Gives one command more and more.
fn hoard(mut give: impl FnMut(Command, &str) -> Command) {
    let mut command = Command::new("sh");
    let piece = "x".repeat(1 << 20);
    loop {
        command = give(command, &piece);
    }
}

fn allocate() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

fn endless_loop() {
    loop {
        std::hint::black_box(0);
    }
}

/// Deeper than any stack.
fn deep(n: i32) -> i32 {
    let frame = std::hint::black_box([n; 64]);
    if std::hint::black_box(n) == 0 { 0 } else { deep(n.wrapping_add(1)).wrapping_add(frame[7]) }
}

#[expect(clippy::panic, reason = "the point of this guest")]
fn panic_with(text: &str) {
    panic!("{text}");
}

#[expect(clippy::print_stderr, reason = "the point of this guest")]
fn print(text: &str) {
    eprintln!("{text}");
}

fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}
