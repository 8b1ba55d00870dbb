//! `loom:host/section`.

use loom_contract::event::Metrics;
use loom_contract::status::SkipReason;
use loom_engine::port::Report;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use wasmtime::component::{HasData, Linker};

use self::wit::loom::host::section::{self, Host};
use crate::guest::Guest;
use crate::types::{ErrorKind, Failure, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/section@0.1.0;",
        imports: { default: trappable },
        with: { "loom:host/types": crate::types::wit },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// Bytes of metrics at most.
const METRICS: usize = 1 << 20;

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    report: &'a mut Report,
}

struct Section;

impl HasData for Section {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    section::add_to_linker::<_, Section>(linker, |guest| View { report: &mut guest.report })
}

impl Host for View<'_> {
    fn skip(&mut self, reason: String) -> Result<(), Failure> {
        let read: Result<SkipReason, serde::de::value::Error> =
            SkipReason::deserialize(reason.as_str().into_deserializer());
        let read = read.map_err(|_| {
            let message = format!("`{reason}` is no reason for leaving something out");
            error(ErrorKind::Invalid, "SKIP_REASON", message)
        })?;
        self.report.skip = Some(read);
        Ok(())
    }

    fn metrics(&mut self, json: String) -> Result<(), Failure> {
        if json.len() > METRICS {
            return Err(error(ErrorKind::Invalid, "METRICS", "metrics may take 1 MiB").into());
        }
        let metrics: Metrics = serde_json::from_str(&json)
            .map_err(|cause| error(ErrorKind::Invalid, "METRICS", format!("no JSON object: {cause}")))?;
        self.report.metrics = Some(metrics);
        Ok(())
    }
}
