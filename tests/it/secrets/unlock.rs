//! What unlocks vaults is kept from jobs, and masked like a secret.

use loom_tests::RunOutput;

use crate::env_of_steps;

/// Shows whether the job has any of the variables, and what is in the file `known`.
const SHOWS: &str = "env | grep -c '^UNLOCKS_\\|^OP_.*TOKEN' || cat known";

#[test]
fn no_job_has_what_unlocks_a_vault_and_no_run_shows_it() {
    let env = env_of_steps(&[SHOWS]);
    env.write(
        ".loom/config.yml",
        "providers:
  keepass: {aliases: {a: {passwordEnv: UNLOCKS_A, keyfileEnv: UNLOCKS_A_KEY}}}
  op: {serviceAccountTokenEnv: UNLOCKS_OP}
",
    );
    let unlocking =
        ["UNLOCKS_A", "UNLOCKS_A_KEY", "UNLOCKS_OP", "UNLOCKS_B", "UNLOCKS_B_KEY", "OP_CONNECT_TOKEN"];
    let value = |name: &str| format!("what {name} is set to");
    for name in unlocking {
        env.plant_variable(name, &value(name));
    }
    // A job may find the same value elsewhere.
    env.write("known", &unlocking.map(|name| value(name) + "\n").concat());
    let run = env
        .loom(&["run", "--local", "--stream"])
        .env("LOOM_KEEPASS_DB_B_PASSWORD_ENV", "UNLOCKS_B")
        .env("LOOM_KEEPASS_DB_B_KEYFILE_ENV", "UNLOCKS_B_KEY")
        .run();
    assert_eq!(run.run.output("job", "01"), shown(&run, &unlocking));
}

fn shown(run: &RunOutput, names: &[&str]) -> Vec<String> {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    let masks = names.iter().map(|name| format!("[REDACTED:SECRET_{name}]"));
    ["0".to_owned()].into_iter().chain(masks).collect()
}

#[test]
fn the_variable_of_the_service_account_is_one_of_them_without_any_configuration() {
    let env = env_of_steps(&[SHOWS]);
    env.plant_variable("OP_SERVICE_ACCOUNT_TOKEN", "ops_eyJzaWduSW4iOiJ0ZXN0In0");
    env.write("known", "ops_eyJzaWduSW4iOiJ0ZXN0In0\n");
    let run = env.run(&[]);
    assert_eq!(run.run.output("job", "01"), shown(&run, &["OP_SERVICE_ACCOUNT_TOKEN"]));
}

#[test]
fn a_variable_of_the_workflow_does_not_bring_it_back() {
    let env = crate::env(
        "version: v1
stages: [ci]
job:
  stage: ci
  target: linux
  variables: {COPY: 'is $OP_CONNECT_TOKEN'}
  script: ['echo \"$COPY\"']
",
    );
    env.plant_variable("OP_CONNECT_TOKEN", "a token that is not for jobs");
    let run = env.run(&[]);
    assert_eq!(run.run.output("job", "01"), ["is "]);
    assert!(run.stderr.contains("variable `OP_CONNECT_TOKEN` is referred to but not set"), "{}", run.stderr);
}

/// Reads what it can of all processes, as somebody would who looks for passwords.
const LOOKS_AROUND: &str = "
for process in /proc/[0-9]*; do
  { tr '\\0' '\\n' < $process/environ > environ && cat environ >> found; } 2> /dev/null || true
done
# The look finds what may be found.
grep -c \"^LOOM_PROCESS_OF=$LOOM_RUN_ID/job/\" found > /dev/null
grep '^UNLOCKS\\|^SOURCE' found || echo nothing
guard=$(pgrep -f \"__guard .*$LOOM_RUN_ID\" | grep -vx $$)
for process in $PPID $guard; do
  if cat /proc/$process/environ > /dev/null 2>&1; then echo can be read; else echo private; fi
done
";

#[test]
fn no_job_finds_what_unlocks_a_vault_in_another_process() {
    let env = env_of_steps(&[LOOKS_AROUND]);
    env.write(
        ".loom/config.yml",
        "providers: {keepass: {aliases: {a: {passwordEnv: UNLOCKS_A, keyfileEnv: UNLOCKS_A_KEY}}}}\n",
    );
    env.plant_variable("UNLOCKS_A", "the vault's own password");
    env.plant_variable("UNLOCKS_A_KEY", "/where/the/key/file/is");
    let run = env.loom(&["run", "--local"]).by_ordinary_user().run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert_eq!(run.run.output("job", "01"), ["nothing", "private", "private"]);
}
