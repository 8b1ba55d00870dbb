//! `loom run --cache-diff`: planted workflows, of which it is known what caches do to their results, and what has to be
//! said of them: verdict, keys that are blamed, exit code, document, words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use loom_contract::cache_diff::{CacheDiff, CacheKey, CachesUsed, Cause, Verdict};
use loom_contract::layout::CACHE_DIFF_SUFFIX;
use loom_contract::receipt::RunReceipt;
use loom_contract::schema::{self, Format};
use loom_tests::{TestEnv, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::docker::busybox;
use crate::env;

/// A workflow that is run once, so that its caches are filled, and then compared.
#[derive(Default)]
struct Case {
    name: &'static str,
    /// Jobs: name, keywords, and the script as one step.
    jobs: &'static [(&'static str, &'static str, &'static str)],
    args: &'static [&'static str],
    verdict: Option<Verdict>,
    exit_code: i32,
    /// `name key` of what is blamed: each alone, or several that are joined by ` + `.
    blamed: &'static [&'static str],
    innocent: &'static [&'static str],
    /// Lines of the terminal.
    told: &'static [&'static str],
    /// How the last line begins.
    last: &'static str,
    /// What must not be on the terminal.
    untold: &'static [&'static str],
}

/// Its result says whether there was something in its cache.
const LIAR: &str = "mkdir -p s; if [ -e s/x ]; then echo cached > out; else echo fresh > out; fi; touch s/x";
const RANDOM: &str = "head -c 16 /dev/urandom | od > random";
const DIFFERS: &str = "loom run: --cache-diff found differences (exit code 1)";
const NOT_DETERMINISTIC: &str =
    "cache-diff: the jobs do not come to the same each time, caches or not; no cache is to blame";
const CHANGE: &str = "cache-diff: caches change the result";
const SAME: &str = "cache-diff: the same with caches and without";

fn on_host() -> Vec<Case> {
    vec![
        Case {
            name: "one key on the host",
            jobs: &[("d", "cache: {key: dk, paths: [s]}", LIAR)],
            blamed: &["paths:s dk"],
            told: &[CHANGE, "  workspace  out: other content", "quarantined: paths:s dk"],
            ..Case::diverges()
        },
        Case {
            name: "nondeterminism only",
            jobs: &[(
                "d",
                "cache: {key: dk, paths: [s]}",
                "mkdir -p s; touch s/x; head -c 16 /dev/urandom | od > random; mktemp -p . name.XXXXXX; pwd > where",
            )],
            verdict: Some(Verdict::NotDeterministic),
            innocent: &["paths:s dk"],
            told: &[NOT_DETERMINISTIC, "  workspace  random: other content"],
            untold: &["quarantined"],
            ..Case::diverges()
        },
        Case {
            name: "nondeterminism beside a cache's fault",
            jobs: &[
                ("d", "cache: {key: dk, paths: [s]}", LIAR),
                (
                    "r",
                    "cache: {key: rk, paths: [t]}",
                    "mkdir -p t; touch t/x; head -c 16 /dev/urandom | od > random",
                ),
            ],
            blamed: &["paths:s dk"],
            innocent: &["paths:t rk"],
            told: &[
                "  workspace  out: other content",
                "  workspace  random: other content (not the same each time, caches or not)",
            ],
            ..Case::diverges()
        },
        Case {
            name: "two keys, of which one is guilty",
            jobs: &[(
                "d",
                "cache: [{name: good, key: g, paths: [a]}, {name: bad, key: b, paths: [s]}]",
                "mkdir -p a s; touch a/x; if [ -e s/x ]; then echo cached > out; else echo fresh > out; fi; touch s/x",
            )],
            blamed: &["bad b"],
            innocent: &["good g"],
            ..Case::diverges()
        },
        Case {
            name: "two keys that are guilty only together",
            jobs: &[(
                "d",
                "cache: [{name: one, key: k, paths: [a]}, {name: other, key: k, paths: [b]}, {name: third, key: k, paths: [c]}]",
                "if [ -e a/x ] && [ -e b/x ]; then echo both > out; else echo not > out; fi; mkdir -p a b c; touch a/x b/x c/x",
            )],
            blamed: &["one k + other k"],
            innocent: &["third k"],
            told: &["quarantined: one k (only together)", "quarantined: other k (only together)"],
            ..Case::diverges()
        },
        Case {
            name: "the neighbour of a guilty one",
            jobs: &[
                ("liar", "cache: {key: l, paths: [s]}\n  artifacts: {paths: [out]}", LIAR),
                (
                    "honest",
                    "cache: {key: h, paths: [t]}\n  artifacts: {paths: [mine]}",
                    "mkdir -p t; touch t/x; echo mine > mine",
                ),
            ],
            blamed: &["paths:s l"],
            innocent: &["paths:t h"],
            told: &["  liar       artifact out: other content", "  workspace  out: other content"],
            untold: &["  honest  "],
            ..Case::diverges()
        },
        Case {
            name: "how a job ends",
            jobs: &[("d", "cache: {key: dk, paths: [s]}", "mkdir -p s; test ! -e s/x || exit 3; touch s/x")],
            blamed: &["paths:s dk"],
            told: &[
                "  d  success without caches, failed with them",
                "  d  step 01: exit code 0 without caches, exit code 3 with them",
            ],
            ..Case::diverges()
        },
        Case {
            name: "permissions, and a file that goes",
            jobs: &[(
                "d",
                "cache: {key: dk, paths: [s]}",
                "touch mode gone; mkdir -p s; if [ -e s/x ]; then chmod 755 mode; rm gone; fi; touch s/x",
            )],
            blamed: &["paths:s dk"],
            told: &["  workspace  gone: missing with caches", "  workspace  mode: other permissions"],
            ..Case::diverges()
        },
        Case {
            name: "two runs that fail alike",
            jobs: &[(
                "d",
                "cache: {key: dk, paths: [s], when: always}",
                "mkdir -p s; touch s/x; echo no > out; exit 3",
            )],
            verdict: Some(Verdict::Same),
            exit_code: 1,
            innocent: &["paths:s dk"],
            told: &[SAME],
            last: "loom run: job \"d\" failed (exit code 3)",
            ..Case::default()
        },
        Case {
            name: "times and the order of output",
            jobs: &[
                (
                    "d",
                    "cache: {key: dk, paths: [s]}",
                    "mkdir -p s; date +%N; touch now; if [ -e s/x ]; then echo b; echo a; else echo a; echo b; fi; touch s/x",
                ),
                (
                    "kept",
                    "cache: {key: {prefix: v}, paths: ['$CI_PROJECT_DIR/$WHERE']}\n  variables: {WHERE: t}",
                    "mkdir -p t; date +%N > t/now",
                ),
            ],
            verdict: Some(Verdict::Same),
            innocent: &["paths:s dk", "paths:t v"],
            told: &[SAME, "loom run passed"],
            last: "receipt: ",
            ..Case::default()
        },
    ]
}

fn in_containers() -> Vec<Case> {
    vec![
        Case {
            name: "a volume",
            jobs: &[
                ("d", "cache: {key: dk, paths: [s]}", LIAR),
                ("e", "cache: {key: ek, paths: [t]}", "mkdir -p t; date > t/x; date; touch now"),
            ],
            blamed: &["paths:s dk"],
            innocent: &["paths:t ek"],
            told: &[CHANGE, "  d  out: other content"],
            untold: &["  e  ", "workspace"],
            ..Case::diverges()
        },
        Case {
            name: "a volume, and artifacts",
            jobs: &[("d", "cache: {key: dk, paths: [s]}\n  artifacts: {paths: [out]}", LIAR)],
            blamed: &["paths:s dk"],
            told: &["  d  artifact out: other content", "  d  out: other content"],
            ..Case::diverges()
        },
        Case {
            name: "the shared workspace in a container",
            jobs: &[
                ("d", "cache: {key: dk, paths: [s]}", LIAR),
                ("e", "cache: {key: ek, paths: [t]}", "mkdir -p t; date > t/x; date"),
            ],
            args: &["--docker-workspace-mount", "bind_mount"],
            blamed: &["paths:s dk"],
            innocent: &["paths:t ek"],
            told: &[CHANGE, "  workspace  out: other content"],
            ..Case::diverges()
        },
        Case {
            name: "nondeterminism in a volume",
            jobs: &[("d", "cache: {key: dk, paths: [s]}\n  needs: []", RANDOM)],
            verdict: Some(Verdict::NotDeterministic),
            told: &[NOT_DETERMINISTIC, "  d  random: other content"],
            untold: &["quarantined"],
            ..Case::diverges()
        },
        Case {
            name: "a volume that is the same",
            jobs: &[(
                "d",
                "cache: {key: dk, paths: [s]}",
                "mkdir -p s l; date > s/x; ln -sf ../s l/link; echo 1 > l/a; ln -f l/a l/hard; date; touch now",
            )],
            verdict: Some(Verdict::Same),
            innocent: &["paths:s dk"],
            told: &[SAME, "loom run passed"],
            last: "receipt: ",
            ..Case::default()
        },
    ]
}

impl Case {
    fn diverges() -> Self {
        Self { verdict: Some(Verdict::CachesChangeResult), exit_code: 1, last: DIFFERS, ..Self::default() }
    }

    fn env(&self, default: &str) -> TestEnv {
        let mut workflow = format!("version: v1\nstages: [ci]\ndefault: {default}\n");
        for (job, keywords, script) in self.jobs {
            let script = serde_json::to_string(script).unwrap();
            workflow += &format!("{job}:\n  stage: ci\n  {keywords}\n  script: [{script}]\n");
        }
        let env = env(&workflow);
        env.commit_all();
        env
    }

    fn check(&self, default: &str) {
        let env = self.env(default);
        let args = |more: &[&'static str]| [&["run", "--local"], self.args, more].concat();
        let run = env.loom(&args(&[])).output();
        assert!(self.exit_code > 0 || run.status.success(), "{}: {run:?}", self.name);
        let listed = stdout(&env, &["cache", "list"]);
        let output = env.loom(&args(&["--cache-diff"])).output();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let what = format!("{}\n{told}", self.name);

        assert_eq!(output.status.code(), Some(self.exit_code), "{what}");
        for line in self.told {
            assert!(told.lines().any(|told| told == *line), "`{line}` is not told: {what}");
        }
        for words in self.untold {
            assert!(!told.contains(words), "`{words}` is told: {what}");
        }
        let last = told.lines().last().unwrap();
        assert!(last.starts_with(self.last), "the last line is `{last}`: {what}");
        assert_eq!(told.contains("passed"), self.exit_code == 0, "{what}");

        let (found, path) = document(&output);
        assert_eq!(Some(found.verdict), self.verdict, "{what}");
        assert_eq!(found.exit_code, self.exit_code, "{what}");
        assert_eq!(blamed(&found), self.blamed, "{what}");
        assert_eq!(names(&found.innocent), self.innocent, "{what}");
        assert!(found.undecided.is_empty(), "{what}");
        assert_eq!(found.differences.is_empty(), found.verdict == Verdict::Same, "{what}");
        let by_caches = found.differences.iter().any(|difference| difference.cause == Cause::Caches);
        assert_eq!(by_caches, !self.blamed.is_empty(), "{what}");
        receipts_point_to(&found, &path);

        let quarantined = stdout(&env, &["cache", "quarantine", "list"]);
        let quarantined: BTreeSet<&str> = quarantined.lines().filter(|line| !line.starts_with(' ')).collect();
        let expected: BTreeSet<&str> = self.blamed.iter().flat_map(|keys| keys.split(" + ")).collect();
        assert_eq!(quarantined, expected, "{what}");
        nothing_is_left_of_stores(&env);
        if self.blamed.is_empty() {
            // It was not used either.
            assert_eq!(stdout(&env, &["cache", "list"]).lines().count(), listed.lines().count(), "{what}");
        } else {
            // What is in quarantine changes nothing any more.
            let output = env.loom(&args(&["--cache-diff"])).output();
            let (found, _) = document(&output);
            assert!(found.blamed.is_empty(), "{}: {found:#?}", self.name);
        }
    }
}

/// What a command of `loom` prints.
fn stdout(env: &TestEnv, args: &[&str]) -> String {
    String::from_utf8(env.loom(args).output().stdout).unwrap()
}

/// The document that is named among the receipts, and where it is.
fn document(output: &Output) -> (CacheDiff, PathBuf) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let receipts: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("receipt: ")).collect();
    assert_eq!(receipts.len(), 3, "{told}");
    let path = receipts.into_iter().find(|path| path.ends_with(CACHE_DIFF_SUFFIX)).unwrap();
    let value = value(Path::new(path));
    assert_eq!((&value["schema_version"], &value["kind"]), (&"v1".into(), &"loom-cache-diff".into()));
    assert!(
        jsonschema::draft202012::is_valid(&schema::of(Format::CacheDiff).to_value(), &value),
        "{value:#}"
    );
    (serde_json::from_value(value).unwrap(), path.into())
}

fn value(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn name(key: &CacheKey) -> String {
    format!("{} {}", key.name, key.key)
}

fn names(keys: &[CacheKey]) -> Vec<String> {
    keys.iter().map(name).collect()
}

fn blamed(found: &CacheDiff) -> Vec<String> {
    found.blamed.iter().map(|blamed| names(&blamed.keys).join(" + ")).collect()
}

/// All runs have receipts of their own, which say where the document is.
fn receipts_point_to(found: &CacheDiff, path: &Path) {
    let pair = [&found.receipt_without_caches, &found.receipt_with_caches].map(ToString::to_string);
    for run in &found.runs {
        let read = value(Path::new(&run.receipt_path.to_string()));
        assert_eq!(read["cache_diff_path"], path.to_str().unwrap());
        assert!(jsonschema::draft202012::is_valid(&schema::of(Format::Receipt).to_value(), &read));
    }
    assert_eq!(path.to_str().unwrap(), pair[1].replace(".json", CACHE_DIFF_SUFFIX));
    let runs: Vec<(String, CachesUsed)> =
        found.runs.iter().map(|run| (run.receipt_path.to_string(), run.caches)).collect();
    assert_eq!(runs[..2], [(pair[0].clone(), CachesUsed::Off), (pair[1].clone(), CachesUsed::All)]);
    for (run, receipt) in found.runs.iter().zip(&runs) {
        let read: RunReceipt = loom_record::read::document(Path::new(&receipt.0)).unwrap();
        assert_eq!(read.exit_code, run.exit_code);
        // To who asks for the last run, it is the one with caches.
        assert_eq!(read.is_for_comparison(), receipt.0 != pair[1]);
    }
}

/// The stores that compared runs had for themselves are gone, and so are the workspaces of those that only were to find out.
fn nothing_is_left_of_stores(env: &TestEnv) {
    let staging = walk(&env.home()).into_iter().find(|path| path.ends_with("loom/staging")).unwrap();
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0, "{}", staging.display());
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() && !path.is_symlink() { walk(&path) } else { Vec::new() };
    entries.flat_map(|path| [vec![path.clone()], below(path)].concat()).collect()
}

#[test]
fn what_caches_do_to_jobs_on_the_host_is_told_as_it_is() {
    std::thread::scope(|scope| {
        for case in on_host() {
            scope.spawn(move || case.check("{target: linux}"));
        }
    });
}

#[test]
fn what_caches_do_to_jobs_in_containers_is_told_as_it_is() {
    let Some(image) = busybox() else { return };
    for case in in_containers() {
        case.check(&format!("{{target: linux, image: '{image}'}}"));
    }
}

#[test]
fn quiet_says_what_came_of_it_and_no_more() {
    let jobs = &[("d", "cache: {key: dk, paths: [s]}", LIAR)];
    let env = Case { jobs, ..Case::default() }.env("{target: linux}");
    let quiet = || {
        let output = env.loom(&["run", "--local", "-q", "--cache-diff"]).output();
        let told = String::from_utf8(output.stderr).unwrap();
        let short = |line: &str| line.split_once(": /").map_or(line.to_owned(), |(word, _)| word.to_owned());
        told.lines().map(short).collect::<Vec<String>>()
    };
    let nothing =
        "cache-diff: the same with caches and without, but no key hit: there was nothing to restore";
    assert_eq!(quiet(), [nothing, "loom run passed", "receipt", "receipt", "receipt"]);
    // What compared runs save is thrown away.
    assert_eq!(stdout(&env, &["cache", "list"]), "");
    assert_eq!(env.run(&[]).exit_code, 0);
    assert_eq!(quiet(), [CHANGE, "quarantined: paths:s dk", "receipt", "receipt", "receipt", DIFFERS]);
}

#[test]
fn the_runs_that_are_made_are_named_with_the_reason() {
    let jobs = &[(
        "d",
        "cache: [{name: good, key: g, paths: [a]}, {name: bad, key: b, paths: [s]}]",
        "mkdir -p a s; touch a/x; if [ -e s/x ]; then echo cached > out; else echo fresh > out; fi; touch s/x",
    )];
    let env = Case { jobs, ..Case::default() }.env("{target: linux}");
    assert_eq!(env.run(&[]).exit_code, 0);
    let output = env.loom(&["run", "--local", "--cache-diff"]).output();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let runs: Vec<&str> = told.lines().filter(|line| line.starts_with("cache-diff: run ")).collect();
    assert_eq!(
        runs,
        [
            "cache-diff: run 1, without caches",
            "cache-diff: run 2, with caches",
            "cache-diff: run 3, without caches again: what differs between two such runs is not a cache's doing",
            "cache-diff: run 4, with `bad b` alone",
            "cache-diff: run 5, with `good g` alone",
            "cache-diff: run 6, without caches once more: whether what is blamed stays away",
        ]
    );
    let (found, _) = document(&output);
    let used: Vec<(CachesUsed, Vec<String>)> =
        found.runs.iter().map(|run| (run.caches, names(&run.keys))).collect();
    assert_eq!(
        used[2..],
        [
            (CachesUsed::Off, vec![]),
            (CachesUsed::Some, vec!["bad b".to_owned()]),
            (CachesUsed::Some, vec!["good g".to_owned()]),
            (CachesUsed::Off, vec![]),
        ]
    );
    let why = stdout(&env, &["cache", "why", "d"]);
    assert_eq!(why.matches("  hit\n").count(), 2, "{why}");
    let listed = stdout(&env, &["cache", "quarantine", "list"]);
    assert!(
        listed.contains(" came to another result with it (job d)\n    workspace: out: other content\n"),
        "{listed}"
    );
    assert_eq!(stdout(&env, &["cache", "quarantine", "lift", "b"]), "lifted the quarantine of bad b\n");
    assert_eq!(stdout(&env, &["cache", "quarantine", "list"]), "");
}

#[test]
fn runs_that_cannot_have_caches_are_not_called_the_same() {
    let jobs = &[("d", "cache: {key: dk, paths: [s]}", LIAR)];
    let env = Case { jobs, ..Case::default() }.env("{target: linux}");
    assert_eq!(env.run(&[]).exit_code, 0);
    let format = walk(&env.home()).into_iter().find(|path| path.ends_with("format")).unwrap();
    std::fs::write(format, "999\n").unwrap();
    let output = env.loom(&["run", "--local", "--cache-diff"]).output();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("loom run: --cache-diff has nothing to compare: this run has no caches: "),
        "{told}"
    );
    assert!(!told.contains("passed") && !told.contains("the same"), "{told}");
}

#[test]
fn a_signal_while_files_are_compared_ends_the_comparison() {
    // So long that reading it takes longer than any test waits.
    let jobs = &[("d", "cache: {key: dk, paths: [s]}", "mkdir -p s; touch s/x; truncate -s 4T large")];
    let env = Case { jobs, ..Case::default() }.env("{target: linux}");
    let running = env.loom(&["run", "--local", "--cache-diff"]).spawn();
    let whole = || {
        let receipts = env.runtime().receipts_dir();
        let receipts = std::fs::read_dir(receipts).into_iter().flatten().flatten();
        receipts.filter(|receipt| receipt.path().extension().is_some_and(|end| end == "json")).count()
    };
    wait_for("both runs", || whole() == 2);
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    let output = running.output();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.ends_with("loom run: cancelled by SIGINT\n"), "{told}");
    nothing_is_left_of_stores(&env);
}

#[test]
fn a_comparison_needs_no_more_of_the_system_than_a_run() {
    let jobs = &[("d", "cache: {key: dk, paths: [s]}", LIAR)];
    let env = Case { jobs, ..Case::default() }.env("{target: linux}");
    for limits in ["ulimit -v 3000000", "ulimit -S -n 100; ulimit -H -n 2000"] {
        let run = env.loom(&["run", "--local"]).after(limits).output();
        assert!(run.status.success(), "{limits}: {run:?}");
        let output = env.loom(&["run", "--local", "--cache-diff"]).after(limits).output();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.ends_with(&format!("{DIFFERS}\n")), "{limits}: {told}");
        stdout(&env, &["cache", "quarantine", "lift", "dk"]);
    }
}

#[test]
fn a_signal_ends_the_comparison() {
    let jobs: &'static [_] = &[(
        "d",
        "cache: {key: dk, paths: [s]}",
        "echo; mkdir -p s; touch s/x; test ! -e $WAIT || { touch $WAIT.now; sleep 60; }",
    )];
    let env = Case { jobs, ..Case::default() }.env("{target: linux}");
    let wait = env.home().join("wait");
    let now = env.home().join("wait.now");
    assert_eq!(env.loom(&["run", "--local"]).env("WAIT", wait.to_str().unwrap()).run().exit_code, 0);
    std::fs::write(&wait, "").unwrap();
    let running = env.loom(&["run", "--local", "--cache-diff"]).env("WAIT", wait.to_str().unwrap()).spawn();
    wait_for("the job", || now.exists());
    kill_process(Pid::from_child(&running), Signal::INT).unwrap();
    let output = running.output();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.ends_with("loom run: cancelled by SIGINT\n"), "{told}");
    nothing_is_left_of_stores(&env);
}
