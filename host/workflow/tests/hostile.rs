//! Texts that were made to hurt: each is answered at a bounded cost, with an error that names the bound where it breaks
//! one. With `--release -- --nocapture --test-threads=1`, what each takes is printed.

#![expect(clippy::print_stdout, reason = "the costs are for whoever asks with --nocapture")]

use std::fmt::Write as _;
use std::time::Instant;

use loom_workflow::{Keyword, LoadError, Loaded, Loader, NoFiles, RootKey, load};

const MIB: usize = 1024 * 1024;
const HEAD: &str = "version: v1\nstages: [ci]\ndefault: {target: linux}\n";
const JOB: &str = "job: {stage: ci, target: linux, script: [x]}\n";

/// The size of most texts: the largest that is read.
const FULL: usize = 4 * MIB;
/// How many jobs a workflow may have, and how many keys and values.
const JOBS: usize = 10_000;
const VALUES: usize = 200_000;

fn read(what: &str, text: &str) -> Loaded {
    read_with(what, text, &NoFiles)
}

fn read_with(what: &str, text: &str, loader: &dyn Loader) -> Loaded {
    let before = resident("VmRSS:");
    // From here on, the peak counts anew.
    let _ = fs_err::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    let loaded = load("w.yml", text, loader);
    let short = loaded.diagnostics.render_short();
    let excerpt = loaded.diagnostics.render_excerpt(true);
    let graph = loaded.plan.as_ref().map(|plan| serde_json::to_string_pretty(&plan.graph_ir()));
    let took = start.elapsed();
    println!(
        "{what}: {} bytes, {took:?}, {} KiB more memory, {} bytes of messages, {} of graph",
        text.len(),
        resident("VmHWM:").saturating_sub(before),
        short.len() + excerpt.len(),
        graph.map_or(0, |graph| graph.map_or(0, |graph| graph.len()))
    );
    assert!(
        short.len() < 2 * MIB && excerpt.len() < 4 * MIB,
        "{what} says {} + {} bytes",
        short.len(),
        excerpt.len()
    );
    loaded
}

/// What the system says about this process's memory, in KiB; 0 where it does not say.
fn resident(what: &str) -> usize {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Reads a text that must be refused, with `hint` among the messages.
fn refused(what: &str, text: &str, hint: &str) {
    let loaded = read(what, text);
    let short = loaded.diagnostics.render_short();
    assert!(loaded.plan.is_none(), "{what} was accepted");
    assert!(short.contains(hint), "{what}: {}", short.lines().take(3).collect::<Vec<_>>().join("\n"));
}

/// `head`, and `piece` as often as it fits after it.
fn filled(head: &str, piece: &str) -> String {
    format!("{head}{}", piece.repeat((FULL - head.len()) / piece.len()))
}

/// `count` numbered lines between `head` and `tail`, or as many as fit.
fn numbered(count: usize, head: &str, tail: &str, line: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for number in 0..count {
        let line = line(number);
        if text.len() + line.len() + tail.len() > FULL {
            break;
        }
        text.push_str(&line);
    }
    text.push_str(tail);
    text
}

#[test]
fn size_and_depth() {
    refused("too large", &"#".repeat(4 * MIB + 1), "split the file");
    assert!(read("all comment", &filled(&format!("{HEAD}{JOB}"), "# comment\n")).plan.is_some());
    refused("open lists", &filled("a: ", "["), "64 deep");
    refused("open mappings", &filled("a: ", "{a: "), "64 deep");
    refused("open mappings without keys", &filled("a: ", "{"), "64 deep");
    refused("dashes", &filled("a:\n", "- "), "64 deep");
    refused("question marks", &filled("", "? "), "64 deep");
    refused("closed lists", &filled("a: ", "]"), "quote the value");
    refused(
        "indentation",
        &(0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
        "64 deep",
    );
    refused("blanks", &filled("a:", " "), "WF_SCHEMA_V1");
    refused("line breaks", &filled("", "\n"), "the file is empty");
    refused("unclosed quote", &filled("a: \"", "x "), "close the quote");
    refused("unclosed quote over lines", &filled("a: '", "x\n "), "close the quote");
    refused("colons", &filled("a", ":"), "WF_SCHEMA_V1");
    refused("tabs", &filled("a:\n", "\t"), "WF_SCHEMA_V1");
    refused("carriage returns", &filled("a: b", "\r"), "WF_SCHEMA_V1");
    refused("NUL", &filled("a: b", "\0"), "control character");
    refused("directives", &filled("", "%TAG !a! x\n"), "WF_SCHEMA_V1");
    refused("reserved directives", &filled("", "%A b\n"), "WF_SCHEMA_V1");
    refused("documents", &filled("", "---\n"), "one document");
    refused("byte order marks", &filled("", "\u{feff}"), "WF_SCHEMA_V1");
    refused("one long key", &format!("{}: x\n", "k".repeat(FULL - 10)), "WF_SCHEMA_V1");
    refused("one long explicit key", &format!("? {}\n: x\n", "k".repeat(FULL - 10)), "WF_SCHEMA_V1");
    refused("one long word", &"k".repeat(FULL), "write a mapping");
}

#[test]
fn anchors_aliases_and_tags() {
    refused("anchors", &filled(&format!("{HEAD}{JOB}x:\n"), "- &a b\n"), "remove the anchor");
    refused("aliases", &filled(&format!("{HEAD}{JOB}x:\n- &a b\n"), "- *a\n"), "remove the alias");
    refused("unknown aliases", &filled(&format!("{HEAD}{JOB}x:\n"), "- *a\n"), "remove the alias");
    refused("tags", &filled(&format!("{HEAD}{JOB}x:\n"), "- !a b\n"), "remove the tag");
    refused(
        "merge keys",
        &numbered(usize::MAX, HEAD, JOB, |number| format!("j{number}: {{<<: *a}}\n")),
        "remove the merge key",
    );
    let mut laughs = format!("{HEAD}{JOB}a0: &a0 [lol]\n");
    for number in 1..30 {
        let _ =
            writeln!(laughs, "a{number}: &a{number} [{}]", vec![format!("*a{}", number - 1); 10].join(", "));
    }
    refused("a billion laughs", &laughs, "remove the alias");
}

#[test]
fn many_keys() {
    refused("one key again and again", &filled(&format!("{HEAD}{JOB}"), "a: b\n"), "remove duplicate key");
    refused("one key again in a flow mapping", &filled("x: {", "a: b,"), "WF_SCHEMA_V1");
    refused(
        "many broken jobs",
        &numbered(VALUES / 2 - 50, HEAD, JOB, |number| format!("j{number}:\n")),
        "set job",
    );
    refused(
        "many keys without value",
        &format!("{{{}}}", numbered(VALUES / 2 - 50, "", "z", |number| format!("j{number},"))),
        "set job",
    );
    refused(
        "many unknown keywords",
        &numbered(VALUES / 2 - 50, &format!("{HEAD}job:\n"), "", |number| format!("  scrip{number}: x\n")),
        "unknown key",
    );
    refused(
        "many variables of wrong type",
        &numbered(VALUES / 2 - 50, "variables:\n", JOB, |number| format!("  A{number}: 1\n")),
        "quote it",
    );
    refused(
        "many stages",
        &numbered(VALUES - 50, "version: v1\nstages:\n", JOB, |number| format!("- s{number}\n")),
        "add `ci` to stages",
    );
    refused(
        "long line of errors",
        &numbered(VALUES - 50, &format!("{HEAD}job: {{script: ["), "]}\n", |_| "5,".to_owned()),
        "quote it",
    );
    let plan = read(
        "many variables",
        &numbered(VALUES / 2 - 50, &format!("{HEAD}{JOB}variables:\n"), "", |number| {
            format!("  A{number}: x\n")
        }),
    )
    .plan;
    assert!(plan.is_some_and(|plan| plan.jobs[0].variables.len() == VALUES / 2 - 50));
}

#[test]
fn many_jobs_and_needs() {
    let plain = |number| format!("j{number}: {{stage: ci, script: [x]}}\n");
    assert!(read("many jobs", &numbered(JOBS, HEAD, "", plain)).plan.is_some());
    refused("too many jobs", &numbered(JOBS + 1, HEAD, "", plain), "more than 10000 jobs and templates");
    refused("too many jobs for any file", &numbered(usize::MAX, HEAD, "", plain), "keys and values");
    let chain = numbered(JOBS, HEAD, "", |number| match number {
        0 => plain(0),
        _ => format!("j{number}: {{stage: ci, script: [x], needs: [j{}]}}\n", number - 1),
    });
    assert!(read("a chain of needs", &chain).plan.is_some());
    let cycle = numbered(JOBS, HEAD, "", |number| {
        format!("j{number}: {{stage: ci, script: [x], needs: [j{}]}}\n", number + 1)
    });
    refused("a chain that ends nowhere", &cycle, "define job");
    let count = cycle.lines().count() - 4;
    refused(
        "a long cycle",
        &cycle.replace(&format!("needs: [j{}]", count + 1), "needs: [j0]"),
        "resolve needs cycle",
    );
    let unknown = numbered(JOBS, HEAD, "", |number| {
        format!("j{number}: {{stage: ci, script: [x], needs: [h{number}]}}\n")
    });
    refused("unknown needs", &unknown, "define job");
    let all: Vec<String> = (0..2000).map(|number| format!("j{number}")).collect();
    let dense = all.iter().map(|name| format!("{name}: {{stage: ci, script: [x]}}\n")).collect::<String>();
    let needs = all.join(", ");
    let dense = format!(
        "{HEAD}{dense}{}",
        (0..85).map(|n| format!("k{n}: {{stage: ci, script: [x], needs: [{needs}]}}\n")).collect::<String>()
    );
    assert!(read("dense needs", &dense).plan.is_some());
    let values: Vec<String> = (0..256).map(|number| format!("'{number}'")).collect();
    let matrix = format!("parallel: {{matrix: [{{A: [{}]}}]}}", values.join(","));
    let dense = (0..39).map(|n| {
        let needs: Vec<String> = (0..n).map(|m| format!("m{m}")).collect();
        format!("m{n}: {{stage: ci, script: [x], {matrix}, needs: [{}]}}\n", needs.join(","))
    });
    refused(
        "matrices that need each other",
        &format!("{HEAD}{}", dense.collect::<String>()),
        "need fewer jobs",
    );
    let shared = numbered(JOBS, HEAD, "", |number| {
        format!("j{number}: {{stage: ci, script: [x], cache: {{key: k{number}, paths: [p]}}}}\n")
    });
    read("one path in many caches", &shared);
    let chained = numbered(
        JOBS - 1,
        &format!("{HEAD}j: {{stage: ci, script: [x], cache: {{paths: [p]}}}}\n"),
        "",
        |number| {
            format!(
                "j{number}: {{stage: ci, script: [x], cache: {{key: k{number}, paths: [p]}}, needs: [j{}]}}\n",
                number.max(1) - 1
            )
        },
    );
    let chained = chained.replace("paths: [p]}, needs: [j0]}\nj1:", "paths: [p]}}\nj1:");
    assert!(read("one path in a chain of caches", &chained).plan.is_some());
    let names = |from: usize| {
        (from..from + 30_000).map(|number| format!("  - {{name: c{number}}}\n")).collect::<String>()
    };
    let caches = format!(
        "version: v1\nstages: [ci]\ndefault:\n  target: linux\n  cache:\n{}job:\n  stage: ci\n  script: [x]\n  cache:\n{}",
        names(0),
        names(30_000)
    );
    refused("many named caches", &caches, "add required key paths");
}

#[test]
fn inheritance_and_references_do_not_explode() {
    let long = "x".repeat(FULL / 4);
    refused("a long value", &format!("{HEAD}{JOB}variables: {{A: '{long}'}}\n"), "shorten the value");
    let heavy = numbered(JOBS - 1, &format!("{HEAD}.t: {{stage: ci, script: ['{long}']}}\n"), "", |number| {
        format!("j{number}: {{extends: .t}}\n")
    });
    refused("a heavy template", &heavy, "inherit less");
    let default: String = (0..20).map(|number| format!("  A{number}: {}\n", "x".repeat(100_000))).collect();
    let default = numbered(JOBS, &format!("{HEAD}variables:\n{default}"), "", |number| {
        format!("j{number}: {{stage: ci, script: [x]}}\n")
    });
    refused("heavy variables", &default, "inherit less");
    let small: String = (0..1000).map(|number| format!("  A{number}: x\n")).collect();
    let many = |jobs: usize| {
        let head = format!("{HEAD}variables:\n{small}");
        numbered(jobs, &head, "", |number| format!("j{number}: {{stage: ci, script: [x]}}\n"))
    };
    assert!(read("many small variables", &many(200)).plan.is_some());
    refused("too many small variables", &many(JOBS), "inherit less");
    let deep = |number| format!("    a{number}: {}x{}\n", "{a: ".repeat(55), "}".repeat(55));
    let deep =
        numbered(VALUES / 120, &format!("{HEAD}.t:\n  stage: ci\n  script: [x]\n  invariant:\n"), "", deep);
    let inherit = |jobs: usize| {
        let jobs = (0..jobs).map(|number| format!("j{number}: {{extends: .t, invariant: {{b: c}}}}\n"));
        format!("{deep}{}", jobs.collect::<String>())
    };
    assert!(read("a deep invariant", &inherit(1)).plan.is_some());
    refused("a deep invariant many times", &inherit(1000), "inherit less");
    let steps = "x,".repeat(VALUES / 2);
    let steps = |jobs: usize| {
        let jobs = (0..jobs).map(|number| format!("j{number}: {{extends: .t}}\n"));
        format!("{HEAD}.t: {{stage: ci, script: [{steps}]}}\n{}", jobs.collect::<String>())
    };
    assert!(read("many steps", &steps(1)).plan.is_some());
    refused("many steps many times", &steps(1000), "inherit less");
    let chain = numbered(JOBS - 1, HEAD, JOB, |number| match number {
        0 => ".t0: {variables: {A0: x}}\n".to_owned(),
        _ => format!(".t{number}: {{extends: .t{}, variables: {{A{number}: x}}}}\n", number - 1),
    });
    refused("a long chain of extends", &chain, "shorten the chain");
    let backwards =
        numbered(JOBS - 1, HEAD, JOB, |number| format!(".t{number}: {{extends: .t{}}}\n", number + 1));
    refused("a long chain backwards", &backwards, "shorten the chain");
    let wide = numbered(VALUES - 50, &format!("{HEAD}{JOB}.t: {{}}\n.u: {{extends: ["), "]}\n", |_| {
        ".t,".to_owned()
    });
    assert!(read("one parent many times", &wide).plan.is_some());
    let mut doubling = format!("{HEAD}{JOB}variables:\n  A0: xx\n");
    for number in 1..5000 {
        let _ = writeln!(doubling, "  A{number}: $A{0}$A{0}", number - 1);
    }
    refused("references that double", &doubling, "shorten the value");
    let value = "x".repeat(100_000);
    let fan = numbered(VALUES / 2 - 50, &format!("{HEAD}{JOB}variables:\n  A: {value}\n"), "", |number| {
        format!("  B{number}: $A\n")
    });
    refused("references that fan out", &fan, "refer to less");
    let chain = numbered(VALUES / 2 - 50, &format!("{HEAD}{JOB}variables:\n"), "", |number| {
        format!("  A{number}: $A{}\n", number + 1)
    });
    assert!(read("a long chain of references", &chain).plan.is_some());
    let count = chain.lines().count() - 5;
    let cycle = chain.replace(&format!("$A{}\n", count), "$A0\n");
    refused("a long cycle of references", &cycle, "resolve variable cycle");
    for (what, piece) in [("dollars", "$"), ("references that nothing fills", "$A")] {
        let value = piece.repeat(120_000 / piece.len());
        let values = numbered(usize::MAX, &format!("{HEAD}{JOB}variables:\n"), "", |number| {
            format!("  B{number}: \"{value}\"\n")
        });
        read(what, &values);
        let key = piece.repeat(FULL / piece.len() / 2);
        read(what, &format!("{HEAD}job: {{stage: ci, script: [x], cache: {{paths: [x], key: {key}}}}}\n"));
    }
    refused(
        "references that nothing fills in many jobs",
        &format!(
            "{HEAD}variables: {{B: \"{}\"}}\n{}",
            "$A".repeat(60_000),
            (0..100).map(|number| format!("j{number}: {{stage: ci, script: [x]}}\n")).collect::<String>()
        ),
        "refer to less",
    );
    let matrix = numbered(100, HEAD, "", |number| {
        format!(
            "m{number}: {{stage: ci, script: [x], parallel: {{matrix: [{{A: [a,b,c,d,e,f,g,h], B: [a,b,c,d,e,f,g,h], C: [a,b,c,d]}}]}}}}\n"
        )
    });
    refused("many matrices", &matrix, "the workflow has more than 10000 jobs");
    let keys: String = (0..1000).map(|number| format!("A{number}: [a, b], ")).collect();
    refused(
        "a matrix of all combinations",
        &format!("{HEAD}m: {{stage: ci, script: [x], parallel: {{matrix: [{{{keys}}}]}}}}\n"),
        "list fewer values",
    );
}

#[test]
fn wrong_types_everywhere() {
    let values = [
        "",
        "~",
        "true",
        "1",
        "-1",
        "1.5",
        ".inf",
        "\"\"",
        "\" \"",
        "text",
        "[]",
        "[[]]",
        "[{}]",
        "[~]",
        "[1, x]",
        "{}",
        "{a: b}",
        "{a: {b: [c]}}",
        "{~: ~}",
        "[{a: b}, [c], d]",
        "\"\\0\"",
        "\"\\n\"",
        "|\n        a\n        b",
        "'$'",
        "'${'",
        "2026-01-01",
    ];
    let roots = RootKey::ALL.iter().map(|key| key.name());
    let keys: Vec<&str> = roots.chain(Keyword::ALL.iter().map(|keyword| keyword.name())).collect();
    let inner = [
        "local",
        "rules",
        "if",
        "A",
        "job",
        "optional",
        "name",
        "build",
        "context",
        "args",
        "entrypoint",
        "pull_policy",
        "alias",
        "ready",
        "port",
        "command",
        "ref",
        "file",
        "paths",
        "key",
        "prefix",
        "files",
        "template",
        "fallback_keys",
        "policy",
        "when",
        "max",
        "matrix",
        "step",
    ];
    for value in values {
        for key in &keys {
            for text in [
                format!("{key}: {value}\n"),
                format!("{HEAD}job:\n  stage: ci\n  script: [x]\n  {key}: {value}\n"),
                format!("default:\n  {key}: {value}\n"),
            ] {
                let loaded = load("w.yml", &text, &NoFiles);
                assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors(), "{text}");
                let _ = loaded.diagnostics.render_excerpt(true);
            }
            for inner in inner {
                for text in [
                    format!("{HEAD}job:\n  stage: ci\n  script: [x]\n  {key}:\n    {inner}: {value}\n"),
                    format!("{HEAD}job:\n  stage: ci\n  script: [x]\n  {key}:\n    - {inner}: {value}\n"),
                ] {
                    let loaded = load("w.yml", &text, &NoFiles);
                    assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors(), "{text}");
                }
            }
        }
    }
}

struct Endless;

impl Loader for Endless {
    /// Every file includes two others that nobody has seen yet.
    fn load(&self, path: &str) -> Result<String, LoadError> {
        let stem = path.trim_end_matches(".yml");
        Ok(format!("include: [{{local: {stem}a.yml}}, {{local: {stem}b.yml}}]\n.t{}: {{}}\n", stem.len()))
    }
}

#[test]
fn includes_without_end() {
    let text = format!("{HEAD}{JOB}include: [{{local: .loom/templates/x.yml}}]\n");
    let loaded = read_with("includes without end", &text, &Endless);
    assert!(loaded.plan.is_none());
}

struct Heavy;

impl Loader for Heavy {
    /// Every file is as large as it may be and includes another.
    fn load(&self, path: &str) -> Result<String, LoadError> {
        let stem = path.trim_end_matches(".yml");
        let include = format!("include: [{{local: {stem}a.yml}}, {{local: {stem}b.yml}}]\n");
        Ok(filled(&include, "# comment\n"))
    }
}

#[test]
fn heavy_includes() {
    let text = format!("{HEAD}{JOB}include: [{{local: .loom/templates/x.yml}}]\n");
    let loaded = read_with("heavy includes", &text, &Heavy);
    assert!(loaded.diagnostics.render_short().contains("include less"));
}

struct Small;

impl Loader for Small {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        Ok(format!(".t{}: {{script: [x]}}\n", path.len()))
    }
}

#[test]
fn many_includes() {
    let text = numbered(usize::MAX, &format!("{HEAD}{JOB}include:\n"), "", |number| {
        format!("- local: .loom/templates/{number}.yml\n")
    });
    refused("too many includes for any file", &text, "keys and values");
    let text = numbered(1001, &format!("{HEAD}{JOB}include:\n"), "", |number| {
        format!("- local: .loom/templates/{number}.yml\n")
    });
    let loaded = read_with("many includes", &text, &Small);
    assert!(loaded.diagnostics.render_short().contains("at most 1000 files"));
}

struct Full;

impl Loader for Full {
    /// Files that together have more keys and values than one may have.
    fn load(&self, _: &str) -> Result<String, LoadError> {
        Ok(numbered(20_000, ".t:\n  invariant:\n", "", |number| format!("    a{number}: [b]\n")))
    }
}

#[test]
fn full_includes() {
    let text = numbered(10, &format!("{HEAD}{JOB}include:\n"), "", |number| {
        format!("- local: .loom/templates/{number}.yml\n")
    });
    let loaded = read_with("full includes", &text, &Full);
    assert!(loaded.diagnostics.render_short().contains("more than 200000 keys and values"));
}
