//! What must hold for every workflow.

use loom_contract::graph_ir::GraphIr;
use loom_workflow::{LoadError, Loader, NoFiles, load};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

/// A value as it is written: leaves are YAML in one line.
#[derive(Debug, Clone)]
enum Value {
    Leaf(&'static str),
    Map(Vec<(String, Value)>),
}

/// Writes `value`, with the entries of every mapping turned and mirrored as `orders` say.
fn write(value: &Value, orders: &mut impl Iterator<Item = (usize, bool)>) -> String {
    match value {
        Value::Leaf(text) => (*text).to_owned(),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            if let (Some((by, mirror)), false) = (orders.next(), entries.is_empty()) {
                let by = by % entries.len();
                entries.rotate_left(by);
                if mirror {
                    entries.reverse();
                }
            }
            let entries: Vec<_> =
                entries.into_iter().map(|(key, value)| format!("{key}: {}", write(value, orders))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn map(entries: &[(&str, &'static str)]) -> Value {
    Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), Value::Leaf(value))).collect())
}

/// Keywords with values that go together in any mixture.
fn keywords() -> impl Strategy<Value = Vec<(String, Value)>> {
    let choices: Vec<(&str, Vec<Value>)> = vec![
        ("script", vec![Value::Leaf("[make]"), Value::Leaf("[\"a\\nb\", c]")]),
        (
            "variables",
            vec![
                map(&[("A", "$B"), ("B", "x"), ("C", "\"${A}y\"")]),
                map(&[("D", "$$x"), ("A", "$UNKNOWN")]),
                map(&[("B", "\"1\"")]),
            ],
        ),
        (
            "image",
            vec![
                Value::Leaf("alpine"),
                Value::Leaf("null"),
                map(&[("name", "x"), ("user", "root"), ("pull_policy", "never")]),
            ],
        ),
        (
            "cache",
            vec![
                Value::Leaf("[]"),
                Value::Leaf("[{name: a, paths: [x]}]"),
                map(&[("paths", "[y]"), ("key", "{prefix: p, files: [f]}"), ("policy", "pull")]),
            ],
        ),
        ("artifacts", vec![map(&[("paths", "[o]"), ("when", "always"), ("name", "n")])]),
        ("timeout", vec![Value::Leaf("5m"), map(&[("job", "1h"), ("step", "1s")])]),
        ("retry", vec![map(&[("max", "2"), ("when", "timeout")])]),
        ("invariant", vec![map(&[("z", "1"), ("a", "[x]"), ("m", "{b: c}")])]),
        ("secrets", vec![map(&[("S", "{ref: 'env://S'}"), ("R", "{file: false, ref: 'env://R'}")])]),
        ("allow_failure", vec![Value::Leaf("true")]),
        ("parallel", vec![Value::Leaf("{matrix: [{M: [a, b], L: [c]}]}")]),
        ("extends", vec![Value::Leaf(".t"), Value::Leaf("[.u, .t]"), Value::Leaf(".u")]),
    ];
    let picks: Vec<_> = choices
        .into_iter()
        .map(|(key, values)| {
            proptest::option::weighted(0.4, select(values))
                .prop_map(move |value| value.map(|value| (key.to_owned(), value)))
        })
        .collect();
    picks.prop_map(|picks| picks.into_iter().flatten().collect())
}

fn workflow() -> impl Strategy<Value = Value> {
    let jobs = proptest::collection::vec((keywords(), select(vec!["one", "two"]), any::<Index>()), 1..5);
    let templates = (keywords(), keywords());
    (jobs, templates).prop_map(|(jobs, (t, u))| {
        let without_extends = |entries: Vec<(String, Value)>| {
            Value::Map(entries.into_iter().filter(|(key, _)| key != "extends").collect())
        };
        let mut root = vec![
            ("version".to_owned(), Value::Leaf("v1")),
            ("stages".to_owned(), Value::Leaf("[one, two]")),
            ("variables".to_owned(), map(&[("ROOT", "r"), ("B", "root")])),
            ("default".to_owned(), map(&[("target", "linux"), ("variables", "{E: $ROOT}")])),
            (".t".to_owned(), without_extends(t)),
            (".u".to_owned(), without_extends(u)),
        ];
        for (number, (mut job, stage, needs)) in jobs.into_iter().enumerate() {
            job.push(("stage".to_owned(), Value::Leaf(stage)));
            if !job.iter().any(|(key, _)| key == "script") {
                job.push(("script".to_owned(), Value::Leaf("[x]")));
            }
            if number > 0 {
                let needs = ["[j0]", "[]", "[{job: j0, optional: true}]", "[{job: gone, optional: true}]"]
                    [needs.index(4)];
                job.push(("needs".to_owned(), Value::Leaf(needs)));
            }
            root.push((format!("j{number}"), Value::Map(job)));
        }
        Value::Map(root)
    })
}

fn orders() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((0usize..20, any::<bool>()), 40)
}

/// The graph without the order of jobs, which is that of the file and no law.
fn unordered(mut graph: GraphIr) -> GraphIr {
    graph.nodes.sort_by(|a, b| a.id.cmp(&b.id));
    graph.edges.sort_by(|a, b| (&a.to, &a.from).cmp(&(&b.to, &b.from)));
    graph
}

fn compile(text: &str) -> Result<GraphIr, String> {
    let loaded = load("w.yml", text, &NoFiles);
    loaded.plan.map(|plan| plan.graph_ir()).ok_or_else(|| loaded.diagnostics.render_short())
}

/// A workflow without inheritance, references to templates or matrices that says what `graph` says.
fn flat(graph: &GraphIr) -> serde_json::Value {
    let mut root = json!({ "version": "v1", "stages": graph.stages });
    for node in &graph.nodes {
        let mut job = serde_json::to_value(node).unwrap_or_default();
        let Some(keywords) = job.as_object_mut() else { continue };
        for key in ["id", "provider", "matrix", "image_options"] {
            keywords.remove(key);
        }
        let variables: serde_json::Map<_, _> =
            node.variables.iter().map(|pair| (pair.key.clone(), pair.value.clone().into())).collect();
        keywords.insert("variables".to_owned(), variables.into());
        let secrets: serde_json::Map<_, _> = node
            .secrets
            .iter()
            .map(|secret| {
                let (reference, file, required) = (&secret.reference, secret.file, secret.required);
                (secret.name.clone(), json!({ "ref": reference, "file": file, "required": required }))
            })
            .collect();
        keywords.insert("secrets".to_owned(), secrets.into());
        if let Some(options) = &node.image_options {
            let mut image = json!(options);
            image["name"] = json!(node.image);
            keywords.insert("image".to_owned(), image);
        }
        if let Some(timeout) = &node.timeout {
            let mut times = serde_json::Map::new();
            for (key, ms) in [("job", timeout.job_ms), ("step", timeout.step_ms)] {
                times.extend(ms.map(|ms| (key.to_owned(), format!("{ms}ms").into())));
            }
            keywords.insert("timeout".to_owned(), times.into());
        }
        let needs = graph.edges.iter().filter(|edge| edge.to == node.id);
        let needs: Vec<_> =
            needs.map(|edge| json!({ "job": edge.from, "artifacts": edge.artifacts })).collect();
        keywords.insert("needs".to_owned(), needs.into());
        root[node.id.as_str()] = job;
    }
    root
}

struct Anything(String);

impl Loader for Anything {
    fn load(&self, _: &str) -> Result<String, LoadError> {
        Ok(self.0.clone())
    }
}

/// Texts that are nearly workflows.
fn almost() -> impl Strategy<Value = String> {
    let pieces = vec![
        "version",
        "stages",
        "default",
        "include",
        "workflow",
        "variables",
        "job",
        ".t",
        "stage",
        "script",
        "needs",
        "extends",
        "image",
        "cache",
        "parallel",
        "matrix",
        "secrets",
        "services",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ", ",
        "\"",
        "'",
        "|",
        "|-\n",
        ">",
        "#",
        "&a ",
        "*a",
        "!!str ",
        "<<",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "$A",
        "${",
        "$$",
        "\t",
        "\u{feff}",
        "\0",
        "ä",
        "🦀",
        "~",
        "? ",
        "v1",
        "1",
        "true",
        "ci",
        "linux",
        "\r\n",
        "\u{85}",
        "\u{2028}",
        " ",
        "\\",
    ];
    proptest::collection::vec(select(pieces), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_keys_means_nothing(workflow in workflow(), one in orders(), other in orders()) {
        let first = write(&workflow, &mut one.into_iter());
        let second = write(&workflow, &mut other.into_iter());
        match (compile(&first), compile(&second)) {
            (Ok(a), Ok(b)) => prop_assert_eq!(unordered(a), unordered(b)),
            (Err(a), Err(b)) => {
                // Places differ; what is wrong does not.
                let rules = |text: &str| {
                    let mut rules: Vec<String> =
                        text.lines().map(|line| line.splitn(4, ':').nth(3).unwrap_or(line).to_owned()).collect();
                    rules.sort();
                    rules
                };
                prop_assert_eq!(rules(&a), rules(&b));
            }
            (a, b) => prop_assert!(false, "{first}\n{a:?}\n{second}\n{b:?}"),
        }
    }

    #[test]
    fn compiling_twice_gives_the_same_bytes(workflow in workflow()) {
        let text = write(&workflow, &mut std::iter::empty());
        let show = || {
            let loaded = load("w.yml", &text, &NoFiles);
            let graph = loaded.plan.map(|plan| serde_json::to_string(&plan.graph_ir()).unwrap_or_default());
            (graph, loaded.diagnostics.render_short(), loaded.diagnostics.render_excerpt(true))
        };
        prop_assert_eq!(show(), show());
    }

    #[test]
    fn graph_ir_reads_back(workflow in workflow()) {
        if let Ok(graph) = compile(&write(&workflow, &mut std::iter::empty())) {
            let text = serde_json::to_string(&graph).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str::<GraphIr>(&text).ok(), Some(graph));
        }
    }

    #[test]
    fn what_inheritance_gave_can_be_written_out(workflow in workflow()) {
        if let Ok(mut graph) = compile(&write(&workflow, &mut std::iter::empty())) {
            // JSON is YAML.
            let again = compile(&flat(&graph).to_string());
            // Written out, the jobs of a matrix are jobs like any other.
            graph.nodes.iter_mut().for_each(|node| node.matrix.clear());
            prop_assert_eq!(again, Ok(graph));
        }
    }

    #[test]
    fn resolving_what_was_resolved_changes_nothing(values in proptest::collection::vec("[$a{}A-D_ é]{0,12}", 4)) {
        let workflow = |values: &[String]| {
            let variables: Vec<_> = values
                .iter()
                .zip(["A", "B", "C", "D"])
                .map(|(value, name)| format!("  {name}: {}\n", serde_json::Value::from(value.as_str())))
                .collect();
            format!("version: v1\nstages: [ci]\nvariables:\n{}job: {{stage: ci, target: linux, script: [x]}}\n", variables.concat())
        };
        let resolved = |text: &str| -> Option<Vec<String>> {
            let graph = compile(text).ok()?;
            Some(graph.nodes[0].variables.iter().map(|variable| variable.value.clone()).collect())
        };
        // What still refers to one of them means what lies below the workflow, and would now mean the variable.
        let refers = |value: &String| {
            let mut own = false;
            loom_workflow::Template::fill(value, &mut |name| {
                own |= ["A", "B", "C", "D"].contains(&name);
                None
            });
            own
        };
        if let Some(once) = resolved(&workflow(&values))
            && !once.iter().any(refers)
        {
            prop_assert_eq!(resolved(&workflow(&once)), Some(once));
        }
    }

    #[test]
    fn no_text_breaks_the_reader(text in almost(), included in almost()) {
        let loaded = load("w.yml", &text, &Anything(included));
        prop_assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors());
        let _ = loaded.diagnostics.render_excerpt(true);
        for item in &loaded.diagnostics {
            prop_assert!(item.line > 0 && item.column > 0);
            prop_assert!(!item.to_string().contains(['\n', '\u{1b}', '\0']), "{:?}", item.to_string());
        }
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let loaded = load("w.yml", &text, &NoFiles);
        prop_assert!(loaded.plan.is_none());
        let _ = loaded.diagnostics.render_excerpt(false);
    }

    #[test]
    fn a_damaged_workflow_is_read_to_the_end(workflow in workflow(), at in any::<Index>(), length in 0usize..6, put in "[-:{}\\[\\]&*!|>#\"' \n\t$,]{0,3}") {
        let text = write(&workflow, &mut std::iter::empty());
        let chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let end = (at + length).min(chars.len());
        let damaged: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        let loaded = load("w.yml", &damaged, &NoFiles);
        prop_assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors());
        let _ = loaded.diagnostics.render_excerpt(false);
    }
}
