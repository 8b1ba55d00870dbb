//! The secrets within a secret that is a JSON document: keys of service accounts, logins for registries.
//!
//! `jq -r .private_key` prints a part of such a value. Its texts are looked for on their own, but not all of them: a
//! project's id, an address or `service_account` stand in innocent output too. A text of at least [`SHORTEST_FIELD`]
//! characters counts as a secret where
//!
//! - its name says so: a word of it is one of [`SECRET_WORDS`] (`private_key`, `clientSecret`, `authToken`), it is no
//!   address without a password, and none of [`WELL_KNOWN`]; or
//! - it looks like one: a key in PEM, an address with a password, or at least [`SHORTEST_RANDOM`] letters and digits in
//!   a row, of both kinds.

use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

/// In bytes, as are all lengths here.
const SHORTEST_FIELD: usize = 8;
const SHORTEST_RANDOM: usize = 16;
/// More texts of one value are not looked for on their own.
const MOST_FIELDS: usize = 64;
/// A document may stand as text in another so often.
const DEEPEST: usize = 3;

/// Words of names that say that a value is secret.
const SECRET_WORDS: [&str; 20] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "connection",
    "credential",
    "credentials",
    "dsn",
    "jwt",
    "key",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "private",
    "pwd",
    "secret",
    "signature",
    "token",
    "webhook",
];
/// Values that stand under such names and are no secrets.
const WELL_KNOWN: [&str; 10] = [
    "authorization_code",
    "authorized_user",
    "client_credentials",
    "client_secret_basic",
    "client_secret_jwt",
    "client_secret_post",
    "external_account",
    "password",
    "private_key_jwt",
    "service_account",
];

/// The texts of `value` that are secrets on their own, if it is a JSON object or array.
pub(super) fn of(value: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut fields = Vec::new();
    read(value, &mut fields, DEEPEST);
    fields
}

fn read(document: &[u8], fields: &mut Vec<Zeroizing<Vec<u8>>>, depth: usize) {
    let is_one = matches!(document.trim_ascii_start(), [b'{' | b'[', ..]);
    if depth > 0
        && is_one
        && let Ok(document) = serde_json::from_slice(document)
    {
        walk("", document, fields, depth);
    }
}

/// Takes what is secret out of `value`, which stands under `name`, and wipes the rest.
fn walk(name: &str, value: Value, fields: &mut Vec<Zeroizing<Vec<u8>>>, depth: usize) {
    match value {
        Value::String(text) => {
            let text = Zeroizing::new(text.into_bytes());
            read(&text, fields, depth - 1);
            if fields.len() < MOST_FIELDS && str::from_utf8(&text).is_ok_and(|text| is_secret(name, text)) {
                fields.push(text);
            }
        }
        Value::Array(values) => values.into_iter().for_each(|value| walk(name, value, fields, depth)),
        Value::Object(values) => {
            for (mut name, value) in values {
                walk(&name, value, fields, depth);
                name.zeroize();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret(name: &str, text: &str) -> bool {
    if text.len() < SHORTEST_FIELD || WELL_KNOWN.contains(&text) {
        return false;
    }
    if text.contains("-----BEGIN ") {
        return true;
    }
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A webhook's address is its password.
        return authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
            || rest.split(['/', '=', '&']).any(is_random);
    }
    is_random(text)
        || words(name).any(|word| SECRET_WORDS.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}

/// Whether so many letters and digits in a row are in `text` as only chance makes.
fn is_random(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        run.len() >= SHORTEST_RANDOM
            && run.bytes().any(|byte| byte.is_ascii_digit())
            && run.bytes().any(|byte| byte.is_ascii_alphabetic())
    })
}

/// The words of a name, however it is written: `client_secret`, `clientSecret`, `CLIENT-SECRET`.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).flat_map(|part| {
        let bytes = part.as_bytes();
        let begins =
            |at: &usize| *at == 0 || bytes[*at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase();
        let starts: Vec<usize> = (0..bytes.len()).filter(begins).collect();
        let ends: Vec<usize> = starts.iter().skip(1).copied().chain([part.len()]).collect();
        starts.into_iter().zip(ends).map(move |(start, end)| &part[start..end])
    })
}
