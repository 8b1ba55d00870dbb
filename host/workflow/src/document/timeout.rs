//! `timeout`: how long a job, and each of its steps, may take.

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::value::Reader;
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Node};

keys! {
    /// The keys of `timeout`.
    pub(super) enum TimeoutKey {
        Job = "job",
        Step = "step",
    }
}
/// The longest time, in milliseconds: thirty days.
const MOST_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// What was typed under `timeout`: a lone duration is the job's.
#[derive(Debug, Clone)]
pub(crate) struct Timeout {
    pub(crate) span: Span,
    /// Milliseconds.
    pub(crate) job: Field<Spanned<u64>>,
    /// Milliseconds.
    pub(crate) step: Field<Spanned<u64>>,
    is_mapping: bool,
}

impl Timeout {
    /// Puts `nearer` over this one. Only two mappings are merged.
    pub(super) fn merge(&mut self, nearer: &Self) {
        if !(self.is_mapping && nearer.is_mapping) {
            self.clone_from(nearer);
            return;
        }
        self.span = nearer.span;
        self.job.replace(&nearer.job);
        self.step.replace(&nearer.step);
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Timeout> {
    let mut timeout = Timeout { span: node.span, job: Field::Absent, step: Field::Absent, is_mapping: false };
    let Kind::Map(entries) = &node.kind else {
        timeout.job = Field::Given(read_duration(node, at, "timeout", reader)?);
        return Some(timeout);
    };
    timeout.is_mapping = true;
    if entries.is_empty() {
        reader.error(node.span, at, "set timeout to a duration, or to {job: <duration>, step: <duration>}");
        return None;
    }
    for entry in entries {
        let place = at.key(&entry.key);
        match TimeoutKey::of(&entry.key) {
            Some(TimeoutKey::Job) => timeout.job = read_duration(&entry.value, &place, "job", reader).into(),
            Some(TimeoutKey::Step) => {
                timeout.step = read_duration(&entry.value, &place, "step", reader).into()
            }
            None => reader.unknown_key(entry, &place, "timeout", &written(TimeoutKey::KEYS)),
        }
    }
    Some(timeout)
}

/// A duration in milliseconds, at least one.
pub(super) fn read_duration(
    node: &Node,
    at: &Pointer<'_>,
    what: &str,
    reader: &mut Reader<'_>,
) -> Option<Spanned<u64>> {
    let hint = format!("set {what} to a duration with units, as in 90s, 10m or 1h30m");
    let text = match &node.kind {
        // `10` is a number to YAML, and the likeliest mistake: it deserves the plain hint.
        Kind::Scalar(scalar) => &scalar.text,
        Kind::Refused => return None,
        Kind::List(_) | Kind::Map(_) => {
            reader.error(node.span, at, hint);
            return None;
        }
    };
    match parse(text) {
        Some(0) => reader.error(node.span, at, format!("{hint}; {} is no time at all", quoted(text))),
        Some(ms) if ms <= MOST_MS => return Some(Spanned::new(ms, node.span)),
        Some(_) => reader.error(node.span, at, format!("set {what} to at most 720h")),
        None => reader.error(node.span, at, hint),
    }
    None
}

/// Reads `1h30m` and the like: whole numbers with a unit each, the larger units first.
fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    let mut below = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let (unit, after) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)]
            .into_iter()
            .find_map(|(name, unit)| Some((unit, after.strip_prefix(name)?)))?;
        if unit >= below {
            return None;
        }
        below = unit;
        total = total.saturating_add(number.parse::<u64>().ok()?.saturating_mul(unit));
        rest = after;
    }
    (below != u64::MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_from_large_to_small() {
        for (text, ms) in [
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("90s", 90_000),
            ("250ms", 250),
            ("1s5ms", 1005),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        for text in ["", "10", "m", "1.5h", "-1s", "5s1m", "1m1m", "10 m", "1d", "99999999999999999999s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
