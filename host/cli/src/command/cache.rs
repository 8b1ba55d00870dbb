//! `loom cache`: what jobs keep for later runs.

mod why;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use loom_cache::{Kind, Store, Warning};
use loom_contract::error::{ErrorInfo, code};
use loom_contract::exit;
use loom_contract::time::Timestamp;
use loom_contract::visible::on_one_line;
use loom_contract::words::counted;

use crate::args::{Cache, Entry, Quarantine};
use crate::command::Done;
use crate::config::Flags;
use crate::terminal::Terminal;

pub(crate) fn cache(args: &Cache, terminal: Terminal) -> Done {
    match args {
        Cache::List => with_store(terminal, |store, _| list(store)),
        Cache::Show(entry) => with_store(terminal, |store, _| show(store, entry)),
        Cache::Why { job } => super::print(why::why(job)?),
        Cache::Verify => verify(terminal),
        Cache::Gc { max_bytes } => {
            with_store(terminal, |store, limit| collect(store, max_bytes.unwrap_or(limit)))
        }
        Cache::Quarantine(Quarantine::List) => with_store(terminal, |store, _| quarantined(store)),
        Cache::Quarantine(Quarantine::Lift(entry)) => with_store(terminal, |store, _| lift(store, entry)),
    }
}

/// What a command prints, and the damage that it met.
type Told = (String, Vec<Warning>);

fn with_store(terminal: Terminal, work: impl FnOnce(&Store, u64) -> Result<Told, ErrorInfo>) -> Done {
    let (store, limit) = open()?;
    let (text, warnings) = work(&store, limit)?;
    warn(&warnings, terminal);
    super::print(text)
}

fn warn(warnings: &[Warning], terminal: Terminal) {
    for warning in warnings {
        terminal.say(format!("warning: {warning}\n"));
    }
}

/// The store of the current folder's repository, and how large it may be.
fn open() -> Result<(Store, u64), ErrorInfo> {
    let repo_root = super::repo_root_or_here()?;
    let config = super::effective(&repo_root, Flags::default())?;
    let cache_dir = config.cache_dir.ok_or_else(|| {
        ErrorInfo::new(code::CACHE_FAILED, "no place for the cache: neither XDG_CACHE_HOME nor HOME is set")
    })?;
    let place = super::known_cache_store(&cache_dir.value, &repo_root);
    let place = place.map_err(|error| super::ownership_error(code::CACHE_FAILED, &error))?;
    let store = Store::open(&place);
    Ok((store.map_err(|error| super::cache_error(&error))?, config.cache_max_bytes.value))
}

fn list(store: &Store) -> Result<Told, ErrorInfo> {
    let listed = store.list().map_err(|error| super::cache_error(&error))?;
    let mut text = String::new();
    for entry in &listed.entries {
        let quarantined = match store.is_quarantined(&entry.name, &entry.key) {
            Ok(None) => "",
            _ => "  in quarantine",
        };
        let _ = writeln!(
            text,
            "{:<12} {:>13} {:>10}  saved {}  used {}  {}{quarantined}",
            shown(&entry.name),
            counted(entry.files, "file"),
            size(entry.bytes),
            time(entry.saved),
            time(entry.used),
            on_one_line(&entry.key),
        );
    }
    Ok((text, listed.warnings))
}

/// The name and key of the one entry that is meant.
fn find(store: &Store, wanted: &Entry) -> Result<(String, String), ErrorInfo> {
    let listed = store.list().map_err(|error| super::cache_error(&error))?;
    let known = listed.entries.into_iter().map(|entry| (entry.name, entry.key));
    only(known.collect(), wanted, "entry")
}

fn only(mut known: Vec<(String, String)>, wanted: &Entry, what: &str) -> Result<(String, String), ErrorInfo> {
    known.retain(|(name, key)| {
        key.starts_with(&wanted.key) && wanted.cache.as_ref().is_none_or(|cache| cache == name)
    });
    if known.iter().any(|(_, key)| *key == wanted.key) {
        known.retain(|(_, key)| *key == wanted.key);
    }
    match known.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(ErrorInfo::new(
            code::CACHE_FAILED,
            format!("no {what} has a key that begins with `{}`", wanted.key),
        )
        .with_hint("`loom cache list` lists the entries, `loom cache quarantine list` the quarantines")),
        several => {
            let mut message = format!("`{}` fits {} keys:", wanted.key, several.len());
            for (name, key) in several.iter().take(10) {
                let _ = write!(message, "\n  {} {}", shown(name), on_one_line(key));
            }
            Err(ErrorInfo::new(code::CACHE_FAILED, message)
                .with_hint("give more of the key, or --cache NAME"))
        }
    }
}

fn show(store: &Store, wanted: &Entry) -> Result<Told, ErrorInfo> {
    let (name, key) = find(store, wanted)?;
    let found = store.find(&name, &key).map_err(|error| super::cache_error(&error))?;
    let Some(entry) = found.entry else {
        return Ok((String::new(), found.warnings));
    };
    let info = entry.info();
    let mut text = format!(
        "cache: {}\nkey:   {}\nsaved: {} by job {} of run {}\n",
        shown(&name),
        on_one_line(&key),
        time(info.saved),
        on_one_line(&info.origin.job),
        on_one_line(&info.origin.run)
    );
    for file in entry.files() {
        let path = on_one_line(&file.path.to_string_lossy()).into_owned();
        let _ = match file.kind {
            Kind::Folder => writeln!(text, "{:o} {:>10} {path}/", file.mode, ""),
            Kind::File { size: bytes, .. } => writeln!(text, "{:o} {:>10} {path}", file.mode, size(bytes)),
            Kind::Symlink { target } => {
                let target = target.to_string_lossy();
                writeln!(text, "{:o} {:>10} {path} -> {}", file.mode, "", on_one_line(&target))
            }
        };
    }
    Ok((text, found.warnings))
}

fn verify(terminal: Terminal) -> Done {
    let verified = open()?.0.verify(&AtomicBool::new(false)).map_err(|error| super::cache_error(&error))?;
    warn(&verified.warnings, terminal);
    let (entries, read) = (verified.entries, size(verified.bytes));
    let printed = super::print(format!("entries that are whole: {entries}; read {read}\n"))?;
    Ok(if verified.warnings.is_empty() { printed } else { exit::FAILURE })
}

fn collect(store: &Store, max_bytes: u64) -> Result<Told, ErrorInfo> {
    let collected = store.gc(max_bytes, &[]).map_err(|error| super::cache_error(&error))?;
    let mut text = String::new();
    for evicted in &collected.evicted {
        let _ = writeln!(text, "removed {} {}", shown(&evicted.name), on_one_line(&evicted.key));
    }
    let _ = writeln!(text, "freed {}; the cache takes {}", size(collected.freed), size(collected.bytes));
    Ok((text, collected.warnings))
}

fn quarantined(store: &Store) -> Result<Told, ErrorInfo> {
    let (quarantined, warnings) = store.quarantined().map_err(|error| super::cache_error(&error))?;
    let mut text = String::new();
    for entry in quarantined {
        let reason = &entry.reason;
        let _ = writeln!(
            text,
            "{} {}\n  since {}: run {} came to another result with it (job {})",
            shown(&entry.name),
            on_one_line(&entry.key),
            time(reason.when),
            on_one_line(&reason.run),
            on_one_line(&reason.job)
        );
        for difference in &reason.differences {
            let _ = writeln!(text, "    {}", on_one_line(difference));
        }
    }
    Ok((text, warnings))
}

fn lift(store: &Store, wanted: &Entry) -> Result<Told, ErrorInfo> {
    let (quarantined, warnings) = store.quarantined().map_err(|error| super::cache_error(&error))?;
    let known = quarantined.into_iter().map(|entry| (entry.name, entry.key)).collect();
    let (name, key) = only(known, wanted, "quarantine")?;
    store.lift(&name, &key).map_err(|error| super::cache_error(&error))?;
    Ok((format!("lifted the quarantine of {} {}\n", shown(&name), on_one_line(&key)), warnings))
}

/// The name of a cache; one that has none is called after its keyword.
fn shown(name: &str) -> Cow<'_, str> {
    if name.is_empty() { "cache".into() } else { on_one_line(name) }
}

fn time(at: SystemTime) -> String {
    let nanos = at.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_nanos()).unwrap_or_default();
    let text = Timestamp::from_unix_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).to_string();
    text.get(..19).map_or(text.clone(), |seconds| format!("{seconds}Z"))
}

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_500_000, "1.4 MiB"),
            (u64::MAX, "16777216.0 TiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn an_entry_is_meant_by_the_beginning_of_its_key() {
        let known = || {
            [("a", "k-1"), ("a", "k-12"), ("b", "k-2")].map(|(n, k)| (n.to_owned(), k.to_owned())).to_vec()
        };
        let find = |key: &str, cache: Option<&str>| {
            let wanted = Entry { key: key.to_owned(), cache: cache.map(str::to_owned) };
            only(known(), &wanted, "entry")
                .map(|(name, key)| format!("{name} {key}"))
                .map_err(|error| error.message)
        };
        assert_eq!(find("k-1", None).as_deref(), Ok("a k-1"));
        assert_eq!(find("k-12", None).as_deref(), Ok("a k-12"));
        assert_eq!(find("k", Some("b")).as_deref(), Ok("b k-2"));
        assert_eq!(find("x", None), Err("no entry has a key that begins with `x`".to_owned()));
        assert!(find("k", None).is_err_and(|message| message.starts_with("`k` fits 3 keys:")));
    }
}
