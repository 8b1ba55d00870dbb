//! A plugin that was loaded, and the clock of all plugins.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use loom_contract::error::{ErrorInfo, code};
use wasmtime::component::InstancePre;
use wasmtime::{Engine, EngineWeak};

use crate::compiled::Origin;
use crate::guest::Guest;
use crate::info::PluginInfo;

/// How often a guest that runs is asked to let others run, and its CPU time is looked at.
const TICK: Duration = Duration::from_millis(10);

/// A plugin that was loaded: what all its instances share.
pub(crate) struct Loaded {
    pub(crate) info: Arc<PluginInfo>,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) origin: Origin,
    pub(crate) ticker: Arc<Ticker>,
    /// Whether it exports what manages vaults.
    pub(crate) manages_vaults: bool,
}

/// Advances the engine's epoch from the first job on, for as long as the engine lives.
pub(crate) struct Ticker {
    engine: EngineWeak,
    started: OnceLock<Result<(), String>>,
}

impl Ticker {
    /// A ticker of `engine`, which does not run yet.
    pub(crate) fn new(engine: &Engine) -> Self {
        Self { engine: engine.weak(), started: OnceLock::new() }
    }

    /// Starts it, if it does not run yet.
    pub(crate) fn start(&self) -> Result<(), ErrorInfo> {
        let started = self.started.get_or_init(|| {
            let engine = self.engine.clone();
            let tick = move || {
                while let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(TICK);
                }
            };
            let thread = std::thread::Builder::new().name("plugin clock".into()).spawn(tick);
            thread.map(drop).map_err(|error| error.to_string())
        });
        started.clone().map_err(|error| {
            ErrorInfo::new(code::INTERNAL, format!("cannot start the plugins' clock: {error}"))
        })
    }
}
