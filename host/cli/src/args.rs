//! The command line's words.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::WorkspaceMount;

/// Runs a repository's checks on your own machine, and leaves documents that lead to what failed.
#[derive(Debug, Parser)]
#[command(name = "loom", version, propagate_version = false, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// When to use colour
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto, global = true)]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR says otherwise
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a workflow
    Run(Run),
    /// Open a shell where a job runs, in the workspace that the last run has left, with the job's variables
    Shell(Shell),
    /// Check a workflow without running it
    Check(Workflow),
    /// Print what a workflow compiles to, as JSON
    Compile(Compile),
    /// Show or start the configuration
    #[command(subcommand)]
    Config(Config),
    /// Manage what secrets are read from
    #[command(subcommand)]
    Secrets(Secrets),
    /// Mask what standard input says, each line of it, in the output of the run from now on: for steps of jobs
    Mask {
        /// Take standard input for one value of several lines, such as a key in PEM
        #[arg(long)]
        whole: bool,
    },
    /// Look at and tend what jobs keep for later runs
    #[command(subcommand)]
    Cache(Cache),
    /// Keep the records of runs, or let them go
    #[command(subcommand)]
    Runs(Runs),
    /// Remove what is not needed any more: old records, copies of failed runs, what killed runs left, too large caches
    Clean(Clean),
    /// Print the JSON Schema of a format that Loom reads or writes
    Schema {
        /// The format
        #[arg(value_enum)]
        format: Format,
    },
    /// Write a first workflow, fitted to the repository, and the schema with which editors complete it
    Init {
        /// Print the workflow instead, and write no file
        #[arg(long)]
        print: bool,
    },
    /// Print the version
    Version,
    /// The process that ends what a killed run leaves behind
    #[command(name = loom_engine::guard::COMMAND, hide = true)]
    Guard { ledger: PathBuf, secrets_dir: PathBuf },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("selection").multiple(true))]
pub(crate) struct Run {
    /// Run on this machine: required, there is no other place yet
    #[arg(long)]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) workflow: Workflow,
    /// Show the output of jobs as it comes, each line with its job in front
    #[arg(long)]
    pub(crate) stream: bool,
    /// Show more about the run: workspace, providers, plugins
    #[arg(long, short, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Show only the receipt's path and how the run ended
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Jobs that may run at once [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Run these jobs, by name or pattern (`'test*'`), and what they need: their `needs` or, without these, the earlier
    /// stages
    #[arg(long = "job", value_name = "NAME", num_args = 1.., group = "selection")]
    pub(crate) job: Vec<String>,
    /// Run the jobs of these stages, by name or pattern, and what they need
    #[arg(long = "stage", value_name = "NAME", num_args = 1.., group = "selection")]
    pub(crate) stage: Vec<String>,
    /// Run the jobs that failed or never ran last time, in the workspace of that run: those that passed are not run again
    #[arg(long, conflicts_with_all = ["job", "stage"], group = "selection")]
    pub(crate) rerun_failed: bool,
    /// Begin the one chosen job, or the one that failed, at this step, in the workspace of the last run
    #[arg(long, value_name = "N", requires = "selection", conflicts_with_all = ["fresh", "cache_diff", "dry_run"])]
    pub(crate) from_step: Option<NonZeroUsize>,
    /// Leave out what the chosen jobs need
    #[arg(long, requires = "selection")]
    pub(crate) no_deps: bool,
    /// Start from nothing: no kept folders, a new copy of the repository
    #[arg(long, conflicts_with_all = ["dry_run", "cache_diff"])]
    pub(crate) fresh: bool,
    /// Start no further job once one has failed
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Run without caches and with them, and compare: keys that change the result go into quarantine
    #[arg(long, conflicts_with_all = ["rerun_failed", "dry_run"])]
    pub(crate) cache_diff: bool,
    /// Print what would run, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How Docker jobs see the workspace [default: ephemeral_volume]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) docker_workspace_mount: Option<WorkspaceMount>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Shell {
    /// The job [default: none, with the workflow's variables alone]
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,
    #[command(flatten)]
    pub(crate) workflow: Workflow,
    /// Give the shell the job's secrets: nothing that it prints is masked
    #[arg(long, requires = "job")]
    pub(crate) secrets: bool,
    /// Run the job's steps before this one first; the shell opens where one of them fails
    #[arg(long, value_name = "N", requires = "job")]
    pub(crate) at: Option<NonZeroUsize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Compile {
    #[command(flatten)]
    pub(crate) workflow: Workflow,
    /// Print where each value of this job came from, instead
    #[arg(long, value_name = "JOB")]
    pub(crate) explain: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Workflow {
    /// The workflow file, relative to the current folder; its repository is the one that counts [default:
    /// .loom/workflow.yml of the current folder's repository]
    #[arg(long, value_name = "PATH")]
    pub(crate) workflow: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print what holds, as YAML, each value with where it comes from
    Show,
    /// Write a config file in which every setting is explained and none is set
    Init {
        /// Write the user's config file instead of the repository's
        #[arg(long)]
        user: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// Keep the record of a run, however old it gets and however many there are
    Pin(RunName),
    /// Let the record of a run that was pinned go when its turn comes
    Unpin(RunName),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunName {
    /// The run's id, an end of it that no other run's has, or `latest`
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// List the repository's entries, by cache, the newest first
    List,
    /// List the files of an entry
    Show(Entry),
    /// Say what became of a job's caches in its last run, and why
    Why {
        /// The job
        job: String,
    },
    /// Read everything that is stored, and set aside what is damaged
    Verify,
    /// Remove what was used longest ago, until the cache is small enough, and what no entry needs
    Gc {
        /// Bytes that may stay [default: runtime.cacheMaxBytes]
        #[arg(long, value_name = "N")]
        max_bytes: Option<u64>,
    },
    /// Look at and lift quarantines
    #[command(subcommand)]
    Quarantine(Quarantine),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Clean {
    /// Of all repositories in which Loom has run, also of those that are gone
    #[arg(long)]
    pub(crate) all: bool,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List the keys in quarantine, with the reasons
    List,
    /// Let a key be used again
    Lift(Entry),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Entry {
    /// Its key, or the beginning of its key
    pub(crate) key: String,
    /// Its cache, where several have the key
    #[arg(long, value_name = "NAME")]
    pub(crate) cache: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Manage KeePass vaults; no command prints a value
    #[command(subcommand)]
    Keepass(Keepass),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keepass {
    /// Make, change or list vaults
    #[command(subcommand)]
    Vault(Vault),
    /// Make, change or list what is in a vault
    #[command(subcommand)]
    Item(Item),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vault {
    /// Make an empty vault
    Create {
        #[command(flatten)]
        vault: VaultName,
        /// Its file, relative to the current folder [default: .loom/keepass/KEY.kdbx]
        #[arg(long, value_name = "FILE")]
        database_path: Option<PathBuf>,
        #[command(flatten)]
        keys: Keys,
        /// Replace a vault that exists, with all that is in it
        #[arg(long)]
        force: bool,
    },
    /// Change what unlocks a vault; what is not named stays
    Update {
        #[command(flatten)]
        vault: VaultName,
        #[command(flatten)]
        keys: Keys,
    },
    /// List the vaults that are configured
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Item {
    /// Add a field to an item, which is made where there is none
    Create(ItemField),
    /// Change a field of an item
    Update(ItemField),
    /// List the items and the names of their fields
    List {
        #[command(flatten)]
        vault: VaultName,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct VaultName {
    /// The vault's alias [default: the path of the git remote `origin`, as in group/project/repo]
    #[arg(long = "vault-path", value_name = "ALIAS", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) alias: Option<String>,
}

/// Names of variables, never what is in them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Keys {
    /// The environment variable that holds the password
    #[arg(long, value_name = "VAR")]
    pub(crate) password_from_env: Option<String>,
    /// The environment variable that holds the path of the key file
    #[arg(long, value_name = "VAR")]
    pub(crate) keyfile_from_env: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ItemField {
    #[command(flatten)]
    pub(crate) vault: VaultName,
    /// The item: groups and title, joined by `/`
    #[arg(long, value_name = "PATH")]
    pub(crate) item_path: String,
    /// The field: title, username, password, url, notes, otp, or any other name
    #[arg(long, value_name = "NAME")]
    pub(crate) field: String,
    /// The environment variable that holds the value
    #[arg(long, value_name = "VAR")]
    pub(crate) value_from_env: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A workflow file
    Workflow,
    /// A config file
    Config,
    /// What `loom compile` prints
    GraphIr,
    /// One line of an `events.jsonl`
    Events,
    /// The receipt of a run
    Receipt,
    /// The receipt of a check
    CheckReceipt,
    /// What `loom run --cache-diff` found
    CacheDiff,
    /// A run's `summary.json`
    RunSummary,
    /// `pipeline/summary.json`
    PipelineSummary,
    /// `pipeline/manifest.json`
    PipelineManifest,
    /// `jobs/<job>/summary.json`
    JobSummary,
    /// `jobs/<job>/manifest.json`
    JobManifest,
    /// A step's `summary.json`
    StepSummary,
    /// A section's `summary.json`
    SectionSummary,
    /// `phase-report.json`
    PhaseReport,
}
