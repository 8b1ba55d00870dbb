//! What may reach a terminal: whatever a repository, a job, a cache, an old record, the environment or a
//! command line holds, no command passes on what steers one, or is not seen there. And a terminal that goes
//! away ends nothing.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use loom_contract::visible::{escaped_json, is_hidden, on_one_line, visible};
use loom_tests::{Pty, TestEnv};

use crate::{LOOM, env_of_steps};

/// Texts that steer a terminal, or hide something from who looks at it.
const HOSTILE: [(&str, &str); 22] = [
    ("clipboard", "\x1b]52;c;ZXZpbA==\x07"),
    ("title", "\x1b]0;evil\x1b\\"),
    ("link", "\x1b]8;;mailto:evil@example.org\x1b\\click\x1b]8;;\x1b\\"),
    ("reset", "\x1bc"),
    ("clear", "\x1b[2J\x1b[H"),
    ("alternate screen", "\x1b[?1049h"),
    ("report", "\x1b[6n\x1b[c\x05"),
    ("device control", "\x1bP$q\"p\x1b\\"),
    ("conceal", "\x1b[8mhidden"),
    ("blink", "\x1b[5;31mblink"),
    ("cut off", "evil\x1b[3"),
    ("overwrite", "evil\rgood"),
    ("backspace", "evil\x08\x08\x08\x08good\x0b\x0c\x0e"),
    ("bell and delete", "\x07\x7f"),
    ("C1 sequence", "\u{9b}31m\u{9b}2J"),
    ("C1 string", "\u{9d}52;c;ZXZpbA==\u{9c}\u{85}\u{90}"),
    ("override", "evil\u{202e}txt.exe\u{202c}"),
    ("isolate", "\u{2066}evil\u{2069}\u{202a}\u{202b}\u{202d}\u{2067}\u{2068}"),
    ("marks", "a\u{200e}b\u{200f}c\u{61c}d"),
    ("tags", "evil\u{e0001}\u{e0069}\u{e0067}\u{e007f}\u{e0100}"),
    ("zero width", "e\u{200b}v\u{200c}i\u{200d}l\u{2060}\u{2064}\u{ad}\u{180e}\u{3164}\u{fe0f}\u{feff}."),
    ("separators", "evil\u{2028}receipt: x\u{2029}\u{fff9}a\u{fffb}"),
];

/// The texts, several in one, since each world costs seconds: as many as names of files and quotes in hints
/// have room for.
fn packed() -> Vec<String> {
    let mut packed = vec![String::new()];
    for (_, text) in HOSTILE {
        let fits =
            |last: &String| last.chars().count() + text.chars().count() < 75 && last.len() + text.len() < 150;
        match packed.last_mut().filter(|last| fits(last)) {
            Some(last) => last.push_str(text),
            None => packed.push(text.to_owned()),
        }
    }
    packed
}

/// `text` as a double-quoted YAML scalar.
fn yaml(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Something that is typed.
struct Try {
    args: Vec<String>,
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
    /// Whether the hostile text is in what is shown, written out.
    shows: bool,
}

impl Try {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn shows(mut self) -> Self {
        self.shows = true;
        self
    }

    fn at(mut self, folder: &PathBuf) -> Self {
        self.folder.clone_from(folder);
        self
    }
}

/// A machine on which one text is everywhere.
struct World<'t> {
    text: &'t str,
    env: TestEnv,
    /// A repository whose workflows, files, vaults, caches and old records hold the text.
    repo: PathBuf,
    /// One whose config file cannot be read, for an unknown key.
    broken: PathBuf,
    /// One without a workflow.
    fresh: PathBuf,
}

impl<'t> World<'t> {
    fn new(text: &'t str) -> Self {
        let env = TestEnv::without_workflow(LOOM);
        let [repo, broken, fresh] = ["r", "b", "f"].map(|name| env.repo().join(format!("{name} {text}")));
        let world = Self { text, env, repo, broken, fresh };
        let quoted = yaml(text);
        // A step says it on both streams and fails, so that its last lines are shown too.
        let says = yaml(&format!("printf '%s\\n' '{text}'; printf '%s\\n' '{text}' >&2; exit 3"));
        let keeps = yaml(&format!(
            "if test -e deps/made; then mkdir out; touch 'out/{text}'; else mkdir -p deps; touch deps/made 'deps/{text}'; fi"
        ));
        let head = "version: v1\nstages: [ci]\ndefault: {target: linux}\n";
        // A dollar sign would begin a reference.
        let key = yaml(&format!("k-{}", text.replace('$', "$$")));
        for (name, workflow) in [
            ("workflow", format!("{head}j: {{stage: ci, variables: {{A: {quoted}}}, script: [{says}]}}\n")),
            (
                "cached",
                format!(
                    "{head}j:\n  stage: ci\n  cache: {{key: {key}, paths: [deps]}}\n  artifacts: {{paths: [out]}}\n  script: [{keeps}]\n"
                ),
            ),
            (
                "wrong",
                format!(
                    "version: {quoted}\nstages: [ci]\ninclude: [{{local: {quoted}}}]\ndefault: {{{quoted}: 1}}\n{quoted}: {{stage: {quoted}}}\n.t: {{extends: [{quoted}]}}\nj: {{stage: {quoted}, target: {quoted}, image: {quoted}, needs: [{quoted}], cache: {{key: {quoted}, policy: {quoted}}}, script: [{quoted}], artifacts: {{paths: [{quoted}], when: {quoted}}}, services: [{quoted}], variables: {{{quoted}: x}}, secrets: {{A: {{ref: {quoted}}}}}}}\n"
                ),
            ),
            ("raw", format!("version: v1\nstages: [ci]\nj: {{stage: ci, {text}: [{text}]}} # {text}\n")),
            (
                "glob",
                format!(
                    "{head}j: {{stage: ci, artifacts: {{paths: [{}]}}, script: ['true']}}\n",
                    yaml(&format!("p{text}["))
                ),
            ),
            (
                "image",
                format!("{head}j: {{stage: ci, image: {}, script: ['true']}}\n", yaml(&format!("a{text}"))),
            ),
            ("provider", format!("{head}j: {{stage: ci, provider: {quoted}, script: ['true']}}\n")),
        ] {
            world.write(&world.repo, &format!(".loom/{name}.yml"), &workflow);
        }
        world.write(
            &world.repo,
            ".loom/config.yml",
            &format!(
                "providers: {{keepass: {{aliases: {{v: {{path: v.kdbx, passwordEnv: MASTER}}, {quoted}: {{path: {quoted}}}}}}}}}\n"
            ),
        );
        world.write(&world.broken, ".loom/config.yml", &format!("runtime: {{{quoted}: 1}}\n"));
        world.write(
            &world.broken,
            ".loom/workflow.yml",
            &format!("{head}j: {{stage: ci, script: ['true']}}\n"),
        );
        let json = serde_json::to_string(text).unwrap();
        world.write(
            &world.fresh,
            "package.json",
            &format!("{{\"scripts\": {{\"test\": {json}, {json}: \"x\"}}}}"),
        );
        world.write(&world.fresh, "Makefile", &format!("test: # {text}\n\t{text}\n{text}:\n"));
        std::fs::create_dir(world.fresh.join(".loom")).unwrap();
        // A file that is left out of the copy, and a branch and a remote, as far as git takes them.
        symlink("/etc", world.repo.join(format!("link {text}"))).unwrap();
        let origin = format!("git@example.org:group/{text}.git");
        for args in [
            &["init", "-q"][..],
            &["add", ".loom"],
            &["-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", text],
            &["branch", "-m", &format!("b{text}")],
            &["config", "remote.origin.url", &origin],
        ] {
            let _ = Command::new("git").args(args).current_dir(&world.repo).output().unwrap();
        }
        world.runs();
        world
    }

    fn write(&self, root: &Path, path: &str, text: &str) {
        let root = root.strip_prefix(self.env.repo()).unwrap();
        self.env.write(root.join(path).to_str().unwrap(), text);
    }

    /// Leaves a cache, a quarantine, a record that was tampered with, and a vault.
    fn runs(&self) {
        let run = |args: &[&str]| {
            let tried = self.tried(args).with("MASTER", "master of the vaults");
            let (_, stdout, stderr) = self.on_pipes(&tried);
            (stdout, String::from_utf8(stderr).unwrap())
        };
        let (_, told) = run(&["run", "--local", "--workflow", ".loom/cached.yml"]);
        assert!(told.contains("loom run passed"), "{told}");
        let (_, told) = run(&["run", "--local", "--cache-diff", "--workflow", ".loom/cached.yml"]);
        assert!(told.contains("quarantined: "), "{told}");
        let (_, told) = run(&["run", "--local"]);
        assert!(told.contains("(exit code 3)"), "{told}");
        let vault = ["secrets", "keepass", "vault", "create", "--vault-path", "v", "--database-path"];
        let (created, told) = run(&[&vault[..], &[".loom/v.kdbx", "--password-from-env", "MASTER"]].concat());
        assert!(created.starts_with(b"vault created: "), "{told}");
        let item =
            ["secrets", "keepass", "item", "create", "--vault-path", "v", "--value-from-env", "MASTER"];
        // What a vault cannot hold, it refuses.
        run(&[&item[..], &["--item-path", &format!("g/{}", self.text), "--field", "password"]].concat());
    }

    /// Makes the record of the last run lead to a file that is named by the text.
    fn tamper(&self) {
        for run in std::fs::read_dir(self.repo.join(".loom/.runtime/logs")).unwrap() {
            let manifest = run.unwrap().path().join("pipeline/manifest.json");
            let Ok(written) = std::fs::read_to_string(&manifest) else { continue };
            let mut value: serde_json::Value = serde_json::from_str(&written).unwrap();
            for job in value["jobs"].as_array_mut().unwrap() {
                job["summary_path"] = format!("x{}", self.text).into();
            }
            std::fs::write(&manifest, value.to_string()).unwrap();
        }
    }

    fn tried(&self, args: &[&str]) -> Try {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Try { args, folder: self.repo.clone(), variables: Vec::new(), shows: false }
    }

    /// What is tried of `command`, so that the text comes from each place that the command looks at.
    fn tries(&self, command: &str) -> Vec<Try> {
        let text = self.text;
        let words: Vec<&str> = command.split(' ').collect();
        let with = |more: &[&str]| self.tried(&[&words[..], more].concat());
        let mut tries = vec![
            with(&[text]).shows(),
            with(&[&format!("--{text}")]),
            with(&["--color", text]).shows(),
            with(&["--help"]),
        ];
        tries.extend(match command {
            "run" => {
                let local = |more: &[&str]| with(&[&["--local"], more].concat());
                let daemon = format!("unix:///x{text}");
                vec![
                    with(&[]),
                    local(&["--dry-run"]).shows(),
                    local(&["--dry-run", "--workflow", ".loom/wrong.yml"]).shows(),
                    local(&["--stream"]).shows(),
                    local(&["--stream", "--color", "always"]).shows(),
                    local(&["-v"]).shows(),
                    local(&["-q"]).shows(),
                    local(&["--rerun-failed"]).shows(),
                    local(&["--job", text]).shows(),
                    local(&["--workflow", text]).shows(),
                    local(&["--workflow", ".loom/wrong.yml"]).shows(),
                    local(&["--workflow", ".loom/raw.yml"]),
                    local(&["--workflow", ".loom/glob.yml"]).shows(),
                    local(&["--workflow", ".loom/image.yml"]).with("DOCKER_HOST", &daemon).shows(),
                    local(&["--workflow", ".loom/provider.yml"]).shows(),
                    local(&["--docker-workspace-mount", text]).shows(),
                    local(&[]).with("LOOM_DOCKER_WORKSPACE_MOUNT", text),
                    local(&[]).with("XDG_CACHE_HOME", &format!("/dev/null/{text}")).shows(),
                    local(&["--stream"]).with("LOOM_LOG", "trace"),
                    local(&[]).at(&self.broken).shows(),
                    local(&[]).at(&self.fresh).shows(),
                ]
            }
            "check" | "compile" => {
                let mut tries: Vec<Try> = ["workflow", "cached", "wrong", "raw", "glob", "image", "provider"]
                    .iter()
                    .map(|name| with(&["--workflow", &format!(".loom/{name}.yml")]))
                    .collect();
                tries.push(with(&["--workflow", ".loom/wrong.yml"]).shows());
                tries.push(with(&["--workflow", text]).shows());
                if command == "compile" {
                    tries.push(with(&["--explain", text]).shows());
                    tries.push(with(&["--explain", "j"]));
                    tries.push(with(&[]).shows());
                }
                tries
            }
            "config show" => vec![
                with(&[]).shows(),
                with(&[]).at(&self.broken).shows(),
                with(&[]).with("LOOM_KEEPASS_DB_X_PATH", text).shows(),
                with(&[]).with("LOOM_KEEPASS_DB_X_PASSWORD_ENV", text),
                with(&[]).with("XDG_CACHE_HOME", &format!("/x{text}")).shows(),
            ],
            "config init" => vec![
                with(&[]).shows(),
                with(&["--user"]).with("XDG_CONFIG_HOME", &format!("/dev/null/{text}")).shows(),
            ],
            "secrets keepass vault create" => vec![
                with(&["--vault-path", text, "--password-from-env", text]),
                with(&["--vault-path", "w", "--database-path", text, "--password-from-env", text]).shows(),
                with(&["--password-from-env", "NOT_SET"]),
                with(&["--password-from-env", "MASTER"]).at(&self.broken).shows(),
            ],
            "secrets keepass vault update" => {
                vec![with(&["--vault-path", text, "--password-from-env", text])]
            }
            "secrets keepass vault list" => vec![with(&[]).shows(), with(&[]).at(&self.broken).shows()],
            "secrets keepass item create" | "secrets keepass item update" => {
                let item = ["--item-path", text, "--field", text, "--value-from-env"];
                vec![
                    with(&[&item[..], &[text]].concat()).shows(),
                    with(&[&item[..], &["MASTER", "--vault-path", text]].concat()).with("MASTER", text),
                ]
            }
            "secrets keepass item list" => vec![
                with(&["--vault-path", "v"]).with("MASTER", "master of the vaults"),
                with(&["--vault-path", text]),
                with(&[]),
            ],
            "cache list" => vec![with(&[]).shows(), with(&[]).at(&self.broken).shows()],
            "cache show" => vec![with(&["k"]).shows(), with(&[text]).shows(), with(&["k", "--cache", text])],
            "cache why" => vec![with(&["j"]).shows(), with(&[text]).shows()],
            "runs pin" | "runs unpin" => vec![with(&["latest"]), with(&[""])],
            "cache verify" => vec![with(&[]), with(&[]).with("XDG_CACHE_HOME", &format!("/x{text}"))],
            "cache gc" => vec![with(&["--max-bytes", "0"]), with(&["--max-bytes", text]).shows()],
            "clean" => vec![
                with(&["--dry-run"]),
                with(&["--all", "--dry-run"]),
                with(&[]).at(&self.broken).shows(),
                with(&["--all"]),
            ],
            "cache quarantine list" => vec![with(&[]).shows()],
            "cache quarantine lift" => vec![with(&[text]).shows(), with(&["k", "--cache", text])],
            "schema" => vec![with(&["workflow"]), with(&["config"])],
            "init" => vec![with(&[]).shows(), with(&[]).at(&self.fresh).shows()],
            "shell" => vec![
                // One that waits for nobody.
                with(&["j"]).with("SHELL", "/bin/true"),
                with(&["--workflow", text]).shows(),
                with(&["j", "--secrets"]).with("SHELL", &format!("/x{text}")).shows(),
            ],
            "version" => vec![with(&[]).with("LOOM_LOG", text)],
            "mask" => vec![with(&[]), with(&["--whole"]).with("LOOM_MASK", text)],
            // A new command: what it looks at is to be said here.
            _ => return Vec::new(),
        });
        tries
    }

    fn command(&self, tried: &Try) -> loom_tests::Loom<'_> {
        let args: Vec<&str> = tried.args.iter().map(String::as_str).collect();
        let mut loom = self.env.loom(&args);
        loom.command
            .current_dir(&tried.folder)
            .envs(tried.variables.iter().map(|(name, value)| (name, value)));
        loom
    }

    fn on_pipes(&self, tried: &Try) -> (ExitStatus, Vec<u8>, Vec<u8>) {
        let output = self.command(tried).output();
        (output.status, output.stdout, output.stderr)
    }
}

/// Every command, as `loom` itself lists them.
fn commands() -> Vec<String> {
    fn below(path: &str, found: &mut Vec<String>) {
        let words = path.split(' ').filter(|word| !word.is_empty());
        let help = Command::new(LOOM).args(words).arg("--help").env("COLUMNS", "200").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let Some((_, list)) = help.split_once("Commands:\n") else { return found.push(path.to_owned()) };
        for line in list.lines().take_while(|line| !line.is_empty()) {
            // A line that goes on from the one above begins further in.
            if let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
                let name = name.split(' ').next().unwrap();
                below(format!("{path} {name}").trim(), found);
            }
        }
    }
    let mut found = Vec::new();
    below("", &mut found);
    found
}

/// What is wrong with `shown`, a stream that was written to a pipe or a file.
fn wrong_on_a_pipe(shown: &str) -> Option<String> {
    let hidden = shown.chars().find(|c| is_hidden(*c) && !['\n', '\t'].contains(c));
    hidden.map(|c| format!("{c:?} off a terminal"))
}

/// What is wrong with `shown`, which a terminal was given.
fn wrong_on_a_terminal(shown: &str) -> Option<String> {
    let mut rest = shown;
    while let Some(at) = rest.find(|c: char| is_hidden(c) && !['\n', '\t', '\r'].contains(&c)) {
        let found = &rest[at..];
        let Some(sequence) = found.strip_prefix("\x1b[") else {
            return Some(format!("{:?}", found.chars().next()));
        };
        let end = sequence.find(|c: char| !c.is_ascii_digit() && c != ';');
        let Some((parameters, last)) = end.map(|end| (&sequence[..end], &sequence[end..=end])) else {
            return Some(format!("a sequence that does not end: {found:?}"));
        };
        // Colours and weights; the view of running jobs moves up and down, and clears its lines.
        let fine = match last {
            "m" => parameters.split(';').all(|one| !["5", "6", "8"].contains(&one)),
            "A" | "B" => !parameters.contains(';'),
            "K" => ["", "2"].contains(&parameters),
            _ => false,
        };
        if !fine {
            return Some(format!("the sequence {parameters}{last}"));
        }
        rest = &sequence[parameters.len() + 1..];
    }
    None
}

/// `text` as it stands in JSON, without the quotes.
fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap().trim_matches('"').to_owned()
}

/// Whether `text` is in `shown`, written out in one of the ways.
fn is_shown(text: &str, shown: &str) -> bool {
    let json = escaped_json(&json(text)).into_owned();
    // A terminal's driver puts a carriage return before each line break.
    let shown = shown.replace("\r\n", "\n");
    [visible(text).into_owned(), on_one_line(text).into_owned(), json].iter().any(|form| shown.contains(form))
}

fn removes(command: &str) -> bool {
    command == "clean" || command.contains("gc")
}

fn try_everything(text: &str, commands: &[String]) -> Vec<String> {
    let world = World::new(text);
    let mut wrong = Vec::new();
    // What is removed, is removed last; an old record is tampered with when the others have been looked at.
    let (last, first): (Vec<_>, Vec<_>) = commands.iter().partition(|name| removes(name) || *name == "run");
    let last_first = |name: &&&String| if removes(name) { 1 } else { 0 };
    let mut last: Vec<&String> = last;
    last.sort_by_key(|name| last_first(&name));
    for command in first.into_iter().chain(last) {
        let tries = world.tries(command);
        if tries.is_empty() {
            wrong.push(format!("it is not said how `loom {command}` is tried with hostile texts"));
        }
        for tried in tries {
            let (status, stdout, stderr) = world.on_pipes(&tried);
            if tried.args.contains(&"--rerun-failed".to_owned()) {
                world.tamper();
            }
            let (_, screen) = world.command(&tried).on_terminal();
            let told = |what: String| format!("loom {:?} {:?}: {what}", tried.args, tried.variables);
            let [stdout, stderr, screen] =
                [stdout, stderr, screen].map(|bytes| String::from_utf8(bytes).unwrap());
            let forced = tried.args.contains(&"always".to_owned());
            let judge = if forced { wrong_on_a_terminal } else { wrong_on_a_pipe };
            wrong.extend(judge(&stderr).map(told));
            let is_json = ["compile", "schema"].contains(&command.as_str()) && stdout.starts_with('{');
            if is_json {
                let raw = stdout.chars().any(|c| c < ' ' && c != '\n');
                wrong.extend(raw.then(|| told("a raw control character in JSON".to_owned())));
                let value: serde_json::Value = serde_json::from_str(&stdout).unwrap();
                if !screen.contains("warning") {
                    assert_eq!(
                        value,
                        serde_json::from_str::<serde_json::Value>(&screen).unwrap(),
                        "{screen}"
                    );
                }
            } else {
                wrong.extend(wrong_on_a_pipe(&stdout).map(told));
            }
            wrong.extend(wrong_on_a_terminal(&screen).map(told));
            if stderr.contains("panicked") || screen.contains("panicked") || status.code().is_none() {
                wrong.push(told(format!("{status}: {stderr}{screen}")));
            }
            if tried.shows {
                let piped = format!("{stdout}{stderr}");
                // JSON off a terminal holds the characters themselves.
                let is_data = is_json && piped.contains(&json(text));
                if !is_shown(text, &piped) && !is_data || !is_shown(text, &screen) {
                    wrong.push(told(format!("the text is not shown:\n{piped}{screen}")));
                }
            }
        }
    }
    wrong
}

#[test]
fn no_command_lets_a_text_steer_the_terminal() {
    let commands = commands();
    assert!(commands.len() >= 20, "{commands:?}");
    let worlds = packed();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(text) = worlds.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let found = try_everything(text, &commands);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_terminal_that_goes_away_ends_nothing() {
    for flags in [&[][..], &["--stream"], &["-v"]] {
        let env = env_of_steps(&[
            "while ! test -e \"$HOME/go\"; do echo waits; sleep 0.05; done",
            "echo out",
            "echo done > \"$HOME/done\"",
        ]);
        let mut loom = env.loom(&[&["run", "--local"], flags].concat());
        let mut pty = Pty::new();
        pty.attach(&mut loom.command);
        let mut child = loom.spawn();
        pty.read_until("started");
        drop(pty);
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(env.home().join("go"), "").unwrap();
        assert_eq!(child.exit().code(), Some(0), "{flags:?}");
        assert!(env.home().join("done").exists(), "{flags:?}");
        let receipts = env.receipts();
        assert!(
            receipts.iter().all(|path| path.extension().is_some_and(|end| end == "json")),
            "{receipts:?}"
        );
        loom_tests::Run::open(receipts.first().unwrap()).keeps_the_laws(0);
    }
}

#[test]
fn a_window_that_is_closed_cancels_the_run() {
    for flags in [&[][..], &["--stream"]] {
        let env = env_of_steps(&["while true; do echo waits; sleep 0.05; done"]);
        let mut loom = env.loom(&[&["run", "--local"], flags].concat());
        let mut pty = Pty::new();
        // Of the session that is the terminal's own, so that its end is a hangup.
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait", LOOM]).args(loom.command.get_args());
        session.envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        session.current_dir(loom.command.get_current_dir().unwrap());
        loom.command = session;
        pty.attach(&mut loom.command);
        let mut child = loom.spawn();
        pty.read_until("started");
        drop(pty);
        child.exit();
        let deadline = Instant::now() + Duration::from_secs(10);
        let is_over = || {
            let receipts = env.receipts();
            !receipts.is_empty()
                && receipts.iter().all(|path| path.extension().is_some_and(|end| end == "json"))
        };
        while !is_over() {
            assert!(Instant::now() < deadline, "{flags:?}: {:?}", env.receipts());
            std::thread::sleep(Duration::from_millis(20));
        }
        let run = loom_tests::Run::open(env.receipts().first().unwrap());
        assert_eq!(run.receipt.exit_code, 129, "{flags:?}");
    }
}
