//! Script entries that are another command than they seem: YAML has changed them, or they are written for another CI.

use std::collections::HashSet;
use std::ops::Range;

use crate::diagnostic::{Problems, quoted};
use crate::document::Step;
use crate::source::{Sources, Span};
use crate::workflow::Workflow;
use crate::yaml::Style;

/// Warns of such entries.
pub(super) fn warn_of_other_commands(workflow: &Workflow, sources: &Sources, problems: &mut Problems) {
    // Jobs of one template or one matrix share their script.
    let mut seen = HashSet::new();
    for steps in workflow.jobs.iter().filter_map(|job| job.definition.script.as_ref()) {
        for (index, step) in steps.iter().enumerate() {
            if !seen.insert(step.span) {
                continue;
            }
            let mut warn = |at: Range<usize>, hint: String| {
                let pointer = workflow.owners.pointer(step.span, &format!("script/{index}"));
                problems.warning(Span::new(step.span.file, at), pointer, hint);
            };
            if let Some(hint) = changed_by_yaml(step, sources) {
                warn(step.span.start as usize..step.span.end as usize, hint);
            }
            if let Some(foreign) = foreign(&step.command) {
                let (start, end) = (step.span.start as usize, step.span.end as usize);
                let written = sources.text(step.span.file).get(start..end).unwrap_or("");
                let at = written.find(foreign.text).map_or(start, |at| start + at);
                warn(at..at + foreign.text.len(), foreign.hint());
            }
        }
    }
}

/// What to do about an entry of which YAML makes another command.
fn changed_by_yaml(step: &Step, sources: &Sources) -> Option<String> {
    let text = sources.text(step.span.file);
    let written = text.get(step.span.start as usize..step.span.end as usize)?;
    let (is_folded, is_plain) = (step.style == Style::Folded, step.style == Style::Plain);
    if is_plain && open_quote(&step.command) {
        let behind = text.get(step.span.end as usize..)?.lines().next()?;
        if behind.trim_start().starts_with('#') {
            return Some("quote the entry: YAML ends it before ` #`, where a comment begins".to_owned());
        }
    }
    if !(is_folded || is_plain) || step.command.contains('\n') {
        return None;
    }
    let lines: Vec<&str> = written.trim_end().lines().map(str::trim).collect();
    if is_plain && lines.iter().skip(1).any(|line| line.starts_with("- ")) {
        let hint = "indent the entries of the list alike: this one goes on in a line that begins with `- `";
        return Some(hint.to_owned());
    }
    let reads_lines =
        step.command.contains("<<") && !["<<<", "(("].iter().any(|other| step.command.contains(other));
    let here_document = lines.len() > 1 && reads_lines;
    let commented = is_folded
        && lines.iter().position(|line| line.starts_with('#')).is_some_and(|at| at + 1 < lines.len());
    let what = match (here_document, commented) {
        (true, _) => "the text of `<<` has no lines of its own",
        (_, true) => "the commands behind `#` are part of the comment",
        _ => return None,
    };
    Some(format!("begin the entry with `|` to keep its lines: YAML joins them into one, and {what}"))
}

/// An expression of another CI.
#[derive(Debug, PartialEq, Eq)]
struct Foreign<'a> {
    text: &'a str,
    of: &'static str,
}

/// How expressions begin and end, and whose they are. Each of them means nothing good to a shell.
const EXPRESSIONS: [(&str, &str, &str); 8] = [
    ("${{", "}}", "GitHub Actions"),
    ("$[[ ", "]]", "GitLab CI"),
    ("<< parameters.", ">>", "CircleCI"),
    ("<< pipeline.", ">>", "CircleCI"),
    ("${env.", "}", "Jenkins"),
    ("${params.", "}", "Jenkins"),
    ("$(Build.", ")", "Azure Pipelines"),
    ("$(System.", ")", "Azure Pipelines"),
];

impl Foreign<'_> {
    fn hint(&self) -> String {
        let Self { text, of } = self;
        let inside = text
            .trim_start_matches(['$', '{', '[', '(', '<', ' '])
            .trim_end_matches(['}', ']', ')', '>', ' ']);
        let instead = match inside {
            "github.sha" | "Build.SourceVersion" | "env.GIT_COMMIT" => "`$CI_COMMIT_SHA`".to_owned(),
            "github.ref_name" | "Build.SourceBranchName" | "env.BRANCH_NAME" | "pipeline.git.branch" => {
                "`$CI_COMMIT_REF_NAME`".to_owned()
            }
            "github.workspace" | "Build.SourcesDirectory" | "env.WORKSPACE" => "`$CI_PROJECT_DIR`".to_owned(),
            "github.job" => "`$CI_JOB_NAME`".to_owned(),
            "github.run_id" | "Build.BuildId" | "env.BUILD_ID" => "`$LOOM_RUN_ID`".to_owned(),
            _ => match inside.split_once('.') {
                Some(("secrets", name)) => {
                    format!(
                        "{}, which `secrets` of the job declares",
                        quoted(&format!("${}", name.to_uppercase()))
                    )
                }
                Some(("matrix", name)) => {
                    format!("{}, which `parallel.matrix` sets", quoted(&format!("${}", name.to_uppercase())))
                }
                Some(("env" | "vars" | "inputs" | "params" | "parameters", name)) if is_name(name) => {
                    format!("{}, which `variables` sets", quoted(&format!("${}", name.to_uppercase())))
                }
                _ => "a variable, as in `$NAME`".to_owned(),
            },
        };
        format!("write {instead}: {} is an expression of {of}, and steps run in a shell", quoted(text))
    }
}

fn is_name(text: &str) -> bool {
    text.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// The first expression in `command` that no single quotes keep from the shell. Here-documents may hold anything.
fn foreign(command: &str) -> Option<Foreign<'_>> {
    let mut quotes = Quotes::default();
    for (at, char) in command.char_indices() {
        let rest = &command[at..];
        let found = EXPRESSIONS.iter().find(|(start, ..)| rest.starts_with(start));
        if !quotes.single
            && !quotes.escaped
            && let Some((start, end, of)) = found
            && let Some(length) = rest[start.len()..].find(end)
            && !rest[..start.len() + length].contains('\n')
        {
            return Some(Foreign { text: &rest[..start.len() + length + end.len()], of });
        }
        if rest.starts_with("<<") && !quotes.single && !quotes.double {
            return None;
        }
        quotes.take(char);
    }
    None
}

/// Whether a quote of `command` stays open.
fn open_quote(command: &str) -> bool {
    let mut quotes = Quotes::default();
    command.chars().for_each(|char| quotes.take(char));
    quotes.single || quotes.double
}

/// Which quotes of a shell are open.
#[derive(Debug, Default)]
struct Quotes {
    single: bool,
    double: bool,
    escaped: bool,
}

impl Quotes {
    fn take(&mut self, char: char) {
        match char {
            _ if std::mem::take(&mut self.escaped) => {}
            '\\' if !self.single => self.escaped = true,
            '\'' if !self.double => self.single = !self.single,
            '"' if !self.single => self.double = !self.double,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_found_where_a_shell_would_read_them() {
        let found = |command| foreign(command).map(|foreign: Foreign<'_>| (foreign.text, foreign.of));
        assert_eq!(found("echo ${{ github.sha }} x"), Some(("${{ github.sha }}", "GitHub Actions")));
        assert_eq!(found("echo \"$[[ inputs.a ]]\""), Some(("$[[ inputs.a ]]", "GitLab CI")));
        assert_eq!(found("x << parameters.a >>"), Some(("<< parameters.a >>", "CircleCI")));
        assert_eq!(found("echo $(Build.BuildId)"), Some(("$(Build.BuildId)", "Azure Pipelines")));
        for command in [
            "grep '${{ x }}' file",
            "echo \\${{ x }}",
            "cat <<'E'\n${{ x }}\nE",
            "echo ${A:-{}} $((1<<2)) $(date)",
            "docker inspect -f '{{.Id}}' x",
            "[[ a == b ]] && echo ${a[0]}",
        ] {
            assert_eq!(found(command), None, "{command}");
        }
    }

    #[test]
    fn hints_name_what_to_write() {
        for (text, instead) in [
            ("${{ github.sha }}", "write `$CI_COMMIT_SHA`: "),
            ("${{ matrix.node }}", "write `$NODE`, which `parallel.matrix` sets: "),
            ("${{ secrets.TOKEN }}", "write `$TOKEN`, which `secrets` of the job declares: "),
            ("${env.GIT_COMMIT}", "write `$CI_COMMIT_SHA`: "),
            ("$[[ inputs.name ]]", "write `$NAME`, which `variables` sets: "),
            ("${{ hashFiles('a') }}", "write a variable, as in `$NAME`: "),
        ] {
            let hint = Foreign { text, of: "x" }.hint();
            assert!(hint.starts_with(instead), "{hint}");
        }
    }
}
