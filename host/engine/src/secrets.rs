//! The secrets of a job: asked for, masked, given to the job, wiped.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use loom_contract::error::{ErrorInfo, code};
use loom_contract::graph_ir::Secret;
use loom_ownership::Ledger;
use zeroize::Zeroizing;

use crate::port::SecretValue;
use crate::redact::Redactor;

/// Bytes of a variable at most, with its name: the system starts no process that is given more.
const VARIABLE: usize = 128 * 1024;

/// Where files of secrets are put.
#[derive(Debug, Clone)]
pub struct SecretsDir {
    /// The run's own folder, which is made when the first file is.
    pub path: PathBuf,
    /// Whether what is in it never reaches a disk.
    pub in_memory: bool,
    /// Where it is written down before it is made. Without, nothing can be put there.
    pub ledger: Option<Ledger>,
}

impl SecretsDir {
    /// Makes `folder` in it, empty, for this user alone.
    pub(crate) fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let ledger = self.ledger.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        ledger.ensure_folder(&self.path, 0o700).map_err(io::Error::other)?;
        // An earlier attempt's.
        remove(folder)?;
        std::fs::DirBuilder::new().mode(0o700).create(folder)
    }

    /// Removes it with what is in it.
    pub(crate) fn remove(&self) -> Result<(), loom_ownership::Error> {
        self.ledger.as_ref().map_or(Ok(()), |ledger| ledger.remove_folder(&self.path))
    }
}

/// What a job was given. Wiped when dropped; the files only by [`Given::take_away`].
#[derive(Default)]
pub(crate) struct Given {
    variables: Vec<(OsString, Zeroizing<Vec<u8>>)>,
    /// With the files, one by the name of each of these secrets.
    folder: Option<PathBuf>,
    files: Vec<String>,
    /// Where the folder is, or would be.
    place: PathBuf,
    /// The run's folder around it.
    run_dir: Option<SecretsDir>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Given {
    /// Nothing yet; files will be put into `folder`, which is in `run_dir`.
    pub(crate) fn in_folder(run_dir: &SecretsDir, folder: PathBuf) -> Self {
        Self { place: folder, run_dir: Some(run_dir.clone()), ..Self::default() }
    }

    /// Makes the folder for the files, for this user alone.
    fn make_folder(&mut self) -> io::Result<()> {
        if self.folder.is_none() {
            self.run_dir.as_ref().ok_or(io::ErrorKind::Unsupported)?.make_folder(&self.place)?;
            self.folder = Some(self.place.clone());
        }
        Ok(())
    }

    /// A shell script that sets the variables.
    pub(crate) fn script(&self) -> Option<Zeroizing<Vec<u8>>> {
        if self.variables.is_empty() {
            return None;
        }
        let length = |value: &Zeroizing<Vec<u8>>| value.len() * 4;
        let room = self.variables.iter().map(|(name, value)| name.len() + length(value) + 16).sum();
        // Enough, so that no copy is left where there was too little.
        let mut script = Zeroizing::new(Vec::with_capacity(room));
        for (name, value) in &self.variables {
            script.extend_from_slice(b"export ");
            script.extend_from_slice(name.as_bytes());
            script.extend_from_slice(b"='");
            for part in value.split_inclusive(|byte| *byte == b'\'') {
                match part.strip_suffix(b"'") {
                    Some(plain) => {
                        script.extend_from_slice(plain);
                        script.extend_from_slice(br"'\''");
                    }
                    None => script.extend_from_slice(part),
                }
            }
            script.extend_from_slice(b"'\n");
        }
        Some(script)
    }

    /// Adds the variables to `env`, over those of the same name.
    pub(crate) fn add_to(&self, env: &mut Vec<(OsString, OsString)>) {
        let given = |name: &OsString| {
            self.variables.iter().any(|(secret, _)| secret == name)
                || self.files.iter().any(|file| name == file.as_str())
        };
        env.retain(|(name, _)| !given(name));
        let value = |value: &Zeroizing<Vec<u8>>| OsString::from_vec(value.to_vec());
        env.extend(self.variables.iter().map(|(name, secret)| (name.clone(), value(secret))));
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        env.extend(self.files.iter().map(|name| (name.into(), folder.join(name).into())));
    }

    /// Adds the variables to `env` as a container gets them that has the files in `folder`, over those of the same name.
    ///
    /// # Errors
    /// A value is no UTF-8, as everything in a container's variables must be.
    pub(crate) fn add_in_container(
        &self,
        env: &mut BTreeMap<String, String>,
        folder: &str,
    ) -> Result<(), ErrorInfo> {
        for (name, value) in &self.variables {
            let name = name.to_string_lossy().into_owned();
            let Ok(value) = str::from_utf8(value) else {
                let message = format!(
                    "the value of the secret `{name}` is not UTF-8, and no variable of a container can hold it"
                );
                return Err(ErrorInfo::new(code::SECRETS_REQUIRED_MISSING, message).with_hint(
                    "leave `file: false` out: the variable then names a file that holds the value",
                ));
            };
            env.insert(name, value.to_owned());
        }
        let file = |name: &String| (name.clone(), format!("{folder}/{name}"));
        env.extend(self.files.iter().map(file));
        Ok(())
    }

    /// The folder with the files.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Gives the value in the variable itself.
    ///
    /// # Errors
    /// No variable can hold the value.
    fn as_variable(&mut self, name: &str, value: SecretValue) -> Result<(), ErrorInfo> {
        let unfit = if value.bytes().contains(&0) {
            "holds a NUL byte"
        } else if name.len() + value.bytes().len() + 2 > VARIABLE {
            "is longer than 128 KiB"
        } else {
            self.variables.push((name.into(), value.into_bytes()));
            return Ok(());
        };
        let message = format!("the value of the secret `{name}` {unfit}, and no variable can hold it");
        Err(ErrorInfo::new(code::SECRETS_REQUIRED_MISSING, message)
            .with_hint("leave `file: false` out: the variable then names a file that holds the value"))
    }

    /// Gives the value in a file of `folder`, which only this user may enter, and the file's path in the variable.
    ///
    /// # Errors
    /// The file cannot be written.
    fn as_file(&mut self, folder: &Path, name: &str, value: &SecretValue) -> Result<(), ErrorInfo> {
        let path = folder.join(name);
        let write = || -> io::Result<()> {
            let mut make = fs::OpenOptions::new();
            make.write(true).create_new(true).mode(0o600).open(&path)?.write_all(value.bytes())
        };
        self.make_folder().map_err(|cause| not_written(name, &cause))?;
        write().map_err(|cause| not_written(name, &cause))?;
        self.files.push(name.to_owned());
        Ok(())
    }

    /// Gives `value` as `secret` says.
    ///
    /// # Errors
    /// It cannot be given that way.
    pub(crate) fn give(
        &mut self,
        secret: &Secret,
        value: SecretValue,
        folder: &Path,
    ) -> Result<(), ErrorInfo> {
        if secret.file {
            self.as_file(folder, &secret.name, &value)
        } else {
            self.as_variable(&secret.name, value)
        }
    }

    /// Whether a value is in a file.
    pub(crate) fn has_files(&self) -> bool {
        self.folder.is_some()
    }

    /// Wipes the values and removes the files.
    ///
    /// # Errors
    /// A file stays.
    pub(crate) fn take_away(&mut self) -> io::Result<()> {
        self.variables.clear();
        self.files.clear();
        self.folder.take().map_or(Ok(()), |folder| remove(&folder))
    }
}

fn not_written(name: &str, cause: &io::Error) -> ErrorInfo {
    let message = format!("the file of the secret `{name}` cannot be written: {cause}");
    ErrorInfo::new(code::SECRETS_PROVIDER_UNAVAILABLE, message)
}

/// Removes `folder`, which is in one that a ledger lists; that it does not exist is no error.
///
/// # Errors
/// Something stays.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether what is in `folder` never reaches a disk.
pub fn is_in_memory(folder: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::statfs(folder).is_ok_and(|fs| {
        let kind = u64::try_from(fs.f_type).unwrap_or_default() & 0xffff_ffff;
        kind == TMPFS || kind == RAMFS
    })
}

/// Keeps this process's memory and environment from being written to a disk where it crashes, and from being read by other
/// processes of the user. To be called first of all. What this process starts is not concerned.
pub fn keep_memory_private() {
    // The system refuses nothing but values that it does not know.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Masks in `redactor` the values of the variables of `env` called `names`.
pub fn mask_variables(redactor: &Redactor, env: &[(OsString, OsString)], names: &[&str]) {
    for (name, value) in env {
        if let Some(name) = names.iter().find(|wanted| OsStr::new(**wanted) == name) {
            redactor.register(name, value.as_bytes());
        }
    }
}

/// Whether a job without the value of a secret cannot run. From the table of error codes for secrets.
pub(crate) fn is_fatal(code: &str, required: bool) -> bool {
    let may_be_left_out =
        [code::SECRETS_PROVIDER_UNAVAILABLE, code::SECRETS_REF_NOT_FOUND, code::SECRETS_REQUIRED_MISSING];
    required || !may_be_left_out.contains(&code)
}

/// The scheme of a reference; empty where it has none.
pub(crate) fn scheme(reference: &str) -> &str {
    reference.split_once("://").map_or("", |(scheme, _)| scheme)
}

/// Secrets by the scheme of their references.
pub(crate) fn by_scheme(secrets: &[Secret]) -> BTreeMap<&str, Vec<&Secret>> {
    let mut groups: BTreeMap<&str, Vec<&Secret>> = BTreeMap::new();
    for secret in secrets {
        groups.entry(scheme(&secret.reference)).or_default().push(secret);
    }
    groups
}

/// Why nothing resolves references of `scheme`.
pub(crate) fn no_resolver(scheme: &str, known: &[&str]) -> ErrorInfo {
    let known: Vec<String> = known.iter().map(|scheme| format!("`{scheme}://`")).collect();
    ErrorInfo::new(
        code::SECRETS_REF_INVALID,
        format!("nothing resolves references that begin with `{scheme}://`"),
    )
    .with_hint(format!("there are resolvers for {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_not_required_is_left_out_and_nothing_else_is() {
        let table = [
            (code::SECRETS_PROVIDER_UNAVAILABLE, false),
            (code::SECRETS_REF_NOT_FOUND, false),
            (code::SECRETS_REQUIRED_MISSING, false),
            (code::SECRETS_REF_INVALID, true),
            (code::SECRETS_UNSAFE_DEBUG_TRACE, true),
            (code::PLUGIN_TRAPPED, true),
            (code::PLUGIN_DENIED, true),
        ];
        for (code, fatal) in table {
            assert!(is_fatal(code, true), "{code}");
            assert_eq!(is_fatal(code, false), fatal, "{code}");
        }
    }
}
