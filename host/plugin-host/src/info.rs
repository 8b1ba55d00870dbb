//! What is known of a plugin besides its code.

use loom_contract::event::PluginRef;

use crate::manifest::Manifest;
use crate::programs::Programs;

/// A plugin's name, version and digest, and its manifest.
#[derive(Debug)]
pub(crate) struct PluginInfo {
    pub(crate) reference: PluginRef,
    pub(crate) manifest: Manifest,
    /// What it may start.
    pub(crate) programs: Programs,
}

impl PluginInfo {
    /// The plugin as errors name it: name, version and the beginning of its digest.
    pub(crate) fn label(&self) -> String {
        label(&self.reference)
    }
}

/// As [`PluginInfo::label`].
pub(crate) fn label(plugin: &PluginRef) -> String {
    let digest = plugin.digest.get(..12).unwrap_or(&plugin.digest);
    format!("plugin `{}` {} ({digest})", plugin.name, plugin.version)
}
