//! The programs that a workflow needs, and whether this machine has them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Draft;
use crate::settings;

/// What every shell knows by itself, as far as `init` writes it.
const OF_THE_SHELL: [&str; 4] = ["cd", "test", "echo", "exit"];

/// The programs of `draft` that are not on the PATH: each once, with the first job that needs it and the step. What the
/// repository at `root` brings itself is not looked for.
pub(super) fn missing<'d>(draft: &'d Draft, root: &Path) -> Vec<(String, &'d str, &'d str)> {
    let path = settings::environment().into_iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    let folders: Vec<PathBuf> = path.iter().flat_map(std::env::split_paths).collect();
    // An empty entry means the current folder, which is another one in a job.
    let is_there = |program: &str| {
        let found = folders.iter().filter(|folder| folder.is_absolute() && !folder.starts_with(root));
        found.map(|folder| folder.join(program)).any(|file| {
            let about = file.metadata();
            about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
        })
    };
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for job in &draft.jobs {
        for step in &job.check.script {
            for program in programs(step) {
                if !is_there(&program) && seen.insert(program.clone()) {
                    missing.push((program, job.name.as_str(), step.as_str()));
                }
            }
        }
    }
    missing
}

/// The programs that `step` starts; neither those of the shell nor those at a place in the workspace.
fn programs(step: &str) -> Vec<String> {
    let commands = step.split(['\n', ';', '|', '&']).map(|command| {
        let words = command.split_whitespace();
        words.skip_while(|word| word.contains('=')).take(2).collect::<Vec<_>>()
    });
    let program = |words: Vec<&str>| {
        let first = *words.first()?;
        // Subcommands that are programs, and may be missing although the first one is there.
        let is_own = first == "cargo" && ["fmt", "clippy"].contains(words.get(1)?);
        let name = if is_own { format!("cargo-{}", words[1]) } else { first.to_owned() };
        (!OF_THE_SHELL.contains(&first) && !first.contains('/')).then_some(name)
    };
    commands.filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_its_programs() {
        for (step, wanted) in [
            ("make test", &["make"][..]),
            ("cd web && test -f x || npm ci", &["npm"]),
            ("test -e .venv/ready && exit\npython3 -m venv .venv\n.venv/bin/python -m pip", &["python3"]),
            ("cargo fmt --check", &["cargo-fmt"]),
            ("A=b ./gradlew build", &[]),
            ("bazel test //... || test $? = 4", &["bazel"]),
            ("true", &["true"]),
        ] {
            assert_eq!(programs(step), wanted, "{step}");
        }
    }
}
