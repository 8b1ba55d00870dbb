//! `variables`: names and texts, which may refer to each other.

use std::collections::BTreeMap;

use super::value::{Reader, Text};
use crate::diagnostic::{Pointer, quoted};
use crate::source::Spanned;
use crate::template::{BadReference, Template};
use crate::yaml::Node;

/// What names of variables and secrets look like.
pub(super) const NAME_PATTERN: &str = "^[A-Z_][A-Z0-9_]*$";

/// The longest value, in bytes: a longer one cannot be handed to a program on Linux.
pub(crate) const MOST_VALUE: usize = 128 * 1024;

/// Variables by name.
pub(crate) type Variables = BTreeMap<Text, Variable>;

/// The value of a variable, as it was typed.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) value: Spanned<Text>,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Variables {
    let mut variables = Variables::new();
    let hint = "set variables to a mapping of names to texts, as in `variables: {NAME: \"text\"}`";
    let Some(entries) = reader.map(node, at, hint) else {
        return variables;
    };
    for entry in entries {
        let place = at.key(&entry.key);
        check_name("variable", &entry.key, entry.key_span, &place, reader);
        let hint = format!("set variable {} to a text", quoted(&entry.key));
        let Some(value) = reader.text(&entry.value, &place, &hint) else {
            continue;
        };
        if value.value.len() > MOST_VALUE {
            let hint = format!("shorten the value: it has more than {MOST_VALUE} bytes");
            reader.error(value.span, &place, hint);
            continue;
        }
        if let Err(BadReference(text)) = Template::check(&value.value) {
            reader.error(value.span, &place, bad_reference(&text));
            continue;
        }
        variables.insert(entry.key.as_str().into(), Variable { value });
    }
    variables
}

/// What to do about a `${` that begins no reference.
pub(super) fn bad_reference(text: &str) -> String {
    format!("write {} as `${{NAME}}`, or with `$$` for a dollar sign", quoted(text))
}

/// Reports a name that a variable or secret may not have.
pub(super) fn check_name(
    what: &str,
    name: &str,
    span: crate::source::Span,
    at: &Pointer<'_>,
    reader: &mut Reader<'_>,
) {
    let fits = name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !fits {
        reader.error(span, at, format!("rename {what} {} to match {NAME_PATTERN}", quoted(name)));
    }
}
