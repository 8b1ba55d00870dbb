//! Loom is started by git: by its hooks, its aliases, and whatever else it runs. What git says of the user's repository
//! then must not reach jobs, which would work on that repository instead of their workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use loom_tests::TestEnv;

use crate::{LOOM, env, env_of_steps};

/// Does with git what tests and tools do: in a repository that it makes, and in its workspace.
const WORKFLOW: &str = "version: v1
stages: [ci]
job:
  stage: ci
  target: linux
  script:
    - |
      test \"$(git rev-parse --show-toplevel)\" = \"$LOOM_PROJECT_DIR\"
      test \"$(git rev-parse --absolute-git-dir)\" = \"$LOOM_PROJECT_DIR/.git\"
    - |
      folder=$(mktemp -d)
      cd \"$folder\"
      git init -q
      git config user.name fixture
      echo x > x
      git add x
      git commit -qm 'fixture commit'
      test \"$(git log --format=%s)\" = 'fixture commit'
      rm -rf \"$folder\"
    - |
      echo new > added-by-job
      git add added-by-job
      git config user.name job
      git stash -q
      git reset -q --hard
      git checkout -q -b made-by-job
      git commit -q --allow-empty -m 'commit of the job'
";

/// What a repository is, as a text.
const STATE: &str = "export GIT_OPTIONAL_LOCKS=0
git rev-parse HEAD
git symbolic-ref -q HEAD
sha256sum < \"${GIT_INDEX_FILE:-$(git rev-parse --git-path index)}\"
cat \"$(git rev-parse --git-common-dir)/config\"
git for-each-ref
git status --porcelain -uall
";

/// A repository with some commits, a remote, a linked work tree, and a script that runs Loom between two looks at the
/// repository.
struct Place {
    env: TestEnv,
    script: PathBuf,
}

impl Place {
    fn new() -> Self {
        let env = env(WORKFLOW);
        let home = std::fs::canonicalize(env.home()).unwrap();
        std::fs::write(
            home.join(".gitconfig"),
            "[user]\n\tname = User\n\temail = user@example.org\n[advice]\n\tdetachedHead = false\n",
        )
        .unwrap();
        let script = home.join("run-loom");
        std::fs::write(home.join("state"), STATE).unwrap();
        let text = format!(
            "#!/bin/sh
sh \"$HOME/state\" > \"$HOME/before\" 2>&1
'{LOOM}' run --local > \"$HOME/said\" 2>&1
echo $? > \"$HOME/code\"
sh \"$HOME/state\" > \"$HOME/after\" 2>&1
"
        );
        std::fs::write(&script, text).unwrap();
        make_executable(&script);
        env.write("file", "1\n");
        env.commit_all();
        let place = Self { env, script };
        let repo = place.env.repo();
        place.git(&repo, &["init", "-q", "--bare", "../origin.git"]);
        place.git(&repo, &["remote", "add", "origin", "../origin.git"]);
        for (name, message) in [("second", "second"), ("third", "third")] {
            place.env.write(name, message);
            place.git(&repo, &["add", "-A"]);
            place.git(&repo, &["commit", "-q", "-m", message]);
        }
        place.git(&repo, &["worktree", "add", "-q", "../linked", "-b", "side"]);
        place
    }

    fn git(&self, folder: &Path, args: &[&str]) -> Output {
        let mut git = Command::new("git");
        git.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        git.env("HOME", std::fs::canonicalize(self.env.home()).unwrap()).env("GIT_CONFIG_NOSYSTEM", "1");
        let output = git.args(args).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        output
    }

    fn hook(&self, name: &str) {
        let hooks = self.env.repo().join(".git/hooks");
        std::fs::create_dir_all(&hooks).unwrap();
        let hook = hooks.join(name);
        std::fs::copy(&self.script, &hook).unwrap();
        make_executable(&hook);
    }

    /// The script has run, its jobs have passed, and the repository was the same afterwards.
    fn ran(&self, what: &str) {
        let read = |name: &str| {
            let path = self.env.home().join(name);
            assert!(path.exists(), "{what}: there is no {name}");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::remove_file(path).unwrap();
            text
        };
        assert_eq!(read("code"), "0\n", "{what}: {}", read("said"));
        let before = read("before");
        assert_eq!(read("after"), before, "{what}");
        assert!(before.contains("refs/heads/main"), "{what}: {before}");
    }
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn folders(place: &Place) -> [PathBuf; 2] {
    let repo = place.env.repo();
    let linked = repo.join("../linked");
    [repo, linked]
}

#[test]
fn a_hook_leaves_the_repository_alone() {
    for hook in ["pre-commit", "commit-msg", "post-checkout", "pre-push"] {
        let place = Place::new();
        place.hook(hook);
        for (at, folder) in folders(&place).iter().enumerate() {
            match hook {
                "post-checkout" => place.git(folder, &["checkout", "-q", "-b", &format!("new-{at}")]),
                "pre-push" => place.git(folder, &["push", "-q", "origin", "HEAD"]),
                _ => {
                    std::fs::write(folder.join("file"), "2\n").unwrap();
                    place.git(folder, &["commit", "-q", "-a", "-m", "by the user"])
                }
            };
            place.ran(&format!("{hook} in {}", folder.display()));
        }
    }
}

#[test]
fn what_git_runs_leaves_the_repository_alone() {
    let place = Place::new();
    let script = place.script.to_str().unwrap();
    for folder in folders(&place) {
        let git = |args: &[&str]| {
            place.git(&folder, args);
            place.ran(&format!("git {args:?} in {}", folder.display()));
        };
        git(&["-c", &format!("alias.l=!{script}"), "l"]);
        git(&["-c", &format!("core.editor={script}"), "commit", "-q", "--amend"]);
        git(&["rebase", "-q", "-x", script, "HEAD~1"]);
        place.git(&folder, &["bisect", "start", "HEAD", "HEAD~2"]);
        git(&["bisect", "run", script]);
        place.git(&folder, &["bisect", "reset"]);
    }
}

#[test]
fn variables_of_a_repository_reach_neither_jobs_nor_looms_own_git() {
    let env = env_of_steps(&["env | grep ^GIT_ | sort; git status --porcelain"]);
    env.write("tracked", "1");
    env.commit_all();
    let listed = Command::new("git").args(["rev-parse", "--local-env-vars"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut loom = env.loom(&["run", "--local"]).env("GIT_AUTHOR_NAME", "User");
    for name in listed.lines().chain(["GIT_NAMESPACE", "GIT_QUARANTINE_PATH"]) {
        loom = loom.env(name, "/nowhere");
    }
    let settings = [
        ("GIT_CONFIG_PARAMETERS", "'core.bare=true'"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "core.worktree"),
        ("GIT_CONFIG_VALUE_0", "/nowhere"),
    ];
    for (name, value) in settings {
        loom = loom.env(name, value);
    }
    let run = loom.run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let expected = ["GIT_AUTHOR_NAME=User", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"];
    assert_eq!(run.run.output("job", "01"), expected);
    assert!(run.run.receipt.snapshot_head_sha.is_some());
}
