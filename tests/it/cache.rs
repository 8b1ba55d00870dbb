//! Caches of whole runs: keys, policies, what is restored and saved, what is told; `loom cache`; `--cache-diff`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use loom_contract::section::Section;
use loom_contract::status::{SkipReason, Status};
use loom_tests::{RunOutput, TestEnv};
use serde_json::Value;

use crate::{LOOM, env, top};

/// One job `job` with `cache` under its keyword, and a lock file to make keys from.
fn cached(cache: &str, script: &str) -> TestEnv {
    let env = env(&format!(
        "version: v1\nstages: [ci]\ndefault: {{target: linux}}\njob:\n  stage: ci\n  cache: {cache}\n  script:\n    - {script}\n"
    ));
    env.write("lock", "one\n");
    env.write(".gitignore", "deps/\n");
    env.commit_all();
    env
}

/// Uses what was restored, else makes it.
const FILL: &str =
    "'if test -e deps/made; then echo warm; else echo cold; mkdir -p deps; echo made > deps/made; fi'";

/// How a section of a job came out.
fn section(run: &RunOutput, job: &str, section: Section) -> (Status, Option<SkipReason>, Value) {
    let job = run.run.job(job);
    let entry = job.system_sections.into_iter().find(|entry| entry.section == section).unwrap();
    (entry.status, entry.skip_reason, entry.metrics.map(Value::Object).unwrap_or_default())
}

fn passed(run: RunOutput) -> RunOutput {
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    run
}

fn words(run: &RunOutput) -> Vec<String> {
    run.run.output("job", "01")
}

/// What a command of `loom` prints.
fn told(env: &TestEnv, args: &[&str]) -> String {
    let output = env.loom(args).output();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_second_run_has_what_the_first_one_saved() {
    let env = cached("{key: {prefix: p, files: [lock]}, paths: [deps]}", FILL);
    let first = passed(env.run(&[]));
    assert_eq!(words(&first), ["cold"]);
    let (status, _, metrics) = section(&first, "job", Section::CacheRestore);
    assert_eq!((status, &metrics["hit"]), (Status::Success, &Value::Bool(false)));
    let (status, _, metrics) = section(&first, "job", Section::CacheSave);
    assert_eq!((status, &metrics["files"], &metrics["bytes"]), (Status::Success, &1.into(), &5.into()));

    let second = passed(env.run(&["-v"]));
    assert_eq!(words(&second), ["warm"]);
    let (status, _, metrics) = section(&second, "job", Section::CacheRestore);
    assert_eq!((status, &metrics["hit"]), (Status::Success, &Value::Bool(true)));
    let made = format!("p-{}", recipe(&[("lock", "one\n")]));
    assert_eq!(metrics["caches"][0]["key"], made.as_str());
    assert!(second.stderr.contains(&format!("cache: key `{made}`")), "{}", second.stderr);
    let (status, reason, _) = section(&second, "job", Section::CacheSave);
    assert_eq!((status, reason), (Status::Skipped, Some(SkipReason::CacheUnchanged)));
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(env.receipts().pop().unwrap()).unwrap()).unwrap();
    let cache = &receipt["executor_receipt"]["jobs"]["job"]["caches"][0];
    assert_eq!((&cache["key"], &cache["hit"]), (&made.as_str().into(), &true.into()));

    env.write("lock", "two\n");
    assert_eq!(words(&passed(env.run(&[]))), ["cold"]);
}

/// The recipe of the specification, by another program than the one under test.
fn recipe(files: &[(&str, &str)]) -> String {
    let mut bytes = Vec::new();
    for (path, content) in files {
        for text in [path, content] {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bytes");
    std::fs::write(&file, bytes).unwrap();
    let output = loom_tests::output(std::process::Command::new("sha256sum").arg(file)).unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn what_git_ignores_is_no_part_of_a_key() {
    let env = cached("{key: {files: ['**/lock']}, paths: [deps]}", FILL);
    env.write("deps/lock", "ignored\n");
    env.write("sub/lock", "untracked\n");
    let run = passed(env.run(&[]));
    let (_, _, metrics) = section(&run, "job", Section::CacheRestore);
    let key = recipe(&[("lock", "one\n"), ("sub/lock", "untracked\n")]);
    assert_eq!(metrics["caches"][0]["key"], key.as_str());
}

#[test]
fn a_key_of_no_files_is_told() {
    let env = cached("{key: {prefix: p, files: [nothing]}, paths: [deps]}", FILL);
    let run = passed(env.run(&[]));
    assert!(run.stderr.contains("none of them exists, so the key never changes"), "{}", run.stderr);
}

#[test]
fn keys_may_refer_to_the_job_and_its_variables() {
    let env = cached("{key: '$job_name-${OS}-$head_sha', paths: [deps]}\n  variables: {OS: linux}", FILL);
    let run = passed(env.run(&[]));
    let (_, _, metrics) = section(&run, "job", Section::CacheRestore);
    let sha = run.run.receipt.snapshot_head_sha.clone().unwrap();
    assert_eq!(metrics["caches"][0]["key"], format!("job-linux-{sha}").as_str());
}

#[test]
fn keys_and_paths_may_refer_to_what_is_predefined() {
    let cache = "{key: {prefix: $CI_JOB_NAME-$CI_COMMIT_REF_SLUG}, paths: [$CI_PROJECT_DIR/$KEPT], \
                 fallback_keys: ['$CI_COMMIT_REF_NAME']}\n  variables: {KEPT: deps}";
    let env = cached(cache, FILL);
    let mut git = std::process::Command::new("git");
    let branch =
        loom_tests::status(git.args(["checkout", "-q", "-b", "Feature/X_1"]).current_dir(env.repo()));
    assert!(branch.unwrap().success());
    let run = passed(env.run(&[]));
    let (_, _, metrics) = section(&run, "job", Section::CacheRestore);
    assert_eq!(metrics["caches"][0]["key"], "job-feature-x-1");
    assert_eq!(words(&passed(env.run(&[]))), ["warm"]);

    let env = cached("{key: $CI_COMMIT_BRANHC, paths: [deps]}", FILL);
    for args in [&["check"][..], &["run", "--local"]] {
        let output = env.loom(args).output();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains("`CI_COMMIT_BRANHC` in `$CI_COMMIT_BRANHC` is set nowhere: did you mean"),
            "{told}"
        );
        for known in ["CI_COMMIT_BRANCH", "CI_COMMIT_REF_SLUG", "CI_JOB_NAME", "CI_PROJECT_DIR", "job_name"] {
            assert!(told.contains(known), "{known} is not in: {told}");
        }
        assert!(!told.contains("started job"), "{told}");
    }
}

/// A check refuses names that are not predefined: those that are have to be known, and the same in jobs and caches.
#[test]
fn keys_may_refer_to_all_that_is_predefined_and_jobs_have_no_more() {
    let all: Vec<String> = loom_workflow::PREDEFINED.iter().map(|name| format!("${name}")).collect();
    let own = "$job_name$job_id$run_id$pipeline_id$head_sha";
    let cache = format!("{{key: 'k-{}{own}', paths: [deps]}}", all.concat());
    let env = cached(&cache, "\"mkdir -p deps; touch deps/x; env | grep -oE '^(CI|LOOM)[A-Z_]*' | sort\"");
    let run = passed(env.run(&[]));
    let named = words(&run);
    // What a job on the host has of these is in no image; and two are no variables of the workflow.
    let own = ["LOOM_MASK", "LOOM_PROCESS_OF"];
    let unknown =
        |name: &&String| !own.contains(&name.as_str()) && !loom_workflow::PREDEFINED.contains(&name.as_str());
    assert_eq!(named.iter().filter(unknown).collect::<Vec<_>>(), Vec::<&String>::new());
    for name in loom_workflow::PREDEFINED.iter().filter(|name| !name.ends_with("_IMAGE")) {
        assert!(named.iter().any(|named| named == name), "{name}: {named:?}");
    }
}

#[test]
fn an_entry_follows_what_stands_under_its_paths() {
    let script = "'mkdir -p s; ls s | wc -l; for f in 1 2 3; do test -e s/$f || : > s/$f; test ! -e fail || exit 1; done'";
    let env = cached("{key: k, paths: [s], when: always}", script);
    env.write("fail", "");
    // A run that fails half-way keeps half of it.
    assert_eq!(env.run(&[]).exit_code, 1);
    std::fs::remove_file(env.repo().join("fail")).unwrap();
    let saved = |run: &RunOutput| {
        let (status, reason, _) = section(run, "job", Section::CacheSave);
        (status, reason)
    };
    for (there, end) in [
        ("1", (Status::Success, None)),
        ("3", (Status::Skipped, Some(SkipReason::CacheUnchanged))),
        ("3", (Status::Skipped, Some(SkipReason::CacheUnchanged))),
    ] {
        let run = passed(env.run(&[]));
        assert_eq!((words(&run), saved(&run)), (vec![there.to_owned()], end));
    }
    assert_eq!(told(&env, &["cache", "list"]).lines().count(), 1);
}

#[test]
fn caches_without_a_name_are_kept_apart_by_their_paths() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
a: {stage: ci, cache: {paths: [a]}, script: ['cat a/x || (mkdir a; echo of a > a/x)']}
b: {stage: ci, needs: [a], cache: {paths: [b]}, script: ['cat b/x || (mkdir b; echo of b > b/x)']}
same: {stage: ci, needs: [b], cache: {paths: [./b/], policy: pull}, script: [cat b/x]}
");
    passed(env.run(&[]));
    let run = passed(env.run(&[]));
    for (job, name) in [("a", "paths:a"), ("b", "paths:b")] {
        assert_eq!(run.run.output(job, "01"), [format!("of {job}")]);
        let (_, _, metrics) = section(&run, job, Section::CacheRestore);
        let cache = &metrics["caches"][0];
        assert_eq!((&cache["name"], &cache["files"]), (&name.into(), &1.into()), "{metrics}");
        let why = told(&env, &["cache", "why", job]);
        assert!(why.contains(&format!("{name}: key default\n  hit\n  1 file, 5 B\n")), "{why}");
    }
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    let listed = told(&env, &["cache", "list"]);
    let names: Vec<&str> = listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["paths:a", "paths:b"]);
}

#[test]
fn links_are_restored_wherever_they_lead() {
    // As a virtual environment has them.
    let script = "'test -d deps || { mkdir deps; ln -s /bin/sh deps/shell; ln -s /nowhere deps/gone; \
                  ln -s ../../outside deps/out; }; deps/shell -c \"echo runs\"; readlink deps/gone deps/out'";
    let env = cached("{key: k, paths: [deps]}", script);
    for _ in 0..2 {
        let run = passed(env.run(&[]));
        assert_eq!(words(&run), ["runs", "/nowhere", "../../outside"]);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
    }
}

#[test]
fn what_git_tracks_wins_over_a_restore_and_is_told() {
    let script = "'cat vendor/tracked vendor/added || true; ls vendor; echo made > vendor/made; git status --porcelain'";
    let env = cached("{key: k, paths: [vendor]}", script);
    env.write("vendor/tracked", "1\n");
    env.commit_all();
    env.run(&[]);
    env.write("vendor/tracked", "2\n");
    env.write("vendor/added", "new\n");
    env.commit_all();
    let run = passed(env.run(&[]));
    assert_eq!(words(&run), ["2", "new", "added", "made", "tracked", "?? vendor/made"]);
    let warning = "git tracks under";
    assert_eq!(run.stderr.matches(warning).count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("`vendor/added`, `vendor/tracked`\n"), "{}", run.stderr);
    // The entry is as it was: what is tracked is no part of it.
    let (_, reason, _) = section(&run, "job", Section::CacheSave);
    assert_eq!(reason, None, "it made the file anew");
    let shown = told(&env, &["cache", "show", "k"]);
    assert!(shown.contains("vendor/made") && !shown.contains("vendor/tracked"), "{shown}");
    let check = env.loom(&["check"]).output();
    let stderr = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(0));
    assert!(
        stderr.contains(
            "warning: job `job`: its cache leaves alone what git tracks under `vendor`: `vendor/added`, `vendor/tracked`\n"
        ),
        "{stderr}"
    );
}

/// The store of the repository.
fn store_of(env: &TestEnv) -> PathBuf {
    let stores = std::fs::read_dir(env.home().join(".cache/loom/cache")).unwrap();
    stores.map(|store| store.unwrap().path()).next().unwrap()
}

/// Runs Loom as somebody to whom the system does not show everything.
fn as_ordinary_user(env: &TestEnv) -> RunOutput {
    env.loom(&["run", "--local"]).by_ordinary_user().run()
}

#[test]
fn a_store_that_may_not_be_read_keeps_no_run_from_its_work() {
    let env = cached("{key: k, paths: [deps]}", FILL);
    passed(as_ordinary_user(&env));
    for closed in ["", "format", "entries", "manifests", "packs", "index", "lock"] {
        assert_eq!(words(&passed(as_ordinary_user(&env))), ["warm"], "before {closed}");
        let place = store_of(&env).join(closed);
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o0)).unwrap();
        let run = passed(as_ordinary_user(&env));
        let warnings = run.stderr.matches("warning:").count();
        assert!(warnings <= 2, "{closed}: {}", run.stderr);
        // The index only saves work.
        assert_eq!(warnings > 0, words(&run) == ["cold"], "{closed}: {}", run.stderr);
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_full_disk_keeps_no_run_from_its_work() {
    let fill = "'ls deps 2>/dev/null | wc -l; mkdir -p deps; head -c 4000000 /dev/urandom > deps/large; seq 50000 > deps/small'";
    let env = cached("{key: k, paths: [deps]}", fill);
    let caches = env.home().join(".cache/loom/cache");
    std::fs::create_dir_all(&caches).unwrap();
    for folder in [&caches, caches.parent().unwrap()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    let mut loom = env.loom(&["run", "--local"]);
    let script = "mount -t tmpfs -o size=1m,mode=0700 none \"$0\" || exit 77; exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(&caches).arg(LOOM);
    command.args(["run", "--local"]).current_dir(env.repo()).env_clear();
    command.envs(loom.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    loom.command = command;
    let output = loom.output();
    if output.status.code() == Some(77) || !output.stderr.starts_with(b"started") {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!why.contains("receipt: "), "{why}");
        return eprintln!("skipped, since no file system can be mounted here: {why}");
    }
    let run = passed(RunOutput::of(&env, &output));
    assert_eq!(words(&run), ["0"]);
    assert_eq!(run.stderr.matches("warning:").count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("not saved"), "{}", run.stderr);
}

#[test]
fn a_store_that_cannot_be_used_keeps_no_run_from_its_work() {
    // What is done to the store; what the next run finds, and the one after it.
    type Harm<'h> = &'h dyn Fn(&std::path::Path);
    let empty: Harm<'_> = &|store| std::fs::write(store.join("format"), "").unwrap();
    let garbage: Harm<'_> = &|store| std::fs::write(store.join("format"), "x\u{fffd}").unwrap();
    let older: Harm<'_> = &|store| std::fs::write(store.join("format"), "1\n").unwrap();
    let newer: Harm<'_> = &|store| std::fs::write(store.join("format"), "4711\n").unwrap();
    let folder: Harm<'_> = &|store| {
        std::fs::remove_file(store.join("format")).unwrap();
        std::fs::create_dir(store.join("format")).unwrap();
    };
    let file: Harm<'_> = &|store| {
        std::fs::remove_dir_all(store).unwrap();
        std::fs::write(store, "no store").unwrap();
    };
    for (harm, warning, next, after) in [
        (empty, "does not say which format", "warm", "warm"),
        (garbage, "does not say which format", "warm", "warm"),
        (older, "has format 1, and this Loom's is 2; it was emptied", "cold", "warm"),
        (newer, "this run has no caches: the cache store", "cold", "cold"),
        (folder, "this run has no caches: cannot read", "cold", "cold"),
        (file, "this run has no caches: cannot open the folder", "cold", "cold"),
    ] {
        let env = cached("{key: k, paths: [deps]}", FILL);
        passed(env.run(&[]));
        harm(&store_of(&env));
        let run = passed(env.run(&["-q"]));
        assert_eq!(words(&run), [next], "{warning}");
        assert_eq!(run.stderr.matches("warning:").count(), 1, "{warning}: {}", run.stderr);
        assert!(run.stderr.contains(warning), "{warning}: {}", run.stderr);
        assert_eq!(words(&passed(env.run(&[]))), [after], "{warning}");
    }
}

#[test]
fn a_fallback_key_finds_the_newest_entry_that_begins_so() {
    let env = cached("{key: {prefix: p, files: [lock]}, paths: [deps], fallback_keys: [q-, p-]}", FILL);
    passed(env.run(&[]));
    env.write("lock", "two\n");
    let run = passed(env.run(&[]));
    assert_eq!(words(&run), ["warm"]);
    let (_, _, metrics) = section(&run, "job", Section::CacheRestore);
    let cache = &metrics["caches"][0];
    assert_ne!(cache["matched_key"], cache["key"]);
    let (status, _, _) = section(&run, "job", Section::CacheSave);
    assert_eq!(status, Status::Success);
    let why = told(&env, &["cache", "why", "job"]);
    assert!(why.contains("hit under a fallback key: p-") && why.contains("changed: lock"), "{why}");
}

#[test]
fn a_restore_removes_what_the_entry_does_not_hold() {
    let script = "'mkdir -p deps; ls -A deps; touch deps/$(ls -A deps | wc -l)'";
    let env = cached("{key: k, paths: [deps/]}", script);
    env.write(".gitignore", "");
    passed(env.run(&[]));
    env.write("deps/mine", "of the work tree\n");
    let run = passed(env.run(&[]));
    assert_eq!(words(&run), ["0"]);
}

#[test]
fn policy_and_when_decide_what_is_done() {
    let skipped = |cache: &str, script: &str, at: Section| {
        let env = cached(cache, script);
        section(&env.run(&[]), "job", at).1
    };
    let table = [
        (
            "{key: k, paths: [deps], policy: push}",
            FILL,
            Section::CacheRestore,
            Some(SkipReason::CachePolicyPush),
        ),
        ("{key: k, paths: [deps], policy: push}", FILL, Section::CacheSave, None),
        (
            "{key: k, paths: [deps], policy: pull}",
            FILL,
            Section::CacheSave,
            Some(SkipReason::CachePolicyPull),
        ),
        ("{key: k, paths: [deps]}", "exit 3", Section::CacheSave, Some(SkipReason::CacheWhenNotMet)),
        (
            "{key: k, paths: [deps], when: on_failure}",
            FILL,
            Section::CacheSave,
            Some(SkipReason::CacheWhenNotMet),
        ),
        ("{key: k, paths: [lock], when: on_failure}", "exit 3", Section::CacheSave, None),
        ("{key: k, paths: [lock], when: always}", "exit 3", Section::CacheSave, None),
    ];
    for (cache, script, at, reason) in table {
        assert_eq!(skipped(cache, script, at), reason, "{cache} {script}");
    }
}

#[test]
fn a_job_without_an_effective_cache_has_no_cache_sections() {
    for cache in ["[]", "null", "{disabled: true}", "[{name: a, disabled: true}]"] {
        let run = passed(cached(cache, FILL).run(&[]));
        let sections: Vec<_> = run.run.job("job").system_sections.iter().map(|entry| entry.section).collect();
        assert_eq!(sections, [Section::Provider, Section::Cleanup], "{cache}");
    }
}

#[test]
fn several_caches_are_kept_apart_by_name() {
    let script = "'cat one/x two/x || (mkdir one two; echo 1 > one/x; echo 2 > two/x)'";
    let env = cached("[{name: a, key: k, paths: [one]}, {name: b, key: k, paths: [two]}]", script);
    passed(env.run(&[]));
    let run = passed(env.run(&[]));
    assert_eq!(words(&run), ["1", "2"]);
    let listed = told(&env, &["cache", "list"]);
    let names: Vec<&str> = listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn an_entry_is_restored_into_a_shared_workspace_once() {
    let env = env(
        "version: v1
stages: [one, two, three]
default: {target: linux, cache: {key: k, paths: [deps]}}
first: {stage: one, script: ['mkdir -p deps; echo first > deps/x']}
second: {stage: two, cache: {key: k, paths: [deps], policy: pull}, script: ['cat deps/x; echo second > deps/x']}
third: {stage: three, cache: {key: k, paths: [deps], policy: pull}, script: [cat deps/x]}
",
    );
    passed(env.run(&[]));
    let run = passed(env.run(&[]));
    // The first one was a hit; what it then wrote is what the others see.
    assert_eq!(run.run.output("second", "01"), ["first"]);
    assert_eq!(run.run.output("third", "01"), ["second"]);
    for job in ["second", "third"] {
        assert_eq!(section(&run, job, Section::CacheRestore).1, Some(SkipReason::CacheAlreadyRestored));
    }
}

#[test]
fn a_running_job_keeps_its_paths() {
    let env = env("version: v1
stages: [ci]
default: {target: linux}
slow: {stage: ci, cache: {key: a, paths: [deps]}, script: [touch started; sleep 1]}
other: {stage: ci, cache: {key: b, paths: [deps/sub]}, script: ['true']}
");
    let run = passed(env.run(&["--jobs", "2"]));
    let reasons = ["slow", "other"].map(|job| section(&run, job, Section::CacheRestore).1);
    assert!(reasons.contains(&Some(SkipReason::CachePathBusy)), "{reasons:?}");
    assert!(reasons.contains(&None), "{reasons:?}");
}

#[test]
fn a_damaged_entry_is_a_miss_and_is_told() {
    let env = cached("{key: k, paths: [deps]}", FILL);
    passed(env.run(&[]));
    let store = env.home().join(".cache/loom/cache");
    let mut damaged = 0;
    for path in files_below(&store).into_iter().filter(|path| path.to_string_lossy().contains("/packs/")) {
        let mut bytes = std::fs::read(&path).unwrap();
        // Blocks come first.
        bytes[0] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert_ne!(damaged, 0);
    let run = passed(env.run(&[]));
    assert_eq!(words(&run), ["cold"]);
    assert!(run.stderr.contains("damaged"), "{}", run.stderr);
    assert_eq!(words(&passed(env.run(&[]))), ["warm"]);
    assert!(told(&env, &["cache", "verify"]).starts_with("entries that are whole: 1;"));
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_save_that_fails_leaves_the_job_as_it_is() {
    let env = cached("{key: $run_id, paths: [deps]}", FILL);
    passed(env.run(&[]));
    let stores = std::fs::read_dir(env.home().join(".cache/loom/cache")).unwrap();
    let packs = stores.flatten().next().unwrap().path().join("packs");
    std::fs::remove_dir_all(&packs).unwrap();
    std::fs::write(&packs, "a file where a folder should be").unwrap();
    let run = passed(env.run(&[]));
    assert!(run.stderr.contains("not saved"), "{}", run.stderr);
}

#[test]
fn a_store_that_cannot_be_had_leaves_the_job_as_it_is() {
    let env = cached("{key: k, paths: [deps]}", FILL);
    let store = env.home().join(".cache/loom/cache");
    std::fs::create_dir_all(store.parent().unwrap()).unwrap();
    std::fs::write(&store, "a file where a folder should be").unwrap();
    let run = passed(env.run(&[]));
    assert!(run.stderr.contains("this run has no caches: cannot open the folder"), "{}", run.stderr);
}

#[test]
fn the_cache_is_kept_as_small_as_the_configuration_says() {
    let env =
        cached("{key: $run_id, paths: [deps]}", "'mkdir -p deps; head -c 300000 /dev/urandom > deps/x'");
    env.write(".loom/config.yml", "runtime:\n  cacheMaxBytes: 700000\n");
    for _ in 0..4 {
        passed(env.run(&[]));
    }
    assert_eq!(told(&env, &["cache", "list"]).lines().count(), 2);
    let freed = told(&env, &["cache", "gc", "--max-bytes", "0"]);
    assert!(freed.ends_with("the cache takes 0 B\n"), "{freed}");
    let why = told(&env, &["cache", "why", "job"]);
    assert!(why.contains("an entry was removed") && why.contains("the cache was larger than 0 B"), "{why}");
}

#[test]
fn work_trees_share_a_cache() {
    let env = cached("{key: k, paths: [deps]}", FILL);
    passed(env.run(&[]));
    let other = env.home().join("other");
    let mut git = std::process::Command::new("git");
    git.args(["worktree", "add", "-q"]).arg(&other).current_dir(env.repo());
    assert!(loom_tests::status(&mut git).unwrap().success());
    let mut loom = env.loom(&["run", "--local", "--stream"]);
    loom.command.current_dir(&other);
    let output = loom.output();
    assert!(String::from_utf8_lossy(&output.stderr).contains("job | warm"), "{output:?}");
}

#[test]
fn an_entry_shows_its_files() {
    let env = cached("{key: abc, paths: [deps]}", FILL);
    passed(env.run(&[]));
    let shown = told(&env, &["cache", "show", "ab"]);
    assert!(shown.contains("key:   abc\n") && shown.contains("5 B deps/made\n"), "{shown}");
    let output = env.loom(&["cache", "show", "x"]).output();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("loom cache: no entry has a key that begins with `x`\nhint: "), "{stderr}");
}

#[test]
fn a_file_with_the_value_of_a_secret_is_named() {
    let env = env("version: v1
stages: [ci]
job:
  stage: ci
  target: linux
  secrets: {TOKEN: {ref: env://TOKEN, file: false}}
  cache: {key: k, paths: [deps]}
  script: ['mkdir deps; echo clean > deps/a; echo \"token=$TOKEN\" > deps/b']
");
    let run = env.loom(&["run", "--local"]).env("TOKEN", "correct-horse-battery").run();
    let warning = "`deps/b` in the cache holds the value of the secret `TOKEN`";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}

#[test]
fn a_clean_workflow_is_the_same_with_caches_and_without() {
    let env = cached("{key: {files: [lock]}, paths: [deps]}", FILL);
    passed(env.run(&[]));
    let output = env.loom(&["run", "--local", "--cache-diff"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stderr.contains("cache-diff: the same with caches and without\nloom run passed\nreceipt: "),
        "{stderr}"
    );
    let runs = env.run_dirs();
    let off: Value = read(&runs[1].join("jobs/job/system/cache_restore/summary.json"));
    assert_eq!((&off["status"], &off["skip_reason"]), (&"skipped".into(), &"cache_disabled".into()));
    let on: Value = read(&runs[2].join("jobs/job/system/cache_restore/summary.json"));
    assert_eq!(on["metrics"]["hit"], true);
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_poisoned_entry_is_found_and_put_into_quarantine() {
    // What is restored decides how the job ends.
    let script = "'mkdir -p deps && test ! -e deps/poison && touch deps/$SOURCE'";
    let env = cached("{key: k, paths: [deps]}", script);
    let poison = env.loom(&["run", "--local"]).env("SOURCE", "poison").run();
    assert_eq!(poison.exit_code, 0, "{}", poison.stderr);

    let output = env.loom(&["run", "--local", "--cache-diff"]).env("SOURCE", "good").output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for words in [
        "  job  success without caches, failed with them\n",
        "  job  step 01: exit code 0 without caches, exit code 1 with them\n",
        "quarantined: paths:deps k\n",
        "loom run: --cache-diff found differences (exit code 1)\n",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    // The next runs honour it.
    let run = env.loom(&["run", "--local"]).env("SOURCE", "good").run();
    assert_eq!(run.exit_code, 0, "{}", run.stderr);
    for at in [Section::CacheRestore, Section::CacheSave] {
        assert_eq!(section(&run, "job", at).1, Some(SkipReason::CacheKeyQuarantined));
    }
    assert!(run.stderr.contains("the key is in quarantine, since run loom-run-local-"), "{}", run.stderr);
    let listed = told(&env, &["cache", "quarantine", "list"]);
    assert!(
        listed.starts_with("paths:deps k\n  since ") && listed.contains("    job job: step 01: "),
        "{listed}"
    );
    assert_eq!(told(&env, &["cache", "quarantine", "lift", "k"]), "lifted the quarantine of paths:deps k\n");
    assert_eq!(env.loom(&["run", "--local"]).env("SOURCE", "good").run().exit_code, 1);
}

#[test]
fn a_job_that_does_not_do_the_same_each_time_is_found() {
    let script = "'mkdir -p deps out; touch deps/x; head -c 16 /dev/urandom > out/random'";
    let env = cached("{key: k, paths: [deps]}\n  artifacts: {paths: [out]}", script);
    let output = env.loom(&["run", "--local", "--cache-diff"]).output();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for words in [
        "  job        artifact out/random: other content\n",
        "  workspace  out/random: other content\n",
        "no cache is to blame",
    ] {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    assert_eq!(told(&env, &["cache", "quarantine", "list"]), "");
}

#[test]
fn two_runs_at_once_save_one_entry() {
    let env = cached("{key: k, paths: [deps]}", "'mkdir -p deps; seq 1000 > deps/x; sleep 0.1'");
    let runs = [(); 3].map(|()| env.loom(&["run", "--local", "-q"]).spawn());
    for run in runs {
        assert!(run.output().status.success());
    }
    assert!(told(&env, &["cache", "verify"]).starts_with("entries that are whole: 1;"));
}

#[test]
fn the_example_is_faster_the_second_time() {
    let env = TestEnv::of_example(LOOM, &top().join("examples/cached"));
    env.commit_all();
    // What this repository was built with has the example's dependencies.
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let cargo_home =
        home.or_else(|| Some(std::path::Path::new(&std::env::var_os("HOME")?).join(".cargo"))).unwrap();
    let rustup = std::env::var_os("RUSTUP_HOME").map(std::path::PathBuf::from);
    let rustup = rustup.unwrap_or_else(|| cargo_home.parent().unwrap().join(".rustup"));
    let run_with = |args: &[&str]| {
        let mut loom = env.loom(&[&["run", "--local"], args].concat());
        loom.command
            .env("CARGO_HOME", &cargo_home)
            .env("RUSTUP_HOME", &rustup)
            .env("CARGO_NET_OFFLINE", "true");
        loom.output()
    };
    let run = || passed(RunOutput::of(&env, &run_with(&[])));
    let compiled = |run: &RunOutput| {
        let lines = run.run.output("test", "01");
        lines.iter().filter(|line| line.contains("Compiling ") && !line.contains("words")).count()
    };
    let first = run();
    assert_eq!(compiled(&first), 2, "{:?}", first.run.output("test", "01"));
    assert_eq!(first.run.output("test", "02"), ["4"]);
    let second = run();
    assert_eq!(compiled(&second), 0, "{:?}", second.run.output("test", "01"));
    assert_eq!(second.run.job("test").artifacts.map(|artifacts| artifacts.count), Some(1));
    let compared = run_with(&["--cache-diff"]);
    assert!(compared.status.success(), "{compared:?}");
}

/// A cache belongs to a repository, not to the path that it has.
#[test]
fn a_new_repository_at_an_old_path_reads_nothing_of_the_old_one() {
    let env = cached("{key: k, paths: [deps]}", FILL);
    passed(env.run(&[]));
    assert_eq!(words(&passed(env.run(&[]))), ["warm"]);
    std::fs::rename(env.repo().join(".git"), env.home().join("old.git")).unwrap();
    env.commit_all();
    assert_eq!(words(&passed(env.run(&[]))), ["cold"]);
}

/// A `.git` file can name any repository on the machine; that repository does not know of it.
#[test]
fn a_git_file_opens_the_cache_of_no_other_repository() {
    let victim = cached("{key: k, paths: [deps]}", FILL);
    passed(victim.run(&[]));
    let folder = victim.home().join("hostile");
    std::fs::create_dir_all(folder.join(".loom")).unwrap();
    std::fs::copy(victim.repo().join(".loom/workflow.yml"), folder.join(".loom/workflow.yml")).unwrap();
    std::fs::write(folder.join(".git"), format!("gitdir: {}\n", victim.repo().join(".git").display()))
        .unwrap();
    let listed = |folder: &std::path::Path| {
        let mut loom = victim.loom(&["cache", "list"]);
        loom.command.current_dir(folder);
        String::from_utf8(loom.output().stdout).unwrap()
    };
    assert_ne!(listed(&victim.repo()), "");
    assert_eq!(listed(&folder), "");
}
