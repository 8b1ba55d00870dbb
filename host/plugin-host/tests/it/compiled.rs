use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use loom_engine::port::Provider as _;
use loom_plugin_bundle::{HOST, guests};
use loom_plugin_host::{Origin, PluginConfig, Runtime};
use tempfile::TempDir;

/// Where a component's code came from, for a process that starts with this cache.
fn origin(cache: &Path, component: &[u8]) -> Origin {
    let plugin = Runtime::new(Some(cache.to_owned()))
        .unwrap()
        .load_provider(component, PluginConfig::default())
        .unwrap();
    // Whatever was in the cache, it is this component that was loaded.
    assert_eq!(plugin.plugin().digest, blake3::hash(component).to_string());
    plugin.origin()
}

/// A cache with the host provider's code, and the file that holds it.
fn filled() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("deep/components");
    assert_eq!(origin(&cache, HOST), Origin::Compiled);
    let [code] = code_files(&cache).try_into().unwrap();
    (dir, cache, code)
}

fn code_files(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs_err::read_dir(cache)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "cwasm"))
        .collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs_err::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn code_is_compiled_once() {
    let (_dir, cache, code) = filled();
    assert_eq!(origin(&cache, HOST), Origin::Cached);
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(mode(&cache.join("key")), 0o600);
    assert_eq!(mode(&code), 0o600);
    assert_eq!(fs_err::read(cache.join("key")).unwrap().len(), 32);
    assert_eq!(fs_err::read_dir(&cache).unwrap().count(), 2);
}

#[test]
fn a_changed_file_is_compiled_again_and_replaced() {
    type Change = (&'static str, fn(&mut Vec<u8>));
    let changes: [Change; 7] = [
        ("a bit of the keyed hash", |bytes| bytes[3] ^= 1),
        ("the first byte of code", |bytes| bytes[32] ^= 0x80),
        ("a bit in the middle", |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }),
        ("a byte less", |bytes| bytes.truncate(bytes.len() - 1)),
        ("a byte more", |bytes| bytes.push(0)),
        ("half a keyed hash", |bytes| bytes.truncate(16)),
        ("nothing", |bytes| bytes.clear()),
    ];
    let (_dir, cache, code) = filled();
    let whole = fs_err::read(&code).unwrap();
    for (what, change) in changes {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs_err::write(&code, &bytes).unwrap();
        assert_eq!(origin(&cache, HOST), Origin::Compiled, "{what}");
        assert_eq!(origin(&cache, HOST), Origin::Cached, "{what}");
    }
}

/// Code that wasmtime would take: it is the keyed hash alone that keeps it out.
#[test]
fn code_of_another_component_under_this_name_is_never_used() {
    let (_dir, cache, host) = filled();
    assert_eq!(origin(&cache, guests::MISBEHAVING), Origin::Compiled);
    let other = code_files(&cache).into_iter().find(|file| *file != host).unwrap();
    fs_err::copy(&other, &host).unwrap();
    assert_eq!(origin(&cache, HOST), Origin::Compiled);
    // The same with the hash that stood there before.
    let honest = fs_err::read(&host).unwrap();
    let mut forged = honest[..32].to_vec();
    forged.extend_from_slice(&fs_err::read(&other).unwrap()[32..]);
    fs_err::write(&host, forged).unwrap();
    assert_eq!(origin(&cache, HOST), Origin::Compiled);
    assert_eq!(origin(&cache, HOST), Origin::Cached);
}

#[test]
fn code_that_was_authenticated_with_another_key_is_never_used() {
    let (_dir, cache, code) = filled();
    let (_other_dir, _, foreign) = filled();
    assert_eq!(code.file_name(), foreign.file_name());
    fs_err::copy(&foreign, &code).unwrap();
    assert_eq!(origin(&cache, HOST), Origin::Compiled);
    fs_err::write(cache.join("key"), [7; 32]).unwrap();
    assert_eq!(origin(&cache, HOST), Origin::Compiled);
    assert_eq!(origin(&cache, HOST), Origin::Cached);
}

#[test]
fn a_key_that_cannot_be_trusted_is_replaced() {
    let (_dir, cache, _) = filled();
    let key = cache.join("key");
    let spoil: [fn(&Path); 4] = [
        |key| fs_err::write(key, "short").unwrap(),
        |key| fs_err::set_permissions(key, Permissions::from_mode(0o644)).unwrap(),
        |key| fs_err::remove_file(key).unwrap(),
        |key| {
            fs_err::rename(key, key.with_extension("real")).unwrap();
            fs_err::os::unix::fs::symlink("key.real", key).unwrap();
        },
    ];
    for spoil in spoil {
        let before = fs_err::read(&key).unwrap();
        spoil(&key);
        assert_eq!(origin(&cache, HOST), Origin::Compiled);
        assert_eq!(origin(&cache, HOST), Origin::Cached);
        assert_ne!(fs_err::read(&key).unwrap(), before);
        assert!(fs_err::symlink_metadata(&key).unwrap().is_file());
        assert_eq!(mode(&key), 0o600);
    }
}

#[test]
fn code_that_others_could_have_written_is_not_used() {
    let (_dir, cache, code) = filled();
    fs_err::set_permissions(&code, Permissions::from_mode(0o622)).unwrap();
    assert_eq!(origin(&cache, HOST), Origin::Compiled);
    assert_eq!(mode(&code), 0o600);
    assert_eq!(origin(&cache, HOST), Origin::Cached);
}

#[test]
fn a_folder_that_others_can_write_to_is_not_used() {
    let (_dir, cache, _) = filled();
    for mode in [0o770, 0o702, 0o1777] {
        fs_err::set_permissions(&cache, Permissions::from_mode(mode)).unwrap();
        assert_eq!(origin(&cache, HOST), Origin::Compiled, "{mode:o}");
    }
    fs_err::set_permissions(&cache, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(origin(&cache, HOST), Origin::Cached);
}

#[test]
fn without_a_usable_folder_everything_is_compiled() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs_err::write(&file, "").unwrap();
    let link = dir.path().join("link");
    fs_err::create_dir(dir.path().join("real")).unwrap();
    fs_err::os::unix::fs::symlink("real", &link).unwrap();
    // No folder; nothing can be made in it, whoever asks; a link; nothing can be written to it, whoever asks.
    for cache in [file.clone(), file.join("below"), link, PathBuf::from("/proc/self")] {
        assert_eq!(origin(&cache, HOST), Origin::Compiled, "{}", cache.display());
        assert_eq!(origin(&cache, HOST), Origin::Compiled, "{}", cache.display());
    }
}

#[test]
fn what_is_old_goes_when_something_new_comes() {
    let (_dir, cache, code) = filled();
    let old = cache.join("0123.cwasm");
    let part = cache.join("0123.cwasm.77.part");
    for file in [&old, &part] {
        fs_err::write(file, "old").unwrap();
        let month_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 24 * 60 * 60);
        fs_err::OpenOptions::new()
            .write(true)
            .open(file)
            .unwrap()
            .into_file()
            .set_modified(month_ago)
            .unwrap();
    }
    assert_eq!(origin(&cache, HOST), Origin::Cached);
    assert!(old.exists() && part.exists());
    assert_eq!(origin(&cache, guests::MISBEHAVING), Origin::Compiled);
    assert!(!old.exists() && !part.exists());
    assert!(code.exists() && cache.join("key").exists());
}

#[test]
fn many_that_start_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("c");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| origin(&cache, HOST));
        }
    });
    assert_eq!(origin(&cache, HOST), Origin::Cached);
    assert_eq!(fs_err::read_dir(&cache).unwrap().count(), 2);
}
