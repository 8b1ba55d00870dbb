//! The variables by which git tells its children, hooks among them, which repository it works on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The variables that `git rev-parse --local-env-vars` lists, of all versions of git, and two more that git
/// sets for the hooks of a repository that is pushed to.
pub(super) const OF_REPOSITORY: [&str; 18] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
    "GIT_NAMESPACE",
    "GIT_QUARANTINE_PATH",
];
/// With a number behind them, the settings that `GIT_CONFIG_COUNT` counts.
const NUMBERED: [&str; 2] = ["GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"];

/// Whether the environment variable `name` belongs to the repository of whoever set it: a git that works on
/// another one must not find it.
pub fn is_git_repository_variable(name: &OsStr) -> bool {
    let numbered = |prefix: &str| {
        let number = name.as_bytes().strip_prefix(prefix.as_bytes());
        number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    };
    OF_REPOSITORY.iter().any(|known| name == *known) || NUMBERED.iter().any(|prefix| numbered(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_installed_git_lists_is_known() {
        #[expect(clippy::disallowed_methods, reason = "a test asks the git that is installed")]
        let output = std::process::Command::new("git").args(["rev-parse", "--local-env-vars"]).output();
        let listed = String::from_utf8(output.unwrap().stdout).unwrap();
        let unknown: Vec<&str> =
            listed.lines().filter(|name| !is_git_repository_variable(OsStr::new(name))).collect();
        assert!(listed.contains("GIT_DIR\n"), "{listed}");
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn settings_that_are_counted_are_known_and_others_of_git_are_not() {
        let table = [
            ("GIT_CONFIG_KEY_0", true),
            ("GIT_CONFIG_VALUE_12", true),
            ("GIT_CONFIG_KEY_", false),
            ("GIT_CONFIG_KEY_X", false),
            ("GIT_CONFIG_GLOBAL", false),
            ("GIT_CONFIG_NOSYSTEM", false),
            ("GIT_AUTHOR_NAME", false),
            ("GIT_SSH_COMMAND", false),
            ("PATH", false),
        ];
        for (name, known) in table {
            assert_eq!(is_git_repository_variable(OsStr::new(name)), known, "{name}");
        }
    }
}
