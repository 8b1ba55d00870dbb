//! `script`: the steps of a job.

use super::value::{Reader, Text};
use super::variables::LONGEST;
use crate::diagnostic::Pointer;
use crate::source::Span;
use crate::yaml::{Kind, Meaning, Node, Style};

/// A command that was typed.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) command: Text,
    pub(crate) span: Span,
    /// How it is written.
    pub(crate) style: Style,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Vec<Step>> {
    let hint = match node.kind {
        Kind::Scalar(_) => {
            "set script to a non-empty list of commands: write each on a line of its own behind `- `"
        }
        _ => "set script to a non-empty list of commands",
    };
    let items = reader.list(node, at, hint)?;
    if items.is_empty() {
        reader.error(node.span, at, hint);
        return None;
    }
    let mut steps = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let hint = match &item.kind {
            Kind::Map(_) => {
                "set each script entry to a command; quote it where it holds `: ` or begins with `{`"
            }
            Kind::List(_) => "set each script entry to a command; quote it where it begins with `[` or `- `",
            Kind::Scalar(scalar) if scalar.meaning() == Meaning::Null => {
                "set each script entry to a command, or remove it: it is empty"
            }
            _ => "set each script entry to a command",
        };
        if let Some(text) = reader.filled_text(item, &place, hint) {
            // The break at a block's end is no part of the command.
            let command = text.value.trim_end_matches('\n');
            if command.len() >= LONGEST {
                let hint =
                    "put the command into a file and run that: it has more bytes than a shell can be given";
                reader.error(item.span, &place, format!("{hint}, which are {}", LONGEST - 1));
            }
            let style = match &item.kind {
                Kind::Scalar(scalar) => scalar.style,
                _ => Style::Quoted,
            };
            steps.push(Step { command: command.into(), span: item.span, style });
        }
    }
    (steps.len() == items.len()).then_some(steps)
}
