//! `loom secrets`: managing what secrets are read from, by the plugin that reads it.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::visible::on_one_line;
use loom_engine::cancel;
use loom_plugin_host::{Credential, PluginConfig, Resolver, Runtime};
use zeroize::Zeroizing;

use crate::args::{Item, ItemField, Keepass, Keys, Vault, VaultName};
use crate::command::Done;
use crate::config::{self, Effective, Flags};
use crate::files::normal;
use crate::plugins::{self, Environment};
use crate::settings;
use crate::terminal::Terminal;

pub(crate) fn keepass(args: &Keepass, terminal: Terminal) -> Done {
    let place = Place::find()?;
    let text = match args {
        Keepass::Vault(Vault::Create { vault, database_path, keys, force }) => {
            place.create_vault(vault, database_path.as_deref(), keys, *force, terminal)?
        }
        Keepass::Vault(Vault::Update { vault, keys }) => place.update_vault(vault, keys)?,
        Keepass::Vault(Vault::List) => place.list_vaults(),
        Keepass::Item(Item::Create(item)) => place.set_item(item, true)?,
        Keepass::Item(Item::Update(item)) => place.set_item(item, false)?,
        Keepass::Item(Item::List { vault }) => place.list_items(vault)?,
    };
    super::print(text)
}

/// Where the command was started, and what holds there.
struct Place {
    folder: PathBuf,
    repo_root: PathBuf,
    config: Effective,
    environment: Environment,
}

impl Place {
    fn find() -> Result<Self, ErrorInfo> {
        let (folder, repo_root) = (super::current_dir()?, super::repo_root_or_here()?);
        let config = super::effective(&repo_root, Flags::default())?;
        Ok(Self { folder, repo_root, config, environment: settings::environment().into() })
    }

    fn alias(&self, name: &VaultName) -> Result<String, ErrorInfo> {
        let from_origin = || loom_workspace::origin(&self.repo_root).as_deref().and_then(path_of_origin);
        name.alias.clone().or_else(from_origin).ok_or_else(|| {
            let message = "no vault is named, and the repository has no git remote `origin` to name it after";
            ErrorInfo::new(code::SECRETS_REF_INVALID, message).with_hint("name it with --vault-path <alias>")
        })
    }

    /// What the plugin is given for the vault `alias`.
    fn given(&self, alias: &str) -> PluginConfig {
        let environment = Arc::clone(&self.environment);
        let mut given = PluginConfig { environment, ..PluginConfig::default() };
        plugins::give_vault(&mut given, alias, &self.config);
        given
    }

    fn create_vault(
        &self,
        name: &VaultName,
        database_path: Option<&Path>,
        keys: &Keys,
        force: bool,
        terminal: Terminal,
    ) -> Result<String, ErrorInfo> {
        let alias = self.alias(name)?;
        let usual = || self.repo_root.join(format!(".loom/keepass/{}.kdbx", config::key_of(&alias)));
        let path = database_path.map_or_else(usual, |path| normal(&self.folder.join(path)));
        let mut given = self.given(&alias);
        plugins::place_vault(&mut given, &alias, path.clone());
        given.credentials.clear();
        give_keys(&mut given, &alias, "", keys);
        self.change(given, async |plugin, cancel| plugin.create_vault(&alias, force, cancel).await)?;
        if self.config.vault(&alias).is_none_or(|vault| vault.path.is_none()) {
            terminal.say(self.advice(&alias, &path, keys));
        }
        let path = path.to_string_lossy();
        Ok(format!("vault created: alias={} path={}\n", on_one_line(&alias), on_one_line(&path)))
    }

    /// How the new vault comes to be known.
    fn advice(&self, alias: &str, path: &Path, keys: &Keys) -> String {
        let shown = path.strip_prefix(self.repo_root.join(".loom")).unwrap_or(path);
        let mut text = format!(
            "to use it, add to .loom/config.yml:\n\nproviders:\n  keepass:\n    aliases:\n      \"{alias}\":\n        path: {}\n",
            shown.display()
        );
        let variables = [("passwordEnv", &keys.password_from_env), ("keyfileEnv", &keys.keyfile_from_env)];
        for (key, variable) in variables {
            if let Some(variable) = variable {
                text.push_str(&format!("        {key}: {variable}\n"));
            }
        }
        text.push('\n');
        text
    }

    fn update_vault(&self, name: &VaultName, keys: &Keys) -> Result<String, ErrorInfo> {
        let alias = self.alias(name)?;
        let mut given = self.given(&alias);
        give_keys(&mut given, &alias, "new-", keys);
        self.change(given, async |plugin, cancel| plugin.update_vault(&alias, cancel).await)?;
        Ok(format!("vault updated: alias={}\n", on_one_line(&alias)))
    }

    fn list_vaults(&self) -> String {
        let by_key =
            self.config.vaults_by_key.iter().map(|(key, vault)| (key, vault, " (from the environment)"));
        let vaults = self.config.vaults.iter().map(|(alias, vault)| (alias, vault, "")).chain(by_key);
        vaults
            .map(|(alias, vault, note)| {
                let path = match &vault.path {
                    Some(path) if path.value.exists() => path.value.display().to_string(),
                    Some(path) => format!("{} (not there)", path.value.display()),
                    None => "(no path)".to_owned(),
                };
                format!("{}: {}{note}\n", on_one_line(alias), on_one_line(&path))
            })
            .collect()
    }

    fn set_item(&self, item: &ItemField, new: bool) -> Result<String, ErrorInfo> {
        let alias = self.alias(&item.vault)?;
        let value = self.value(&item.value_from_env)?;
        let (path, field) = (&item.item_path, &item.field);
        let set = async |plugin: &Resolver, cancel| match new {
            true => plugin.create_item(&alias, path, field, &value, cancel).await,
            false => plugin.update_item(&alias, path, field, &value, cancel).await,
        };
        self.change(self.given(&alias), set)?;
        let done = if new { "created" } else { "updated" };
        let [alias, path, field] = [&alias, path, field].map(|name| on_one_line(name));
        Ok(format!("item {done}: alias={alias} item={path} field={field}\n"))
    }

    fn list_items(&self, name: &VaultName) -> Result<String, ErrorInfo> {
        let alias = self.alias(name)?;
        let list = async |plugin: &Resolver, cancel| plugin.list_items(&alias, cancel).await;
        let items = self.manage(self.given(&alias), list)?;
        let line = |path: &str, fields: &str| format!("{}: {}\n", on_one_line(path), on_one_line(fields));
        Ok(items.iter().map(|item| line(&item.path, &item.fields.join(", "))).collect())
    }

    /// Does `work` with the plugin and the vault that is `given`, while no other `loom` changes it: what two of them make of
    /// one file, one would lose.
    fn change<T>(
        &self,
        given: PluginConfig,
        work: impl AsyncFnOnce(&Resolver, cancel::Cancel) -> Result<T, ErrorInfo>,
    ) -> Result<T, ErrorInfo> {
        let lock = given.files.first().map(|vault| lock(vault)).transpose();
        let _lock = lock.map_err(|cause| {
            ErrorInfo::new(code::SECRETS_PROVIDER_UNAVAILABLE, format!("cannot lock the vault: {cause}"))
        })?;
        self.manage(given, work)
    }

    /// Does `work` with the plugin. A signal ends the command as it ends any other: nothing is half done, since a vault is
    /// written at once.
    fn manage<T>(
        &self,
        given: PluginConfig,
        work: impl AsyncFnOnce(&Resolver, cancel::Cancel) -> Result<T, ErrorInfo>,
    ) -> Result<T, ErrorInfo> {
        let internal =
            |error: io::Error| ErrorInfo::new(code::INTERNAL, format!("cannot start the runtime: {error}"));
        let tasks = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(internal)?;
        let components = self.config.cache_dir.as_ref().map(|dir| dir.value.join("components"));
        let runtime = Runtime::new(components).map_err(|error| error.to_info())?;
        let plugin =
            runtime.load_resolver(loom_plugin_bundle::KEEPASS, given).map_err(|error| error.to_info())?;
        let (_canceller, cancel) = cancel::channel();
        tasks.block_on(work(&plugin, cancel))
    }

    fn value(&self, variable: &str) -> Result<Zeroizing<Vec<u8>>, ErrorInfo> {
        let found = self.environment.iter().find(|(name, _)| name == variable);
        found.map(|(_, value)| Zeroizing::new(value.as_bytes().to_vec())).ok_or_else(|| {
            let message = format!("the environment variable `{variable}` is not set");
            ErrorInfo::new(code::SECRETS_REQUIRED_MISSING, message)
        })
    }
}

fn give_keys(given: &mut PluginConfig, alias: &str, prefix: &str, keys: &Keys) {
    let slot = |slot: &str| (format!("{prefix}{slot}"), Some(alias.to_owned()));
    if let Some(variable) = &keys.password_from_env {
        given.credentials.insert(slot("password"), Credential::Variable(variable.clone()));
    }
    if let Some(variable) = &keys.keyfile_from_env {
        given.credentials.insert(slot("keyfile"), Credential::FileIn(variable.clone()));
    }
}

/// Locks the folder that `vault` is in, or is to be in, until what is returned is dropped. Not the vault: another file
/// takes its place.
fn lock(vault: &Path) -> io::Result<fs::File> {
    let real = fs::canonicalize(vault).unwrap_or_else(|_| vault.to_owned());
    let folder = real.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let folder = fs::OpenOptions::new().read(true).open(folder)?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// `group/project/repo` of a remote's URL.
fn path_of_origin(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        // `user@host:group/project`; a path of this machine names no group.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (!path.is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::path_of_origin;

    #[test]
    fn a_remote_names_a_vault_by_its_path() {
        let table = [
            ("https://git.example.com/group/project/repo.git", Some("group/project/repo")),
            ("https://user:word@git.example.com:8443/group/repo/", Some("group/repo")),
            ("ssh://git@git.example.com:22/group/repo.git", Some("group/repo")),
            ("git@git.example.com:group/project/repo.git", Some("group/project/repo")),
            ("../elsewhere", None),
            ("/srv/git/repo.git", None),
            ("https://git.example.com", None),
            ("", None),
        ];
        for (url, path) in table {
            assert_eq!(path_of_origin(url).as_deref(), path, "{url}");
        }
    }
}
