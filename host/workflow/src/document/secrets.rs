//! `secrets`: names, and where their values are found. The values themselves are never here.

use std::collections::BTreeMap;

use super::field::Field;
use super::keys::{Keys, keys, written};
use super::value::{Reader, Text};
use super::variables::check_name;
use crate::diagnostic::Pointer;
use crate::source::{Span, Spanned};
use crate::yaml::Node;

keys! {
    /// The keys of one secret.
    pub(super) enum SecretKey {
        Reference = "ref",
        File = "file",
        Required = "required",
    }
}

/// Secrets by name.
pub(crate) type Secrets = BTreeMap<Text, Secret>;

/// Where a secret is found, and how a job gets it.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    /// Where its name stands.
    pub(crate) span: Span,
    pub(crate) reference: Field<Spanned<Text>>,
    pub(crate) file: Field<Spanned<bool>>,
    pub(crate) required: Field<Spanned<bool>>,
}

impl Secret {
    fn merge(&mut self, nearer: &Self) {
        self.span = nearer.span;
        self.reference.replace(&nearer.reference);
        self.file.replace(&nearer.file);
        self.required.replace(&nearer.required);
    }
}

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Secrets> {
    let mut secrets = Secrets::new();
    let hint = "set secrets to a mapping of names to {ref: <scheme>://<place>}";
    for entry in reader.map(node, at, hint)? {
        let place = at.key(&entry.key);
        check_name("secret", &entry.key, entry.key_span, &place, reader);
        let hint = "set each secret to {ref: <scheme>://<place>}";
        let Some(entries) = reader.map(&entry.value, &place, hint) else {
            continue;
        };
        let mut secret = Secret {
            span: entry.key_span,
            reference: Field::Absent,
            file: Field::Absent,
            required: Field::Absent,
        };
        for entry in entries {
            let place = place.key(&entry.key);
            let value = &entry.value;
            match SecretKey::of(&entry.key) {
                Some(SecretKey::Reference) => secret.reference = read_reference(value, &place, reader).into(),
                Some(SecretKey::File) => {
                    secret.file = reader.flag(value, &place, "set file to true or false").into();
                }
                Some(SecretKey::Required) => {
                    secret.required = reader.flag(value, &place, "set required to true or false").into();
                }
                None => reader.unknown_key(entry, &place, "a secret", &written(SecretKey::KEYS)),
            }
        }
        secrets.insert(entry.key.as_str().into(), secret);
    }
    Some(secrets)
}

/// Puts `nearer` over `below`: secrets of one name are merged.
pub(super) fn merge(below: &mut Secrets, nearer: &Secrets) {
    for (name, nearer) in nearer {
        match below.get_mut(name) {
            Some(below) => below.merge(nearer),
            None => {
                below.insert(name.clone(), nearer.clone());
            }
        }
    }
}

/// A reference of the right shape. It is never repeated in a message: somebody may have typed the secret itself.
fn read_reference(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) -> Option<Spanned<Text>> {
    let hint = "set ref to <scheme>://<place>, as in env://TOKEN";
    let reference = reader.filled_text(node, at, hint)?;
    if let Err(shape) = check_reference(&reference.value) {
        reader.error(reference.span, at, format!("set ref to {shape}"));
        return None;
    }
    Some(reference)
}

/// Gives the shape that a wrong reference should have. Schemes that Loom does not bring are only looked at as a whole.
fn check_reference(reference: &str) -> Result<(), &'static str> {
    let any = "<scheme>://<place>, as in env://TOKEN";
    let (scheme, place) = reference.split_once("://").ok_or(any)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.')
        });
    if !is_scheme || place.is_empty() || place.contains(char::is_control) {
        return Err(any);
    }
    match scheme {
        "env" => {
            let fits = place.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && place.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            fits.then_some(()).ok_or("env://<VAR>, the name of an environment variable")
        }
        "keepass" => {
            let parts = place.split_once('#').and_then(|(alias, rest)| {
                let (entry, field) = rest.rsplit_once(':')?;
                Some([alias, entry, field])
            });
            parts
                .filter(|parts| parts.iter().all(|part| !part.is_empty()))
                .map(|_| ())
                .ok_or("keepass://<alias>#<entry path>:<field>")
        }
        "op" => {
            let parts = place.split('/');
            let fits = !place.contains(['?', '#'])
                && parts.clone().count() >= 3
                && parts.clone().all(|part| !part.is_empty());
            fits.then_some(()).ok_or("op://<vault>/<item>/<field>, without `?` or `#`")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_the_shape_of_their_scheme() {
        for good in [
            "env://TOKEN",
            "env://http_proxy",
            "keepass://team/app#db/admin:password",
            "keepass://a#b:c:d",
            "op://vault/item/field",
            "op://vault/group/item/field",
            "vault+v2://x?y#z",
        ] {
            assert_eq!(check_reference(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "hunter2",
            "env://",
            "env://1A",
            "env://A-B",
            "ENV://A",
            "://x",
            "keepass://a:b",
            "keepass://#b:c",
            "keepass://a#b",
            "keepass://a#:c",
            "keepass://a#b:",
            "op://vault/item",
            "op://vault//field",
            "op://vault/item/field?x",
        ] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
    }
}
