//! `variables`: names and texts, which may refer to each other.

use std::collections::BTreeMap;

use super::value::{Reader, Text};
use crate::diagnostic::{Pointer, quoted};
use crate::source::Spanned;
use crate::template::{BadReference, Template};
use crate::yaml::Node;

/// What names of variables and secrets look like.
pub(super) const NAME_PATTERN: &str = "^[A-Z_][A-Z0-9_]*$";

/// The longest text that can be handed to a program on Linux, in bytes with the NUL at its end: a command, or a variable
/// with its name and `=`.
pub(crate) const LONGEST: usize = 128 * 1024;

/// Whether the variable `name` is too long with a value of `bytes` bytes.
pub(crate) fn is_too_long(name: &str, bytes: usize) -> bool {
    bytes.saturating_add(name.len() + "=\0".len()) > LONGEST
}

/// Variables by name.
pub(crate) type Variables = BTreeMap<Text, Variable>;

/// The value of a variable, as it was typed.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    pub(crate) value: Spanned<Text>,
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Variables> {
    let mut variables = Variables::new();
    let hint = "set variables to a mapping of names to texts, as in `variables: {NAME: \"text\"}`";
    for entry in reader.map(node, at, hint)? {
        let place = at.key(&entry.key);
        check_name("variable", &entry.key, entry.key_span, &place, reader);
        let hint = format!("set variable {} to a text", quoted(&entry.key));
        let Some(value) = reader.text(&entry.value, &place, &hint) else {
            continue;
        };
        if is_too_long(entry.key.as_str(), value.value.len()) {
            let hint = format!("shorten the value: with its name it has more than {LONGEST} bytes");
            reader.error(value.span, &place, hint);
            continue;
        }
        if let Err(BadReference(text)) = Template::check(&value.value) {
            reader.error(value.span, &place, bad_reference(&text));
            continue;
        }
        variables.insert(entry.key.as_str().into(), Variable { value });
    }
    Some(variables)
}

/// Puts `nearer` over `below`: a nearer variable replaces one of the same name.
pub(super) fn merge(below: &mut Variables, nearer: &Variables) {
    below.extend(nearer.iter().map(|(name, variable)| (name.clone(), variable.clone())));
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
