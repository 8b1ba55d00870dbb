//! The job's secrets: asked for and given.

use std::sync::Arc;

use loom_contract::error::{ErrorInfo, code};
use loom_contract::event::Level;
use loom_contract::graph_ir::Secret;
use loom_contract::section::Section;
use loom_contract::words::counted;
use serde_json::json;

use super::{Attempt, object};
use crate::mask::{self, MaskFile};
use crate::port::SecretValue;
use crate::secrets::{self, Given};

impl Attempt<'_> {
    /// Gives the job a file for what it wants to have masked.
    pub(super) fn offer_mask(&self) {
        let (dir, redactor) = (&self.job.run.secrets_dir, self.context.redactor.clone());
        match MaskFile::create(dir, self.context.id.as_str(), redactor) {
            // Nobody else makes one.
            Ok(mask) => {
                let _ = self.context.mask.set(Arc::new(mask));
            }
            Err(error) => {
                let message = format!("the job has no {}: {error}", mask::VARIABLE);
                self.context.message(Section::Provider, Level::Warn, message, None);
            }
        }
    }

    /// Asks for the job's secrets, sees to it that they are masked, and gives them to the job.
    pub(super) async fn give_secrets(&self) -> Result<(), ErrorInfo> {
        let (secrets, run) = (&self.job.plan.secrets, &self.job.run);
        if secrets.is_empty() {
            return Ok(());
        }
        if self.context.debug_trace
            && let Some(traced) = secrets.iter().find(|secret| !secret.file)
        {
            let message = format!(
                "debug tracing is on, and would print the value of the secret `{}`, which is in a variable",
                traced.name
            );
            let error = ErrorInfo::new(code::SECRETS_UNSAFE_DEBUG_TRACE, message)
                .with_hint("unset LOOM_DEBUG_TRACE and CI_DEBUG_TRACE, or leave `file: false` out");
            self.say_unresolved(traced, Level::Error, &error, "");
            return Err(error);
        }
        let mut values = Vec::new();
        for (scheme, secrets) in secrets::by_scheme(secrets) {
            values.extend(secrets.iter().copied().zip(self.resolve(scheme, &secrets).await));
        }
        // All of them before anything is said of one: an error could repeat the value of another.
        for (secret, value) in &values {
            let Ok(value) = value else { continue };
            let short = !self.context.redactor.register(&secret.name, value.bytes());
            if short && !value.bytes().is_empty() {
                let message =
                    format!("the value of the secret `{}` is too short to be masked in output", secret.name);
                self.context.message(Section::Provider, Level::Warn, message, None);
            }
        }
        let folder = run.secrets_dir.path.join(self.context.id.as_str());
        let mut given = Given::in_folder(&run.secrets_dir, folder.clone());
        let mut fatal: Vec<ErrorInfo> = Vec::new();
        for (secret, value) in values {
            let Err(error) = value.and_then(|value| given.give(secret, value, &folder)) else { continue };
            if secrets::is_fatal(&error.code, secret.required) {
                // Whoever cancels the run knows why there is no value.
                let level = if self.job.cancel.is_cancelled() { Level::Info } else { Level::Error };
                self.say_unresolved(secret, level, &error, "");
                fatal.push(error);
            } else {
                self.say_unresolved(secret, Level::Warn, &error, "; it is not required and is left out");
            }
        }
        if given.has_files() && !run.secrets_dir.in_memory {
            let message = format!(
                "the files of secrets are on a disk, in {}: no folder for them is in memory",
                run.secrets_dir.path.display()
            );
            self.context.message(Section::Provider, Level::Warn, message, None);
        }
        *self.context.given.lock() = given;
        match fatal.as_slice() {
            [] => Ok(()),
            [only] => Err(only.clone()),
            [first, rest @ ..] => {
                let message =
                    format!("{} (and {})", first.message, counted(rest.len() as u64, "more secret"));
                Err(ErrorInfo { message, ..first.clone() })
            }
        }
    }

    /// The values of secrets whose references all have `scheme`.
    async fn resolve(&self, scheme: &str, secrets: &[&Secret]) -> Vec<Result<SecretValue, ErrorInfo>> {
        let resolvers = &self.job.run.resolvers;
        let Some(resolver) = resolvers.get(scheme) else {
            let known = self.job.run.schemes;
            return secrets.iter().map(|_| Err(secrets::no_resolver(scheme, known))).collect();
        };
        let plugin = resolver.plugin();
        let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        let digest: String = plugin.digest.chars().take(12).collect();
        let message = format!(
            "secrets {} from `{scheme}://`; plugin {} {} ({digest})",
            names.join(", "),
            plugin.name,
            plugin.version
        );
        let data = object(json!({ "secrets": names, "scheme": scheme, "plugin": plugin }));
        self.context.message(Section::Provider, Level::Info, message, data);
        let references: Vec<String> = secrets.iter().map(|secret| secret.reference.clone()).collect();
        match resolver.resolve(&references, self.context.cancel.clone()).await {
            Ok(values) => values,
            Err(error) => secrets.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn say_unresolved(&self, secret: &Secret, level: Level, error: &ErrorInfo, consequence: &str) {
        let message = format!("secret `{}`: {}{consequence}", secret.name, error.message);
        let scheme = secrets::scheme(&secret.reference);
        let data = json!({
            "secret": secret.name, "scheme": scheme, "code": error.code, "required": secret.required,
        });
        self.context.message(Section::Provider, level, message, object(data));
    }
}
