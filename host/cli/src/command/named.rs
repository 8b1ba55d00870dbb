//! Names that somebody got wrong, and those that there are.

use loom_contract::error::{ErrorInfo, code};

/// How many names are listed.
const LISTED: usize = 20;

/// A kind of thing that is asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Job,
    Stage,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Stage => "stage",
        }
    }
}

/// The error that nothing of `kind` is called `name`, with all that `known` has, what is most like it first.
pub(crate) fn unknown<'k>(kind: Kind, name: &str, known: impl IntoIterator<Item = &'k str>) -> ErrorInfo {
    let word = kind.word();
    let what = if is_pattern(name) { "matches" } else { "is named" };
    let error = ErrorInfo::new(code::WORKFLOW_UNREADABLE, format!("no {word} {what} `{name}`"));
    let mut near: Vec<(f64, &str)> =
        known.into_iter().map(|known| (strsim::jaro_winkler(known, name), known)).collect();
    if near.is_empty() {
        return error;
    }
    let is_near = |(score, _): &(f64, &str)| *score > 0.8;
    let likeness = |(score, name): &(f64, &str)| if is_near(&(*score, name)) { *score } else { 0.0 };
    // The others stay in their order.
    near.sort_by(|one, other| likeness(other).total_cmp(&likeness(one)));
    let meant = match near.first().filter(|first| is_near(first)) {
        Some((_, meant)) => format!("did you mean `{meant}`? "),
        None => String::new(),
    };
    let names: Vec<&str> = near.iter().take(LISTED).map(|(_, name)| *name).collect();
    let more = match near.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more, which `loom run --local --dry-run` lists"),
    };
    let (noun, verb) = if near.len() == 1 { (word.to_owned(), "is") } else { (format!("{word}s"), "are") };
    error.with_hint(format!("{meant}the {noun} {verb} {}{more}", names.join(", ")))
}

/// Whether `name` stands for all names that it matches.
pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '[', '{'])
}
