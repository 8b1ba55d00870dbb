//! Vaults that Loom makes and changes, read again.

use loom_plugin_keepass::Kdf;
use loom_plugin_keepass::admin::{self, AdminError, Item};
use loom_plugin_keepass::credentials::{Credentials, CredentialsError, Given};
use loom_plugin_keepass::reference::Field;
use loom_plugin_keepass::vault::{FindError, OpenError, Vault, key_derivation};
use proptest::prelude::*;

use crate::damage::values;
use crate::{HASHED, SAMPLES, Sample, sample};

/// A second in 2026.
pub(crate) const NOW: u64 = 1_780_000_000;

impl Sample {
    pub(crate) fn credentials(&self) -> Credentials<'static> {
        Credentials { password: self.password.map(str::as_bytes), keyfile: self.keyfile }
    }

    pub(crate) fn create(&self, path: &str, field: &str, value: &[u8]) -> Result<Vec<u8>, AdminError> {
        admin::create_item(self.bytes, &self.credentials(), path, &field.parse().unwrap(), value, NOW)
    }

    pub(crate) fn update(&self, path: &str, field: &str, value: &[u8]) -> Result<Vec<u8>, AdminError> {
        admin::update_item(self.bytes, &self.credentials(), path, &field.parse().unwrap(), value, NOW)
    }
}

fn get(vault: &Vault, path: &str, field: &str) -> String {
    let value = vault.find(path).unwrap().field(&field.parse().unwrap(), 59).unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

#[test]
fn a_new_vault_is_empty_and_costs_what_it_should() {
    let credentials = Credentials { password: Some(b"open sesame"), keyfile: HASHED };
    let bytes = admin::create(&credentials, NOW).unwrap();
    let kdf = Kdf::Argon2 { variant: "Argon2id", memory: 64 << 20, iterations: 3, lanes: 4 };
    assert_eq!(key_derivation(&bytes), Ok(kdf));
    assert_eq!(bytes[8..12], [1, 0, 4, 0], "KDBX 4.1");
    assert_eq!(admin::list(&bytes, &credentials), Ok(vec![]));
    let wrong = Credentials { keyfile: None, ..credentials };
    assert_eq!(admin::list(&bytes, &wrong), Err(OpenError::WrongKey { given: Given::Password }));
    let none = Credentials { password: None, keyfile: None };
    assert_eq!(admin::create(&none, NOW), Err(CredentialsError::Missing.into()));
}

#[test]
fn a_new_item_is_found_and_its_groups_are_made_once() {
    let mut paths = sample("paths");
    for (path, field, value) in [
        ("services/test/queue", "password", "of queue"),
        ("new/deeper/item", "token", "of item"),
        ("new/deeper/other", "username", "of other"),
        ("Root/top", "notes", "of top"),
        ("only", "otp", "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
    ] {
        paths.bytes = paths.create(path, field, value.as_bytes()).unwrap().leak();
        let vault = paths.open().unwrap();
        let expected = if field == "otp" { "287082" } else { value };
        assert_eq!(get(&vault, path, field), expected, "{path}");
    }
    // The end of another path is no entry that is there; the same path is.
    let again = paths.create("services/test/queue", "password", b"x");
    assert_eq!(
        again.unwrap_err().to_string(),
        "the entry `services/test/queue` has a field `password` already"
    );
    // An entry can be given another field, also one that it has without a value.
    for (field, value) in [("My Custom", "custom"), ("username", "somebody")] {
        paths.bytes = paths.create("services/test/queue", field, value.as_bytes()).unwrap().leak();
        assert_eq!(get(&paths.open().unwrap(), "services/test/queue", field), value);
        let again = paths.create("services/test/queue", field, b"x").unwrap_err();
        assert!(matches!(again, AdminError::Exists { .. }), "{again}");
    }
    assert_eq!(get(&paths.open().unwrap(), "services/test/queue", "password"), "of queue");
    let slashes = paths.create("https://user@example.com:8443/x", "password", b"x");
    assert!(matches!(slashes, Err(AdminError::Path { .. })), "an empty name");
    let twins = paths.create("twin", "password", b"x");
    assert!(matches!(twins, Err(AdminError::Find(FindError::Ambiguous { .. }))));

    let all = admin::list(paths.bytes, &paths.credentials()).unwrap();
    assert_eq!(all.len(), 23 + 5);
    let fields = |path: &str| all.iter().find(|item| item.path == path).unwrap().fields.join(" ");
    assert_eq!(fields("services/test/queue"), "title username password My Custom");
    assert_eq!(fields("new/deeper/item"), "title token");
    assert_eq!(fields("only"), "title otp");
}

#[test]
fn a_changed_item_keeps_what_it_was_as_an_older_version() {
    let mut fields = sample("fields");
    for number in 0..12 {
        fields.bytes = fields.update("app", "token", format!("token {number}").as_bytes()).unwrap().leak();
    }
    let before = values(&sample("fields").open().unwrap());
    let vault = fields.open().unwrap();
    assert_eq!(get(&vault, "app", "token"), "token 11");
    let after = values(&vault);
    let changed: Vec<&str> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(_, after)| after.1.as_str())
        .collect();
    assert_eq!((before.len(), changed), (after.len(), vec!["token"]));

    let missing = fields.update("App", "token", b"x").unwrap_err();
    assert_eq!(missing.to_string(), "no entry has the path `App`; alike: `app`");
    let no_field = fields.update("app", "tokens", b"x").unwrap_err();
    assert_eq!(no_field.to_string(), "the entry `app` has no field `tokens`");
    // A change is made to what was named in full.
    let ending = sample("kdbx31-aes").update("test/db", "password", b"x").unwrap_err();
    assert_eq!(ending.to_string(), "no entry has the path `test/db`; alike: `services/test/db`");
}

#[test]
fn what_no_vault_can_hold_is_refused_without_the_value() {
    let fields = sample("fields");
    let table: [(&str, &str, &[u8], &str); 9] = [
        ("app", "password", b"hunter2\xff", "`password` cannot be set: its value is not valid UTF-8"),
        ("app", "notes", "hunter2\u{fffd}".as_bytes(), "`notes` cannot be set: its value holds U+FFFD"),
        ("app", "title", b"hunter2", "`title` cannot be set: the title is the last name of the entry's path"),
        ("app", "attachment/x", b"hunter2", "`attachment/x` cannot be set: attachments are only read"),
        ("app", "otp", b"hunter2", "`otp` cannot be set: no secret is in its `otp` attribute"),
        ("app", "a\u{1}b", b"hunter2", "`a\u{1}b` cannot be set: its name holds a control character"),
        ("a//b", "password", b"hunter2", "`a//b` is no path for an entry: it has an empty name in it"),
        ("", "password", b"hunter2", "`` is no path for an entry: it has an empty name in it"),
        ("a/\n", "password", b"hunter2", "`a/\n` is no path for an entry: it has an empty name in it"),
    ];
    for (path, field, value, expected) in table {
        let refused = match path {
            "app" => fields.update(path, field, value),
            _ => fields.create(path, field, value),
        };
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with(expected) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn new_credentials_replace_the_old_and_nothing_else() {
    let new = Credentials { password: Some("новый".as_bytes()), keyfile: HASHED };
    // Those of version 3 get the costs of a new vault, so one of them is enough.
    for sample in SAMPLES.into_iter().filter(|sample| !sample.name.starts_with("kdbx31-t")) {
        if sample.name == "kdbx31-aes" {
            continue;
        }
        let bytes = admin::rotate(sample.bytes, &sample.credentials(), &new, NOW).unwrap();
        let vault = Vault::open(&bytes, new.password, new.keyfile).unwrap();
        assert_eq!(values(&vault), values(&sample.open().unwrap()), "{}", sample.name);
        assert!(matches!(sample.open_bytes(&bytes), Err(OpenError::WrongKey { .. })), "{}", sample.name);
        assert_eq!(bytes[8..12], [1, 0, 4, 0], "{}: KDBX 4.1", sample.name);
        let kdf = match key_derivation(sample.bytes).unwrap() {
            Kdf::Aes { .. } if sample.name.starts_with("kdbx31") => {
                Kdf::Argon2 { variant: "Argon2id", memory: 64 << 20, iterations: 3, lanes: 4 }
            }
            other => other,
        };
        assert_eq!(key_derivation(&bytes), Ok(kdf), "{}", sample.name);
    }
    let sample = sample("fields");
    let none = Credentials { password: None, keyfile: None };
    let refused = admin::rotate(sample.bytes, &sample.credentials(), &none, NOW);
    assert_eq!(refused, Err(CredentialsError::Missing.into()));
    let refused = admin::rotate(sample.bytes, &new, &new, NOW);
    assert_eq!(refused, Err(OpenError::WrongKey { given: Given::Both }.into()));
}

#[test]
fn a_list_has_names_and_no_values() {
    let sample = sample("pykeepass");
    let item = |path: &str, fields: &[&str]| Item {
        path: path.into(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let expected = [
        item("other", &["title", "password"]),
        item("services/db", &["title", "username", "password", "plain", "token"]),
    ];
    assert_eq!(admin::list(sample.bytes, &sample.credentials()).unwrap(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Also what XML cannot hold, or gives back differently.
    #[test]
    fn each_text_comes_back_as_it_was(
        value in prop_oneof!["[ \t\r\n]{0,3}[\\x00-\\x7f]{0,6}[ \t\r\n]{0,3}", any::<String>()],
        name in "[^\\pC/]{1,8}",
        field in prop_oneof![Just("password".to_owned()), Just("notes".to_owned()), "[^\\pC]{1,8}"],
    ) {
        let field: Field = field.parse().unwrap();
        let is_set = matches!(field, Field::Password | Field::Notes | Field::Custom(_));
        prop_assume!(is_set && !value.contains('\u{fffd}') && !name.trim().is_empty());
        let sample = sample("fields");
        let path = format!("group {name}/{name}");
        let bytes = admin::create_item(sample.bytes, &sample.credentials(), &path, &field, value.as_bytes(), NOW).unwrap();
        let vault = sample.open_bytes(&bytes).unwrap();
        let found = vault.find(&path).unwrap().field(&field, NOW);
        if value.is_empty() && !matches!(field, Field::Custom(_)) {
            prop_assert!(found.is_err());
        } else {
            prop_assert_eq!(found.unwrap().to_vec(), value.as_bytes());
        }
    }
}
