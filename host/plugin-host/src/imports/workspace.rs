//! `loom:workspace/workspace`.

use std::io;
use std::path::{Path, PathBuf};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::wit::loom::workspace::workspace::{self, Host, HostWorkspace};
use crate::guest::{Guest, OwnJob};
use crate::imports::job::JobHandle;
use crate::types::{Error, ErrorKind, Failure, error};

mod wit {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "import loom:workspace/workspace@0.1.0;",
        imports: {
            "loom:workspace/workspace.[method]workspace.exists": async | trappable,
            default: trappable,
        },
        with: {
            "loom:host/types": crate::types::wit,
            "loom:host/job": crate::imports::job::wit::loom::host::job,
            "loom:workspace/workspace.workspace": super::WorkspaceHandle,
        },
        trappable_error_type: { "loom:host/types.error" => crate::types::Failure },
    });
}

/// The workspace of the guest's own job: it has no other.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct WorkspaceHandle;

/// The part of a guest that the functions work on.
pub(crate) struct View<'a> {
    job: &'a OwnJob,
    table: &'a mut ResourceTable,
}

struct Workspace;

impl HasData for Workspace {
    type Data<'a> = View<'a>;
}

/// Offers the interface to guests.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    workspace::add_to_linker::<_, Workspace>(linker, |guest| View {
        job: &guest.job,
        table: &mut guest.table,
    })
}

impl Host for View<'_> {
    fn of_job(&mut self, _job: Resource<JobHandle>) -> wasmtime::Result<Resource<WorkspaceHandle>> {
        Ok(self.table.push(WorkspaceHandle)?)
    }
}

impl HostWorkspace for View<'_> {
    fn path(&mut self, _workspace: Resource<WorkspaceHandle>) -> Result<String, Failure> {
        let workspace = &self.job.get()?.workspace;
        Ok(workspace.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("the workspace's path is not UTF-8: {}", workspace.display());
            error(ErrorKind::Invalid, "PATH_NOT_UTF8", message)
        })?)
    }

    async fn exists(&mut self, _workspace: Resource<WorkspaceHandle>, path: String) -> Result<bool, Failure> {
        let workspace = self.job.get()?.workspace.clone();
        let found = tokio::task::spawn_blocking(move || inside(&workspace, &path)).await?;
        match found {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn drop(&mut self, workspace: Resource<WorkspaceHandle>) -> wasmtime::Result<()> {
        self.table.delete(workspace)?;
        Ok(())
    }
}

/// Where `path` is: relative to `workspace`, and in it also after all symbolic links are followed.
pub(crate) fn inside(workspace: &Path, path: &str) -> Result<PathBuf, Error> {
    let failed = |at: &str, source: &io::Error| {
        let (kind, code) = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => (ErrorKind::NotFound, "PATH_NOT_FOUND"),
            _ => (ErrorKind::Failed, "PATH_UNREADABLE"),
        };
        error(kind, code, format!("`{at}`: {source}"))
    };
    let workspace = workspace.canonicalize().map_err(|e| failed(&workspace.to_string_lossy(), &e))?;
    let asked = workspace.join(path);
    let real = match asked.canonicalize() {
        Ok(real) => real,
        // What is not there must not tell what is there outside.
        Err(source) => {
            let lexically_inside = asked
                .strip_prefix(&workspace)
                .is_ok_and(|rest| rest.components().all(|c| !matches!(c, std::path::Component::ParentDir)));
            return Err(if lexically_inside { failed(path, &source) } else { outside(path) });
        }
    };
    if real.starts_with(&workspace) { Ok(real) } else { Err(outside(path)) }
}

fn outside(path: &str) -> Error {
    error(ErrorKind::Denied, "PLUGIN_DENIED", format!("`{path}` leads out of the workspace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = dir.path().join("work");
        fs_err::create_dir_all(workspace.join("src")).unwrap();
        fs_err::write(dir.path().join("outside"), "").unwrap();
        fs_err::os::unix::fs::symlink("..", workspace.join("up")).unwrap();
        fs_err::os::unix::fs::symlink("src", workspace.join("link")).unwrap();
        let kind = |path: &str| inside(&workspace, path).map(|_| ()).map_err(|e| e.kind);
        assert_eq!(kind("src"), Ok(()));
        assert_eq!(kind("."), Ok(()));
        assert_eq!(kind("src/../src"), Ok(()));
        assert_eq!(kind("link"), Ok(()));
        assert_eq!(kind(workspace.to_str().unwrap()), Ok(()));
        assert_eq!(kind("no"), Err(ErrorKind::NotFound));
        for path in ["..", "../outside", "../absent", "up", "up/outside", "/", "/etc/passwd", "/absent"] {
            assert_eq!(kind(path), Err(ErrorKind::Denied), "{path}");
        }
    }
}
