//! Identifiers, checked once when made: a job's id becomes a folder name.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind}: `{text}` does not match {pattern}")]
pub struct InvalidId {
    /// What was wanted, as in "job id".
    pub kind: &'static str,
    /// The pattern that a valid one matches.
    pub pattern: &'static str,
    /// What was given.
    pub text: String,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $pattern:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The pattern that every identifier of this kind matches.
            pub const PATTERN: &'static str = $pattern;

            /// Checks `text` against [`Self::PATTERN`].
            ///
            /// # Errors
            /// The text does not match.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId { kind: $kind, pattern: $pattern, text: text.to_owned() })
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_id! {
    /// A job that can run, as its folder is named.
    JobId, "job id", "^[a-z][a-z0-9_-]{0,63}$", is_job_id
}

text_id! {
    /// One run of a workflow: `loom-run-local-<nanoseconds since 1970>`.
    RunId, "run id", "^loom-run-local-[0-9]{1,20}$", is_run_id
}

text_id! {
    /// The pipeline of a run: `loom-local-<nanoseconds since 1970>`, with the run's own stamp.
    PipelineId, "pipeline id", "^loom-local-[0-9]{1,20}$", is_pipeline_id
}

fn is_job_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

fn is_stamped(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|ns| (1..=20).contains(&ns.len()) && ns.bytes().all(|b| b.is_ascii_digit()))
}

fn is_run_id(text: &str) -> bool {
    is_stamped(text, "loom-run-local-")
}

fn is_pipeline_id(text: &str) -> bool {
    is_stamped(text, "loom-local-")
}

/// The two names of one run, which share a nanosecond stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIds {
    /// The run's id.
    pub run_id: RunId,
    /// The pipeline's id.
    pub pipeline_id: PipelineId,
}

impl RunIds {
    /// Names a run by `stamp`, in nanoseconds since 1970-01-01T00:00:00Z.
    pub fn from_stamp(stamp: u64) -> Self {
        Self {
            run_id: RunId(format!("loom-run-local-{stamp}").into()),
            pipeline_id: PipelineId(format!("loom-local-{stamp}").into()),
        }
    }
}

/// The position of a step in its job's `script`, from 1. Shown with two digits or more: `01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepIndex(u32);

impl StepIndex {
    /// The step at `position` in `script`, counted from 0.
    pub fn at(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX - 1) + 1)
    }

    /// Its position in `script`, counted from 0.
    pub fn position(self) -> usize {
        (self.0 - 1) as usize
    }

    /// The step's number, from 1.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StepIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

impl Serialize for StepIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StepIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        match text.parse::<u32>() {
            Ok(number) if number > 0 && format!("{number:02}") == text => Ok(Self(number)),
            _ => Err(serde::de::Error::custom(format!("not a step index: `{text}`"))),
        }
    }
}

impl JsonSchema for StepIndex {
    fn schema_name() -> Cow<'static, str> {
        "StepIndex".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(0[1-9]|[1-9][0-9]+)$",
            "description": "Position of the step in its job's script, from 01."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_are_folder_names() {
        for good in ["a", "build", "unit-test_2", &"a".repeat(64)] {
            assert!(JobId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", ".template", "a/b", "..", "1a", "a b", "ä", &"a".repeat(65)] {
            assert!(JobId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_stamp_names_run_and_pipeline() {
        let ids = RunIds::from_stamp(1_772_050_684_042_246_000);
        assert_eq!(ids.run_id.as_str(), "loom-run-local-1772050684042246000");
        assert_eq!(ids.pipeline_id.as_str(), "loom-local-1772050684042246000");
        assert_eq!(RunId::new(ids.run_id.as_str()).as_ref(), Ok(&ids.run_id));
    }

    #[test]
    fn steps_count_from_one_with_two_digits() {
        assert_eq!(StepIndex::at(0).to_string(), "01");
        assert_eq!(StepIndex::at(11).to_string(), "12");
        assert_eq!(StepIndex::at(122).to_string(), "123");
        assert_eq!(serde_json::from_str::<StepIndex>("\"07\"").map(StepIndex::position).ok(), Some(6));
        assert!(serde_json::from_str::<StepIndex>("\"7\"").is_err());
        assert!(serde_json::from_str::<StepIndex>("\"00\"").is_err());
    }
}
