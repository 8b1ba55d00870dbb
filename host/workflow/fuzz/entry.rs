//! What every text must bear. The fuzz targets call this, and so does the test `fuzz_smoke`, which needs no nightly
//! compiler. A broken law is a panic.

use std::collections::HashSet;

use loom_workflow::{LoadError, Loaded, Loader, NoFiles, Plan, load};

/// Reads `data` as a workflow that includes nothing.
#[allow(dead_code, reason = "each target calls one of them")]
pub(crate) fn reader(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text, &NoFiles);
    }
}

/// Reads `data` as a workflow and the files that it may include, which the byte 0xff parts: it is in no text. The first of
/// them is `.loom/templates/0.yml`.
#[allow(dead_code, reason = "each target calls one of them")]
pub(crate) fn resolver(data: &[u8]) {
    let texts: Result<Vec<&str>, _> = data.split(|byte| *byte == 0xff).map(std::str::from_utf8).collect();
    let Ok(texts) = texts else { return };
    if let Some((root, included)) = texts.split_first() {
        check(root, &Files(included));
    }
}

struct Files<'t>(&'t [&'t str]);

impl Loader for Files<'_> {
    fn load(&self, path: &str) -> Result<String, LoadError> {
        let name = path.strip_prefix(".loom/templates/").and_then(|path| path.strip_suffix(".yml"));
        let number: Option<usize> = name.and_then(|name| name.parse().ok());
        let text =
            number.and_then(|number| self.0.get(number)).ok_or_else(|| LoadError::new("no such file"))?;
        Ok((*text).to_owned())
    }
}

fn check(text: &str, loader: &dyn Loader) {
    let Loaded { plan, diagnostics, .. } = load("w.yml", text, loader);
    assert_eq!(plan.is_none(), diagnostics.has_errors(), "a plan, or errors");
    for item in &diagnostics {
        assert!(item.line > 0 && item.column > 0, "{item:?}");
        let line = item.to_string();
        assert!(!line.contains(|char: char| char.is_control()), "{line:?}");
    }
    let _ = diagnostics.render_excerpt(true);
    let again = load("w.yml", text, loader);
    assert_eq!(diagnostics.render_short(), again.diagnostics.render_short(), "the same errors twice");
    if let Some(plan) = plan {
        let first = check_plan(&plan);
        let second = again.plan.map(|plan| check_plan(&plan));
        assert_eq!(Some(first), second, "the same graph twice");
    }
}

/// Gives the graph as text.
fn check_plan(plan: &Plan) -> String {
    assert!(!plan.jobs.is_empty());
    let mut ids = HashSet::new();
    for job in &plan.jobs {
        assert!(ids.insert(job.id.as_str()), "two jobs called {}", job.id.as_str());
        assert!(job.stage < plan.stages.len());
        assert!(!job.script.is_empty());
        assert!(plan.explain(job.id.as_str()).is_some());
        for need in &job.needs {
            let needed = plan.jobs.get(*need).expect("a need is a job");
            assert!(needed.stage <= job.stage, "{} waits for a later stage", job.id.as_str());
        }
        assert!(job.artifacts_from.iter().all(|from| job.needs.contains(from)));
    }
    let mut state = vec![0u8; plan.jobs.len()];
    for job in 0..plan.jobs.len() {
        assert!(ends(plan, job, &mut state), "a cycle");
    }
    let _ = plan.not_executable().render_excerpt(false);
    let mut graph = plan.graph_ir();
    let text = serde_json::to_string(&graph).expect("a graph is JSON");
    // What reads JSON here rounds some fractions otherwise than what wrote them, and only an invariant has fractions.
    graph.nodes.iter_mut().for_each(|node| node.invariant = None);
    let again = serde_json::to_string(&graph).expect("a graph is JSON");
    assert_eq!(serde_json::from_str(&again).ok(), Some(graph), "a graph reads back");
    text
}

/// Whether the needs of `job` come to an end.
fn ends(plan: &Plan, job: usize, state: &mut [u8]) -> bool {
    const OPEN: u8 = 1;
    const DONE: u8 = 2;
    let mut path = vec![(job, 0)];
    while let Some((at, next)) = path.pop() {
        if next == 0 && std::mem::replace(&mut state[at], OPEN) == DONE {
            state[at] = DONE;
            continue;
        }
        let Some(need) = plan.jobs[at].needs.get(next) else {
            state[at] = DONE;
            continue;
        };
        path.push((at, next + 1));
        match state[*need] {
            OPEN => return false,
            DONE => {}
            _ => path.push((*need, 0)),
        }
    }
    true
}
