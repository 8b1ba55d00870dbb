//! What may be recorded and shown: values in which nothing is left that must not be seen.
//!
//! ```text
//!  any value ──> Redacted::new, with a Mask ──> Redacted<T> ──> record, receipt, terminal
//!  output of a process ──> masked as a stream, before it is cut ──> OutputBytes ──┘
//! ```
//!
//! There is no other way to make a [`Redacted`]. `#[derive(Redact)]` reaches every field of a type: texts wherever they
//! stand, the keys of maps too, and numbers where a program's own JSON may hold them. What the contract itself says is left
//! as it is, also where a value happens to be the same: names of fields, words of enums, ids, times and what Loom counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::ops::{Deref, Range};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;

pub use loom_contract_derive::Redact;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::id::{JobId, PipelineId, RunId, StepIndex};
use crate::time::Timestamp;

/// What knows which values must not be seen.
pub trait Mask: Debug + Send + Sync {
    /// Whether there is no such value: nothing has to be looked at.
    fn is_empty(&self) -> bool;

    /// `text` with all values masked, each by words in brackets; borrowed where there are none.
    fn text<'t>(&self, text: &'t str) -> Cow<'t, str>;

    /// `bytes` with all values masked; borrowed where there are none.
    fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]>;
}

/// What can be redacted.
pub trait Redact {
    /// Masks everything in it that must not be seen.
    fn redact(&mut self, mask: &dyn Mask);
}

/// A value that has been redacted: what records and terminals take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted<T>(T);

impl<T: Redact> Redacted<T> {
    /// `value`, in which `mask` masks what must not be seen. Costs nothing where it knows of nothing.
    pub fn new(mut value: T, mask: &dyn Mask) -> Self {
        if !mask.is_empty() {
            value.redact(mask);
        }
        Self(value)
    }
}

impl<T> Redacted<T> {
    /// The value itself, to be taken apart by what received it redacted.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Redacted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Display> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize> Serialize for Redacted<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Output of a process that was masked as a stream: a value may stand in two reads, so that it cannot be masked later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputBytes(Arc<[u8]>);

impl OutputBytes {
    /// Bytes that were masked when they were read. Only what masks streams may say so.
    pub fn assume_masked(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }

    /// A part of them: what was masked stays so, wherever it is cut. Nothing where there is no such part.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        Self(self.0.get(range).unwrap_or_default().into())
    }

    /// These, and `next` behind them.
    #[must_use]
    pub fn followed_by(&self, next: &Self) -> Self {
        Self([&self.0[..], &next.0[..]].concat().into())
    }
}

impl Deref for OutputBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Words of the contract, and what Loom counts and measures: there is nothing to mask in them.
macro_rules! nothing_to_mask {
    ($($type:ty),*) => { $(
        impl Redact for $type {
            fn redact(&mut self, _: &dyn Mask) {}
        }
    )* };
}

nothing_to_mask!(bool, i32, u16, u32, u64, usize);
nothing_to_mask!(JobId, PipelineId, RunId, StepIndex, Timestamp, OutputBytes);

impl Redact for String {
    fn redact(&mut self, mask: &dyn Mask) {
        if let Cow::Owned(masked) = mask.text(self) {
            *self = masked;
        }
    }
}

/// A text that is a part of the program is no value of anybody's.
impl Redact for Cow<'static, str> {
    fn redact(&mut self, mask: &dyn Mask) {
        if let Self::Owned(text) = self {
            text.redact(mask);
        }
    }
}

impl Redact for PathBuf {
    fn redact(&mut self, mask: &dyn Mask) {
        if let Cow::Owned(masked) = mask.bytes(self.as_os_str().as_bytes()) {
            *self = OsString::from_vec(masked).into();
        }
    }
}

impl<T: Redact> Redact for Option<T> {
    fn redact(&mut self, mask: &dyn Mask) {
        self.iter_mut().for_each(|value| value.redact(mask));
    }
}

impl<T: Redact> Redact for Box<T> {
    fn redact(&mut self, mask: &dyn Mask) {
        (**self).redact(mask);
    }
}

impl<T: Redact> Redact for Vec<T> {
    fn redact(&mut self, mask: &dyn Mask) {
        self.iter_mut().for_each(|value| value.redact(mask));
    }
}

impl<T: Redact + Clone> Redact for Arc<[T]> {
    fn redact(&mut self, mask: &dyn Mask) {
        Arc::make_mut(self).iter_mut().for_each(|value| value.redact(mask));
    }
}

impl<V: Redact> Redact for BTreeMap<JobId, V> {
    fn redact(&mut self, mask: &dyn Mask) {
        self.values_mut().for_each(|value| value.redact(mask));
    }
}

impl<V: Redact> Redact for BTreeMap<String, V> {
    fn redact(&mut self, mask: &dyn Mask) {
        self.values_mut().for_each(|value| value.redact(mask));
        if self.keys().any(|key| is_masked(key, mask)) {
            for (key, value) in std::mem::take(self) {
                let key = free(&mask.text(&key), |key| self.contains_key(key));
                self.insert(key, value);
            }
        }
    }
}

impl Redact for Map<String, Value> {
    fn redact(&mut self, mask: &dyn Mask) {
        self.values_mut().for_each(|value| value.redact(mask));
        if self.keys().any(|key| is_masked(key, mask)) {
            for (key, value) in std::mem::take(self) {
                let key = free(&mask.text(&key), |key| self.contains_key(key));
                self.insert(key, value);
            }
        }
    }
}

impl Redact for Value {
    fn redact(&mut self, mask: &dyn Mask) {
        match self {
            Self::String(text) => text.redact(mask),
            Self::Array(values) => values.redact(mask),
            Self::Object(map) => map.redact(mask),
            // A value of digits alone is a number where a program writes it into JSON. That a count happens to hold the
            // digits of a short one somewhere tells nothing, and it stays a count.
            Self::Number(number) => {
                if let Cow::Owned(masked) = mask.text(&number.to_string())
                    && masked.trim_start_matches('-').starts_with('[')
                    && masked.ends_with(']')
                {
                    *self = Self::String(masked);
                }
            }
            Self::Null | Self::Bool(_) => {}
        }
    }
}

fn is_masked(text: &str, mask: &dyn Mask) -> bool {
    matches!(mask.text(text), Cow::Owned(_))
}

/// `key`, or with a number after it where another value has become the same: no value gets lost.
fn free(key: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u64..).map(|number| format!("{key} ({number})"));
    std::iter::once(key.to_owned()).chain(numbered).find(|key| !is_taken(key)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Masks each `hush`, and each 4711.
    #[derive(Debug)]
    struct Hush;

    impl Mask for Hush {
        fn is_empty(&self) -> bool {
            false
        }

        fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
            let masked = text.replace("hush", "[X]").replace("4711", "[Y]");
            if masked == text { text.into() } else { masked.into() }
        }

        fn bytes<'t>(&self, bytes: &'t [u8]) -> Cow<'t, [u8]> {
            match self.text(str::from_utf8(bytes).unwrap_or_default()) {
                Cow::Borrowed(_) => bytes.into(),
                Cow::Owned(masked) => masked.into_bytes().into(),
            }
        }
    }

    #[test]
    fn values_are_masked_wherever_json_can_hold_them() {
        let value = json!({
            "hush": 1, "[X]": 2, "a hush b": { "hush": ["hush", [{ "k": "hushhush" }]] },
            "number": 4711, "negative": -4711, "float": 4711.5, "longer": 147_110, "none": [null, true, 12],
        });
        let expected = json!({
            "[X]": 1, "[X] (2)": 2, "a [X] b": { "[X]": ["[X]", [{ "k": "[X][X]" }]] },
            "number": "[Y]", "negative": "-[Y]", "float": 4711.5, "longer": 147_110, "none": [null, true, 12],
        });
        assert_eq!(*Redacted::new(value, &Hush), expected);
    }

    #[test]
    fn words_of_the_contract_stay_and_those_of_others_do_not() {
        #[derive(Debug, PartialEq, Redact)]
        enum Kind {
            Hush,
            Named { hush: String, of: Cow<'static, str> },
            Of(Box<Option<PathBuf>>, Arc<[String]>, JobId),
        }
        let job = JobId::new("hush").unwrap();
        let own: Cow<'static, str> = "hush".into();
        let named =
            |hush: &str, of: &Cow<'static, str>| Kind::Named { hush: hush.to_owned(), of: of.clone() };
        assert_eq!(*Redacted::new(Kind::Hush, &Hush), Kind::Hush);
        assert_eq!(*Redacted::new(named("hush", &own), &Hush), named("[X]", &own));
        let (others, masked) = (Cow::Owned("hush".to_owned()), Cow::Owned("[X]".to_owned()));
        assert_eq!(*Redacted::new(named("-", &others), &Hush), named("-", &masked));
        let of = |text: &str| Kind::Of(Box::new(Some(text.into())), [text.to_owned()].into(), job.clone());
        assert_eq!(*Redacted::new(of("a/hush"), &Hush), of("a/[X]"));
        let jobs = BTreeMap::from([(job.clone(), "hush".to_owned())]);
        assert_eq!(*Redacted::new(jobs, &Hush), BTreeMap::from([(job, "[X]".to_owned())]));
    }
}
