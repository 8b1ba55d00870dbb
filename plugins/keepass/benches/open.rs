//! What opening a vault costs: nearly all of it is the key derivation, which the vault chooses.

#![expect(clippy::unwrap_used, reason = "a measurement whose ground is missing has to end")]

use divan::Bencher;
use keepass::config::{DatabaseConfig, KdfConfig};
use keepass::db::fields;
use keepass::{Database, DatabaseKey};
use loom_plugin_keepass::vault::Vault;

const PASSWORD: &str = "open sesame";

fn main() {
    divan::main();
}

/// 64 MiB, 2 iterations: `(lanes)`. Natively each lane has its thread; WebAssembly has one for all.
#[divan::bench(args = [1, 4], sample_count = 20, sample_size = 1)]
fn argon2id(bencher: Bencher<'_, '_>, lanes: u32) {
    let version = match DatabaseConfig::default().kdf_config {
        KdfConfig::Argon2 { version, .. } => version,
        _ => return,
    };
    let kdf = KdfConfig::Argon2id { iterations: 2, memory: 64 << 20, parallelism: lanes, version };
    open(bencher, &vault(kdf, 10));
}

/// The default of `keepassxc-cli db-create`.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn aes_million_rounds(bencher: Bencher<'_, '_>) {
    open(bencher, &vault(KdfConfig::Aes { rounds: 1_000_000 }, 10));
}

/// Next to no key derivation: what is left.
#[divan::bench(args = [10, 1_000])]
fn entries(bencher: Bencher<'_, '_>, entries: usize) {
    open(bencher, &vault(KdfConfig::Aes { rounds: 1 }, entries));
}

/// Finding an entry by the end of its path.
#[divan::bench(args = [10, 1_000])]
fn find(bencher: Bencher<'_, '_>, entries: usize) {
    let bytes = vault(KdfConfig::Aes { rounds: 1 }, entries);
    let vault = Vault::open(&bytes, Some(PASSWORD.as_bytes()), None).unwrap();
    bencher.bench_local(|| vault.find("group/entry 7").unwrap().path().len());
}

fn open(bencher: Bencher<'_, '_>, bytes: &[u8]) {
    bencher.bench_local(|| Vault::open(bytes, Some(PASSWORD.as_bytes()), None).unwrap());
}

fn vault(kdf: KdfConfig, entries: usize) -> Vec<u8> {
    let mut config = DatabaseConfig::default();
    config.kdf_config = kdf;
    let mut database = Database::with_config(config);
    let mut root = database.root_mut();
    let mut group = root.add_group();
    group.name = "group".to_owned();
    for number in 0..entries {
        let mut entry = group.add_entry();
        entry.set_unprotected(fields::TITLE, format!("entry {number}"));
        entry.set_protected(fields::PASSWORD, "s3cret");
    }
    let mut bytes = Vec::new();
    database.save(&mut bytes, DatabaseKey::new().with_password(PASSWORD)).unwrap();
    bytes
}
