//! Config files: which place wins, what a run does with it, and what the two commands print and write.

use std::process::Output;

use loom_tests::TestEnv;

use crate::{LOOM, env, env_of_steps};

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The line of `key`, its value and its source.
fn line<'t>(page: &'t str, key: &str) -> (&'t str, &'t str) {
    let prefix = format!("{key}: ");
    let line = page.lines().find_map(|line| line.trim_start().strip_prefix(&prefix));
    let (value, source) = line.unwrap().split_once(" # ").unwrap();
    (value.trim_end(), source)
}

fn write_user(env: &TestEnv, text: &str) -> String {
    let folder = env.home().join(".config/loom");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.yml"), text).unwrap();
    folder.join("config.yml").to_str().unwrap().to_owned()
}

#[test]
fn what_holds_is_shown_with_its_source() {
    let env = env_of_steps(&["true"]);
    let page = out(&env.loom(&["config", "show"]).output());
    assert_eq!(line(&page, "keepRuns"), ("5", "built-in"));
    assert_eq!(line(&page, "workspaceMount"), ("ephemeral_volume", "built-in"));
    assert!(line(&page, "cacheDir").0.ends_with("/home/.cache/loom"), "{page}");

    let user = write_user(
        &env,
        "runtime: {jobs: 3, keepRuns: 7, workspaceDir: ../../../ws, docker: {workspaceMount: bind_mount}}\n",
    );
    env.write(".loom/config.yml", "runtime:\n  jobs: 4\n");
    let repo = env.repo().join(".loom/config.yml").to_str().unwrap().to_owned();
    let mut loom = env.loom(&["config", "show"]).env("LOOM_DOCKER_WORKSPACE_MOUNT", "");
    std::fs::create_dir(env.repo().join("sub")).unwrap();
    loom.command.current_dir(env.repo().join("sub"));
    let page = out(&loom.output());
    assert_eq!(line(&page, "jobs"), ("4", repo.as_str()));
    assert_eq!(line(&page, "keepRuns"), ("7", user.as_str()));
    assert_eq!(line(&page, "workspaceMount"), ("bind_mount", user.as_str()));
    let workspaces = env.repo().parent().unwrap().join("ws").to_str().unwrap().to_owned();
    assert_eq!(line(&page, "workspaceDir"), (workspaces.as_str(), user.as_str()));

    let page =
        out(&env.loom(&["config", "show"]).env("LOOM_DOCKER_WORKSPACE_MOUNT", "ephemeral_volume").output());
    assert_eq!(line(&page, "workspaceMount"), ("ephemeral_volume", "LOOM_DOCKER_WORKSPACE_MOUNT"));

    let elsewhere = env.home().join("xdg");
    std::fs::create_dir_all(elsewhere.join("loom")).unwrap();
    std::fs::write(elsewhere.join("loom/config.yml"), "runtime: {keepRuns: 9}\n").unwrap();
    let xdg = env.loom(&["config", "show"]).env("XDG_CONFIG_HOME", elsewhere.to_str().unwrap());
    assert_eq!(line(&out(&xdg.output()), "keepRuns").0, "9");
    let relative = env.loom(&["config", "show"]).env("XDG_CONFIG_HOME", "xdg");
    assert_eq!(line(&out(&relative.output()), "keepRuns").0, "7", "a relative one is as if it were not set");
}

#[test]
fn outside_of_a_repository_the_users_file_holds() {
    let env = TestEnv::without_workflow(LOOM);
    write_user(&env, "runtime: {jobs: 3}\n");
    assert_eq!(line(&out(&env.loom(&["config", "show"]).output()), "jobs").0, "3");
}

#[test]
fn names_are_shown_and_values_never() {
    let env = env_of_steps(&["true"]);
    env.write(
        ".loom/config.yml",
        "providers: {keepass: {aliases: {team/app: {path: v.kdbx, passwordEnv: VAULT_PW}}}}\n",
    );
    let loom = env
        .loom(&["config", "show"])
        .env("VAULT_PW", "hunter2hunter2")
        .env("LOOM_KEEPASS_DB_TEAM_APP_KEYFILE_ENV", "VAULT_KEY")
        .env("VAULT_KEY", "hunter2hunter2")
        .env("OP_SERVICE_ACCOUNT_TOKEN", "hunter2hunter2");
    let page = out(&loom.output());
    assert_eq!(line(&page, "passwordEnv").0, "VAULT_PW");
    assert_eq!(line(&page, "keyfileEnv"), ("VAULT_KEY", "LOOM_KEEPASS_DB_TEAM_APP_KEYFILE_ENV"));
    assert!(!page.contains("hunter2"), "{page}");
}

#[test]
fn a_run_keeps_to_its_folders_and_numbers() {
    let env = env_of_steps(&["pwd", "false"]);
    write_user(&env, "runtime:\n  cacheDir: ../../../c\n  workspaceDir: ../../../w\n");
    env.write(".loom/config.yml", "runtime:\n  keepRuns: 2\n");
    let base = env.repo().parent().unwrap().to_owned();
    let mut places = Vec::new();
    for _ in 0..4 {
        let run = env.run(&[]);
        places.extend(run.run.output("job", "01"));
    }
    assert!(places.iter().all(|place| place.starts_with(base.join("w").to_str().unwrap())), "{places:?}");
    assert!(
        places.iter().all(|place| *place == places[0] && std::path::Path::new(place).exists()),
        "{places:?}"
    );
    assert!(base.join("c/components").is_dir() && !env.home().join(".cache/loom").exists());
}

#[test]
fn jobs_that_run_at_once_are_as_many_as_were_asked_for() {
    let job = "{stage: ci, target: linux, script: ['mkdir lock && sleep 0.4 && rmdir lock']}";
    let env = env(&format!("version: v1\nstages: [ci]\na: {job}\nb: {job}\n"));
    env.write(".loom/config.yml", "runtime: {jobs: 1}\n");
    assert_eq!(env.run(&[]).exit_code, 0);
    assert_eq!(env.run(&["--jobs", "2"]).exit_code, 1, "the flag is above the file");
}

#[test]
fn what_unlocks_vaults_is_kept_from_jobs() {
    let env = env_of_steps(&["env | grep -c ^VAULT_ || true", "echo ${VAULT_SHOWN-}"]);
    env.write(".loom/config.yml", "providers: {keepass: {aliases: {a: {passwordEnv: VAULT_PW}}}}\n");
    let loom = env
        .loom(&["run", "--local"])
        .env("VAULT_PW", "secret-1")
        .env("LOOM_KEEPASS_DB_B_KEYFILE_ENV", "VAULT_KEY")
        .env("VAULT_KEY", "secret-2")
        .env("VAULT_SHOWN", "shown");
    let run = loom.run();
    assert_eq!(run.run.output("job", "01"), ["1"]);
    assert_eq!(run.run.output("job", "02"), ["shown"]);
}

#[test]
fn a_wrong_config_file_ends_a_run_with_a_record_and_no_check() {
    let env = env_of_steps(&["touch \"$HOME/ran\""]);
    env.write(".loom/config.yml", "runtime:\n  job: 3\n");
    let run = env.run(&[]);
    assert_eq!(run.exit_code, 1);
    let last = "loom run: [REPO]/.loom/config.yml:2:3: unknown key `job`\nhint: did you mean `jobs`? ";
    assert!(run.plain_stderr().contains(last), "{}", run.stderr);
    assert!(run.run.receipt.error.as_ref().unwrap().contains("config.yml:2:3"));
    assert!(!env.home().join("ran").exists());
    assert!(err(&env.loom(&["config", "show"]).output()).starts_with("loom config show: /"));
    for command in ["check", "compile"] {
        let output = env.loom(&[command]).output();
        assert!(output.status.success(), "{command} reads no config: {output:?}");
    }

    env.write(".loom/config.yml", "");
    let mount = env.loom(&["run", "--local"]).env("LOOM_DOCKER_WORKSPACE_MOUNT", "bind");
    let run = mount.run();
    assert!(
        run.stderr.contains("LOOM_DOCKER_WORKSPACE_MOUNT must hold `ephemeral_volume` or"),
        "{}",
        run.stderr
    );
    let flag = env.loom(&["run", "--local", "--docker-workspace-mount", "bind"]).output();
    assert_eq!(flag.status.code(), Some(2));
}

#[test]
fn a_first_config_file_sets_nothing_and_is_written_once() {
    let env = env_of_steps(&["true"]);
    let before = out(&env.loom(&["config", "show"]).output());
    for (args, path) in [
        (&["config", "init"][..], env.repo().join(".loom/config.yml")),
        (&["config", "init", "--user"], env.home().join(".config/loom/config.yml")),
    ] {
        let output = env.loom(args).output();
        assert_eq!(String::from_utf8(output.stderr.clone()).unwrap(), format!("wrote {}\n", path.display()));
        assert!(out(&output).is_empty());
        assert!(std::fs::read_to_string(&path).unwrap().contains("#  jobs: 4"));
        std::fs::write(&path, "# mine\n").unwrap();
        let again = err(&env.loom(args).output());
        assert!(again.contains(&format!("{} exists already", path.display())), "{again}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\n");
        std::fs::remove_file(&path).unwrap();
        assert!(env.loom(args).output().status.success());
    }
    assert_eq!(out(&env.loom(&["config", "show"]).output()), before);
}
