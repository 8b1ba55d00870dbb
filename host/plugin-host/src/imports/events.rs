//! `loom:host/events`.

use loom_contract::event;
use serde_json::Map;
use wasmtime::component::{HasData, Linker};

use self::wit::loom::host::events::{self, Host, Value};
use crate::guest::Guest;
use crate::limits::Flood;
use crate::messages::Messages;
use crate::types::Level;

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:host/events@0.1.0;",
        imports: { default: trappable },
        with: { "loom:host/types": crate::types::wit },
    });
}

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    flood: &'a mut Flood,
    messages: &'a Messages,
}

struct Events;

impl HasData for Events {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    events::add_to_linker::<_, Events>(linker, |guest| View {
        flood: &mut guest.flood,
        messages: &guest.messages,
    })
}

impl Host for View<'_> {
    fn message(
        &mut self,
        level: Level,
        text: String,
        attributes: Vec<(String, Value)>,
    ) -> wasmtime::Result<()> {
        let size: usize = attributes.iter().map(|(name, value)| name.len() + size(value)).sum();
        self.flood.message(text.len() + size)?;
        let level = match level {
            Level::Trace | Level::Debug => event::Level::Debug,
            Level::Info => event::Level::Info,
            Level::Warn => event::Level::Warn,
            Level::Error => event::Level::Error,
        };
        let data: Map<_, _> = attributes.into_iter().map(|(name, value)| (name, json(value))).collect();
        self.messages.record(level, text, (!data.is_empty()).then_some(data));
        Ok(())
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Integer(_) | Value::Number(_) | Value::Flag(_) => 8,
    }
}

fn json(value: Value) -> serde_json::Value {
    match value {
        Value::Text(text) => text.into(),
        Value::Integer(integer) => integer.into(),
        Value::Number(number) => number.into(),
        Value::Flag(flag) => flag.into(),
    }
}
