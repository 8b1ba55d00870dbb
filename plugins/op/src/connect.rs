//! A Connect server.

use loom_sdk::http::Request;
use loom_sdk::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::reference::Reference;

pub(crate) struct Connect {
    /// Its address, without a slash at the end.
    host: String,
    authorization: Zeroizing<String>,
}

/// A vault, or an item without its fields.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: String,
    #[serde(alias = "title")]
    name: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Item {
    #[serde(default)]
    fields: Vec<Field>,
    #[serde(default)]
    sections: Vec<Section>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Field {
    id: String,
    #[serde(default)]
    label: String,
    section: Option<SectionId>,
    value: Option<String>,
    /// The current code of a field for one-time passwords, whose value is what the code is made from.
    totp: Option<String>,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct SectionId {
    id: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Section {
    id: String,
    #[serde(default)]
    label: String,
}

impl Connect {
    pub(crate) fn new(host: &str, token: &str) -> Self {
        let authorization = Zeroizing::new(format!("Bearer {token}"));
        Self { host: host.trim_end_matches('/').to_owned(), authorization }
    }

    pub(crate) fn vaults(&self) -> Result<Vec<Named>> {
        self.get("/v1/vaults")?.ok_or_else(|| self.strange("the list of vaults", "404"))
    }

    /// The item that `reference` names, from the vault whose id is `vault`.
    pub(crate) fn item(&self, vault: &str, reference: &Reference<'_>) -> Result<Item> {
        let title = reference.item.replace('\\', "\\\\").replace('"', "\\\"");
        let filter = encoded(&format!("title eq \"{title}\""));
        let named: Option<Vec<Named>> = self.get(&format!("/v1/vaults/{vault}/items?filter={filter}"))?;
        let named = named.unwrap_or_default();
        let id = if named.is_empty() { reference.item } else { &only("item", reference.item, &named)?.id };
        let item = self.get(&format!("/v1/vaults/{vault}/items/{}", encoded(id)))?;
        item.ok_or_else(|| not_found("item", reference.item))
    }

    /// What is at `path`; none where there is nothing.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let request = Request::get(&format!("{}{path}", self.host));
        let answer = request.header("Authorization", &self.authorization).send()?;
        let body = Zeroizing::new(answer.body);
        match answer.status {
            200 => match serde_json::from_slice(&body) {
                Ok(value) => Ok(Some(value)),
                // Not its words: they could repeat what is in the body.
                Err(error) => {
                    Err(self.strange("JSON", &format!("line {} column {}", error.line(), error.column())))
                }
            },
            // A name that is no id is a bad request.
            400 | 404 => Ok(None),
            status @ (401 | 403) => {
                let message =
                    format!("the 1Password Connect server {} refused the token ({status})", self.host);
                Err(unavailable(message)
                    .with_hint("look at OP_CONNECT_TOKEN, and at the vaults that it may read"))
            }
            status => {
                Err(unavailable(format!("the 1Password Connect server {} answered {status}", self.host)))
            }
        }
    }

    fn strange(&self, what: &str, at: &str) -> Error {
        unavailable(format!(
            "what {} answers is not {what} ({at}); is it a 1Password Connect server?",
            self.host
        ))
    }
}

impl Item {
    pub(crate) fn field(&self, reference: &Reference<'_>) -> Result<&str> {
        let in_section = |field: &Field| match reference.section {
            Some(name) => field.section.as_ref().is_some_and(|section| {
                same(&section.id, name)
                    || self.sections.iter().any(|s| s.id == section.id && same(&s.label, name))
            }),
            None => true,
        };
        let named = |field: &&Field| {
            in_section(field) && (same(&field.id, reference.field) || same(&field.label, reference.field))
        };
        let mut found: Vec<&Field> = self.fields.iter().filter(named).collect();
        if found.len() > 1 && reference.section.is_none() {
            found.retain(|field| field.section.is_none());
        }
        let whose = format!("`{}` of the item `{}`", reference.field, reference.item);
        match found.as_slice() {
            [field] => field.totp.as_deref().or(field.value.as_deref()).ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    "SECRETS_REF_NOT_FOUND",
                    format!("the field {whose} is empty"),
                )
            }),
            [] => {
                let labels: Vec<&str> = self.fields.iter().map(|field| field.label.as_str()).collect();
                let message = format!("there is no field {whose} in 1Password");
                Err(Error::new(ErrorKind::NotFound, "SECRETS_REF_NOT_FOUND", message)
                    .with_hint(format!("its fields are: {}", labels.join(", "))))
            }
            _ => {
                let message = format!("more than one field {whose} is in 1Password");
                Err(Error::new(ErrorKind::NotFound, "SECRETS_REF_NOT_FOUND", message)
                    .with_hint("name its section too: op://<vault>/<item>/<section>/<field>"))
            }
        }
    }
}

/// The one of `all` that has `name` as its id or its name.
pub(crate) fn only<'a>(what: &str, name: &str, all: &'a [Named]) -> Result<&'a Named> {
    if let Some(found) = all.iter().find(|candidate| candidate.id == name) {
        return Ok(found);
    }
    let found: Vec<&Named> = all.iter().filter(|candidate| same(&candidate.name, name)).collect();
    match found.as_slice() {
        [only] => Ok(only),
        [] => Err(not_found(what, name)),
        several => {
            let ids: Vec<&str> = several.iter().map(|named| named.id.as_str()).collect();
            let message = format!("more than one {what} is called `{name}` in 1Password");
            Err(Error::new(ErrorKind::NotFound, "SECRETS_REF_NOT_FOUND", message)
                .with_hint(format!("use one of their ids instead: {}", ids.join(", "))))
        }
    }
}

pub(crate) fn not_found(what: &str, name: &str) -> Error {
    let message = format!("there is no {what} `{name}` in 1Password that the token may read");
    Error::new(ErrorKind::NotFound, "SECRETS_REF_NOT_FOUND", message)
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, "SECRETS_PROVIDER_UNAVAILABLE", message)
}

fn same(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// `text` as a part of a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        serde_json::from_str(
            r#"{"id": "x", "title": "db", "sections": [{"id": "s1", "label": "Admin"}], "fields": [
                {"id": "username", "label": "username", "value": "root"},
                {"id": "password", "label": "password", "value": "outer"},
                {"id": "f3", "label": "password", "section": {"id": "s1"}, "value": "inner"},
                {"id": "f4", "label": "one", "section": {"id": "s1"}, "value": "1"},
                {"id": "f5", "label": "twice", "section": {"id": "s1"}, "value": "1"},
                {"id": "f6", "label": "twice", "section": {"id": "s1"}, "value": "2"},
                {"id": "f7", "label": "code", "value": "otpauth://totp/x", "totp": "123456"},
                {"id": "f8", "label": "empty"}
            ]}"#,
        )
        .unwrap_or_else(|error| Item {
            fields: vec![],
            sections: vec![Section { id: error.to_string(), label: String::new() }],
        })
    }

    #[test]
    fn fields_are_found_by_label_or_id_and_section() {
        let item = item();
        let field = |reference: &str| {
            let reference = Reference::parse(reference)?;
            item.field(&reference).map(str::to_owned)
        };
        for (reference, value) in [
            ("op://v/db/password", "outer"),
            ("op://v/db/PASSWORD", "outer"),
            ("op://v/db/admin/password", "inner"),
            ("op://v/db/s1/password", "inner"),
            ("op://v/db/f3", "inner"),
            ("op://v/db/one", "1"),
            ("op://v/db/code", "123456"),
        ] {
            assert_eq!(field(reference).ok().as_deref(), Some(value), "{reference}");
        }
        for (reference, word) in [
            ("op://v/db/none", "no field"),
            ("op://v/db/other/password", "no field"),
            ("op://v/db/admin/twice", "more than one"),
            ("op://v/db/empty", "is empty"),
        ] {
            let error = field(reference).err();
            assert!(error.as_ref().is_some_and(|e| e.to_string().contains(word)), "{reference}: {error:?}");
            assert_eq!(error.as_ref().map(|e| e.code()), Some("SECRETS_REF_NOT_FOUND"));
        }
    }

    #[test]
    fn text_is_encoded_for_a_url() {
        assert_eq!(encoded("title eq \"a/b\""), "title%20eq%20%22a%2Fb%22");
    }
}
