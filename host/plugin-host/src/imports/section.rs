//! `loom:host/section`.

use loom_contract::event::Metrics;
use loom_contract::status::SkipReason;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;

use crate::bindings::loom::host::section::Host;
use crate::bindings::loom::host::types::{Error, ErrorKind};
use crate::guest::Guest;
use crate::imports::types::error;

/// Bytes of metrics at most.
const METRICS: usize = 1 << 20;

impl Host for Guest {
    fn skip(&mut self, reason: String) -> wasmtime::Result<Result<(), Error>> {
        let read: Result<SkipReason, serde::de::value::Error> =
            SkipReason::deserialize(reason.as_str().into_deserializer());
        Ok(match read {
            Ok(read) => {
                self.report.skip = Some(read);
                Ok(())
            }
            Err(_) => {
                let message = format!("`{reason}` is no reason for leaving something out");
                Err(error(ErrorKind::Invalid, "SKIP_REASON", message))
            }
        })
    }

    fn metrics(&mut self, json: String) -> wasmtime::Result<Result<(), Error>> {
        if json.len() > METRICS {
            return Ok(Err(error(ErrorKind::Invalid, "METRICS", "metrics may take 1 MiB")));
        }
        let metrics: Result<Metrics, _> = serde_json::from_str(&json);
        Ok(match metrics {
            Ok(metrics) => {
                self.report.metrics = Some(metrics);
                Ok(())
            }
            Err(cause) => Err(error(ErrorKind::Invalid, "METRICS", format!("no JSON object: {cause}"))),
        })
    }
}
