//! Finds secrets in the environment of `loom`: `env://<VARIABLE>`.

use loom_sdk::{Error, ErrorKind, Result, SecretResolver, env};

#[derive(Debug, Default)]
struct Environment;

loom_sdk::export_secret_resolver!(Environment);

impl SecretResolver for Environment {
    fn resolve(&mut self, reference: &str) -> Result<Vec<u8>> {
        let name = variable(reference)?;
        env::get(name)?.ok_or_else(|| {
            let message = format!("the environment variable `{name}` is not set");
            Error::new(ErrorKind::NotFound, "SECRETS_REQUIRED_MISSING", message)
                .with_hint(format!("set it where `loom` is started, as in `{name}=… loom run --local`"))
        })
    }
}

/// The variable that `reference` names.
fn variable(reference: &str) -> Result<&str> {
    let name = reference.strip_prefix("env://").unwrap_or_default();
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(name);
    }
    let message = format!("`{reference}` does not name a variable of the environment");
    Err(Error::new(ErrorKind::Invalid, "SECRETS_REF_INVALID", message)
        .with_hint("write env://<NAME>: letters, digits and `_`, not beginning with a digit"))
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn a_reference_names_one_variable() {
        for (reference, name) in [("env://TOKEN", "TOKEN"), ("env://_a1", "_a1")] {
            assert_eq!(variable(reference).ok(), Some(name));
        }
        for reference in ["env://", "env://1A", "env://A-B", "env://A B", "env://A/B", "env://Ä", "x://A"] {
            let error = variable(reference).err();
            assert_eq!(error.as_ref().map(|e| e.code()), Some("SECRETS_REF_INVALID"), "{reference}");
        }
    }
}
