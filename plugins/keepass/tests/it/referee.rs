//! KeePassXC is the referee: what Loom writes, it opens and shows. Skipped, aloud, where `keepassxc-cli` is not installed.

#![expect(clippy::disallowed_methods, reason = "another program, and files for it")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use loom_plugin_keepass::admin;
use loom_plugin_keepass::credentials::Credentials;
use loom_plugin_keepass::vault::Vault;
use tempfile::TempDir;

use crate::admin::NOW;
use crate::{HASHED, SAMPLES, Sample, XML2, sample};

struct Referee {
    folder: TempDir,
}

impl Referee {
    fn find() -> Option<Self> {
        let found = Command::new("keepassxc-cli").arg("--version").stdout(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) {
            return Some(Self { folder: TempDir::new().unwrap() });
        }
        // Not `eprintln!`, which the test harness keeps for itself when a test passes.
        let skipped = b"skipped: keepassxc-cli is not installed, so nobody judges what Loom writes\n";
        std::io::stderr().write_all(skipped).unwrap();
        None
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What the command prints, of the vault `bytes`.
    fn run(&self, bytes: &[u8], keys: &Credentials<'_>, command: &[&str], rest: &[&str]) -> String {
        let database = self.file("vault.kdbx", bytes);
        self.run_file(&database, keys, command, rest)
    }

    fn run_file(&self, database: &Path, keys: &Credentials<'_>, command: &[&str], rest: &[&str]) -> String {
        let mut cli = Command::new("keepassxc-cli");
        cli.args(command).arg("-q");
        if let Some(keyfile) = keys.keyfile {
            cli.arg("-k").arg(self.file("keyfile", keyfile));
        }
        if keys.password.is_none() {
            cli.arg("--no-password");
        }
        cli.arg(database).args(rest);
        cli.env("QT_QPA_PLATFORM", "offscreen").env("LC_ALL", "C.UTF-8");
        cli.env("HOME", self.folder.path()).env("XDG_CONFIG_HOME", self.folder.path());
        let mut child =
            cli.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut typed = keys.password.unwrap_or_default().to_vec();
        typed.push(b'\n');
        child.stdin.take().unwrap().write_all(&typed).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} {rest:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_new_vault_opens_in_keepassxc() {
    let Some(referee) = Referee::find() else { return };
    let password = Some("пароль ✓".as_bytes());
    let bytes = admin::create(&Credentials { password, keyfile: XML2 }, NOW).unwrap();
    let told = referee.run(&bytes, &Credentials { password, keyfile: XML2 }, &["db-info"], &[]);
    assert!(told.contains("Cipher: ChaCha20 256-bit"), "{told}");
    assert!(told.contains("KDF: Argon2id (3 rounds, 65536 KB)"), "{told}");
    assert!(told.contains("Number of entries: 0"), "{told}");
}

#[test]
fn what_loom_wrote_shows_in_keepassxc() {
    let Some(referee) = Referee::find() else { return };
    let mut vault = sample("kdbx41-chacha20-argon2id-hex");
    let values = [
        ("a/b/first", "password", "s3cret"),
        ("a/b/second", "password", "  <&>\"' ]]> пароль 🐙  "),
        ("a/third", "username", "\ttab"),
        ("a/fourth", "notes", "-----BEGIN-----\nAAAA\n-----END-----\n"),
        ("a/fifth", "token", "line\r\nline"),
        ("a/sixth", "url", "https://user@example.com/?a=b&c=d"),
        ("ключи/седьмой", "токен", "значение"),
    ];
    for (path, field, value) in values {
        vault.bytes = vault.create(path, field, value.as_bytes()).unwrap().leak();
    }
    vault.bytes = vault.update("new/db", "password", b"another").unwrap().leak();

    let keys = vault.credentials();
    let told = referee.run(vault.bytes, &keys, &["ls", "-R", "-f"], &[]);
    let mut expected = values.map(|(path, ..)| path).to_vec();
    expected.push("new/db");
    let mut found: Vec<&str> = told.lines().filter(|path| !path.ends_with(['/', ']'])).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);

    for (path, field, value) in values.into_iter().chain([("new/db", "password", "another")]) {
        let attribute = match field {
            "password" => "Password",
            "username" => "UserName",
            "notes" => "Notes",
            "url" => "URL",
            other => other,
        };
        let told = referee.run(vault.bytes, &keys, &["show", "-s", "-a", attribute], &[path]);
        assert_eq!(told.strip_suffix('\n'), Some(value), "{path}");
    }
    // The older versions are in the order that KeePassXC keeps them in: the oldest first.
    let export = referee.run(vault.bytes, &keys, &["export"], &[]);
    let (_, history) = export.split_once(">another</Value>").unwrap();
    assert!(history.contains("s3cret of kdbx41-chacha20-argon2id-hex"), "the older version is there");
}

/// All that KeePassXC exports of a vault, but for what a change of the key changes, and what KDBX 3.1 and 4 hold in forms of
/// their own where `common` asks for that: times and attachments.
fn exported(referee: &Referee, bytes: &[u8], keys: &Credentials<'_>, common: bool) -> Vec<String> {
    // Whether a group is open in the window counts as the key's age does.
    let changed = ["<Generator>", "<HeaderHash>", "<MasterKeyChanged>", "<IsExpanded>"];
    let own = |line: &str| line.contains("Binar") || line.ends_with("Time>") || line.ends_with("Changed>");
    // What is not said means the same as these.
    let meaningless = ["<CustomData/>", "<History/>", "<DeletedObjects/>", "<Binaries/>", "<CustomIcons/>"];
    let export = referee.run(bytes, keys, &["export"], &[]);
    let mut lines: Vec<String> = export.lines().map(|line| line.trim_start().to_owned()).collect();
    lines.retain(|line| !changed.iter().chain(&meaningless).any(|start| line.starts_with(start)));
    lines.retain(|line| !common || !own(line));
    // KeePassXC makes up when an item of custom data was changed, where the vault does not say.
    lines.retain(|line| !line.ends_with(" GMT</Value>"));
    lines.sort();
    lines
}

#[test]
fn a_vault_that_loom_wrote_again_holds_all_that_it_held() {
    let Some(referee) = Referee::find() else { return };
    let new = Credentials { password: Some(b"another"), keyfile: HASHED };
    for sample in SAMPLES {
        let bytes = admin::rotate(sample.bytes, &sample.credentials(), &new, NOW).unwrap();
        let common = sample.name.starts_with("kdbx31");
        let before = exported(&referee, sample.bytes, &sample.credentials(), common);
        let after = exported(&referee, &bytes, &new, common);
        let lost: Vec<&String> = before.iter().filter(|line| !after.contains(line)).collect();
        let added: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
        assert_eq!((lost, added), (vec![], vec![]), "{}", sample.name);
        assert_eq!(before.len(), after.len(), "{}", sample.name);
    }
}

/// More than the one block that a small vault has.
#[test]
fn what_keepassxc_writes_in_many_blocks_is_read() {
    let Some(referee) = Referee::find() else { return };
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(3 << 19)
    .collect();
    let attached = referee.file("noise", &noise);
    for name in ["kdbx31-aes", "kdbx40-uncompressed"] {
        let vault = sample(name);
        let database = referee.file("blocks.kdbx", vault.bytes);
        let arguments = ["db", "noise", attached.to_str().unwrap()].map(|argument| match argument {
            "db" if name == "kdbx31-aes" => "services/test/db",
            other => other,
        });
        referee.run_file(&database, &vault.credentials(), &["attachment-import"], &arguments);
        let opened = vault.open_bytes(&std::fs::read(&database).unwrap()).unwrap();
        let found = opened.find("db").unwrap().field(&"attachment/noise".parse().unwrap(), NOW).unwrap();
        assert!(*found == noise, "{name}");
    }
}

#[test]
fn one_time_passwords_are_those_of_keepassxc() {
    let Some(referee) = Referee::find() else { return };
    let sample = sample("otp");
    let vault = sample.open().unwrap();
    for entry in ["plain", "sha256", "sha512", "steam", "seed"] {
        let before = code(&vault, entry);
        let told = referee.run(sample.bytes, &sample.credentials(), &["show", "-t"], &[entry]);
        // The code may change while KeePassXC computes.
        let fits = [before, code(&vault, entry)].contains(&told.trim().to_owned());
        assert!(fits, "{entry}: {told}");
    }
}

fn code(vault: &Vault, entry: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let code = vault.find(entry).unwrap().field(&"otp".parse().unwrap(), now).unwrap();
    String::from_utf8(code.to_vec()).unwrap()
}

/// The samples are what their README says, as KeePassXC tells.
#[test]
fn the_samples_are_of_many_kinds() {
    let Some(referee) = Referee::find() else { return };
    let told = |name| {
        let Sample { bytes, .. } = sample(name);
        referee.run(bytes, &sample(name).credentials(), &["db-info"], &[])
    };
    for (name, cipher, kdf) in [
        ("kdbx31-aes", "AES 256-bit", "AES (600 rounds)"),
        ("kdbx31-twofish-both", "Twofish 256-bit", "AES (601 rounds)"),
        ("kdbx31-chacha20-keyfile", "ChaCha20 256-bit", "AES (602 rounds)"),
        ("kdbx40-aes-aeskdf", "AES 256-bit", "AES (603 rounds)"),
        ("kdbx40-chacha20-argon2d-xml1", "ChaCha20 256-bit", "Argon2d (2 rounds, 64 KB)"),
        ("kdbx40-twofish-argon2id-raw", "Twofish 256-bit", "Argon2id (2 rounds, 64 KB)"),
    ] {
        let told = told(name);
        assert!(told.contains(&format!("Cipher: {cipher}\nKDF: {kdf}\n")), "{name}: {told}");
    }
}
