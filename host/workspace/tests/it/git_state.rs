//! What git says in the copy.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Fixture, assert_same_to_git, git, git_output, write};

#[test]
fn head_is_detached_at_the_same_commit() {
    let repo = Fixture::with(["a"]);
    repo.git(["switch", "-q", "-c", "feature/x"]);
    let sha = repo.git(["rev-parse", "HEAD"]).trim().to_owned();
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.head_sha.as_deref(), Some(&*sha));
    assert_eq!(snapshot.branch.as_deref(), Some("feature/x"));
    assert_eq!(git(snapshot.path(), ["rev-parse", "HEAD"]).trim(), sha);
    assert_eq!(git_output(snapshot.path(), ["symbolic-ref", "HEAD"]).status.code(), Some(128));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_detached_original_has_no_branch() {
    let repo = Fixture::with(["a"]);
    repo.git(["switch", "-q", "--detach"]);
    let snapshot = repo.snapshot();
    assert!(snapshot.head_sha.is_some());
    assert_eq!(snapshot.branch, None);
}

#[test]
fn a_repository_without_commits() {
    let repo = Fixture::empty();
    repo.write("staged", "");
    repo.write("untracked", "");
    repo.git(["add", "staged"]);
    let snapshot = repo.snapshot();
    assert_eq!((snapshot.head_sha.as_deref(), snapshot.branch.as_deref()), (None, Some("main")));
    assert_eq!(git(snapshot.path(), ["symbolic-ref", "HEAD"]), "refs/heads/main\n");
    assert_eq!(snapshot.files, 2);
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_repository_with_nothing_at_all() {
    let repo = Fixture::empty();
    let snapshot = repo.snapshot();
    assert_eq!((snapshot.files, snapshot.bytes), (0, 0));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn every_state_of_a_file_is_the_same_to_git() {
    let repo = Fixture::with(["modified", "staged", "both", "deleted", "removed", "from", "mode", "intent"]);
    for name in ["modified", "staged", "both"] {
        repo.write(name, "one");
    }
    repo.git(["add", "staged", "both"]);
    repo.write("both", "two");
    fs_err::remove_file(repo.root().join("deleted")).unwrap();
    repo.git(["rm", "-q", "removed"]);
    repo.git(["mv", "from", "to"]);
    let mode = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(repo.root().join("mode"), mode).unwrap();
    repo.write("added", "");
    repo.git(["add", "added"]);
    repo.write("planned", "text");
    repo.git(["add", "--intent-to-add", "planned"]);
    repo.write("untracked", "");
    let snapshot = repo.snapshot();
    assert!(git(snapshot.path(), ["status", "--porcelain"]).contains("R  from -> to"));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_conflict_is_the_same_to_git() {
    let repo = Fixture::with(["file"]);
    repo.git(["switch", "-q", "-c", "other"]);
    repo.write("file", "theirs");
    repo.commit_all("theirs");
    repo.git(["switch", "-q", "main"]);
    repo.write("file", "ours");
    repo.commit_all("ours");
    assert!(!git_output(repo.root(), ["merge", "other"]).status.success());
    let snapshot = repo.snapshot();
    assert!(git(snapshot.path(), ["status", "--porcelain"]).contains("UU file"));
    assert!(fs_err::read_to_string(snapshot.path().join("file")).unwrap().contains("<<<<<<<"));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_change_within_the_second_of_the_commit_is_seen() {
    // The index knows a size and a time; here the change keeps both, as far as whole seconds go.
    let repo = Fixture::with(["file"]);
    for round in 0..20 {
        repo.write("file", format!("{round:04}"));
        repo.git(["add", "file"]);
        repo.write("file", format!("{:04}", round + 1000));
        let snapshot = repo.snapshot();
        assert_eq!(git(snapshot.path(), ["diff", "--name-only"]), "file\n");
        loom_tree::remove(snapshot.dir()).unwrap();
    }
}

#[test]
fn git_need_not_read_the_files_again() {
    let repo = Fixture::with(["file"]);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let set_old = |path| fs_err::File::open(path).unwrap().file().set_modified(old).unwrap();
    set_old(repo.root().join("file"));
    repo.git(["update-index", "--refresh"]);
    let snapshot = repo.snapshot();
    // Other content of the same size and time: only who reads it finds out.
    fs_err::write(snapshot.path().join("file"), "elif").unwrap();
    set_old(snapshot.path().join("file"));
    assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "");
}

#[test]
fn history_tags_and_branches_are_there() {
    let repo = Fixture::with(["a"]);
    repo.git(["tag", "-a", "v1.0", "-m", "one"]);
    repo.git(["branch", "packed"]);
    repo.git(["pack-refs", "--all"]);
    repo.write("b", "");
    repo.commit_all("second");
    repo.git(["tag", "loose"]);
    repo.git(["gc", "-q"]);
    repo.write("c", "");
    repo.commit_all("third");
    let snapshot = repo.snapshot();
    for args in
        [["describe", "--long", "--always"], ["merge-base", "packed", "HEAD"], ["log", "--all", "--oneline"]]
    {
        assert_eq!(git(snapshot.path(), args), repo.git(args));
    }
    assert_eq!(git(snapshot.path(), ["for-each-ref"]), repo.git(["for-each-ref"]));
    assert_eq!(git(snapshot.path(), ["fsck", "--connectivity-only"]), "");
}

#[test]
fn objects_are_borrowed_and_the_original_cannot_be_written_to() {
    let repo = Fixture::with(["a"]);
    let before = repo.git(["count-objects"]);
    let snapshot = repo.snapshot();
    assert!(git(snapshot.path(), ["count-objects", "-v"]).contains("count: 0\n"));
    assert_eq!(snapshot.borrowed_objects, [repo.root().join(".git/objects")]);
    write(&snapshot.path().join("job"), "new");
    git(snapshot.path(), ["add", "job"]);
    git(snapshot.path(), ["commit", "-q", "-m", "by a job"]);
    git(snapshot.path(), ["branch", "by-a-job"]);
    assert_eq!(repo.git(["count-objects"]), before);
    assert_eq!(repo.git(["log", "--all", "--format=%s"]), "first\n");
}

#[test]
fn settings_that_hold_credentials_or_start_programs_stay_behind() {
    let repo = Fixture::with(["a"]);
    repo.git(["remote", "add", "origin", "https://someone:s3cret@example.org/x.git"]);
    repo.git(["config", "http.https://example.org/.extraheader", "AUTHORIZATION: basic s3cret"]);
    repo.git(["config", "core.hooksPath", "s3cret-hooks"]);
    repo.git(["config", "core.fsmonitor", "s3cret-monitor"]);
    repo.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    let snapshot = repo.snapshot();
    let config = fs_err::read_to_string(snapshot.path().join(".git/config")).unwrap();
    assert!(!config.contains("s3cret"), "{config}");
    assert!(!snapshot.path().join(".git/hooks").exists());
    assert_eq!(git(snapshot.path(), ["remote", "get-url", "origin"]), "https://example.org/x.git\n");
}

#[test]
fn a_partial_clone_fetches_what_it_lacks_and_nothing_is_pushed() {
    let source = Fixture::with(["a"]);
    source.git(["config", "uploadpack.allowFilter", "true"]);
    for text in ["first", "second"] {
        source.write("a", text);
        source.git(["commit", "--quiet", "--all", "--message", text]);
    }
    let url = format!("file://{}", source.root().display());
    let clone = Fixture::plain();
    for filter in ["blob:none", "tree:0"] {
        let folder = clone.root().join(filter.split(':').next().unwrap());
        let words = ["clone", "--quiet", "--filter", filter, &url, folder.to_str().unwrap()];
        git(clone.root(), words);
        let snapshot = clone.snapshot_of(&folder);
        assert_eq!(git(snapshot.path(), ["show", "HEAD~1:a"]), "first");
        assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "");
        git(snapshot.path(), ["fetch", "--quiet"]);
        let pushed = git_output(snapshot.path(), ["push", "origin", "HEAD:refs/heads/new"]);
        assert!(!pushed.status.success());
        let said = String::from_utf8_lossy(&pushed.stderr).into_owned();
        assert!(said.contains("push from your own work tree"), "{said}");
        assert_eq!(source.git(["branch", "--list", "new"]), "");
        loom_tree::remove(snapshot.dir()).unwrap();
    }
}

#[test]
fn filters_of_the_clone_work_for_jobs_and_run_for_nobody_else() {
    let repo = Fixture::with(["a"]);
    let ran = repo.root().join(".git/ran");
    let turn = format!("touch '{}'; tr a-z n-za-m", ran.display());
    repo.git(["config", "filter.turn.clean", &turn]);
    repo.git(["config", "filter.turn.smudge", &turn]);
    repo.write(".gitattributes", "*.sec filter=turn\n");
    repo.write("b.sec", "text\n");
    repo.git(["add", "--all"]);
    repo.git(["commit", "--quiet", "--message", "secret"]);
    fs_err::remove_file(&ran).unwrap();
    let snapshot = repo.snapshot();
    assert!(!ran.exists(), "a program of the repository ran");
    assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "");
    fs_err::remove_file(snapshot.path().join("b.sec")).unwrap();
    fs_err::write(snapshot.path().join("b.sec"), "text\n").unwrap();
    assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "");
    assert!(ran.exists());
}

#[test]
fn settings_that_decide_what_is_changed_come_along() {
    let repo = Fixture::with(["a"]);
    repo.git(["config", "core.fileMode", "false"]);
    repo.git(["config", "core.autocrlf", "true"]);
    repo.git(["config", "core.quotePath", "false"]);
    repo.git(["config", "status.showUntrackedFiles", "no"]);
    repo.git(["config", "core.excludesFile", "/none/with \"quotes\" and \\"]);
    let mode = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(repo.root().join("a"), mode).unwrap();
    repo.write("lines", "one\r\ntwo\r\n");
    repo.git(["add", "lines"]);
    let snapshot = repo.snapshot();
    for key in
        ["core.fileMode", "core.autocrlf", "core.excludesFile", "core.quotePath", "status.showUntrackedFiles"]
    {
        assert_eq!(git(snapshot.path(), ["config", key]), repo.git(["config", key]));
    }
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn settings_of_included_files_and_of_one_work_tree_come_along() {
    let repo = Fixture::with(["a"]);
    repo.write(".git/more", "[core]\n\teol = crlf\n");
    repo.git(["config", "include.path", "more"]);
    let snapshot = repo.snapshot();
    assert_eq!(git(snapshot.path(), ["config", "core.eol"]), "crlf\n");
    assert_eq!(git_output(snapshot.path(), ["config", "include.path"]).status.code(), Some(1));
    loom_tree::remove(snapshot.dir()).unwrap();

    repo.git(["config", "--unset", "include.path"]);
    repo.git(["config", "extensions.worktreeConfig", "true"]);
    repo.git(["config", "--worktree", "core.autocrlf", "input"]);
    let snapshot = repo.snapshot();
    assert_eq!(git(snapshot.path(), ["config", "core.autocrlf"]), "input\n");
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn attributes_of_one_clone_come_along() {
    let repo = Fixture::with(["a"]);
    repo.write(".git/info/attributes", "*.bin binary\n");
    let snapshot = repo.snapshot();
    let check = ["check-attr", "diff", "x.bin"];
    assert_eq!(git(snapshot.path(), check), repo.git(check));
}

#[test]
fn a_repository_with_sha256_objects() {
    let repo = Fixture::plain();
    repo.git(["init", "-q", "-b", "main", "--object-format=sha256"]);
    repo.write("a", "");
    repo.commit_all("first");
    repo.write("b", "");
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.head_sha.as_ref().map(String::len), Some(64));
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_shallow_clone() {
    let repo = Fixture::with(["a"]);
    repo.write("b", "");
    repo.commit_all("second");
    let url = format!("file://{}", repo.root().display());
    let shallow = repo.beside("shallow");
    git(repo.base(), ["clone", "-q", "--depth=1", &url, shallow.to_str().unwrap()]);
    let snapshot = repo.snapshot_of(&shallow);
    assert_eq!(git(snapshot.path(), ["log", "--format=%s"]), "second\n");
    assert_same_to_git(&shallow, snapshot.path());
}

#[test]
fn a_clone_that_borrows_objects_itself() {
    let repo = Fixture::with(["a"]);
    let borrower = repo.beside("borrower");
    git(repo.base(), ["clone", "-q", "--shared", repo.root().to_str().unwrap(), borrower.to_str().unwrap()]);
    let snapshot = repo.snapshot_of(&borrower);
    assert_same_to_git(&borrower, snapshot.path());
}

#[test]
fn a_split_index() {
    let repo = Fixture::with(["a", "b"]);
    repo.git(["update-index", "--split-index"]);
    repo.write("b", "changed");
    repo.git(["add", "b"]);
    let shared = fs_err::read_dir(repo.root().join(".git")).unwrap();
    assert!(
        shared.filter_map(Result::ok).any(|e| e.file_name().to_string_lossy().starts_with("sharedindex"))
    );
    let snapshot = repo.snapshot();
    assert_same_to_git(repo.root(), snapshot.path());
}

#[test]
fn a_sparse_checkout() {
    for sparse_index in ["--no-sparse-index", "--sparse-index"] {
        let repo = Fixture::with(["top", "in/a", "out/b", "out/deep/c"]);
        repo.git(["sparse-checkout", "set", "--cone", sparse_index, "in"]);
        assert!(!repo.root().join("out").exists());
        let snapshot = repo.snapshot();
        assert_eq!(snapshot.files, 2);
        assert_eq!(git(snapshot.path(), ["status", "--porcelain"]), "");
        assert_same_to_git(repo.root(), snapshot.path());
    }
}

#[test]
fn refs_kept_in_another_format_become_packed_refs() {
    let repo = Fixture::with(["a"]);
    repo.git(["tag", "v1"]);
    repo.git(["branch", "other"]);
    // This git need not know the format: the folder alone says that loose files are not where the refs are.
    fs_err::create_dir(repo.root().join(".git/reftable")).unwrap();
    let snapshot = repo.snapshot();
    assert!(!snapshot.path().join(".git/refs/tags/v1").exists());
    assert_eq!(git(snapshot.path(), ["for-each-ref"]), repo.git(["for-each-ref"]));
}
