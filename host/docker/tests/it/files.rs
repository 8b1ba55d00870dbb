//! Files into containers and out of them.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use fs_err as fs;
use loom_docker::{Container, ContainerSpec, Error, Ids, Mount, Scope};

use crate::support::{run, running, sh, stdout, waiting, with_scope};

/// A container with a volume at `/workspace`, which was not started.
async fn with_volume(scope: &Scope) -> Container {
    let volume = scope.create_volume("workspace").await.unwrap();
    let mounts = vec![Mount::Volume { volume, at: "/workspace".to_owned(), read_only: false }];
    scope.create_container(&ContainerSpec { mounts, ..waiting() }).await.unwrap()
}

/// Paths, kinds, permissions, times, and contents or targets of all that is in a folder.
fn tree(root: &Path) -> Vec<String> {
    let mut list = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                folders.push(path.clone());
                String::new()
            } else {
                format!("{:?} x{}", fs::read(&path).unwrap().len(), meta.nlink())
            };
            let below = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            let mode = if meta.is_symlink() { 0 } else { meta.mode() };
            list.push(format!("{} {mode:o} {} {content}", below.escape_ascii(), meta.mtime()));
        }
    }
    list.sort();
    list
}

fn odd_tree(root: &Path) {
    let name = |bytes: &[u8]| root.join(std::ffi::OsStr::from_bytes(bytes));
    fs::create_dir_all(root.join("a/b/empty")).unwrap();
    fs::write(root.join("a/script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("a/script"), PermissionsExt::from_mode(0o750)).unwrap();
    fs::write(root.join("big"), vec![b'x'; 1_000_003]).unwrap();
    fs::write(root.join("none"), "").unwrap();
    fs::hard_link(root.join("big"), root.join("a/same")).unwrap();
    symlink("../big", root.join("a/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::write(name(b"l\xc3\xa4nge"), "x").unwrap();
    fs::write(name(b"odd \n\xff name"), "x").unwrap();
    fs::write(root.join("n".repeat(255)), "long").unwrap();
    let mut deep = root.to_owned();
    for _ in 0..12 {
        deep.push("d".repeat(30));
    }
    fs::create_dir_all(&deep).unwrap();
    symlink("e".repeat(300), deep.join("far")).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    fs::set_permissions(root.join("a/b"), PermissionsExt::from_mode(0o500)).unwrap();
    fs::File::open(root.join("none")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

#[tokio::test]
async fn a_folder_goes_into_a_volume_and_comes_out_as_it_was() {
    with_scope(async |scope| {
        let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        odd_tree(from.path());
        // Neither started yet nor ever.
        let container = with_volume(&scope).await;
        let packed = container.upload(from.path(), "/workspace", Ids::default()).await.unwrap();
        assert_eq!((packed.files, packed.left_out.len()), (11, 0));
        assert_eq!(packed.bytes, 1_000_003 + 10 + 1 + 1 + 4 + 4);
        let unpacked = container.download("/workspace/.", into.path()).await.unwrap();
        assert_eq!((unpacked.files, unpacked.bytes, &*unpacked.left_out), (11, packed.bytes, &[][..]));
        assert_eq!(tree(into.path()), tree(from.path()));
    })
    .await;
}

#[tokio::test]
async fn files_belong_to_whom_they_should_and_times_are_exact() {
    with_scope(async |scope| {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("dir")).unwrap();
        fs::write(from.path().join("dir/file"), "x").unwrap();
        let exact = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
        fs::File::open(from.path().join("dir/file")).unwrap().set_modified(exact).unwrap();
        let container = running(&scope).await;
        container.upload(from.path(), "/tmp", Ids { uid: 1000, gid: 1000 }).await.unwrap();
        let said = stdout(&container, "stat -c '%u:%g %y' /tmp/dir/file; stat -c %u:%g /tmp/dir").await;
        assert_eq!(said, "1000:1000 2023-11-14 22:13:20.123456789 +0000\n1000:1000\n");
        container.upload(from.path(), "/tmp", Ids::default()).await.unwrap();
        assert_eq!(stdout(&container, "stat -c %u:%g /tmp/dir/file").await, "0:0\n");
    })
    .await;
}

#[tokio::test]
async fn one_file_and_one_folder_come_out_under_their_names() {
    with_scope(async |scope| {
        let into = tempfile::tempdir().unwrap();
        let container = running(&scope).await;
        stdout(
            &container,
            "mkdir -p /tmp/out/sub; echo a >/tmp/out/a; echo b >/tmp/out/sub/b; chmod 555 /tmp/out/sub",
        )
        .await;
        container.download("/tmp/out/a", into.path()).await.unwrap();
        container.download("/tmp/out/sub", into.path()).await.unwrap();
        // Again: what is there is replaced.
        stdout(&container, "rm /tmp/out/a; ln -s sub /tmp/out/a").await;
        container.download("/tmp/out/a", into.path()).await.unwrap();
        assert_eq!(fs::read_link(into.path().join("a")).unwrap(), Path::new("sub"));
        assert_eq!(fs::read_to_string(into.path().join("sub/b")).unwrap(), "b\n");
        let none = container.download("/tmp/none", into.path()).await.unwrap_err();
        assert!(none.is_not_found(), "{none}");
        let mut names = container
            .receive("/tmp/out", |tar| {
                let mut names = Vec::new();
                for entry in tar::Archive::new(tar).entries().unwrap() {
                    let mut entry = entry.unwrap();
                    let mut text = String::new();
                    entry.read_to_string(&mut text).unwrap();
                    names.push(format!("{} {text}", entry.path().unwrap().display()));
                }
                Ok(names)
            })
            .await
            .unwrap();
        names.sort();
        assert_eq!(names, ["out/ ", "out/a ", "out/sub/ ", "out/sub/b b\n"]);
    })
    .await;
}

#[tokio::test]
async fn what_could_do_harm_stays_in_the_container() {
    with_scope(async |scope| {
        let into = tempfile::tempdir().unwrap();
        let container = running(&scope).await;
        stdout(
            &container,
            "mkdir /tmp/out && cd /tmp/out && ln -s /etc/passwd abs && ln -s ../../x up && ln -s ok fine && \
             mkfifo fifo && mknod null c 1 3 && echo x >suid && chmod 4755 suid && echo ok >ok",
        )
        .await;
        let unpacked = container.download("/tmp/out/.", into.path()).await.unwrap();
        let mut left: Vec<_> = unpacked.left_out.iter().map(|(path, _)| &**path).collect();
        left.sort_unstable();
        assert_eq!(left, ["fifo", "null"]);
        let mut names: Vec<_> =
            fs::read_dir(into.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["abs", "fine", "ok", "suid", "up"]);
        assert_eq!(fs::metadata(into.path().join("suid")).unwrap().mode() & 0o7777, 0o755);
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_or_is_not_there_is_named() {
    with_scope(async |scope| {
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("file"), "x").unwrap();
        let container = with_volume(&scope).await;
        let error =
            container.upload(&from.path().join("none"), "/workspace", Ids::default()).await.unwrap_err();
        assert!(matches!(&error, Error::File { doing: "read", .. }), "{error}");
        container.upload(from.path(), "/not/there", Ids::default()).await.unwrap();
        assert_eq!(container.download("/not/there/file", from.path()).await.unwrap().files, 1);
        let error = container.upload(from.path(), "relative", Ids::default()).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        let error = container.download("/etc/.", &from.path().join("none")).await.unwrap_err();
        assert!(matches!(&error, Error::File { doing: "write", .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_volume_over_a_folder_shows_it_and_leaves_it_alone() {
    with_scope(async |scope| {
        let below = tempfile::tempdir().unwrap();
        fs::create_dir(below.path().join("folder")).unwrap();
        fs::write(below.path().join("folder/file"), "below").unwrap();
        let at = || "/workspace".to_owned();
        let with = |volume| ContainerSpec {
            mounts: vec![Mount::Volume { volume, at: at(), read_only: false }],
            ..waiting()
        };
        let volume = scope.create_volume_over("over", below.path()).await.unwrap().unwrap();
        let container = scope.create_container(&with(volume)).await.unwrap();
        container.look_at("/workspace").await.unwrap();
        container.start().await.unwrap();
        let script = "cd /workspace && cat folder/file && mv folder moved && echo above > moved/file && cat moved/file";
        let ran = run(&container, &sh(script)).await.unwrap();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("belowabove\n", ""));
        assert_eq!(tree(below.path()).len(), 2);
        assert_eq!(fs::read_to_string(below.path().join("folder/file")).unwrap(), "below");

        // What is not there cannot be shown; and what the options of a mount cannot say is not tried.
        let volume = scope.create_volume_over("none", &below.path().join("none")).await.unwrap().unwrap();
        let container = scope.create_container(&with(volume)).await.unwrap();
        let error = container.look_at("/workspace").await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert_eq!(scope.create_volume_over("odd", Path::new("/a,b")).await.unwrap(), None);
        assert_eq!(scope.create_volume_over("odd", Path::new("/a:b")).await.unwrap(), None);
    })
    .await;
}
