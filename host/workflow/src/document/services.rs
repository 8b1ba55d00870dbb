//! `services`: containers that run beside a job's own.

use super::image;
use super::timeout::read_duration;
use super::value::{Reader, Text};
use super::variables::{Variables, read as read_variables};
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::yaml::{Kind, Meaning, Node};

pub(super) const KEYS: [&str; 6] = ["name", "alias", "variables", "entrypoint", "command", "ready"];
pub(super) const READY_KEYS: [&str; 3] = ["command", "port", "timeout"];
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
    let mut name = None;
    let mut has_name = false;
    let mut alias = None;
    let mut variables = Variables::new();
    let mut entrypoint = None;
    let mut command = None;
    let mut ready = None;
    for entry in reader.map(node, at, NAME)? {
        let place = &at.key(&entry.key);
        let value = &entry.value;
        match entry.key.as_str() {
            "name" => {
                has_name = true;
                name = image::read_name(
                    value,
                    place,
                    "set name to an image's name, as in `postgres:16`",
                    reader,
                );
            }
            "alias" => alias = read_alias(value, place, reader),
            "variables" => variables = read_variables(value, place, reader),
            "entrypoint" => entrypoint = reader.texts(value, place, "set entrypoint to a list of words"),
            "command" => command = reader.texts(value, place, "set command to a list of words"),
            "ready" => ready = read_ready(value, place, reader),
            _ => reader.unknown_key(entry, place, "a service", &KEYS),
        }
    }
    if !has_name {
        reader.error(node.span, &at.key("name"), "add required key name: the service's image");
    }
    Some(Service {
        name: name?.value,
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
        match entry.key.as_str() {
            "command" => {
                ways += 1;
                let hint = "set command to a command that succeeds once the service can be used";
                ready.command = reader.filled_text(value, place, hint).map(|text| text.value);
            }
            "port" => {
                ways += 1;
                ready.port = read_port(value, place, reader);
            }
            "timeout" => {
                ready.timeout_ms = read_duration(value, place, "timeout", reader).map(|time| time.value)
            }
            _ => reader.unknown_key(entry, place, "ready", &READY_KEYS),
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
