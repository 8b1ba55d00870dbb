//! References.

use loom_sdk::{Error, ErrorKind, Result};

/// The parts of a reference.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub(crate) vault: &'a str,
    pub(crate) item: &'a str,
    pub(crate) section: Option<&'a str>,
    pub(crate) field: &'a str,
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(reference: &'a str) -> Result<Self> {
        let parts: Vec<&str> = reference.strip_prefix("op://").unwrap_or_default().split('/').collect();
        let whole = !reference.contains(['?', '#']) && parts.iter().all(|part| !part.is_empty());
        match parts.as_slice() {
            [vault, item, field] if whole => Ok(Self { vault, item, section: None, field }),
            [vault, item, section, field] if whole => Ok(Self { vault, item, section: Some(section), field }),
            _ => {
                let message = format!("`{reference}` does not name a field of 1Password");
                Err(Error::new(ErrorKind::Invalid, "SECRETS_REF_INVALID", message)
                    .with_hint("write op://<vault>/<item>/<field> or op://<vault>/<item>/<section>/<field>"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn a_reference_has_three_or_four_parts() {
        let parse = |text| Reference::parse(text).ok();
        let parts = |vault, item, section, field| Some(Reference { vault, item, section, field });
        assert_eq!(parse("op://app/db/password"), parts("app", "db", None, "password"));
        assert_eq!(
            parse("op://app/db/admin/one-time password"),
            parts("app", "db", Some("admin"), "one-time password")
        );
        for wrong in ["op://a/b", "op://a/b/c/d/e", "op://a//c", "op://a/b/c?d", "op://a/b/c#d", "x://a/b/c"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
