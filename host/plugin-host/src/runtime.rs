//! The one engine of a process, and what it takes to load a plugin with it.

use std::path::PathBuf;
use std::sync::Arc;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::PluginRef;
use semver::Version;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine};

use crate::caches::Caches;
use crate::compiled::CompiledCache;
use crate::config::PluginConfig;
use crate::exports::provider::ProviderPluginPre;
use crate::exports::resolver::SecretResolverPluginPre;
use crate::exports::wrapper::WrapperPluginPre;
use crate::guest::Guest;
use crate::imports;
use crate::info::{PluginInfo, label};
use crate::interface::{self, Interface};
use crate::loaded::{Loaded, Ticker};
use crate::manifest::{Kind, Manifest};
use crate::programs::Programs;
use crate::provider::Plugin;
use crate::resolver::Resolver;
use crate::wrapper::RunWrapper;

/// MiB of memory that a plugin may ask for at most.
const MEMORY_CAP_MIB: u32 = 4096;
/// Milliseconds of CPU time per call that a plugin may ask for at most.
const CPU_CAP_MS: u32 = 600_000;
/// Milliseconds of its own time per call that a plugin may ask for at most.
const WALL_CAP_MS: u32 = 3_600_000;

/// Loads plugins. One per process.
pub struct Runtime {
    engine: Engine,
    compiled: CompiledCache,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// A runtime that keeps machine code in the folder `cache_dir`, which is made where it does not exist. Without one, or
    /// where it cannot be trusted, each plugin is compiled when it is loaded.
    ///
    /// # Errors
    /// This machine cannot run components.
    pub fn new(cache_dir: Option<PathBuf>) -> Result<Self, LoadError> {
        let mut config = Config::new();
        config.epoch_interruption(true).concurrency_support(false);
        if addresses_are_few() {
            config.memory_reservation(0).memory_reservation_for_growth(1 << 20);
            config.memory_guard_size(64 << 10).guard_before_linear_memory(false);
        }
        let engine = Engine::new(&config).map_err(LoadError::Engine)?;
        let compiled = CompiledCache::open(cache_dir.as_deref(), &engine);
        let ticker = Arc::new(Ticker::new(&engine));
        Ok(Self { engine, compiled, ticker })
    }

    /// Loads the provider in `component`, for one run in which `config` holds. Takes about a millisecond where its
    /// machine code is in the cache, else about one for each KiB. Refuses, before anything is compiled, what imports more
    /// than its manifest declares.
    ///
    /// # Errors
    /// `component` is not a provider, does not fit this Loom, or asks for what it does not get.
    pub fn load_provider(&self, component: &[u8], config: PluginConfig) -> Result<Arc<Plugin>, LoadError> {
        let loaded = self.load(component, Kind::Provider, &config)?;
        ProviderPluginPre::new(loaded.pre.clone()).map_err(|cause| broken(&loaded, cause))?;
        Ok(Arc::new(Plugin::new(loaded, config)))
    }

    /// Loads the wrapper in `component`, for one run whose caches are `caches`.
    ///
    /// # Errors
    /// As [`Runtime::load_provider`].
    pub fn load_wrapper(&self, component: &[u8], caches: Arc<Caches>) -> Result<Arc<RunWrapper>, LoadError> {
        let loaded = self.load(component, Kind::Wrapper, &PluginConfig::default())?;
        WrapperPluginPre::new(loaded.pre.clone()).map_err(|cause| broken(&loaded, cause))?;
        Ok(Arc::new(RunWrapper::new(loaded, caches)))
    }

    /// Loads the secret resolver in `component`, for one run in which `config` holds.
    ///
    /// # Errors
    /// As [`Runtime::load_provider`].
    pub fn load_resolver(&self, component: &[u8], config: PluginConfig) -> Result<Arc<Resolver>, LoadError> {
        let loaded = self.load(component, Kind::SecretResolver, &config)?;
        SecretResolverPluginPre::new(loaded.pre.clone()).map_err(|cause| broken(&loaded, cause))?;
        Ok(Arc::new(Resolver::new(loaded, config)))
    }

    fn load(&self, component: &[u8], kind: Kind, config: &PluginConfig) -> Result<Loaded, LoadError> {
        let interface =
            Interface::read(component).map_err(|error| LoadError::NotAComponent(error.to_string()))?;
        let manifest = match interface.manifests.as_slice() {
            [] => return Err(LoadError::NoManifest),
            [bytes] => Manifest::parse(bytes).map_err(|error| LoadError::Manifest(error.to_string()))?,
            _ => return Err(LoadError::Manifest("there is more than one".into())),
        };
        let digest = blake3::hash(component);
        let reference = PluginRef {
            name: manifest.name.clone(),
            version: manifest.version.to_string(),
            digest: digest.to_string(),
        };
        check(&reference, &manifest, &interface, kind)?;

        let broken = |cause| LoadError::Broken { plugin: label(&reference), cause };
        let (component, origin) = self.compiled.component(&self.engine, component, digest).map_err(broken)?;
        let mut linker: Linker<Guest> = Linker::new(&self.engine);
        imports::link(&mut linker, &manifest).map_err(broken)?;
        let pre = linker.instantiate_pre(&component).map_err(broken)?;
        let manages_vaults = interface.exports.iter().any(|exported| exported == interface::VAULT_ADMIN);
        let programs = Programs::find(&manifest.capabilities, config);
        let info = Arc::new(PluginInfo { reference, manifest, programs });
        Ok(Loaded { info, pre, origin, ticker: Arc::clone(&self.ticker), manages_vaults })
    }
}

/// The engine does not take a plugin that was loaded.
fn broken(plugin: &Loaded, cause: wasmtime::Error) -> LoadError {
    LoadError::Broken { plugin: plugin.info.label(), cause }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// Whether this process may not reserve 4 GiB of addresses for each plugin of each job, as the engine does where it can:
/// that saves the code a check at each access to memory.
fn addresses_are_few() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As);
    limit.current.is_some_and(|bytes| bytes < 256 << 30)
}

/// Everything that can be said against a plugin before it is compiled.
fn check(
    plugin: &PluginRef,
    manifest: &Manifest,
    interface: &Interface,
    kind: Kind,
) -> Result<(), LoadError> {
    if manifest.kind != kind {
        let (plugin, is, wanted) = (label(plugin), manifest.kind.words(), kind.words());
        return Err(LoadError::OtherKind { plugin, is, wanted });
    }
    let this = Version::parse(env!("CARGO_PKG_VERSION"));
    if this.as_ref().is_ok_and(|this| *this < manifest.loom) {
        return Err(LoadError::NewerLoom { plugin: label(plugin), needs: manifest.loom.to_string() });
    }
    let caps = [
        ("limits.memory_mib", manifest.limits.memory_mib, MEMORY_CAP_MIB),
        ("limits.cpu_ms", manifest.limits.cpu_ms, CPU_CAP_MS),
        ("limits.wall_ms", manifest.limits.wall_ms, WALL_CAP_MS),
    ];
    for (key, asked, cap) in caps {
        if asked > cap {
            return Err(LoadError::TooMuch { plugin: label(plugin), key, asked, cap });
        }
    }
    let refused = interface.refused(kind, &manifest.capabilities);
    if !refused.is_empty() {
        let incompatible = refused.iter().all(|refusal| {
            matches!(refusal, interface::Refusal::OtherVersion { .. } | interface::Refusal::Unknown { .. })
        });
        let imports = refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Err(LoadError::Imports { plugin: label(plugin), imports, incompatible });
    }
    let export = interface::export(kind);
    if !interface.exports.iter().any(|exported| exported == export) {
        return Err(LoadError::NoExport { plugin: label(plugin), export });
    }
    Ok(())
}

/// A plugin cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This machine cannot run components.
    #[error("cannot start the engine for plugins: {0}")]
    Engine(wasmtime::Error),
    /// The bytes are no component.
    #[error("the plugin is not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// The component does not say what it is.
    #[error("the plugin has no manifest: its component lacks the section `loom-plugin`")]
    NoManifest,
    /// What it says cannot be understood.
    #[error("the plugin's manifest cannot be used: {0}")]
    Manifest(String),
    /// It was made for a later Loom.
    #[error("{plugin} needs Loom {needs} or newer; this is {}", env!("CARGO_PKG_VERSION"))]
    NewerLoom {
        /// The plugin.
        plugin: String,
        /// The oldest Loom that it works with.
        needs: String,
    },
    /// It asks for more than any plugin may use up.
    #[error("{plugin} asks for `{key} = {asked}`; at most {cap} is granted")]
    TooMuch {
        /// The plugin.
        plugin: String,
        /// What it asks for.
        key: &'static str,
        /// How much.
        asked: u32,
        /// How much it could get.
        cap: u32,
    },
    /// It imports what it does not get.
    #[error("{plugin} imports {imports}")]
    Imports {
        /// The plugin.
        plugin: String,
        /// The imports, each with the reason.
        imports: String,
        /// Whether the reason is another version of the interface, not a missing right.
        incompatible: bool,
    },
    /// It is of another kind than what is to be loaded.
    #[error("{plugin} is a {is}, not a {wanted}")]
    OtherKind {
        /// The plugin.
        plugin: String,
        /// What it is.
        is: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// It does not export what its kind exports.
    #[error("{plugin} does not export `{export}`")]
    NoExport {
        /// The plugin.
        plugin: String,
        /// What it should export.
        export: &'static str,
    },
    /// The engine does not take it.
    #[error("{plugin} cannot be loaded: {cause:#}")]
    Broken {
        /// The plugin.
        plugin: String,
        /// Why.
        cause: wasmtime::Error,
    },
}

impl LoadError {
    /// It as documents carry it.
    pub fn to_info(&self) -> ErrorInfo {
        let (code, hint) = match self {
            Self::Engine(_) => (code::INTERNAL, None),
            Self::Imports { incompatible: false, .. } => {
                let hint = "a plugin gets what `[capabilities]` of its loom-plugin.toml declares, and never files, sockets or \
                            the network of WASI";
                (code::PLUGIN_DENIED, Some(hint))
            }
            Self::TooMuch { .. } => (code::PLUGIN_DENIED, None),
            Self::NewerLoom { .. } => {
                (code::PLUGIN_INCOMPATIBLE, Some("update Loom, or use an older version of the plugin"))
            }
            Self::NoManifest => {
                let hint = "its manifest, loom-plugin.toml, has to be embedded when it is built";
                (code::PLUGIN_INCOMPATIBLE, Some(hint))
            }
            Self::NotAComponent(_)
            | Self::Manifest(_)
            | Self::Imports { incompatible: true, .. }
            | Self::OtherKind { .. }
            | Self::NoExport { .. }
            | Self::Broken { .. } => (code::PLUGIN_INCOMPATIBLE, None),
        };
        let info = ErrorInfo::new(code, self.to_string());
        match hint {
            Some(hint) => info.with_hint(hint),
            None => info,
        }
    }
}
