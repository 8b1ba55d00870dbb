//! `services`: containers that run beside a job's own.

use super::field::Field;
use super::image;
use super::keys::{Keys, keys, written};
use super::timeout::read_duration;
use super::value::{Reader, Text};
use super::variables::{Variables, read as read_variables};
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Meaning, Node};

keys! {
    /// The keys of one service.
    pub(super) enum ServiceKey {
        Name = "name",
        Alias = "alias",
        Variables = "variables",
        Entrypoint = "entrypoint",
        Command = "command",
        Ready = "ready",
    }
}
keys! {
    /// The keys of `ready`.
    pub(super) enum ReadyKey {
        Command = "command",
        Port = "port",
        Timeout = "timeout",
    }
}
const NAME: &str = "set each service to an image's name or to {name: <image>}";

/// One service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) name: Text,
    pub(crate) alias: Option<Text>,
    pub(crate) variables: Variables,
    pub(crate) entrypoint: Option<Vec<Text>>,
    pub(crate) command: Option<Vec<Text>>,
    pub(crate) ready: Option<Ready>,
}

/// When a service can be used.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) command: Option<Text>,
    pub(crate) port: Option<u16>,
    pub(crate) timeout_ms: Option<u64>,
}

/// All services of a job.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) span: Span,
    pub(crate) list: Vec<Service>,
}

impl Service {
    /// By which the job tells it from its other services.
    fn key(&self) -> &str {
        self.alias.as_ref().unwrap_or(&self.name)
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Services> {
    let items = reader.list(node, at, "set services to a list of images or {name: <image>} entries")?;
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(service) = read_service(item, &place, reader) else { continue };
        let is_taken = |other: &Service| other.key() == service.key();
        if list.iter().any(is_taken) {
            let key = service.key();
            reader.error(
                item.span,
                &place,
                format!("set alias: another service of the job is `{key}` already"),
            );
        }
        list.push(service);
    }
    (list.len() == items.len()).then_some(Services { span: node.span, list })
}

fn read_service(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Service> {
    if !matches!(node.kind, Kind::Map(_)) {
        let name = image::read_name(node, at, NAME, reader)?.value;
        let variables = Variables::new();
        return Some(Service { name, alias: None, variables, entrypoint: None, command: None, ready: None });
    }
    let mut name = Field::Absent;
    let mut alias = None;
    let mut variables = Variables::new();
    let mut entrypoint = None;
    let mut command = None;
    let mut ready = None;
    for entry in reader.map(node, at, NAME)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match ServiceKey::of(&entry.key) {
            Some(ServiceKey::Name) => {
                let hint = "set name to an image's name, as in `postgres:16`";
                name = image::read_name(value, place, hint, reader).into();
            }
            Some(ServiceKey::Alias) => alias = read_alias(value, place, reader),
            Some(ServiceKey::Variables) => {
                variables = read_variables(value, place, reader).unwrap_or_default();
            }
            Some(ServiceKey::Entrypoint) => {
                entrypoint = reader.texts(value, place, "set entrypoint to a list of words");
            }
            Some(ServiceKey::Command) => {
                command = reader.texts(value, place, "set command to a list of words");
            }
            Some(ServiceKey::Ready) => ready = read_ready(value, place, reader),
            None => reader.unknown_key(entry, place, "a service", &written(ServiceKey::KEYS)),
        }
    }
    if name.is_absent() {
        reader.error(node.span, &at.key("name"), "add required key name: the service's image");
    }
    Some(Service {
        name: name.into_value()?.value,
        alias,
        variables,
        entrypoint: entrypoint.map(|words| words.value),
        command: command.map(|words| words.value),
        ready,
    })
}

/// A name under which steps reach the service.
fn read_alias(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Text> {
    let hint = "set alias to a host name: letters, digits, `-`, `_` and `.`";
    let Spanned { value, span } = reader.filled_text(node, at, hint)?;
    let fits = value.len() <= 63
        && value.starts_with(|first: char| first.is_ascii_alphanumeric())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !fits {
        reader.error(span, at, format!("{hint}; {} is none", quoted(&value)));
        return None;
    }
    Some(value)
}

fn read_ready(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Ready> {
    let hint = "set ready to {command: <command>} or {port: <number>}, with a timeout if you like";
    let mut ready = Ready { command: None, port: None, timeout_ms: None };
    let mut ways = 0;
    for entry in reader.map(node, at, hint)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match ReadyKey::of(&entry.key) {
            Some(ReadyKey::Command) => {
                ways += 1;
                let hint = "set command to a command that succeeds once the service can be used";
                ready.command = reader.filled_text(value, place, hint).map(|text| text.value);
            }
            Some(ReadyKey::Port) => {
                ways += 1;
                ready.port = read_port(value, place, reader);
            }
            Some(ReadyKey::Timeout) => {
                ready.timeout_ms = read_duration(value, place, "timeout", reader).map(|time| time.value);
            }
            None => reader.unknown_key(entry, place, "ready", &written(ReadyKey::KEYS)),
        }
    }
    if ways != 1 {
        reader.error(node.span, at, "give ready either a command or a port");
        return None;
    }
    Some(ready)
}

fn read_port(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<u16> {
    let port = match &node.kind {
        Kind::Scalar(scalar) if scalar.meaning() == Meaning::Number => {
            scalar.text.parse().ok().filter(|port| *port > 0)
        }
        Kind::Refused => return None,
        _ => None,
    };
    if port.is_none() {
        reader.error(node.span, at, "set port to a number from 1 to 65535");
    }
    port
}
