//! Where a repository's root is, and where its copies go.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use loom_workspace::{find_repo_root, list_tracked, repo_workspaces_dir};

use crate::support::Fixture;

#[test]
fn the_nearest_folder_with_loom_in_it_comes_before_the_git_top_level() {
    let repo = Fixture::with(["apps/web/.loom/workflow.yml", "apps/web/src/deep/file", "apps/api/file"]);
    let web = repo.root().join("apps/web");
    for from in ["apps/web", "apps/web/src/deep", "apps/web/.loom"] {
        assert_eq!(find_repo_root(&repo.root().join(from)).as_deref(), Some(&*web), "{from}");
    }
    for from in ["apps/api", "apps", ""] {
        assert_eq!(find_repo_root(&repo.root().join(from)).as_deref(), Some(repo.root()), "{from}");
    }
}

#[test]
fn the_nearer_of_two_wins() {
    let folder = Fixture::plain();
    folder.write(".loom/workflow.yml", "");
    folder.write("inner/.loom/workflow.yml", "");
    let inner = folder.root().join("inner");
    assert_eq!(find_repo_root(&inner), Some(inner));
}

#[test]
fn a_file_named_loom_is_no_mark() {
    let repo = Fixture::with(["folder/.loom"]);
    assert_eq!(find_repo_root(&repo.root().join("folder")).as_deref(), Some(repo.root()));
}

#[test]
fn outside_of_everything_there_is_no_root() {
    let folder = Fixture::plain();
    assert_eq!(find_repo_root(folder.root()), None);
}

#[test]
fn workspaces_are_named_after_the_repository() {
    let dir = |root: &str| repo_workspaces_dir(Path::new("/cache"), Path::new(root));
    let first = dir("/home/one/project");
    assert_eq!(first.parent(), Some(Path::new("/cache")));
    let name = first.file_name().unwrap().to_str().unwrap();
    let hash = name.strip_prefix("project-").unwrap();
    assert!(hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    assert_eq!(first, dir("/home/one/project"));
    assert_ne!(first, dir("/home/two/project"));
}

#[test]
fn odd_names_become_harmless() {
    let name = |root: &str| {
        let dir = repo_workspaces_dir(Path::new("/cache"), Path::new(root));
        dir.file_name().unwrap().to_str().unwrap().to_owned()
    };
    assert!(name("/").starts_with("root-"));
    assert!(name("/x/a b:c\n").starts_with("a-b-c--"));
    assert!(name(&format!("/{}", "n".repeat(250))).len() < 100);
}

#[test]
fn tracked_files_are_those_of_git_also_where_they_are_gone_or_in_a_submodule() {
    let inner = Fixture::with(["inner-file"]);
    let repo = Fixture::with(["a", "vendor/b", "vendor/gone", "vendor-x/c", "odd [*]/d"]);
    repo.git(["submodule", "--quiet", "add", inner.root().to_str().unwrap(), "lib"]);
    repo.write("vendor/untracked", "");
    fs_err::remove_file(repo.root().join("vendor/gone")).unwrap();
    let tracked = |below: &[&str]| {
        let below: Vec<PathBuf> = below.iter().map(PathBuf::from).collect();
        let listed = list_tracked(repo.root(), &below, &AtomicBool::new(false)).unwrap();
        listed.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = [".gitmodules", "a", "lib/inner-file", "odd [*]/d", "vendor-x/c", "vendor/b", "vendor/gone"];
    assert_eq!(tracked(&[]), all);
    assert_eq!(tracked(&["vendor", "nowhere"]), ["vendor/b", "vendor/gone"]);
    assert_eq!(tracked(&["lib"]), ["lib/inner-file"]);
    assert_eq!(tracked(&["odd [*]", "v*"]), ["odd [*]/d"]);
    // One that cannot be opened is not taken for a file.
    fs_err::remove_dir_all(repo.root().join(".git/modules/lib")).unwrap();
    assert_eq!(tracked(&["lib", "a"]), ["a"]);
    let plain = Fixture::plain();
    plain.write("a", "");
    assert!(list_tracked(plain.root(), &[], &AtomicBool::new(false)).unwrap().is_empty());
}
