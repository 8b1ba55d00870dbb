//! What other programs wrote is read as they wrote it.

use loom_plugin_keepass::vault::{FieldError, FindError, OpenError, Vault};

use crate::{SAMPLES, SESAME, Sample, sample};

/// A second at which codes of one-time passwords are known.
const NOW: u64 = 59;

fn value(vault: &Vault, entry_path: &str, field: &str) -> Result<Vec<u8>, String> {
    let entry = vault.find(entry_path).map_err(|error| error.to_string())?;
    let value = entry.field(&field.parse().unwrap(), NOW).map_err(|error| error.to_string())?;
    Ok(value.to_vec())
}

fn text(sample: &str, entry_path: &str, field: &str) -> String {
    let vault = crate::sample(sample).open().unwrap();
    String::from_utf8(value(&vault, entry_path, field).unwrap()).unwrap()
}

#[test]
fn each_value_of_each_vault_is_as_it_was_written() {
    let long = "-----BEGIN-----\n  AAAA\n-----END-----\n";
    let table = [
        ("kdbx31-aes", "services/test/db", "password", "s3cret of kdbx31-aes"),
        ("kdbx31-aes", "db", "username", "loom"),
        ("kdbx31-aes", "test/db", "URL", "https://db.test/"),
        ("kdbx31-aes", "db", "Notes", "made\nby hand"),
        ("kdbx31-aes", "db", "title", "db"),
        ("kdbx31-twofish-both", "db", "password", "s3cret of kdbx31-twofish-both"),
        ("kdbx31-twofish-both", "db", "attachment/ca.pem", "-----BEGIN-----\nAAAA\n-----END-----\n"),
        ("kdbx31-chacha20-keyfile", "db", "password", "s3cret of kdbx31-chacha20-keyfile"),
        ("kdbx40-aes-aeskdf", "db", "password", "s3cret of kdbx40-aes-aeskdf"),
        ("kdbx40-chacha20-argon2d-xml1", "db", "password", "s3cret of kdbx40-chacha20-argon2d-xml1"),
        ("kdbx40-twofish-argon2id-raw", "db", "password", "s3cret of kdbx40-twofish-argon2id-raw"),
        ("kdbx40-uncompressed", "db", "password", "s3cret of kdbx40-uncompressed"),
        ("kdbx41-chacha20-argon2id-hex", "new/db", "password", "s3cret of kdbx41-chacha20-argon2id-hex"),
        ("kdbx41-aes-argon2d-hashed", "new/db", "password", "s3cret of kdbx41-aes-argon2d-hashed"),
        ("unicode", "ключи/日本語 🗝/büro & <co> \"x\"", "password", "пароль 🐙 ]]> &amp;"),
        ("unicode", "büro & <co> \"x\"", "UserName", "Ωμέγα"),
        ("unicode", "日本語 🗝/büro & <co> \"x\"", "notes", "первая\n\tвторая\n"),
        ("recycled", "base", "password", "third of kept/base"),
        ("fields", "app", "password", "of app"),
        ("fields", "app", "token", "of token"),
        ("fields", "app", "plain", "of plain"),
        ("fields", "app", "Password 2", "of Password 2"),
        ("fields", "app", "empty", ""),
        ("fields", "app", "key.pem", "-----BEGIN-----\r\n  AAAA\n-----END-----\n"),
        ("fields", "app", "notes.pem", long),
        ("fields", "app", "PIN", " 0042 "),
        ("fields", "app", "токен", "значение"),
        ("attachments", "first", "attachment/id.txt", "text of id.txt\n"),
        ("attachments", "second", "attachment/id.txt", "another text\n"),
        ("attachments", "first", "attachment/empty", ""),
        ("otp", "plain", "otp", "287082"),
        ("otp", "sha256", "otp", "32247374"),
        ("otp", "sha512", "otp", "125165"),
        ("otp", "steam", "otp", "PV9M4"),
        ("otp", "seed", "otp", "94287082"),
        ("everything", "group/all", "password", "of all, anew"),
        ("pykeepass", "db", "password", "of db, anew"),
        ("pykeepass", "db", "token", "of token"),
        ("pykeepass", "db", "plain", "of plain"),
        ("pykeepass", "other", "password", "of other"),
    ];
    for (sample, entry_path, field, expected) in table {
        assert_eq!(text(sample, entry_path, field), expected, "{sample}: {entry_path}:{field}");
    }
    let missing: Vec<&str> = SAMPLES
        .iter()
        .map(|sample| sample.name)
        .filter(|name| table.iter().all(|row| row.0 != *name))
        .collect();
    assert_eq!(missing, ["paths"]);
}

#[test]
fn attachments_are_the_bytes_that_they_were() {
    let all: Vec<u8> = (0..=255).collect();
    let vault = sample("kdbx31-twofish-both").open().unwrap();
    assert_eq!(value(&vault, "db", "attachment/bytes").unwrap(), all);
    let vault = sample("attachments").open().unwrap();
    assert_eq!(value(&vault, "first", "attachment/all bytes.bin").unwrap(), all.repeat(4));
    assert_eq!(value(&vault, "second", "attachment/same").unwrap(), all.repeat(4));
}

#[test]
fn a_path_is_found_by_its_end_in_whole_names() {
    let vault = sample("paths").open().unwrap();
    let table = [
        ("services/test/db", "of services/test/db"),
        ("test/db", "of services/test/db"),
        ("prod/db", "of services/prod/db"),
        ("only", "of services/prod/only"),
        ("db/db", "of db/db"),
        ("deep", "of a/b/c/d/e/deep"),
        ("c/d/e/deep", "of a/b/c/d/e/deep"),
        // A full path wins over `services/test/test`.
        ("test", "of test"),
        ("test/test", "of services/test/test"),
        // The root group's name may stand in front.
        ("Root/test", "of test"),
        ("Root/services/test/test", "of services/test/test"),
        ("https://user@example.com:8443/x", "of a title with slashes"),
        ("7/same", "of 7"),
    ];
    for (path, expected) in table {
        let found = value(&vault, path, "password").map(|value| String::from_utf8(value).unwrap());
        assert_eq!(found.as_deref(), Ok(expected), "{path}");
    }
    for path in [
        "b",
        "/db",
        "est/db",
        "x",
        "/x",
        "example.com:8443/x",
        "services/test",
        "services/test/db/",
        "DB/DB",
        "",
    ] {
        assert!(matches!(vault.find(path), Err(FindError::NotFound { .. })), "{path}");
    }
}

#[test]
fn a_path_that_fits_several_entries_names_them() {
    let vault = sample("paths").open().unwrap();
    let error = vault.find("db").unwrap_err().to_string();
    assert_eq!(error, "`db` fits 3 entries: `db/db`, `services/prod/db`, `services/test/db`");
    let error = vault.find("twin").unwrap_err().to_string();
    assert_eq!(error, "`twin` fits 2 entries: `twin`, `twin`");
    let error = vault.find("same").unwrap_err().to_string();
    assert!(
        error.starts_with("`same` fits 12 entries: `many/0/same`, `many/1/same`, `many/10/same`, "),
        "{error}"
    );
    assert!(error.ends_with("`many/7/same` and 2 more"), "{error}");
}

#[test]
fn a_path_that_fits_none_names_what_is_alike() {
    let vault = sample("paths").open().unwrap();
    let error = vault.find("service/Only").unwrap_err().to_string();
    assert_eq!(error, "no entry has the path `service/Only`; alike: `services/prod/only`");
    let error = vault.find("nothing/like/it").unwrap_err().to_string();
    assert_eq!(error, "no entry has the path `nothing/like/it`");
}

#[test]
fn the_recycle_bin_and_older_versions_do_not_count() {
    let vault = sample("recycled").open().unwrap();
    let paths: Vec<String> = vault.entries().iter().map(|entry| entry.path().to_owned()).collect();
    assert_eq!(paths, ["kept/base"]);
    for path in ["db", "kept/db", "other", "Recycle Bin/other", "gone/db"] {
        assert!(matches!(vault.find(path), Err(FindError::NotFound { .. })), "{path}");
    }
}

#[test]
fn a_missing_field_names_those_that_are_there() {
    let vault = sample("fields").open().unwrap();
    for field in ["pin", "username", "notes", "otp", "attachment/x"] {
        let error = value(&vault, "app", field).unwrap_err();
        let expected = format!(
            "the entry `app` has no `{field}`; it has `title`, `password`, `url`, `PIN`, `Password 2`, `empty`, `key.pem`, \
             `notes.pem`, `plain`, `token` and 1 more"
        );
        assert_eq!(error, expected);
    }
    let names = sample("otp").open().unwrap().find("plain").unwrap().field_names();
    assert_eq!(names, ["title", "otp"]);
    let names = sample("attachments").open().unwrap().find("second").unwrap().field_names();
    assert_eq!(names, ["title", "password", "attachment/id.txt", "attachment/same"]);
}

#[test]
fn no_error_holds_a_value() {
    let vault = sample("otp").open().unwrap();
    let error = value(&vault, "wrong", "otp").unwrap_err();
    assert_eq!(error, "the entry `wrong` gives no one-time password: no secret is in its `otp` attribute");
    let error = value(&vault, "none", "otp").unwrap_err();
    assert_eq!(error, "the entry `none` has no `otp`; it has `title`, `password`");

    let vault = sample("paths").open().unwrap();
    let entry = vault.find("copy").unwrap();
    let error = entry.field(&"password".parse().unwrap(), NOW).unwrap_err();
    assert!(matches!(error, FieldError::Elsewhere { .. }), "{error}");
    assert!(!error.to_string().contains("46C9"), "{error}");

    assert_eq!(format!("{vault:?} {entry:?}"), "Vault of 23 entries Entry `copy`");
}

/// What pykeepass wrote here would come out as noise: nobody gets a value that is none.
#[test]
fn values_that_would_come_out_garbled_are_refused() {
    let bytes = include_bytes!("../vaults/pykeepass-history.kdbx");
    let vault = Sample { name: "pykeepass-history", bytes, password: SESAME, keyfile: None };
    assert!(matches!(vault.open(), Err(OpenError::Damaged(text)) if text.contains("garbled")));
}
