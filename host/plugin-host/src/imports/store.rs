//! `loom:workspace/store`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom_cache::{Entry, Kind, Origin, Save, Tracked, key};
use loom_contract::error::ErrorInfo;
use loom_contract::event::Level;
use loom_contract::words::counted;
use loom_engine::cancel::{Cancel, Urgency};
use loom_engine::redact::Redactor;
use loom_tree::glob_base;
use serde_json::{Map, Value, json};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::context::StoreContext;
use self::wit::loom::workspace::store::{self, Content, FilesHash, Host, HostCache, Lookup, Restored, Saved};
use crate::caches::{Cache, Claimed};
use crate::guest::{Guest, OwnJob};
use crate::messages::Messages;
use crate::types::{Error, ErrorKind, Failure, error};
use crate::wall::Wall;

pub(crate) mod context;

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:workspace/store@0.1.0;",
        imports: {
            "loom:workspace/store.hash-files": async | trappable,
            "loom:workspace/store.[method]cache.quarantined": async | trappable,
            "loom:workspace/store.[method]cache.restore": async | trappable,
            "loom:workspace/store.[method]cache.save": async | trappable,
            default: trappable,
        },
        with: { "loom:host/types": crate::types::wit, "loom:workspace/store.cache": super::CacheHandle },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// A cache of the guest's own job.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct CacheHandle {
    claimed: Arc<Claimed>,
    /// The key as the guest gave it; that of the claim is the one in the store.
    key: String,
}

/// Key files that are named in a message at most.
const NAMED: usize = 2000;

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    context: &'a mut StoreContext,
    job: &'a OwnJob,
    messages: &'a Messages,
    wall: &'a Wall,
    table: &'a mut ResourceTable,
}

struct Store;

impl HasData for Store {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, Store>(linker, |guest| View {
        context: &mut guest.store,
        job: &guest.job,
        messages: &guest.messages,
        wall: &guest.wall,
        table: &mut guest.table,
    })
}

impl Host for View<'_> {
    async fn hash_files(&mut self, globs: Vec<String>) -> Result<FilesHash, Failure> {
        let _of_job = self.wall.of_job();
        let job = Arc::clone(self.job.get()?);
        let patterns = globs.clone();
        let hash = blocking(job.cancel.clone(), move |cancel| {
            let listing = loom_workspace::list_files(&job.workspace, cancel).map_err(unlisted)?;
            let selected = key::select(&listing, &patterns).map_err(|cause| wrong(&cause))?;
            key::hash_files(&job.workspace, &selected).map_err(|cause| wrong(&cause))
        })
        .await?;
        let inputs: Map<String, Value> = hash
            .files
            .iter()
            .take(NAMED)
            .map(|(path, digest)| (path.to_string_lossy().into_owned(), digest.as_str().into()))
            .collect();
        let text = format!("hashed {}: {}", counted(hash.files.len() as u64, "file"), hash.hex);
        let data = json!({ "globs": globs, "digest": hash.hex, "inputs": inputs });
        self.messages.record(Level::Debug, text, data.as_object().cloned());
        let files = u32::try_from(hash.files.len()).unwrap_or(u32::MAX);
        let answer = FilesHash { digest: hash.hex.clone(), files };
        self.context.hashed.push((globs.join(" "), hash));
        Ok(answer)
    }
}

impl HostCache for View<'_> {
    fn new(
        &mut self,
        name: String,
        key: String,
        paths: Vec<String>,
    ) -> wasmtime::Result<Resource<CacheHandle>> {
        let job = Arc::clone(self.job.get()?);
        // One that works elsewhere shares its files with nobody.
        let workspace = if job.files().is_some() { job.staging.join("cache") } else { job.workspace.clone() };
        let stored = stored_key(&job.redactor, &key);
        if stored != key {
            let text = "the cache's key holds the value of a secret: in the store, a hash stands for it; \
                        keys are names, so leave the secret out of `cache.key`";
            self.messages.record(Level::Warn, text.to_owned(), json!({ "key": stored }).as_object().cloned());
        }
        let cache = Cache { workspace, name: stored_key(&job.redactor, &name), key: stored, paths };
        let claimed = Arc::new(self.context.caches()?.claim(&job.id, cache));
        Ok(self.table.push(CacheHandle { claimed, key })?)
    }

    async fn quarantined(&mut self, handle: Resource<CacheHandle>) -> Result<Option<String>, Failure> {
        let _of_job = self.wall.of_job();
        let claimed = Arc::clone(&self.table.get(&handle)?.claimed);
        let cancel = self.job.get()?.cancel.clone();
        blocking(cancel, move |_| {
            let Cache { name, key, .. } = &claimed.cache;
            Ok(match claimed.caches().store.is_quarantined(name, key) {
                Ok(reason) => reason.map(|reason| {
                    format!("run {} came to another result with it (job `{}`)", reason.run, reason.job)
                }),
                Err(cause) => Some(cause.to_string()),
            })
        })
        .await
    }

    async fn restore(
        &mut self,
        handle: Resource<CacheHandle>,
        key: String,
        by: Lookup,
    ) -> Result<Restored, Failure> {
        let _of_job = self.wall.of_job();
        let handle = self.table.get(&handle)?;
        let (claimed, own) = (Arc::clone(&handle.claimed), handle.key.clone());
        if claimed.is_busy() {
            return Ok(Restored::Busy);
        }
        let cancel = self.job.get()?.cancel.clone();
        let caches = Arc::clone(claimed.caches());
        let job = Arc::clone(self.job.get()?);
        let stored = stored_key(&job.redactor, &key);
        if stored != key && by == Lookup::Prefix {
            // What a key with a value begins with cannot be told from its hash.
            return Ok(Restored::Miss);
        }
        let key = stored;
        let Some(files) = job.files() else {
            let _alone = caches.restoring.lock().await;
            let restoring = Arc::clone(&claimed);
            let done = blocking(cancel, move |cancel| {
                let tracked = tracked(&restoring.cache, &job.workspace, cancel)?;
                restore(&restoring, &key, by, &tracked, cancel)
            });
            let (restored, warnings) = done.await?;
            self.warn_all(warnings);
            return Ok(told(restored, &claimed.cache.key, own));
        };
        let elsewhere = Arc::clone(&claimed);
        let workspace = job.workspace.clone();
        let (restored, warnings, surplus) = blocking(cancel, move |cancel| {
            staged(&elsewhere.cache.workspace)?;
            // The repository is the same there, as far as it is known here.
            let tracked = tracked(&elsewhere.cache, &workspace, cancel)?;
            let (restored, warnings) = restore(&elsewhere, &key, by, &tracked, cancel)?;
            let surplus = match restored {
                Restored::Hit(_) => surplus(&elsewhere.cache, &workspace, &tracked, cancel)?,
                _ => Vec::new(),
            };
            Ok((restored, warnings, surplus))
        })
        .await?;
        self.warn_all(warnings);
        if let Restored::Hit(_) = &restored {
            files.put(&claimed.cache.workspace, &surplus).await.map_err(not_moved)?;
        }
        Ok(told(restored, &claimed.cache.key, own))
    }

    async fn save(&mut self, handle: Resource<CacheHandle>) -> Result<Saved, Failure> {
        let _of_job = self.wall.of_job();
        let handle = self.table.get(&handle)?;
        let (claimed, own) = (Arc::clone(&handle.claimed), handle.key.clone());
        let job = Arc::clone(self.job.get()?);
        let redactor = job.redactor.clone();
        let (recipe, mut inputs) = self.context.inputs(&claimed.cache.key);
        for (path, _) in &mut inputs {
            *path = redactor.text(path).into_owned();
        }
        let recipe = redactor.text(&recipe).into_owned();
        let origin = Origin { run: job.ids.run_id.to_string(), job: job.id.to_string(), inputs, recipe };
        if let Some(files) = job.files() {
            let tree = claimed.cache.workspace.clone();
            blocking(job.cancel.clone(), move |_| staged(&tree)).await?;
            let left_out = files.fetch(&claimed.cache.paths, &claimed.cache.workspace).await;
            self.warn_all(left_out.map_err(not_moved)?);
        }
        let done = blocking(job.cancel.clone(), move |cancel| {
            let tracked = tracked(&claimed.cache, &job.workspace, cancel)?;
            save(&claimed, &origin, &tracked, &redactor, cancel)
        });
        let (saved, warnings) = done.await?;
        self.warn_all(warnings);
        Ok(match saved {
            Saved::Stored(content) => Saved::Stored(Content { key: own, ..content }),
            other => other,
        })
    }

    fn drop(&mut self, handle: Resource<CacheHandle>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl View<'_> {
    fn warn_all(&self, warnings: Vec<String>) {
        for warning in warnings {
            self.messages.record(Level::Warn, warning, None);
        }
    }
}

/// Does `work` on a thread for what blocks, and tells it when the run is to end.
async fn blocking<T: Send + 'static>(
    mut cancel: Cancel,
    work: impl FnOnce(&AtomicBool) -> Result<T, Error> + Send + 'static,
) -> Result<T, Failure> {
    let stop = StopOnDrop::default();
    let seen = Arc::clone(&stop.0);
    let mut task = tokio::task::spawn_blocking(move || work(&seen));
    tokio::select! {
        done = &mut task => return Ok(done??),
        () = cancel.reached(Urgency::Ask) => stop.0.store(true, Ordering::Relaxed),
    }
    Ok(task.await??)
}

/// Tells work to stop, also where the call is given up that waits for it.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes an empty folder.
fn staged(folder: &Path) -> Result<(), Error> {
    let made = loom_engine::secrets::remove(folder).and_then(|()| fs_err::create_dir_all(folder));
    made.map_err(|cause| failed(cause.to_string()))
}

/// What git tracks in `workspace` where the paths of `cache` may lead: the cache leaves it alone.
fn tracked(cache: &Cache, workspace: &Path, cancel: &AtomicBool) -> Result<Tracked, Error> {
    let mut below: Vec<PathBuf> = cache.paths.iter().map(|path| glob_base(path)).collect();
    if below.iter().any(|path| path.as_os_str().is_empty()) {
        below.clear();
    }
    let listing = loom_workspace::list_tracked(workspace, &below, cancel).map_err(unlisted)?;
    Ok(Tracked::new(listing))
}

fn unlisted(cause: loom_workspace::Error) -> Error {
    failed(format!("cannot list the files of the workspace: {cause}"))
}

/// The files of `workspace` below the paths of `cache` that are not among those of its own folder, and not tracked.
fn surplus(
    cache: &Cache,
    workspace: &Path,
    tracked: &Tracked,
    cancel: &AtomicBool,
) -> Result<Vec<PathBuf>, Error> {
    let patterns = loom_tree::Patterns::new(&cache.paths).map_err(|cause| failed(cause.to_string()))?;
    let listing = loom_workspace::list_files(workspace, cancel).map_err(unlisted)?;
    // By name, since a link of the entry may lead anywhere.
    let own = loom_workspace::list_everything(&cache.workspace, cancel).map_err(unlisted)?;
    let own: HashSet<PathBuf> = own.into_iter().collect();
    let is_surplus = |path: &PathBuf| {
        patterns.cover(path.as_os_str().as_bytes()) && !own.contains(path) && !tracked.contains(path)
    };
    Ok(listing.into_iter().filter(is_surplus).collect())
}

/// What `key` is called in the store, which is no place for secrets: with the values of all that are known masked, and a
/// hash of the whole, so that keys of other values stay other keys.
fn stored_key(redactor: &Redactor, key: &str) -> String {
    match redactor.text(key) {
        Cow::Borrowed(key) => key.to_owned(),
        Cow::Owned(masked) => {
            let hash = blake3::derive_key("loom cache key that holds a secret", key.as_bytes());
            let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{masked}-{digits}")
        }
    }
}

/// A cache of the guest's own key is told under that key.
fn told(restored: Restored, stored: &str, own: String) -> Restored {
    let content = |content: Content| match content.key == stored {
        true => Content { key: own, ..content },
        false => content,
    };
    match restored {
        Restored::Hit(found) => Restored::Hit(content(found)),
        Restored::Already(found) => Restored::Already(content(found)),
        other => other,
    }
}

fn failed(message: String) -> Error {
    error(ErrorKind::Failed, "CACHE_FAILED", message)
}

/// The files could not be moved between here and where the job works.
fn not_moved(cause: ErrorInfo) -> Error {
    Error { hint: cause.hint, ..failed(cause.message) }
}

fn wrong(cause: &loom_cache::Error) -> Error {
    let kind = match cause {
        loom_cache::Error::Cancelled => ErrorKind::Cancelled,
        _ => ErrorKind::Failed,
    };
    Error { hint: cause.hint().map(str::to_owned), ..error(kind, "CACHE_FAILED", cause.to_string()) }
}

type Warnings = Vec<String>;

/// So often an entry is looked for that another run replaces just then.
const TRIES: u32 = 5;

/// An entry that cannot be restored, for whatever reason, is a miss: the job makes anew what it holds.
fn restore(
    claimed: &Claimed,
    key: &str,
    by: Lookup,
    tracked: &Tracked,
    cancel: &AtomicBool,
) -> Result<(Restored, Warnings), Error> {
    for _ in 1..TRIES {
        if let Some(done) = restore_once(claimed, key, by, tracked, cancel, Gone::Again)? {
            return Ok(done);
        }
    }
    Ok(restore_once(claimed, key, by, tracked, cancel, Gone::Miss)?.unwrap_or((Restored::Miss, Vec::new())))
}

/// What it means that an entry went between being found and being restored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// There may be a new one.
    Again,
    Miss,
}

/// Nothing where it is to be tried again.
fn restore_once(
    claimed: &Claimed,
    key: &str,
    by: Lookup,
    tracked: &Tracked,
    cancel: &AtomicBool,
    gone: Gone,
) -> Result<Option<(Restored, Warnings)>, Error> {
    let (cache, caches) = (&claimed.cache, claimed.caches());
    let found = match by {
        Lookup::Exact => caches.store.find(&cache.name, key),
        Lookup::Prefix => caches.store.newest_with_prefix(&cache.name, key),
    };
    let found = match found {
        Ok(found) => found,
        Err(cause) => return Ok(Some((Restored::Miss, vec![format!("the cache cannot be read: {cause}")]))),
    };
    let mut warnings: Warnings = found.warnings.iter().map(ToString::to_string).collect();
    let Some(entry) = found.entry else { return Ok(Some((Restored::Miss, warnings))) };
    let info = entry.info();
    // One in quarantine may be found by the exact text of a fallback key.
    if info.key != cache.key && !matches!(caches.store.is_quarantined(&cache.name, &info.key), Ok(None)) {
        return Ok(Some((Restored::Miss, warnings)));
    }
    if !caches.may_restore(&cache.name, &info.key) {
        return Ok(Some((Restored::Miss, warnings)));
    }
    let content =
        |stored_bytes| Content { key: info.key.clone(), files: info.files, bytes: info.bytes, stored_bytes };
    if caches.is_restored(cache, &info.key) {
        claimed.found(&info.key);
        return Ok(Some((Restored::Already(content(0)), warnings)));
    }
    match entry.restore(&cache.workspace, &cache.paths, tracked, cancel) {
        Ok(restored) => {
            warnings.extend(restored.warnings.iter().map(ToString::to_string));
            caches.restored(cache, &info.key);
            claimed.found(&info.key);
            Ok(Some((Restored::Hit(content(written_bytes(&entry, &restored))), warnings)))
        }
        Err(cause @ loom_cache::Error::Cancelled) => Err(wrong(&cause)),
        Err(loom_cache::Error::Gone { .. }) if gone == Gone::Again => Ok(None),
        Err(cause) => {
            warnings.push(format!("the entry `{}` was not restored: {cause}", info.key));
            Ok(Some((Restored::Miss, warnings)))
        }
    }
}

/// Bytes of the entry that had to be written.
fn written_bytes(entry: &Entry, restored: &loom_cache::Restored) -> u64 {
    if restored.unchanged == 0 {
        return entry.info().bytes;
    }
    let files = restored.files.max(1);
    entry.info().bytes / files * restored.written
}

fn save(
    claimed: &Claimed,
    origin: &Origin,
    tracked: &Tracked,
    redactor: &Redactor,
    cancel: &AtomicBool,
) -> Result<(Saved, Warnings), Error> {
    let cache = &claimed.cache;
    let store = &claimed.caches().store;
    let (name, key, tree, patterns) = (&cache.name, &cache.key, &cache.workspace, &cache.paths);
    let saved = store
        .save(&Save { name, key, tree, patterns, tracked, origin, cancel })
        .map_err(|cause| wrong(&cause))?;
    let shown = |warnings: Vec<loom_cache::Warning>| warnings.iter().map(ToString::to_string).collect();
    Ok(match saved {
        loom_cache::Saved::Stored { files, bytes, stored_bytes, warnings } => {
            let mut warnings: Warnings = shown(warnings);
            if !redactor.is_empty()
                && let Ok(found) = store.find(name, key)
                && let Some(entry) = found.entry
            {
                warnings.extend(with_secrets(&entry, tree, redactor));
            }
            (Saved::Stored(Content { key: key.clone(), files, bytes, stored_bytes }), warnings)
        }
        loom_cache::Saved::Unchanged => (Saved::Unchanged, Warnings::new()),
        loom_cache::Saved::Nothing { warnings } => (Saved::Nothing, shown(warnings)),
    })
}

/// A sentence for each secret whose value is in a file of the entry.
fn with_secrets(entry: &Entry, tree: &Path, redactor: &Redactor) -> BTreeSet<String> {
    let mut buffer = vec![0; 64 * 1024];
    let mut found = BTreeSet::new();
    for file in entry.files() {
        let name = file.path.as_os_str().as_bytes();
        if *redactor.bytes(name) != *name {
            found.insert(format!(
                "the name of `{}` in the cache holds the value of a secret",
                file.path.display()
            ));
        }
    }
    for file in entry.files().filter(|file| matches!(file.kind, Kind::File { .. })) {
        let Ok(mut content) = fs_err::File::open(tree.join(&file.path)) else { continue };
        let mut scanner = redactor.scanner();
        while let Ok(count @ 1..) = content.read(&mut buffer) {
            if let Some(value) = scanner.push(&buffer[..count]) {
                found.insert(format!("`{}` in the cache holds {value}", file.path.display()));
                break;
            }
        }
    }
    found
}
