//! One instance of a plugin: its calls, what ends them, and what is then said.

use std::sync::Arc;
use std::time::Duration;

use loom_contract::error::{ErrorInfo, code};
use loom_engine::cancel::{Cancel, GRACE, Urgency};
use wasmtime::component::ResourceTableError;
use wasmtime::{Store, Trap, UpdateDeadline};
use wasmtime_wasi::I32Exit;

use crate::guest::Guest;
use crate::limits::{CALL_BYTES, HANDLES, Limit};
use crate::loaded::Loaded;
use crate::manifest::Limits;
use crate::messages::CallScope;
use crate::types::Error;

/// How long a call may go on after its processes had to end.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How long a cleanup may take.
const CLEANUP: Duration = Duration::from_secs(30);
/// How long an instance may take to start.
const START: Duration = Duration::from_secs(5);

/// An instance that exports `E`.
pub(crate) struct Instance<E> {
    pub(crate) store: Store<Guest>,
    exports: E,
}

/// What a call may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A step, which takes what the job may take: for as long as the run is not cancelled, and for what it takes to end its
    /// processes.
    Step,
    /// Other work for the job: as above, but the plugin's own time in it is limited.
    Work,
    /// An answer, of a plugin that has nothing to end: for as long as nobody cancels, and for a limited time.
    Answer,
    /// Cleanup, also of a run that is cancelled: for a while.
    Cleanup,
}

/// A call into a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// The function, as the interface names it.
    pub(crate) name: &'static str,
    pub(crate) patience: Patience,
}

impl Call {
    /// How much of the plugin's own time it may take.
    fn limit(self, limits: Limits) -> Option<Duration> {
        match self.patience {
            Patience::Step | Patience::Cleanup => None,
            Patience::Work | Patience::Answer => {
                Some(Duration::from_millis(limits.wall_ms.max(limits.cpu_ms).into()))
            }
        }
    }
}

impl<E> Instance<E> {
    /// A new instance for `guest`, of which `find` takes the exports. Guest code may run in this already.
    pub(crate) async fn new(
        plugin: &Loaded,
        guest: Guest,
        find: fn(&mut Store<Guest>, &wasmtime::component::Instance) -> wasmtime::Result<E>,
        patience: Patience,
        cancel: Cancel,
    ) -> Result<Self, ErrorInfo> {
        plugin.ticker.start()?;
        let meter = Arc::clone(&guest.meter);
        let mut store = Store::new(plugin.pre.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(CALL_BYTES);
        store.set_max_component_handles(HANDLES * 4);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            let guest = context.data();
            let ms = guest.plugin.manifest.limits.cpu_ms;
            if guest.meter.used_ns() > u64::from(ms) * 1_000_000 {
                return Err(Limit::Cpu { ms }.into());
            }
            // Not a mere `Yield`: with this, tokio looks at timers and sockets before it goes on here.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let call = Call { name: "start", patience };
        let made = tokio::select! {
            made = meter.measure(plugin.pre.instantiate_async(&mut store)) => made,
            why = run_out(call, cancel) => return Err(timed_out(&plugin.info.label(), &why)),
            () = tokio::time::sleep(START) => {
                let why = format!("did not start within {} s", START.as_secs());
                return Err(timed_out(&plugin.info.label(), &why));
            }
        };
        match made.and_then(|instance| find(&mut store, &instance)) {
            Ok(exports) => Ok(Self { store, exports }),
            Err(error) => Err(failure(&error, store.data())),
        }
    }

    /// Calls into the guest. The instance is lost where this fails: it takes `self`, and gives it back only where the guest
    /// returned.
    pub(crate) async fn call<T>(
        mut self,
        scope: Option<CallScope>,
        what: Call,
        cancel: Cancel,
        call: impl AsyncFnOnce(&mut Store<Guest>, &E) -> wasmtime::Result<T>,
    ) -> Result<(Self, T), ErrorInfo> {
        let guest = self.store.data_mut();
        guest.call += 1;
        guest.messages.scope = scope;
        let (meter, plugin) = (Arc::clone(&guest.meter), Arc::clone(&guest.plugin));
        let wall = Arc::clone(&guest.wall);
        wall.restart();
        let limit = what.limit(plugin.manifest.limits);
        let used_up = async {
            match limit {
                Some(limit) => wall.used_up(limit).await,
                None => std::future::pending().await,
            }
        };
        let called = call(&mut self.store, &self.exports);
        let ended = tokio::select! {
            ended = meter.measure(called) => ended,
            why = run_out(what, cancel) => return Err(timed_out(&plugin.label(), &why)),
            () = used_up => {
                let took = limit.unwrap_or_default().as_secs_f64();
                let why = format!("took longer than {took} s in `{}`, not counting what the job took", what.name);
                let hint = "its manifest may ask for more with `limits.wall_ms`";
                return Err(timed_out(&plugin.label(), &why).with_hint(hint));
            }
        };
        let guest = self.store.data_mut();
        guest.messages.scope = None;
        match ended {
            Ok(returned) => Ok((self, returned)),
            Err(error) => Err(failure(&error, guest)),
        }
    }
}

/// Waits until a call has taken too long, and says what it did wrong.
async fn run_out(call: Call, cancel: Cancel) -> String {
    let name = call.name;
    let killed = async |mut cancel: Cancel| {
        cancel.reached(Urgency::Kill).await;
        tokio::time::sleep(AFTERMATH).await;
    };
    match call.patience {
        Patience::Work | Patience::Step => {
            let asked = async |mut cancel: Cancel| {
                cancel.reached(Urgency::Ask).await;
                tokio::time::sleep(GRACE + AFTERMATH).await;
            };
            tokio::select! {
                () = asked(cancel.clone()) => {}
                () = killed(cancel) => {}
            }
            format!("did not end `{name}` when the run was cancelled")
        }
        Patience::Answer => {
            cancel.clone().reached(Urgency::Ask).await;
            format!("was asked for an answer that nobody waits for any more (`{name}`)")
        }
        Patience::Cleanup => {
            tokio::select! {
                () = tokio::time::sleep(CLEANUP) => {}
                () = killed(cancel) => {}
            }
            format!("did not finish its cleanup within {} s (`{name}`)", CLEANUP.as_secs())
        }
    }
}

fn timed_out(plugin: &str, why: &str) -> ErrorInfo {
    ErrorInfo::new(code::PLUGIN_TIMEOUT, format!("{plugin} {why}"))
}

/// An error that the guest returned.
pub(crate) fn into_error_info(error: Error, plugin: &str) -> ErrorInfo {
    // The host's own codes are the host's to give; a guest may only pass on that it was denied something.
    let usable = |code: &str| {
        !code.is_empty()
            && code.len() <= 64
            && code.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && (!code.starts_with("PLUGIN_") || code == code::PLUGIN_DENIED)
    };
    let code = if usable(&error.code) { error.code } else { "FAILED".to_owned() };
    let message = if error.message.is_empty() { format!("{plugin} failed") } else { limited(error.message) };
    ErrorInfo { code: code.into(), message, hint: error.hint.map(limited) }
}

/// Documents must stay small whatever a plugin says.
fn limited(mut text: String) -> String {
    const LIMIT: usize = 8 * 1024;
    if text.len() > LIMIT {
        text.truncate(text.floor_char_boundary(LIMIT));
        text.push('…');
    }
    text
}

/// What is said of a guest that a trap has ended.
fn failure(error: &wasmtime::Error, guest: &Guest) -> ErrorInfo {
    let plugin = guest.plugin.label();
    if let Some(limit) = error.downcast_ref::<Limit>() {
        let (code, hint) = match limit {
            Limit::Cpu { .. } => {
                (code::PLUGIN_TIMEOUT, Some("its manifest may ask for more with `limits.cpu_ms`"))
            }
            Limit::Memory { .. } => {
                (code::PLUGIN_MEMORY, Some("its manifest may ask for more with `limits.memory_mib`"))
            }
            Limit::Tables => (code::PLUGIN_MEMORY, None),
            Limit::Flood(_) => (code::PLUGIN_FLOODED, None),
        };
        let info = ErrorInfo::new(code, format!("{plugin} was stopped: {limit}"));
        return match hint {
            Some(hint) => info.with_hint(hint),
            None => info,
        };
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        let message =
            format!("{plugin} was stopped: it holds more than {HANDLES} things of the host at once");
        return ErrorInfo::new(code::PLUGIN_FLOODED, message);
    }
    tracing::debug!("{plugin}: {error:?}");
    let root = error.root_cause().to_string();
    // The engine has no type for this.
    if root.contains("fuel allocated for hostcalls has been exhausted") {
        let limit = CALL_BYTES >> 20;
        let message = format!("{plugin} was stopped: it handed the host more than {limit} MiB in one call");
        return ErrorInfo::new(code::PLUGIN_FLOODED, message);
    }
    let what = if let Some(I32Exit(status)) = error.downcast_ref() {
        format!("it called `exit({status})`")
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        text.strip_prefix("wasm trap: ").map_or(text.clone(), str::to_owned)
    } else {
        root
    };
    let printed = guest.last_words();
    let message = if printed.is_empty() {
        format!("{plugin} trapped: {what}")
    } else {
        format!("{plugin} trapped: {what}; the last that it printed:\n{printed}")
    };
    ErrorInfo::new(code::PLUGIN_TRAPPED, message)
}
