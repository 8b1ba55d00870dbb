//! Repositories of other shapes: work trees, submodules, subfolders.

use std::sync::atomic::AtomicBool;

use loom_workspace::create;

use crate::support::{Fixture, assert_same_to_git, files, git, set, write};

#[test]
fn a_linked_work_tree() {
    let repo = Fixture::with(["a"]);
    repo.git(["branch", "side"]);
    let linked = repo.beside("linked");
    repo.git(["worktree", "add", "-q", linked.to_str().unwrap(), "side"]);
    write(&linked.join("b"), "staged");
    git(&linked, ["add", "b"]);
    write(&linked.join("a"), "changed");
    let snapshot = repo.snapshot_of(&linked);
    assert_eq!(snapshot.branch.as_deref(), Some("side"));
    assert!(snapshot.path().join(".git").is_dir());
    assert_eq!(git(snapshot.path(), ["rev-parse", "main"]), repo.git(["rev-parse", "main"]));
    assert_same_to_git(&linked, snapshot.path());
}

#[test]
fn a_linked_work_tree_of_a_bare_repository() {
    let repo = Fixture::with(["a"]);
    let bare = repo.beside("bare.git");
    git(repo.base(), ["clone", "-q", "--bare", repo.root().to_str().unwrap(), bare.to_str().unwrap()]);
    let linked = repo.beside("linked");
    git(&bare, ["worktree", "add", "-q", linked.to_str().unwrap(), "main"]);
    let snapshot = repo.snapshot_of(&linked);
    assert_same_to_git(&linked, snapshot.path());
}

#[test]
fn a_git_folder_kept_elsewhere() {
    let repo = Fixture::plain();
    let git_dir = repo.beside("elsewhere.git");
    repo.git(["init", "-q", "--separate-git-dir", git_dir.to_str().unwrap()]);
    repo.write("a", "");
    repo.commit_all("first");
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.borrowed_objects, [git_dir.join("objects")]);
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn submodules_are_repositories_of_their_own_in_the_copy_too() {
    let inner = Fixture::with(["inner-file"]);
    let middle = Fixture::with(["middle-file"]);
    middle.git(["submodule", "--quiet", "add", inner.root().to_str().unwrap(), "deep/inner"]);
    middle.commit_all("with a submodule");
    let repo = Fixture::with(["a"]);
    repo.git(["submodule", "--quiet", "add", middle.root().to_str().unwrap(), "libs/middle"]);
    repo.git(["submodule", "--quiet", "update", "--init", "--recursive"]);
    repo.commit_all("with submodules");
    let middle_copy = repo.root().join("libs/middle");
    write(&middle_copy.join("middle-file"), "changed");
    write(&middle_copy.join("untracked"), "");
    write(&middle_copy.join("deep/inner/more"), "");
    git(&middle_copy.join("deep/inner"), ["add", "more"]);

    let snapshot = repo.snapshot();
    assert_eq!(files(snapshot.path()), files(repo.root()));
    for folder in ["", "libs/middle", "libs/middle/deep/inner"] {
        let copy = snapshot.path().join(folder);
        assert!(copy.join(".git").is_dir(), "{folder}");
        assert_same_to_git(&repo.root().join(folder), &copy);
    }
    let status = git(snapshot.path(), ["status", "--porcelain"]);
    assert_eq!(status, " M libs/middle\n");
    let used = git(snapshot.path(), ["submodule", "foreach", "--quiet", "--recursive", "echo $displaypath"]);
    assert_eq!(used, "libs/middle\nlibs/middle/deep/inner\n");
    assert_eq!(snapshot.borrowed_objects.len(), 3);
    assert_eq!(snapshot.files, 7);
}

#[test]
fn a_submodule_that_was_never_fetched_is_an_empty_folder() {
    let inner = Fixture::with(["inner-file"]);
    let origin = Fixture::with(["a"]);
    origin.git(["submodule", "--quiet", "add", inner.root().to_str().unwrap(), "lib"]);
    origin.commit_all("with a submodule");
    let clone = origin.beside("clone");
    git(origin.base(), ["clone", "-q", origin.root().to_str().unwrap(), clone.to_str().unwrap()]);
    let snapshot = origin.snapshot_of(&clone);
    assert_eq!(files(snapshot.path()), set(["a", ".gitmodules", "lib/"]));
    assert_same_to_git(&clone, snapshot.path());
}

#[test]
fn a_submodule_as_the_root() {
    let inner = Fixture::with(["inner-file"]);
    let repo = Fixture::with(["a"]);
    repo.git(["submodule", "--quiet", "add", inner.root().to_str().unwrap(), "lib"]);
    let snapshot = repo.snapshot_of(&repo.root().join("lib"));
    assert_eq!(files(snapshot.path()), set(["inner-file"]));
    assert_same_to_git(&repo.root().join("lib"), snapshot.path());
}

#[test]
fn an_untracked_repository_in_the_repository() {
    let repo = Fixture::with(["a"]);
    let nested = repo.root().join("tools/nested");
    write(&nested.join("b"), "");
    write(&nested.join("skipped.log"), "");
    write(&nested.join(".gitignore"), "*.log\n");
    git(&nested, ["init", "-q"]);
    git(&nested, ["add", "b"]);
    git(&nested, ["commit", "-q", "-m", "nested"]);
    let snapshot = repo.snapshot();
    assert_eq!(
        files(snapshot.path()),
        set(["a", "tools/", "tools/nested/", "tools/nested/b", "tools/nested/.gitignore"])
    );
    assert_same_to_git(&nested, &snapshot.path().join("tools/nested"));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_nested_repository_without_commits() {
    let repo = Fixture::with(["a"]);
    let nested = repo.root().join("nested");
    write(&nested.join("b"), "");
    git(&nested, ["init", "-q"]);
    let snapshot = repo.snapshot();
    assert_eq!(files(snapshot.path()), set(["a", "nested/", "nested/b"]));
}

#[test]
fn a_subfolder_as_the_root() {
    let repo = Fixture::with([
        ".gitignore",
        "outside",
        "apps/web/.loom/workflow.yml",
        "apps/web/src/main",
        "apps/api/main",
    ]);
    repo.write(".gitignore", "*.log\n");
    repo.commit_all("ignore");
    let root = repo.root().join("apps/web");
    write(&root.join("noise.log"), "");
    write(&root.join("untracked"), "");
    write(&root.join("src/main"), "changed");
    let snapshot = repo.snapshot_of(&root);
    assert_eq!(snapshot.path(), snapshot.dir().join("apps/web"));
    assert_eq!(
        files(snapshot.dir()),
        set([
            "apps/",
            "apps/web/",
            "apps/web/.loom/",
            "apps/web/.loom/workflow.yml",
            "apps/web/src/",
            "apps/web/src/main",
            "apps/web/untracked",
        ])
    );
    write(&snapshot.path().join("by-a-job.log"), "");
    assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), repo.git(["status", "--porcelain"]));
    assert_eq!(git(snapshot.path(), ["diff", "HEAD"]), repo.git(["diff", "HEAD"]));
    assert_eq!(git(snapshot.path(), ["rev-parse", "--show-prefix"]), "apps/web/\n");
    assert_eq!(snapshot.files, 3);
}

#[test]
fn a_subfolder_as_the_root_while_there_is_a_conflict_outside() {
    let repo = Fixture::with(["app/file", "conflict"]);
    repo.git(["switch", "-q", "-c", "other"]);
    repo.write("conflict", "theirs");
    repo.commit_all("theirs");
    repo.git(["switch", "-q", "main"]);
    repo.write("conflict", "ours");
    repo.commit_all("ours");
    crate::support::git_output(repo.root(), ["merge", "other"]);
    let snapshot = repo.snapshot_of(&repo.root().join("app"));
    assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "UU conflict\n");
}

#[test]
fn a_subfolder_of_a_repository_without_commits() {
    let repo = Fixture::empty();
    repo.write("app/file", "");
    repo.write("outside", "");
    let snapshot = repo.snapshot_of(&repo.root().join("app"));
    assert_eq!(files(snapshot.dir()), set(["app/", "app/file"]));
    assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "?? app/\n");
}

#[test]
fn a_folder_that_the_repository_around_it_ignores_is_no_part_of_it() {
    let home = Fixture::with([".gitignore"]);
    home.write(".gitignore", "*\n");
    home.write("project/.loom/workflow.yml", "");
    home.write("project/file", "");
    let snapshot = home.snapshot_of(&home.root().join("project"));
    assert_eq!(files(snapshot.path()), set([".loom/", ".loom/workflow.yml", "file"]));
    assert_eq!(snapshot.path(), snapshot.dir());
    assert_eq!(snapshot.head_sha, None);
}

#[test]
fn a_path_that_git_has_to_quote() {
    let outer = Fixture::plain();
    let root = outer.root().join("line\nbreak \"and\" \\more");
    write(&root.join("sub\nfolder/file"), "x");
    git(&root, ["init", "-q"]);
    git(&root, ["add", "."]);
    git(&root, ["commit", "-q", "-m", "odd"]);
    for folder in [root.clone(), root.join("sub\nfolder")] {
        let snapshot = outer.snapshot_of(&folder);
        assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "");
        assert_eq!(git(snapshot.path(), ["show", "HEAD:sub\nfolder/file"]), "x");
        loom_tree::remove(snapshot.dir()).unwrap();
    }
}

#[test]
fn the_root_behind_a_symlink() {
    let repo = Fixture::with(["a"]);
    let link = repo.beside("link");
    std::os::unix::fs::symlink(repo.root(), &link).unwrap();
    let snapshot =
        create(&link, &repo.beside("copy"), |path| std::fs::create_dir(path), &AtomicBool::new(false))
            .unwrap();
    assert_same_to_git(repo.root(), snapshot.path());
}
