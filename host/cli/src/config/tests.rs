use super::*;

const USER: &str = "/home/me/.config/loom/config.yml";
const REPO: &str = "/repo/.loom/config.yml";

fn machine() -> Machine {
    Machine { processors: NonZeroUsize::new(8).unwrap(), cache_dir: Some("/home/me/.cache/loom".into()) }
}

fn text(path: &str, text: &str) -> Option<Text> {
    (!text.is_empty()).then(|| Text { path: path.into(), text: text.to_owned() })
}

fn merged(user: &str, repo: &str, variables: &[(&str, &str)], flags: Flags) -> Result<Effective, Error> {
    let variables: Vec<(OsString, OsString)> =
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let inputs = Inputs {
        user: text(USER, user),
        repo: text(REPO, repo),
        variables: &variables,
        current_dir: "/repo/sub".into(),
        flags,
    };
    effective(&machine(), &inputs)
}

fn of_files(user: &str, repo: &str) -> Effective {
    merged(user, repo, &[], Flags::default()).unwrap()
}

fn shown<T: fmt::Debug>(setting: &Setting<T>) -> String {
    format!("{:?} {}", setting.value, setting.source)
}

fn refused(repo: &str) -> ErrorInfo {
    merged("", repo, &[], Flags::default()).unwrap_err().to_info()
}

#[test]
fn nobody_says_anything() {
    let effective = of_files("", "");
    assert_eq!(effective, Effective::built_in(&machine(), Flags::default()));
    assert_eq!(shown(&effective.jobs), "8 built-in");
    assert_eq!(shown(&effective.workspace_mount), "EphemeralVolume built-in");
    assert_eq!(shown(&effective.keep_runs), "5 built-in");
    assert_eq!(
        shown(effective.workspace_dir.as_ref().unwrap()),
        "\"/home/me/.cache/loom/workspaces\" built-in"
    );
    for nothing in [
        "# words",
        "---",
        "{}",
        "runtime:",
        "runtime: {jobs: , docker: ~}",
        "providers: {keepass: {aliases: }}",
    ] {
        assert_eq!(of_files(nothing, nothing), effective, "{nothing}");
    }
}

/// Each row adds a place that is above those of the rows before it.
#[test]
fn the_mount_comes_from_the_place_highest_up() {
    let (bind, volume) = (WorkspaceMount::BindMount, WorkspaceMount::EphemeralVolume);
    let says = |mount: &str| format!("runtime: {{docker: {{workspaceMount: {mount}}}}}");
    let (user, repo) = (says("bind_mount"), says("ephemeral_volume"));
    let variable = &[("LOOM_DOCKER_WORKSPACE_MOUNT", "bind_mount")][..];
    let empty = &[("LOOM_DOCKER_WORKSPACE_MOUNT", "")][..];
    let flag = Flags { workspace_mount: Some(volume), ..Flags::default() };
    let none = Flags::default();
    for (user, repo, variables, flags, mount, source) in [
        ("", "", &[][..], none, volume, "built-in"),
        (&user, "", &[], none, bind, USER),
        (&user, &repo, &[], none, volume, REPO),
        (&user, &repo, empty, none, volume, REPO),
        (&user, &repo, variable, none, bind, "LOOM_DOCKER_WORKSPACE_MOUNT"),
        (&user, &repo, variable, flag, volume, "--docker-workspace-mount"),
    ] {
        let found = merged(user, repo, variables, flags).unwrap().workspace_mount;
        assert_eq!((found.value, found.source.to_string().as_str()), (mount, source));
    }
}

#[test]
fn numbers_and_folders_come_from_the_place_highest_up() {
    let effective = of_files(
        "runtime: {jobs: 2, keepRuns: 0, cacheDir: ../../loom-cache, workspaceDir: /ws, cacheMaxBytes: 1024, outputMaxBytes: 0, recordsMaxDays: 7}",
        "runtime: {jobs: 3}",
    );
    assert_eq!(shown(&effective.jobs), format!("3 {REPO}"));
    assert_eq!(shown(&effective.keep_runs), format!("0 {USER}"));
    assert_eq!(shown(&effective.cache_max_bytes), format!("1024 {USER}"));
    assert_eq!(shown(&effective.records_max_days), format!("7 {USER}"));
    assert_eq!(shown(&effective.output_max_bytes), format!("0 {USER}"));
    assert_eq!(shown(effective.cache_dir.as_ref().unwrap()), format!("\"/home/me/loom-cache\" {USER}"));
    assert_eq!(shown(effective.workspace_dir.as_ref().unwrap()), format!("\"/ws\" {USER}"));
    let flags = Flags { jobs: NonZeroUsize::new(7), ..Flags::default() };
    let effective = merged("runtime: {jobs: 2}", "", &[], flags).unwrap();
    assert_eq!(shown(&effective.jobs), "7 --jobs");
    // The copies follow the cache folder, and say who moved it.
    let effective = of_files("runtime: {cacheDir: ../../c}", "");
    assert_eq!(shown(effective.workspace_dir.as_ref().unwrap()), format!("\"/home/me/c/workspaces\" {USER}"));
}

#[test]
fn limits_are_numbers_or_sizes_and_come_from_the_place_highest_up() {
    let effective = of_files(
        "runtime: {limits: {memory: 2GiB, pids: 512}, controlGroups: true}",
        "runtime: {limits: {memory: 0}, controlGroups: false}",
    );
    assert_eq!(shown(&effective.memory), format!("Memory(0) {REPO}"));
    assert_eq!(effective.memory.value.limit(), None);
    assert_eq!(shown(&effective.pids), format!("512 {USER}"));
    assert_eq!(shown(&effective.control_groups), format!("false {REPO}"));
    for (text, bytes, again) in [
        ("2GiB", 2 << 30, "2GiB"),
        ("2048 MiB", 2 << 30, "2GiB"),
        ("6144KiB", 6 << 20, "6MiB"),
        ("1TiB", 1 << 40, "1TiB"),
        ("100000001", 100_000_001, "100000001"),
    ] {
        let memory = of_files("", &format!("runtime: {{limits: {{memory: {text}}}}}")).memory.value;
        assert_eq!((memory.limit(), memory.to_string().as_str()), (Some(bytes), again));
    }
    for wrong in [
        "2GB",
        "2 gib",
        "1.5GiB",
        "GiB",
        "-1",
        "6143KiB",
        "1",
        "+2GiB",
        "99999999999TiB",
        "lots",
        "'7000000'",
    ] {
        let error = refused(&format!("runtime:\n  limits:\n    memory: {wrong}\n"));
        assert!(error.message.contains(":3:5:") && error.message.contains("bytes of memory"), "{error:?}");
    }
    for wrong in ["1", "'true'", "yes"] {
        let error = refused(&format!("runtime:\n  controlGroups: {wrong}\n"));
        assert!(error.message.contains("is not `true` or `false`"), "{error:?}");
    }
}

/// It would say where Loom makes and removes what is its user's.
#[test]
fn a_repository_names_no_folder_of_its_user() {
    for key in ["cacheDir", "workspaceDir"] {
        for folder in ["/elsewhere", "../inside", "cache"] {
            let error = refused(&format!("runtime:\n  jobs: 2\n  {key}: {folder}\n"));
            assert!(error.message.contains(":3:") && error.message.contains(key), "{error:?}");
            assert!(error.hint.unwrap().contains("your own config file"));
        }
    }
}

#[test]
fn without_a_home_there_is_a_cache_folder_when_a_file_names_it() {
    let machine = Machine { cache_dir: None, ..machine() };
    let inputs = Inputs::default();
    assert_eq!(effective(&machine, &inputs).unwrap().workspace_dir, None);
    let inputs = Inputs { user: text(USER, "runtime: {cacheDir: /c}"), ..inputs };
    assert_eq!(
        effective(&machine, &inputs).unwrap().workspace_dir.unwrap().value,
        Path::new("/c/workspaces")
    );
}

#[test]
fn aliases_merge_field_by_field() {
    let effective = merged(
        "providers: {keepass: {aliases: {team/app: {path: v.kdbx, passwordEnv: PW}, mine: {keyfileEnv: KF}}}}",
        "providers: {keepass: {aliases: {team/app: {path: keepass/v.kdbx}}}}",
        &[
            ("LOOM_KEEPASS_DB_TEAM_APP_KEYFILE_ENV", "APP_KEYFILE"),
            ("LOOM_KEEPASS_DB_MINE_PATH", "mine.kdbx"),
            ("LOOM_KEEPASS_DB_MINE_KEYFILE_ENV", ""),
            ("LOOM_KEEPASS_DB_ELSEWHERE_2_PATH", "/else.kdbx"),
            ("LOOM_KEEPASS_DB_ELSEWHERE_2_PASSWORD_ENV", "ELSE_PW"),
            ("LOOM_KEEPASS_DB__PATH", "/no-key"),
            ("LOOM_KEEPASS_DB_lower_PATH", "/no-key"),
        ],
        Flags::default(),
    )
    .unwrap();
    let app = &effective.vaults["team/app"];
    assert_eq!(shown(app.path.as_ref().unwrap()), format!("\"/repo/.loom/keepass/v.kdbx\" {REPO}"));
    assert_eq!(app.password_env.as_ref().unwrap().source.to_string(), USER);
    assert_eq!(app.keyfile_env.as_ref().unwrap().source.to_string(), "LOOM_KEEPASS_DB_TEAM_APP_KEYFILE_ENV");
    let mine = &effective.vaults["mine"];
    assert_eq!(mine.path.as_ref().unwrap().value, Path::new("/repo/sub/mine.kdbx"));
    assert_eq!(mine.keyfile_env.as_ref().unwrap().value.as_str(), "KF");
    assert_eq!(effective.vaults_by_key.keys().collect::<Vec<_>>(), ["ELSEWHERE_2"]);
    assert_eq!(
        effective.unlocking_variables(),
        ["KF", "PW", "APP_KEYFILE", "ELSE_PW", "OP_SERVICE_ACCOUNT_TOKEN", "OP_CONNECT_TOKEN"]
    );
}

#[test]
fn keys_are_made_of_aliases() {
    for (alias, key) in [("team/app", "TEAM_APP"), ("a-1.b", "A_1_B"), ("größe", "GR__E"), ("A_9", "A_9")] {
        assert_eq!(key_of(alias), key);
    }
}

#[test]
fn two_aliases_with_one_key_are_refused() {
    let error = merged(
        "providers: {keepass: {aliases: {team/app: {path: v.kdbx}}}}",
        "providers: {keepass: {aliases: {team-app: {path: v.kdbx}}}}",
        &[],
        Flags::default(),
    );
    let info = error.unwrap_err().to_info();
    assert_eq!(
        info.message,
        format!("the KeePass aliases `team-app` ({REPO}) and `team/app` ({USER}) have one key: TEAM_APP")
    );
    assert!(info.hint.unwrap().contains("LOOM_KEEPASS_DB_TEAM_APP_PATH"));
}

#[test]
fn wrong_files_are_refused_with_the_place_and_what_is_wanted() {
    for (text, place, message, hint) in [
        ("runtime:\n  job: 3\n", "2:3", "unknown key `job`", "did you mean `jobs`?"),
        ("runtime:\n  jobs: 3\n  cachedir: x\n", "3:3", "unknown key `cachedir`", "did you mean `cacheDir`?"),
        ("zzz: 1\n", "1:1", "unknown key `zzz`", "known keys here: runtime, providers"),
        (
            "runtime:\n  jobs: 3\n  jobs: 4\n",
            "3:3",
            "the key `jobs` stands here for the second time",
            "remove one",
        ),
        ("runtime:\n  jobs: many\n", "2:3", "string \"many\" is not a whole number of jobs, at least 1", ""),
        ("runtime:\n  jobs: \"3\"\n", "2:3", "string \"3\" is not a whole number of jobs, at least 1", ""),
        ("runtime:\n  jobs: 0\n", "2:3", "integer `0` is not a whole number of jobs, at least 1", ""),
        ("runtime:\n  jobs: -1\n", "2:3", "integer `-1` is not a whole number of jobs, at least 1", ""),
        (
            "runtime:\n  jobs: 1.5\n",
            "2:3",
            "floating point `1.5` is not a whole number of jobs, at least 1",
            "",
        ),
        ("runtime:\n  jobs: yes\n", "2:3", "string \"yes\" is not a whole number", ""),
        ("runtime:\n  jobs: 010\n", "2:3", "string \"010\" is not a whole number", ""),
        ("runtime:\n  jobs: [1]\n", "2:3", "sequence is not a whole number of jobs, at least 1", ""),
        (
            "runtime:\n  cacheMaxBytes: 10GiB\n",
            "2:3",
            "string \"10GiB\" is not a whole number, 0 or more",
            "",
        ),
        ("runtime:\n  cacheDir: ~/x\n", "2:3", "string \"~/x\" is not a path", ""),
        ("runtime:\n  cacheDir: 5\n", "2:3", "integer `5` is not a path", ""),
        (
            "runtime:\n  docker:\n    workspaceMount: bind\n",
            "3:5",
            "string \"bind\" is not `ephemeral_volume` or",
            "",
        ),
        ("runtime: 5\n", "1:10", "mapping", ""),
        ("- runtime\n", "1:1", "mapping", ""),
        (
            "providers:\n  keepass:\n    aliases:\n      a#b: {}\n",
            "4:7",
            "an alias is a text without `#`",
            "",
        ),
        ("runtime: &a {jobs: 2}\nproviders: *a\n", "1:", "", ""),
        ("runtime:\n  <<: {jobs: 2}\n", "2:3", "merge key", ""),
        ("runtime: !x {jobs: 2}\n", "1:", "tag `!x`", ""),
        ("runtime: {jobs: 2}\n---\nruntime: {}\n", "", "only single YAML document expected", ""),
        ("runtime: {jobs: 2\n", "", "", ""),
        ("\tx: 1\n", "1:", "", ""),
    ] {
        let info = refused(text);
        let start = format!("{REPO}:{place}");
        assert!(info.message.starts_with(&start), "{text}: {}", info.message);
        assert!(info.message.contains(message), "{text}: {}", info.message);
        assert!(info.hint.as_deref().unwrap_or_default().contains(hint), "{text}: {:?}", info.hint);
        assert_eq!(info.code, CONFIG_INVALID);
    }
}

#[test]
fn a_secret_in_the_place_of_a_name_is_not_repeated() {
    let secret = "correct horse battery staple";
    for value in
        [secret.to_owned(), format!("[{secret}]"), format!("{{{secret}: x}}"), format!("\"{secret}\"")]
    {
        let info = refused(&format!("providers:\n  op:\n    serviceAccountTokenEnv: {value}\n"));
        assert!(info.message.contains("the name of an environment variable"), "{}", info.message);
        assert!(!format!("{info:?}").contains("horse"), "{info:?}");
    }
    for value in ["31337", "-31337", "31337.5"] {
        let info = refused(&format!("providers:\n  op:\n    serviceAccountTokenEnv: {value}\n"));
        assert!(!format!("{info:?}").contains("31337"), "{info:?}");
    }
    let variables = [("LOOM_KEEPASS_DB_A_PASSWORD_ENV", secret)];
    let info = merged("", "", &variables, Flags::default()).unwrap_err().to_info();
    assert!(
        info.message.starts_with("LOOM_KEEPASS_DB_A_PASSWORD_ENV must hold the name"),
        "{}",
        info.message
    );
    assert!(!format!("{info:?}").contains("horse"), "{info:?}");
}

#[test]
fn a_wrong_variable_is_refused_by_name() {
    let variables = [("LOOM_DOCKER_WORKSPACE_MOUNT", "bind")];
    let info = merged("", "", &variables, Flags::default()).unwrap_err().to_info();
    assert_eq!(info.message, "LOOM_DOCKER_WORKSPACE_MOUNT must hold `ephemeral_volume` or `bind_mount`");
}

#[test]
fn a_file_that_means_harm_is_refused_in_time() {
    let wide: String = (0..100_000).map(|n| format!("    a{n}: {{}}\n")).collect();
    let started = std::time::Instant::now();
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        format!("providers:\n keepass:\n  aliases:\n{wide}"),
        format!("runtime: {{jobs: {}}}", "9".repeat(1 << 20)),
        format!("{}: 1", "k".repeat(1000)),
    ] {
        refused(&text);
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// The starter with its settings uncovered.
fn uncovered() -> String {
    let lines = STARTER.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with("  ") || !setting.starts_with(' ') => setting,
        _ => line,
    });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_starter_sets_nothing_and_each_of_its_settings_is_right() {
    assert_eq!(of_files("", STARTER), of_files("", ""));
    let uncovered = uncovered();
    let effective = of_files(&uncovered, "");
    let sources = show(&effective).matches(USER).count();
    assert_eq!(sources, 17, "{}", show(&effective));
    let mut keys = Vec::new();
    keys_of(json_schema().as_value(), &mut keys);
    for key in keys {
        assert!(uncovered.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))), "{key}");
    }
}

/// All names of properties in `schema`.
fn keys_of(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(object) = schema.as_object() {
        keys.extend(
            object.get("properties").and_then(|p| p.as_object()).into_iter().flat_map(|p| p.keys().cloned()),
        );
        object.values().for_each(|value| keys_of(value, keys));
    }
}

#[test]
fn what_is_shown_is_a_config_file_that_says_the_same() {
    let effective = merged(
        &uncovered().replace("team/app:", "\"o'n\\\"x y#\":").replace("#\":", "\":"),
        "",
        &[("LOOM_KEEPASS_DB_B_PATH", "/with space/b.kdbx"), ("LOOM_KEEPASS_DB_B_KEYFILE_ENV", "KF")],
        Flags::default(),
    )
    .unwrap();
    let page = show(&effective);
    let again = of_files(&page, "");
    assert_eq!(
        again.vaults.keys().collect::<Vec<_>>(),
        effective.vaults.keys().collect::<Vec<_>>(),
        "{page}"
    );
    assert_eq!(values(&again), values(&effective), "{page}");
    assert!(page.contains("# the alias with the key B, known to the environment alone:"), "{page}");
    assert!(page.contains("# LOOM_KEEPASS_DB_B_PATH") || page.contains("(LOOM_KEEPASS_DB_B_PATH)"), "{page}");
}

/// `effective` without its sources.
fn values(effective: &Effective) -> String {
    let path = |path: &Option<Setting<PathBuf>>| path.as_ref().map(|set| set.value.clone());
    let vaults: Vec<_> = effective
        .vaults
        .values()
        .map(|vault| (path(&vault.path), vault.password_env.as_ref().map(|name| name.value.clone())))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {vaults:?}",
        effective.jobs.value,
        path(&effective.cache_dir),
        path(&effective.workspace_dir),
        effective.keep_runs.value,
        effective.workspace_mount.value,
        effective.op_token_env.value,
        (effective.memory.value, effective.pids.value, effective.control_groups.value),
    )
}
