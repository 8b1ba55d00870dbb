use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fs_err as fs;
use loom_contract::layout::RuntimeDir;
use loom_deadlines::Running;
use tempfile::TempDir;

use crate::canary::{Canaries, Extent};
use crate::laws::Run;
use crate::pty::Pty;

/// An empty repository, an empty home, and nothing of the machine's own settings.
pub struct TestEnv {
    loom: PathBuf,
    dir: Arc<TempDir>,
    /// What no run may leave anywhere.
    canaries: Mutex<Canaries>,
    /// What every `loom` finds in its environment.
    variables: Mutex<Vec<(String, OsString)>>,
    /// Whether jobs cache files that are called by planted values.
    names_in_caches: AtomicBool,
}

impl TestEnv {
    /// A place for the program `loom` (the tests' own `CARGO_BIN_EXE_loom`), with `workflow` as its workflow.
    pub fn new(loom: &str, workflow: &str) -> Self {
        let env = Self::without_workflow(loom);
        fs::create_dir_all(env.repo().join(".loom")).unwrap();
        env.write(".loom/workflow.yml", workflow);
        env
    }

    /// The same without a workflow.
    pub fn without_workflow(loom: &str) -> Self {
        let env = Self {
            loom: loom.into(),
            dir: Arc::new(tempfile::tempdir().unwrap()),
            canaries: Mutex::default(),
            variables: Mutex::default(),
            names_in_caches: AtomicBool::default(),
        };
        for folder in [env.repo(), env.home(), env.memory()] {
            fs::create_dir_all(folder).unwrap();
        }
        env
    }

    /// A copy of the folder `example` as the repository.
    pub fn of_example(loom: &str, example: &Path) -> Self {
        let env = Self::without_workflow(loom);
        copy(example, &env.repo());
        env
    }

    /// The repository's root.
    pub fn repo(&self) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join("repo")
    }

    /// The home folder, in which Loom's caches stand.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The user's folder for what is in memory only; that it is depends on where the tests' files are.
    pub fn memory(&self) -> PathBuf {
        self.dir.path().join("memory")
    }

    /// Plants `value`: from now on it must not be found in what a run leaves or says, in any form in which people print
    /// values by accident. `name` is how the law calls it.
    pub fn plant(&self, name: &str, value: impl AsRef<[u8]>) {
        self.canaries.lock().unwrap().plant(name, value.as_ref());
    }

    /// Plants `value`, and gives it to every `loom` from now on in the environment variable `name`.
    pub fn plant_variable(&self, name: &str, value: &str) {
        self.plant(name, value);
        self.variables.lock().unwrap().push((name.to_owned(), value.into()));
    }

    /// A job caches files that it has called by a planted value: their names are its own, as their content is.
    pub fn allow_names_in_caches(&self) {
        self.names_in_caches.store(true, Ordering::Relaxed);
    }

    /// Panics if a planted value is in `text`, which a command wrote to its terminal.
    pub fn holds_no_secret(&self, text: &[u8], place: &str) {
        self.canaries.lock().unwrap().are_not_in_terminal(text, place);
    }

    /// Writes a file of the repository.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.repo().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes the repository a git repository with one commit of all that is in it.
    pub fn commit_all(&self) {
        for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "first"]] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=Test", "-c", "user.email=test@example.org"]).args(args);
            let output = loom_deadlines::output(self.hermetic(&mut git).current_dir(self.repo())).unwrap();
            assert!(output.status.success(), "git {args:?}: {output:?}");
        }
    }

    /// `loom` with `args`, to be run in the repository.
    pub fn loom(&self, args: &[&str]) -> Loom<'_> {
        let mut command = Command::new(&self.loom);
        self.hermetic(&mut command).args(args).current_dir(self.repo());
        command.envs(self.variables.lock().unwrap().iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Loom { env: self, command }
    }

    /// Runs `loom run --local` with `args`, and holds the run to the contract's laws.
    pub fn run(&self, args: &[&str]) -> RunOutput {
        let args: Vec<&str> = ["run", "--local"].iter().chain(args).copied().collect();
        self.loom(&args).run()
    }

    /// The folder of the repository's runs.
    pub fn runtime(&self) -> RuntimeDir {
        RuntimeDir::of_repo(&self.repo())
    }

    /// Log folders of all runs, oldest first.
    pub fn run_dirs(&self) -> Vec<PathBuf> {
        sorted(&self.runtime().logs_dir())
    }

    /// All receipts, partial ones too, by name.
    pub fn receipts(&self) -> Vec<PathBuf> {
        sorted(&self.runtime().receipts_dir())
    }

    fn hermetic<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_clear();
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", self.home()).env("XDG_RUNTIME_DIR", self.memory());
        command.env("LC_ALL", "C").env("GIT_CONFIG_NOSYSTEM", "1")
    }

    /// Planted values are nowhere, and no file of a secret of the run `run_id` is left.
    fn keeps_secrets(&self, run_id: &str, output: &Output) {
        for base in [self.memory(), "/dev/shm".into(), std::env::temp_dir()] {
            let folder = base.join(format!("{run_id}-secrets"));
            // A job can put something else in its place, which is the job's.
            let is_folder = fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_dir());
            assert!(!is_folder, "{} outlives its run", folder.display());
        }
        self.holds_no_secret(&output.stdout, "stdout");
        self.holds_no_secret(&output.stderr, "stderr");
        self.no_secret_is_left();
    }

    /// Panics if a planted value is in what all runs so far have left.
    pub fn no_secret_is_left(&self) {
        let canaries = self.canaries.lock().unwrap();
        if canaries.is_empty() {
            return;
        }
        let cache = self.home().join(".cache/loom");
        let names = !self.names_in_caches.load(Ordering::Relaxed);
        let (workspaces, stores) = (cache.join("workspaces"), cache.join("cache"));
        let logs = self.runtime().logs_dir();
        // A job's own files are the job's, also those that it has Loom keep; but their names are in documents.
        let extent = |path: &Path| match path.strip_prefix(&logs) {
            _ if workspaces == path => Extent::Nothing,
            _ if path.parent() == Some(&stores) => Extent::Store { names },
            Ok(path) if path.iter().skip(3).any(|part| part == "artifacts") => Extent::Names,
            _ => Extent::Content,
        };
        for folder in [self.runtime().path(), &self.home(), &self.memory()] {
            canaries.are_not_in_folder(folder, &extent);
        }
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name == ".runtime" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// A `loom` that is about to be started.
pub struct Loom<'a> {
    env: &'a TestEnv,
    /// The command, for what a test wants to change.
    pub command: Command,
}

impl Loom<'_> {
    /// Sets an environment variable. One that the workflow has a secret from is planted.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        // Where something else stands in its place, there are no values in it.
        let path = self.env.repo().join(".loom/workflow.yml");
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        let workflow = if is_file { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        let reference = workflow.match_indices(&format!("env://{name}")).any(|(at, reference)| {
            let after = workflow[at + reference.len()..].chars().next();
            after.is_none_or(|after| !after.is_alphanumeric() && after != '_')
        });
        if reference {
            self.env.plant(name, value);
        }
        self.command.env(name, value);
        self
    }

    /// Has a shell run `script` first, which ends in Loom.
    #[must_use]
    pub fn after(self, script: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]);
        shell.arg(self.command.get_program()).args(self.command.get_args());
        self.by(shell)
    }

    /// Has it run by somebody to whom the system does not show everything, who has no other process, and to whom the
    /// repository and the home folder belong from now on. Nothing where the tests are run by an ordinary user.
    #[must_use]
    pub fn by_ordinary_user(self) -> Self {
        const SOMEBODY: u32 = 65_431;
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        let mut this = self.for_user(SOMEBODY);
        this.command.uid(SOMEBODY).gid(SOMEBODY);
        this
    }

    /// What it needs belongs to `user` from now on; root is still to become that user.
    #[must_use]
    pub fn for_user(self, user: u32) -> Self {
        // Where it was built may be somebody else's.
        let program = self.env.home().join("loom");
        if !program.exists() {
            fs::copy(&self.env.loom, &program).unwrap();
        }
        give(self.env.dir.path(), user);
        let own = |word: &OsStr| if word == self.env.loom { program.clone().into() } else { word.to_owned() };
        let mut command = Command::new(own(self.command.get_program()));
        command.args(self.command.get_args().map(own));
        self.by(command)
    }

    /// Has it run by `command`, which ends in Loom: in the same place, with the same environment.
    #[must_use]
    pub fn by(mut self, mut command: Command) -> Self {
        command.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(self.env.repo());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command = command;
        self
    }

    /// Waits for its end, and looks at nothing else but that it keeps planted values to itself.
    pub fn output(self) -> Output {
        let env = self.env;
        let output = self.spawn().output();
        env.holds_no_secret(&output.stdout, "stdout");
        env.holds_no_secret(&output.stderr, "stderr");
        output
    }

    /// Waits for its end on a terminal, where its two streams are one. Nothing is looked at but that it keeps planted values
    /// to itself.
    pub fn on_terminal(self) -> (ExitStatus, Vec<u8>) {
        self.on_terminal_of(Pty::COLUMNS)
    }

    /// The same on a terminal of `columns` columns.
    pub fn on_terminal_of(mut self, columns: u16) -> (ExitStatus, Vec<u8>) {
        let pty = Pty::of(columns);
        pty.attach(&mut self.command);
        let mut child = self.command.spawn().unwrap();
        let env = self.env;
        // Its own ends of the terminal would keep it open.
        drop(self.command);
        let shown = pty.read_to_end();
        env.holds_no_secret(&shown, "terminal");
        (child.wait().unwrap(), shown)
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        Running::start(&mut self.command).unwrap()
    }

    /// Waits for the end of a run, and holds it to the contract's laws.
    pub fn run(self) -> RunOutput {
        let env = self.env;
        RunOutput::of(env, &self.spawn().output())
    }
}

/// A run that has ended.
pub struct RunOutput {
    /// The exit code of `loom`; 128 + n where signal n ended it.
    pub exit_code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// What it left on disk.
    pub run: Run,
    /// Keeps the files for as long as somebody looks at them.
    _dir: Arc<TempDir>,
}

impl RunOutput {
    /// What `output`, of a `loom run`, left behind. The receipt is the one that it names.
    pub fn of(env: &TestEnv, output: &Output) -> Self {
        Self::of_place(env, &env.repo(), output)
    }

    /// The same of a `loom` to which the repository was at `repo`.
    pub fn of_place(env: &TestEnv, repo: &Path, output: &Output) -> Self {
        let stderr = String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8");
        let exit_code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap();
        let receipt = stderr.lines().find_map(|line| line.strip_prefix("receipt: "));
        let receipt = Path::new(receipt.unwrap_or_else(|| panic!("no receipt in: {stderr}")));
        let receipt = receipt.strip_prefix(repo).map_or(receipt.to_owned(), |path| env.repo().join(path));
        let run = Run::open(&receipt);
        run.keeps_the_laws(exit_code);
        let below = run.dir.strip_prefix(env.repo());
        let below = below.unwrap_or_else(|_| panic!("{} is not in the repository", receipt.display()));
        assert_eq!(run.receipt.logs_dir.to_string(), repo.join(below).to_string_lossy());
        env.keeps_secrets(&run.run_id(), output);
        Self {
            exit_code,
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr,
            run,
            _dir: Arc::clone(&env.dir),
        }
    }

    /// stderr with what differs from run to run replaced.
    pub fn plain_stderr(&self) -> String {
        let repo = self.run.receipt.repo_root.clone();
        let run_id = self.run.run_id();
        let stamp = run_id.strip_prefix("loom-run-local-").unwrap().to_owned();
        let text = self.stderr.replace(&repo, "[REPO]").replace(&stamp, "[STAMP]");
        text.lines().map(|line| durations(line) + "\n").collect()
    }
}

/// `line` with `(1.2s)` as `([TIME])`, and `in 1.2s:` as `in [TIME]:`.
fn durations(line: &str) -> String {
    let is_time = |word: &str| {
        let number = word.trim_end_matches(['h', 'm', 's']);
        number.len() < word.len() && number.starts_with(|c: char| c.is_ascii_digit())
    };
    let end_of =
        |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = ["(", "in "].iter().filter_map(|word| Some(rest.find(word)? + word.len())).min() {
        let (before, after) = rest.split_at(at);
        let (word, behind) = after.split_at(end_of(after));
        out.push_str(before);
        let is_told = is_time(word) && (behind.starts_with(')') || behind.starts_with(':'));
        out.push_str(if is_told { "[TIME]" } else { "" });
        rest = if is_told { behind } else { after };
    }
    out + rest
}
