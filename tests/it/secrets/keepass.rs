//! Secrets of KeePass vaults, and the commands that manage these.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use loom_contract::event::Level;
use loom_tests::{RunOutput, Running, TestEnv};

use super::{env_of_job, errors, job, messages, text, workflow};
use crate::{LOOM, env, top};

/// The master password of vaults that tests make.
const MASTER: &str = "master of the vaults";
const PASSWORD: &str = "p4ss: <word> & \"more\"";
const KEY: &str =
    "-----BEGIN TEST KEY-----\nbm90IGEga2V5IGF0IGFsbCwganVzdCBhIHRlc3Q=\n-----END TEST KEY-----\n";
/// The configuration of a vault `v` in `.loom/v.kdbx`.
const CONFIG: &str = "providers: {keepass: {aliases: {v: {path: v.kdbx, passwordEnv: MASTER}}}}\n";

/// What takes long is done once.
struct Made {
    /// A vault with a few items, made by the commands.
    vault: Vec<u8>,
    /// Files of the folder of compiled components, once that for vaults is among them.
    components: Vec<(OsString, Vec<u8>)>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let env = TestEnv::without_workflow(LOOM);
    plant(&env);
    env.write(".loom/config.yml", CONFIG);
    told(&keepass(
        &env,
        "vault create --vault-path v --database-path .loom/v.kdbx --password-from-env MASTER",
    ));
    for (item, field, variable) in [
        ("services/test/db", "password", "PASSWORD"),
        ("services/prod/db", "password", "PASSWORD"),
        ("services/test/tls", "notes", "KEY"),
        ("services/test/tls", "Serial Number", "SERIAL"),
    ] {
        let mut args = vec!["secrets", "keepass", "item", "create", "--vault-path", "v", "--item-path", item];
        args.extend(["--field", field, "--value-from-env", variable]);
        told(&env.loom(&args).output());
    }
    let components = std::fs::read_dir(components(&env)).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name(), std::fs::read(entry.path()).unwrap())
    });
    Made { components: components.collect(), vault: std::fs::read(env.repo().join(".loom/v.kdbx")).unwrap() }
});

fn components(env: &TestEnv) -> PathBuf {
    env.home().join(".cache/loom/components")
}

/// Gives `env` the components that were compiled already.
fn warm(env: &TestEnv) {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(components(env)).unwrap();
    for (name, bytes) in &MADE.components {
        let path = components(env).join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
}

fn plant(env: &TestEnv) {
    for (name, value) in [("MASTER", MASTER), ("PASSWORD", PASSWORD), ("KEY", KEY), ("SERIAL", "serial-0042")]
    {
        env.plant_variable(name, value);
    }
}

/// A repository with the vault `v` and one job.
fn env_with_vault(secrets: &[&str], steps: &[&str]) -> TestEnv {
    let env = env_of_job(secrets, steps);
    warm(&env);
    plant(&env);
    env.write(".loom/config.yml", CONFIG);
    std::fs::write(env.repo().join(".loom/v.kdbx"), &MADE.vault).unwrap();
    env
}

/// `loom secrets keepass` with the words of `args`.
fn keepass(env: &TestEnv, args: &str) -> Output {
    let args: Vec<&str> = ["secrets", "keepass"].into_iter().chain(args.split(' ')).collect();
    env.loom(&args).output()
}

/// What a command that succeeds prints.
fn told(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command that fails says.
fn refused(output: &Output) -> String {
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(said.starts_with("loom secrets keepass: "), "{said}");
    said
}

#[test]
fn a_vault_is_made_filled_configured_as_advised_and_used() {
    let env = env_of_job(
        &["PASSWORD_OF_DB: {ref: 'keepass://group/project/repo#db:password', file: false}"],
        &["echo \"$PASSWORD_OF_DB\"; echo ${MASTER-none}"],
    );
    plant(&env);
    env.commit_all();
    let mut git = Command::new("git");
    git.args(["remote", "add", "origin", "git@git.example.com:group/project/repo.git"])
        .current_dir(env.repo());
    assert!(git.status().unwrap().success());

    let made = keepass(&env, "vault create --password-from-env MASTER");
    let path = env.repo().join(".loom/keepass/GROUP_PROJECT_REPO.kdbx");
    assert_eq!(told(&made), format!("vault created: alias=group/project/repo path={}\n", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let advice = String::from_utf8(made.stderr).unwrap();
    let (first, config) = advice.split_once("\n\n").unwrap();
    assert_eq!(first, "to use it, add to .loom/config.yml:");
    env.write(".loom/config.yml", config);

    let item = "--item-path services/test/db --field password --value-from-env PASSWORD";
    let made = keepass(&env, &format!("item create {item}"));
    assert_eq!(told(&made), "item created: alias=group/project/repo item=services/test/db field=password\n");
    let item = item.replace("password", "username").replace("PASSWORD", "SERIAL");
    told(&keepass(&env, &format!("item update {item}")));
    assert_eq!(told(&keepass(&env, "item list")), "services/test/db: title, username, password\n");
    assert_eq!(told(&keepass(&env, "vault list")), format!("group/project/repo: {}\n", path.display()));
    assert_eq!(text(&env.run(&[])), "[REDACTED:SECRET_PASSWORD_OF_DB]\nnone");
}

#[test]
fn every_kind_of_field_resolves_by_the_end_of_its_path() {
    let env = env_with_vault(
        &[
            "A: {ref: 'keepass://v#test/db:PassWord', file: false}",
            "B: {ref: 'keepass://v#tls:notes'}",
            "C: {ref: 'keepass://v#services/test/tls:Serial Number', file: false}",
            "D: {ref: 'keepass://v#tls:title', file: false}",
        ],
        &["echo \"$A\"; cat \"$B\"; cksum < \"$B\"; echo \"$C ${#D}\""],
    );
    let shown = text(&env.run(&[]));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!([lines[0], lines[1]], ["[REDACTED:SECRET_A]", "[REDACTED:SECRET_B]"]);
    assert!(lines[2].ends_with(&format!(" {}", KEY.len())), "{shown}");
    assert_eq!(lines[3], "[REDACTED:SECRET_C] 3");
}

#[test]
fn what_does_not_fit_one_entry_is_told_with_those_that_might() {
    let env = env_with_vault(&[], &["true"]);
    for (reference, words) in [
        ("keepass://v#db:password", &["`services/prod/db`", "`services/test/db`"][..]),
        ("keepass://v#nowhere/tls:notes", &["`nowhere/tls`", "`services/test/tls`"]),
        ("keepass://v#tls:pin", &["`pin`", "`Serial Number`"]),
    ] {
        for required in [true, false] {
            let secret = format!("X: {{ref: '{reference}', required: {required}}}");
            env.write(".loom/workflow.yml", &workflow(&job("job", &[&secret], &["echo ${X-none}"])));
            let run = env.run(&[]);
            if required {
                errors::is_told(&run, "SECRETS_REF_NOT_FOUND", "X", "keepass", true);
            } else {
                assert_eq!(text(&run), "none");
            }
            for word in words {
                assert!(run.stderr.contains(word), "{word} is not in: {}", run.stderr);
            }
        }
    }
}

#[test]
fn a_vault_is_opened_once_for_all_jobs_of_a_run() {
    let secret = ["X: {ref: 'keepass://v#test/db:password', file: false}"];
    let gone = "rm -f \"$VAULT\"; echo \"$X\"";
    let jobs: String = (1..=6).map(|number| job(&format!("job{number}"), &secret, &[gone])).collect();
    let env = env(&workflow(&jobs));
    warm(&env);
    plant(&env);
    env.write(".loom/config.yml", CONFIG);
    let vault = env.repo().join(".loom/v.kdbx");
    std::fs::write(&vault, &MADE.vault).unwrap();
    // The first job removes it: what the others are given was read before.
    let run = env.loom(&["run", "--local", "--jobs", "2"]).env("VAULT", vault.to_str().unwrap()).run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    assert!(!vault.exists());
    for number in 1..=6 {
        assert_eq!(run.run.output(&format!("job{number}"), "01"), ["[REDACTED:SECRET_X]"]);
    }
}

#[test]
fn a_vault_that_cannot_be_opened_is_unavailable() {
    let secret = ["X: {ref: 'keepass://v#test/db:password'}"];
    let env = env_with_vault(&secret, &["true"]);
    let vault = env.repo().join(".loom/v.kdbx");
    let unavailable = |run: &RunOutput, word: &str| {
        errors::is_told(run, "SECRETS_PROVIDER_UNAVAILABLE", "X", "keepass", true);
        assert!(run.stderr.contains(word), "`{word}` is not in: {}", run.stderr);
    };
    env.plant("WRONG", "not the master at all");
    let run = env.loom(&["run", "--local"]).env("MASTER", "not the master at all").run();
    unavailable(&run, "the password does not open it");
    let mut loom = env.loom(&["run", "--local"]);
    loom.command.env_remove("MASTER");
    unavailable(&loom.run(), "`MASTER` is not set");
    unavailable(&env.loom(&["run", "--local"]).env("MASTER", "").run(), "`MASTER` is not set");

    let flipped = |at: usize| {
        let mut bytes = MADE.vault.clone();
        bytes[at] ^= 1;
        bytes
    };
    let length = MADE.vault.len();
    for (what, bytes) in [
        ("empty", vec![]),
        ("another file", b"something else entirely".to_vec()),
        ("half of it", MADE.vault[..length / 2].to_vec()),
        ("without its last byte", MADE.vault[..length - 1].to_vec()),
        ("a bit of its header", flipped(30)),
        ("a bit of its content", flipped(length - 40)),
    ] {
        std::fs::write(&vault, bytes).unwrap();
        let run = env.run(&[]);
        errors::is_told(&run, "SECRETS_PROVIDER_UNAVAILABLE", "X", "keepass", true);
        assert!(run.stderr.contains("the vault `v` cannot be opened: "), "{what}: {}", run.stderr);
    }
    std::fs::remove_file(&vault).unwrap();
    unavailable(&env.run(&[]), "No such file");
    std::fs::create_dir(&vault).unwrap();
    unavailable(&env.run(&[]), "is no regular file");
    std::fs::remove_dir(&vault).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &vault, rustix::fs::Mode::RUSR).unwrap();
    unavailable(&env.run(&[]), "is no regular file");
}

/// A vault that another program wrote; the folder's README says what is in it.
fn sample(name: &str) -> String {
    top().join("plugins/keepass/tests/vaults").join(name).to_str().unwrap().to_owned()
}

#[test]
fn vaults_of_other_programs_open_with_password_key_file_or_both_as_the_environment_says() {
    let env = env_of_job(
        &["X: {ref: 'keepass://team/app-1#db:password', file: false}"],
        &["echo \"$X ${LOCK-none} ${KEY_FILE-none}\""],
    );
    warm(&env);
    for (vault, password, keyfile) in [
        ("kdbx31-aes", "open sesame", ""),
        ("kdbx31-twofish-both", "open sesame", "xml2.keyx"),
        ("kdbx31-chacha20-keyfile", "", "hashed.key"),
        ("kdbx40-aes-aeskdf", "пароль ✓", ""),
        ("kdbx40-chacha20-argon2d-xml1", "", "xml1.key"),
        ("kdbx40-twofish-argon2id-raw", "open sesame", "raw.key"),
        ("kdbx41-chacha20-argon2id-hex", "", "hex.key"),
    ] {
        env.plant("X", format!("s3cret of {vault}"));
        env.plant("LOCK", password);
        let mut loom = env
            .loom(&["run", "--local"])
            .env("LOOM_KEEPASS_DB_TEAM_APP_1_PATH", &sample(&format!("{vault}.kdbx")));
        if !password.is_empty() {
            loom = loom.env("LOOM_KEEPASS_DB_TEAM_APP_1_PASSWORD_ENV", "LOCK").env("LOCK", password);
        }
        if !keyfile.is_empty() {
            loom = loom
                .env("LOOM_KEEPASS_DB_TEAM_APP_1_KEYFILE_ENV", "KEY_FILE")
                .env("KEY_FILE", &sample(keyfile));
        }
        assert_eq!(text(&loom.run()), "[REDACTED:SECRET_X] none none", "{vault}");
    }
}

#[test]
fn key_files_that_are_wrong_or_missing_are_unavailable() {
    let env = env_of_job(&["X: {ref: 'keepass://v#db:password'}"], &["true"]);
    warm(&env);
    let folder = env.home().to_str().unwrap().to_owned();
    for (keyfile, word) in [
        (sample("raw.key"), "the key file does not open it"),
        ("/nowhere/key".into(), "that the environment variable `KEY_FILE` names cannot be read"),
        (folder, "is no file"),
    ] {
        let run = env
            .loom(&["run", "--local"])
            .env("LOOM_KEEPASS_DB_V_PATH", &sample("kdbx31-chacha20-keyfile.kdbx"))
            .env("LOOM_KEEPASS_DB_V_KEYFILE_ENV", "KEY_FILE")
            .env("KEY_FILE", &keyfile)
            .run();
        errors::is_told(&run, "SECRETS_PROVIDER_UNAVAILABLE", "X", "keepass", true);
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    let run = env.loom(&["run", "--local"]).env("LOOM_KEEPASS_DB_V_PATH", &sample("kdbx31-aes.kdbx")).run();
    errors::is_told(&run, "SECRETS_PROVIDER_UNAVAILABLE", "X", "keepass", true);
    assert!(run.stderr.contains("nothing is configured that unlocks the vault `v`"), "{}", run.stderr);
}

#[test]
fn codes_and_attachments_are_secrets_too() {
    let env = env_of_job(
        &[
            "CODE: {ref: 'keepass://otp#plain:otp', file: false}",
            "FILE: {ref: 'keepass://attachments#first:attachment/id.txt'}",
        ],
        &["echo \"$CODE ${#CODE}\"; cat \"$FILE\""],
    );
    env.write(
        ".loom/config.yml",
        &format!(
            "providers: {{keepass: {{aliases: {{otp: {{path: {}, passwordEnv: LOCK}}, attachments: {{path: {}, passwordEnv: LOCK}}}}}}}}\n",
            sample("otp.kdbx"),
            sample("attachments.kdbx")
        ),
    );
    env.plant_variable("LOCK", "open sesame");
    env.plant("FILE", "text of id.txt\n");
    assert_eq!(text(&env.run(&[])), "[REDACTED:SECRET_CODE] 6\n[REDACTED:SECRET_FILE]");
}

#[test]
fn commands_refuse_what_would_lose_something_and_what_cannot_be() {
    let env = env_with_vault(&[], &["true"]);
    env.plant_variable("OTHER", "another value for a vault");
    let before = std::fs::read(env.repo().join(".loom/v.kdbx")).unwrap();
    let item = "--vault-path v --value-from-env OTHER --field";
    for (args, word) in [
        (
            "vault create --vault-path v --database-path .loom/v.kdbx --password-from-env OTHER".to_owned(),
            "--force",
        ),
        ("vault create --password-from-env OTHER".into(), "--vault-path <alias>"),
        ("vault create --vault-path new --password-from-env NOT_SET".into(), "`NOT_SET` is not set"),
        ("vault create --vault-path new --keyfile-from-env NOT_SET".into(), "`NOT_SET` is not set"),
        ("vault update --vault-path nobody --password-from-env OTHER".into(), "`nobody`"),
        ("item list --vault-path nobody".into(), "LOOM_KEEPASS_DB_NOBODY_PATH"),
        (format!("item create {item} password --item-path services/test/db"), "`item update` changes it"),
        (format!("item update {item} password --item-path test/db"), "`services/test/db`"),
        (format!("item update {item} new --item-path services/test/db"), "`item create` adds a field"),
        (format!("item update {item} title --item-path services/test/db"), "`title` cannot be set"),
        (format!("item create {item} attachment/x --item-path new"), "attachments are only read"),
        (format!("item create {item} otp --item-path new"), "otp"),
        (format!("item create {item} password --item-path a//b"), "an empty name"),
        (
            "item create --vault-path v --item-path a --field b --value-from-env NOT_SET".into(),
            "`NOT_SET` is not set",
        ),
    ] {
        let said = refused(&keepass(&env, &args));
        assert!(said.contains(word), "{args}: {said}");
    }
    for args in [
        "vault create --vault-path new",
        "vault update --vault-path v",
        "vault create --vault-path= --password-from-env OTHER",
        "item create --vault-path v --item-path a --field b",
        "item create --vault-path v --item-path a --field b --value secret",
        "vault",
    ] {
        assert_eq!(keepass(&env, args).status.code(), Some(2), "{args}");
    }
    let said = refused(
        &env.loom(&["secrets", "keepass", "item", "list", "--vault-path", "v"]).env("MASTER", "x").output(),
    );
    assert!(said.contains("the password does not open it"), "{said}");
    assert_eq!(std::fs::read(env.repo().join(".loom/v.kdbx")).unwrap(), before, "nothing has changed");
    let left: Vec<_> =
        std::fs::read_dir(env.repo().join(".loom")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn credentials_are_rotated_and_a_vault_is_replaced_only_by_force() {
    let env = env_with_vault(&[], &["true"]);
    env.plant_variable("NEW", "new master of the vaults");
    let keyfile = env.home().join("key file");
    std::fs::write(&keyfile, "any bytes will do").unwrap();
    let list = |variable: &str, keyfile: Option<&Path>| {
        let mut loom = env
            .loom(&["secrets", "keepass", "item", "list", "--vault-path", "v"])
            .env("LOOM_KEEPASS_DB_V_PASSWORD_ENV", variable);
        if let Some(keyfile) = keyfile {
            loom = loom.env("LOOM_KEEPASS_DB_V_KEYFILE_ENV", "K").env("K", keyfile.to_str().unwrap());
        }
        loom.output()
    };
    let items = told(&list("MASTER", None));
    assert!(items.contains("services/test/tls: title, notes, Serial Number\n"), "{items}");

    let update = "vault update --vault-path v --password-from-env NEW --keyfile-from-env KEY_FILE";
    let args: Vec<&str> = ["secrets", "keepass"].into_iter().chain(update.split(' ')).collect();
    let updated = env.loom(&args).env("KEY_FILE", keyfile.to_str().unwrap()).output();
    assert_eq!(told(&updated), "vault updated: alias=v\n");
    refused(&list("MASTER", None));
    refused(&list("NEW", None));
    assert_eq!(told(&list("NEW", Some(&keyfile))), items);

    let create = "vault create --vault-path v --database-path .loom/v.kdbx --password-from-env NEW --force";
    told(&keepass(&env, create));
    assert_eq!(told(&list("NEW", None)), "");
}

/// `keepassxc-cli`, where it is installed.
fn keepassxc(env: &TestEnv, args: &[&str], typed: &str) -> Option<String> {
    let mut cli = Command::new("keepassxc-cli");
    cli.args(args).env("QT_QPA_PLATFORM", "offscreen").env("LC_ALL", "C.UTF-8").env("HOME", env.home());
    let spawned = Running::start(cli.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let Ok(mut child) = spawned else {
        eprintln!("skipped: keepassxc-cli is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.output();
    assert!(output.status.success(), "{args:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn keepassxc_reads_what_loom_wrote() {
    let env = env_with_vault(&[], &["true"]);
    let vault = env.repo().join(".loom/v.kdbx");
    let vault = vault.to_str().unwrap();
    let master = format!("{MASTER}\n");
    for (attribute, path, value) in [
        ("Password", "services/test/db", PASSWORD),
        ("Notes", "services/test/tls", KEY),
        ("Serial Number", "services/test/tls", "serial-0042"),
    ] {
        let shown = keepassxc(&env, &["show", "-q", "-s", "-a", attribute, vault, path], &master);
        let Some(shown) = shown else { return };
        assert_eq!(shown.strip_suffix('\n'), Some(value), "{path}");
    }
}

#[test]
fn loom_reads_what_keepassxc_wrote_and_both_what_either_changed() {
    let env = env_of_job(
        &["X: {ref: 'keepass://v#app/token:password', file: false}", "Y: {ref: 'keepass://v#ours:password'}"],
        &["echo \"$X\"; cat \"$Y\"; echo; wc -c < \"$Y\""],
    );
    warm(&env);
    plant(&env);
    env.write(".loom/config.yml", CONFIG);
    env.plant("X", "token of another program");
    let vault = env.repo().join(".loom/v.kdbx");
    let vault = vault.to_str().unwrap();
    let typed = format!("{MASTER}\n{MASTER}\n");
    if keepassxc(&env, &["db-create", "-q", "-p", "-t", "100", vault], &typed).is_none() {
        return;
    }
    keepassxc(&env, &["mkdir", "-q", vault, "app"], &typed);
    let typed = format!("{MASTER}\ntoken of another program\n");
    keepassxc(&env, &["add", "-q", "-p", vault, "app/token"], &typed);
    told(&keepass(
        &env,
        "item create --vault-path v --item-path ours --field password --value-from-env PASSWORD",
    ));
    assert_eq!(text(&env.run(&[])), format!("[REDACTED:SECRET_X]\n[REDACTED:SECRET_Y]\n{}", PASSWORD.len()));
    let typed = format!("{MASTER}\ntoken of another program\n");
    keepassxc(&env, &["edit", "-q", "-p", vault, "ours"], &typed);
    assert_eq!(
        text(&env.run(&[])),
        format!("[REDACTED:SECRET_X]\n[REDACTED:SECRET_X]\n{}", "token of another program".len())
    );
}

#[test]
fn no_message_of_a_vault_holds_a_value() {
    let env = env_with_vault(&["X: {ref: 'keepass://v#test/db:password', file: false}"], &["echo \"$X\""]);
    let run = env.loom(&["run", "--local", "-v", "--stream"]).env("LOOM_LOG", "trace").run();
    assert_eq!(text(&run), "[REDACTED:SECRET_X]");
    let said = messages(&run, "job", Level::Info);
    assert!(
        said.iter().any(|message| message.starts_with("secrets X from `keepass://`; plugin keepass ")),
        "{said:?}"
    );
}
