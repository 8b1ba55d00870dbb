//! `loom:host/events`.

use loom_contract::event;
use serde_json::Map;

use crate::bindings::loom::host::events::{Host, Value};
use crate::bindings::loom::host::types::Level;
use crate::guest::Guest;

impl Host for Guest {
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
        self.say(level, text, (!data.is_empty()).then_some(data));
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
