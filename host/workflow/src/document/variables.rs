//! `variables`: names and texts, which may refer to each other.

use std::collections::BTreeMap;

use super::value::{Reader, Text};
use crate::diagnostic::{Pointer, quoted};
use crate::source::{Span, Spanned};
use crate::template::{BadReference, Template};
use crate::yaml::{Kind, Meaning, Node};

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
    /// The inherited values that this one refers to by the variable's own name, the nearest first. The last one that does
    /// means what lies below all of the workflow.
    pub(crate) below: Vec<Spanned<Text>>,
}

impl Variable {
    /// One that takes nothing over.
    pub(crate) fn new(value: Spanned<Text>) -> Self {
        Self { value, below: Vec::new() }
    }

    /// Puts it over `below`, a variable of the same name: what that holds stays only where this one refers to it.
    fn put_over(&mut self, name: &str, below: &Self) {
        let last = self.below.last().unwrap_or(&self.value);
        let refers = last.value.contains('$')
            && Template::parse(&last.value).is_ok_and(|template| template.refs().any(|other| other == name));
        if refers {
            self.below.push(below.value.clone());
            self.below.extend(below.below.iter().cloned());
        }
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Variables> {
    let mut variables = Variables::new();
    let hint = "set variables to a mapping of names to texts, as in `variables: {NAME: \"text\"}`";
    for entry in reader.map(node, at, hint)? {
        let place = at.key(&entry.key);
        check_name("variable", &entry.key, entry.key_span, &place, reader);
        let hint = format!("set variable {} to a text{}", quoted(&entry.key), instead(&entry.value));
        let Some(value) = reader.text(&entry.value, &place, &hint) else {
            continue;
        };
        if is_too_long(entry.key.as_str(), value.value.len()) {
            let hint = format!("shorten the value: with its name it has more than {LONGEST} bytes");
            reader.error(value.span, &place, hint);
            continue;
        }
        if !check_template(&value.value, value.span, &place, reader) {
            continue;
        }
        variables.insert(entry.key.as_str().into(), Variable::new(value));
    }
    Some(variables)
}

/// What to write where a text was meant, as the end of a hint.
fn instead(node: &Node) -> &'static str {
    match &node.kind {
        Kind::Map(entries) if entries.iter().any(|entry| entry.key == "value") => {
            ", which is only its `value`: what is said beside it belongs into a comment"
        }
        Kind::Map(_) => ", in quotes where it begins with `{` or holds `: `",
        Kind::List(_) => ", in quotes where it begins with `[`",
        Kind::Scalar(scalar) if scalar.meaning() == Meaning::Null => "; an empty one is `\"\"`",
        Kind::Scalar(_) | Kind::Refused => "",
    }
}

/// Puts `nearer` over `below`: a nearer variable replaces one of the same name, and may refer to it.
pub(crate) fn merge(below: &mut Variables, nearer: &Variables) {
    for (name, variable) in nearer {
        put(below, name.clone(), variable.clone());
    }
}

/// Puts `variable` over the one of its name, if there is one.
pub(crate) fn put(below: &mut Variables, name: Text, mut variable: Variable) {
    if let Some(inherited) = below.get(&name) {
        variable.put_over(&name, inherited);
    }
    below.insert(name, variable);
}

/// Whether `text` has only whole references; a broken one is reported.
pub(super) fn check_template(text: &str, span: Span, at: &Pointer<'_>, reader: &mut Reader<'_>) -> bool {
    let Err(BadReference(bad)) = Template::check(text) else { return true };
    let hint = match bad.starts_with("${{") {
        true => {
            format!("write `$NAME`, or `$$` for a dollar sign: {} is of GitHub Actions", quoted("${{ … }}"))
        }
        false => format!("write {} as `${{NAME}}`, or with `$$` for a dollar sign", quoted(&bad)),
    };
    reader.error(span, at, hint);
    false
}

/// Reports a name that a variable or secret may not have.
pub(super) fn check_name(what: &str, name: &str, span: Span, at: &Pointer<'_>, reader: &mut Reader<'_>) {
    let fits = name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if fits {
        return;
    }
    let word = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' };
    let meant: String = name.chars().map(word).collect();
    let hint = if meant.starts_with(|first: char| first.is_ascii_uppercase()) {
        format!(
            "rename {what} {} to {}: its name is of capitals, digits and `_`",
            quoted(name),
            quoted(&meant)
        )
    } else {
        format!("rename {what} {} to match {NAME_PATTERN}", quoted(name))
    };
    reader.error(span, at, hint);
}
