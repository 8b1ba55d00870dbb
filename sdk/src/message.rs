use crate::bindings::loom::host::{events, types};

/// How severe something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every detail.
    Trace,
    /// For who looks for a mistake.
    Debug,
    /// Ordinary progress.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    pub(crate) fn to_host(self) -> types::Level {
        match self {
            Self::Trace => types::Level::Trace,
            Self::Debug => types::Level::Debug,
            Self::Info => types::Level::Info,
            Self::Warn => types::Level::Warn,
            Self::Error => types::Level::Error,
        }
    }
}

/// The value of an attribute of a [`Message`]. Made from texts, numbers and `bool`s by `into`.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number; infinities and what is no number become null.
    Number(f64),
    /// Yes or no.
    Flag(bool),
}

macro_rules! value_from {
    ($($from:ty => |$value:ident| $into:expr;)+) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $into
            }
        }
    )+};
}

value_from! {
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    i32 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    i64 => |value| Self::Integer(value);
    f64 => |value| Self::Number(value);
    bool => |value| Self::Flag(value);
}

/// Tells the reader of a run something. It is recorded in the phase that runs now: the step, or the section `provider` or
/// `cleanup`.
///
/// ```no_run
/// use loom_sdk::Message;
///
/// Message::info("the machine is up").with("boot_ms", 812).record();
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it is not recorded until `record` is called"]
pub struct Message {
    level: Level,
    text: String,
    attributes: Vec<(String, Value)>,
}

impl Message {
    /// A message.
    pub fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), attributes: Vec::new() }
    }

    /// A message about ordinary progress.
    pub fn info(text: impl Into<String>) -> Self {
        Self::new(Level::Info, text)
    }

    /// A message that something is not as it should be.
    pub fn warn(text: impl Into<String>) -> Self {
        Self::new(Level::Warn, text)
    }

    /// Adds an attribute. Of two with one name the later counts.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }

    /// Records it.
    pub fn record(self) {
        let attributes: Vec<_> = self
            .attributes
            .into_iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::Text(text) => events::Value::Text(text),
                    Value::Integer(integer) => events::Value::Integer(integer),
                    Value::Number(number) => events::Value::Number(number),
                    Value::Flag(flag) => events::Value::Flag(flag),
                };
                (name, value)
            })
            .collect();
        events::message(self.level.to_host(), &self.text, &attributes);
    }
}
