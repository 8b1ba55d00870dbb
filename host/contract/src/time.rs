//! Points in time, as they stand on disk.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time: RFC 3339 in UTC with nine digits after the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The time `nanos` nanoseconds after 1970-01-01T00:00:00Z; the last one that a calendar knows where that is later.
    pub fn from_unix_nanos(nanos: u64) -> Self {
        Self(jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z; 0 for times before.
    pub fn unix_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanosecond()).unwrap_or(0)
    }

    /// Whole milliseconds from `earlier` to this time; 0 where it is not earlier.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.unix_nanos().saturating_sub(earlier.unix_nanos()) / 1_000_000
    }

    /// The compact form used in file names: `20260307T064000Z`.
    pub fn basic_iso(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%SZ").to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}Z$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_digits_always() {
        let ts = Timestamp::from_unix_nanos(1_772_865_600_000_000_000);
        assert_eq!(ts.to_string(), "2026-03-07T06:40:00.000000000Z");
        assert_eq!(ts.basic_iso(), "20260307T064000Z");
        let back: Result<Timestamp, _> = serde_json::from_str("\"2026-03-07T06:40:00.123456789Z\"");
        assert_eq!(back.map(|t| t.unix_nanos()).ok(), Some(1_772_865_600_123_456_789));
    }
}
